"""Tensors and settings that an encoder does not need do not keep it from being loaded; those that would change its numbers do."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import BERT, DISTILBERT, TINY, bert_tensors, distilbert_tensors, tensors_of, write_folder

import nativebert as nb
from nativebert.arch import FAMILIES
from nativebert.errors import CorruptError, RefusedError, Unread
from nativebert.hub import resolve
from nativebert.inspect import inspect
from weights_map import MismatchError

CLASSIFIER = BERT | {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b", "2": "c"}}
TEXTS = ["the cat sat", "deep learning is powerful."]


def vectors(folder: Any) -> np.ndarray:
    return nb.Embedder(folder, device="cpu", pooling="mean")(TEXTS)


@pytest.fixture
def plain(tmp_path: Path) -> np.ndarray:
    return vectors(write_folder(tmp_path / "plain", BERT))


# ---- tensors of heads


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize(
    "names",
    [
        ["linear.weight"], ["score.weight"], ["head.weight", "head.bias"], ["regressor.out_proj.weight"], ["lm_head.decoder.weight"],
        ["dense.weight", "projection.weight"], ["vocab_projector.weight"], ["logit_scale"], ["strange"], ["linear[0].weight"],
    ],
    ids=str,
)  # fmt: skip
def test_tensors_that_nobody_knows_are_carried_and_named_once(
    tmp_path: Path, plain: np.ndarray, prefix: str, names: list[str]
) -> None:
    tensors = bert_tensors(BERT, prefix=prefix) | {name: torch.ones(5, 32) for name in names}
    folder = write_folder(tmp_path / "m", BERT, tensors)
    with pytest.warns(Unread, match="left unread and kept for saving") as caught:
        found = vectors(folder)
    assert len(caught) == 1
    assert all(name in str(caught[0].message) for name in names)
    assert np.array_equal(found, plain)
    with pytest.warns(Unread):
        nb.load(folder).save(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert inspect(resolve(folder)).problems == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_carries_them(tmp_path: Path, family: str) -> None:
    alone = nb.load(write_folder(tmp_path / "alone", TINY[family], tensors_of(TINY[family])))
    tensors = tensors_of(TINY[family]) | {"linear.weight": torch.ones(8, 32), "score.weight": torch.ones(1, 32)}
    with pytest.warns(Unread, match=r"linear\.weight, score\.weight: tensors that nothing here knows"):
        model = nb.load(write_folder(tmp_path / "m", TINY[family], tensors))
    assert all(torch.equal(value, alone.state_dict()[name]) for name, value in model.state_dict().items())


INSIDE = [
    "encoder.layer.0.attention.self.distance_embedding.weight", "encoder.layer.2.output.dense.weight", "encoder.layer.12.output.dense.bias",
    "encoder.layer.0.output.adapter.weight", "encoder.norm.weight", "embeddings.extra.weight", "pooler.extra.weight", "norm.weight",
    "final_layer_norm.weight", "LayerNorm.bias", "ln_f.weight", "emb_layer_norm.weight", "layers.0.weight", "position_bias.weight",
    "prompt.weight", "prefix_encoder.weight", "relative_attention_bias.weight", "linear.lora_A.weight", "adapters.a.weight",
    "encoder.layer.0.attention.self.query.lora_A.default.weight", "embed_tokens.weight",
]  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("name", INSIDE)
def test_tensors_that_may_be_of_the_encoder_are_refused(tmp_path: Path, name: str, prefix: str) -> None:
    tensors = bert_tensors(BERT, prefix=prefix)
    top = name.partition(".")[0] in ("encoder", "embeddings", "pooler")
    folder = write_folder(tmp_path / "m", BERT, tensors | {(prefix if top else "") + name: torch.ones(32)})
    for make in (nb.load, vectors):
        with pytest.raises(MismatchError, match=r"1 unexpected[\s\S]*nativebert\.load\(folder, unexpected=\[pattern\]\)"):
            make(folder)
    assert any("would not load" in problem for problem in inspect(resolve(folder)).problems)


def test_anything_under_the_family_s_own_prefix_is_of_the_encoder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", BERT, bert_tensors(BERT, prefix="bert.") | {"bert.extra.weight": torch.ones(3)})
    with pytest.raises(MismatchError, match="1 unexpected"):
        nb.load(folder)
    folder = write_folder(tmp_path / "d", DISTILBERT, distilbert_tensors(DISTILBERT) | {"transformer.extra": torch.ones(3)})
    with pytest.raises(MismatchError, match="1 unexpected"):
        nb.load(folder)


def test_the_advice_can_be_followed(tmp_path: Path, plain: np.ndarray) -> None:
    folder = write_folder(tmp_path / "m", BERT, bert_tensors(BERT) | {"encoder.layer.0.gate": torch.ones(3)})
    with pytest.raises(MismatchError, match=r"unexpected=\[pattern\]"):
        nb.load(folder)
    with pytest.warns(Unread, match=r"encoder\.layer\.0\.gate"):
        model = nb.load(folder, unexpected=["encoder.layer.*.gate"])
    assert np.array_equal(vectors(model), plain)
    less = bert_tensors(BERT)
    del less["encoder.layer.0.output.dense.bias"]
    folder = write_folder(tmp_path / "less", BERT, less)
    with pytest.raises(MismatchError) as caught:  # nothing is advised that cannot be done
        nb.load(folder)
    assert "check(" not in str(caught.value)


def test_what_stands_in_the_head_that_is_loaded_is_refused(tmp_path: Path) -> None:
    head = {"classifier.weight": torch.ones(3, 32), "classifier.bias": torch.ones(3)}
    tensors = bert_tensors(BERT, prefix="bert.") | head
    folder = write_folder(tmp_path / "m", CLASSIFIER, tensors | {"classifier.scale": torch.ones(3)})
    with pytest.raises(MismatchError, match=r"classifier\.scale"):
        nb.Classifier(folder, device="cpu")
    with pytest.warns(Unread, match=r"classifier\.scale"):
        vectors(folder)
    with pytest.warns(Unread, match=r"score\.weight"):
        nb.Classifier(write_folder(tmp_path / "other", CLASSIFIER, tensors | {"score.weight": torch.ones(3)}), device="cpu")


# ---- prefixes that only wrap


WRAPPERS = [
    "module.", "_orig_mod.", "model.", "0.auto_model.", "auto_model.", "module._orig_mod.", "_orig_mod.module.", "module.model.",
    "0.model.", "module.0.auto_model.",
]  # fmt: skip


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "modernbert"])
def test_prefixes_that_only_wrap_are_left_out(tmp_path: Path, wrapper: str, prefix: str, family: str) -> None:
    config = TINY[family]
    tensors = tensors_of(config)
    alone = nb.load(write_folder(tmp_path / "alone", config, tensors))
    own = {
        "bert.": {"bert": "bert.", "distilbert": "distilbert.", "roberta": "roberta.", "modernbert": "model."}[family],
        "": "",
    }[prefix]
    folder = write_folder(tmp_path / "m", config, {wrapper + own + name: t for name, t in tensors.items()})
    model = nb.load(folder)
    assert all(torch.equal(value, alone.state_dict()[name]) for name, value in model.state_dict().items())
    model.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert model.ledger is not None
    if not (family == "modernbert" and model.ledger.wrapper == ""):
        assert (wrapper + own).startswith(model.ledger.wrapper) and model.ledger.wrapper in str(model.ledger)  # noqa: PT018
    assert inspect(resolve(folder)).problems == ()


def test_heads_inside_and_outside_the_wrapper(tmp_path: Path) -> None:
    head = {"classifier.weight": torch.randn(3, 32), "classifier.bias": torch.randn(3)}
    whole = bert_tensors(BERT, prefix="bert.") | head
    want = nb.Classifier(write_folder(tmp_path / "plain", CLASSIFIER, whole), device="cpu")(TEXTS)
    inside = write_folder(tmp_path / "in", CLASSIFIER, {f"module.{name}": t for name, t in whole.items()})
    outside = write_folder(tmp_path / "out", CLASSIFIER, {f"model.{name}": t for name, t in bert_tensors(BERT).items()} | head)
    for folder in (inside, outside):
        assert nb.Classifier(folder, device="cpu")(TEXTS) == want
    changed = nb.load(inside)
    with torch.no_grad():
        changed.embed.token.weight.mul_(2)
    changed.save(tmp_path / "changed")
    again = nb.load(tmp_path / "changed")
    assert torch.equal(again.embed.token.weight, changed.embed.token.weight)
    nb.load(inside).save(tmp_path / "small", precision="int8")
    nb.load(tmp_path / "small")


def test_a_wrapper_that_does_not_explain_the_file_is_none(tmp_path: Path) -> None:
    wrapped = {f"module.{name}": t for name, t in bert_tensors(BERT).items()}
    for more in (
        {"encoder.layer.0.gate": torch.ones(3)},
        {"module.encoder.norm.weight": torch.ones(3)},
        {"norm.weight": torch.ones(3)},
    ):
        with pytest.raises(MismatchError):
            nb.load(write_folder(tmp_path / "m", BERT, wrapped | more))
    twice = wrapped | bert_tensors(BERT)
    with pytest.raises(MismatchError):
        nb.load(write_folder(tmp_path / "two", BERT, twice))
    with pytest.raises(MismatchError):
        nb.load(write_folder(tmp_path / "other", BERT, {f"student.{name}": t for name, t in bert_tensors(BERT).items()}))


# ---- settings of heads


LABELS: list[tuple[Any, str]] = [
    ({"0": "a", "2": "b"}, "no gap"), (["a", "b"], "must be an object"), ({"one": "a"}, "keys are whole numbers"),
    ({"0": "a", "00": "b"}, "none twice"), ({"0": ["a"]}, "must be names"),
]  # fmt: skip


@pytest.mark.parametrize(("names", "phrase"), LABELS)
def test_labels_matter_to_those_who_use_them(tmp_path: Path, plain: np.ndarray, names: Any, phrase: str) -> None:
    head = {"classifier.weight": torch.randn(2, 32), "classifier.bias": torch.randn(2)}
    folder = write_folder(tmp_path / "m", CLASSIFIER | {"id2label": names}, bert_tensors(BERT, prefix="bert.") | head)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(vectors(folder), plain)
        nb.load(folder, head=None).save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["id2label"] == names
    for make in (nb.load, nb.Classifier, nb.Ranker):
        with pytest.raises(CorruptError, match=phrase):
            make(folder)


@pytest.mark.parametrize(
    ("changes", "task", "phrase"),
    [
        ({"decoder_bias": False}, "lm", "the masked-LM output has no bias"),
        ({"classifier_pooling": "max"}, "classify", "an unknown pooling before the classifier"),
        ({"classifier_activation": "laplace"}, "tag", "classifier_activation is 'laplace'"),
        ({"problem_type": "ranking"}, "classify", "an unknown kind of problem"),
    ],
)
def test_what_only_a_head_would_use(tmp_path: Path, changes: dict[str, Any], task: str, phrase: str) -> None:
    config = TINY["modernbert"]
    alone = vectors(write_folder(tmp_path / "plain", config))
    folder = write_folder(tmp_path / "m", config | changes)
    assert np.array_equal(vectors(folder), alone)
    with pytest.raises(RefusedError, match=phrase):
        nb.load(folder, head=task)
