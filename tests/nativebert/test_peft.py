"""Adapters of the library peft: what a folder of one says is merged into its base model, exactly, and what is not plain LoRA is refused by name.

The names and shapes are those that peft 0.21 writes; its own results were compared when this was written."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_server import HubServer, hub  # noqa: F401
from models import BERT, TINY, VOCAB, bert_tensors, one_thread, tensors_of, write_folder
from safetensors.torch import load_file, save_file

import nativebert as nb
from nativebert import cli
from nativebert.errors import BadInputError, CorruptError, NotFoundError, RefusedError
from nativebert.hub import resolve
from nativebert.inspect import inspect
from weights_map import WeightsMapError

TEXTS = ["the cat sat on the mat", "a dog", "deep learning is powerful"]
SETTINGS = {
    "alpha_pattern": {}, "auto_mapping": None, "bias": "none", "fan_in_fan_out": False, "inference_mode": True, "init_lora_weights": True,
    "layer_replication": None, "loftq_config": {}, "lora_alpha": 6, "lora_bias": False, "lora_dropout": 0.1, "megatron_core": "megatron.core",
    "modules_to_save": None, "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 4, "rank_pattern": {}, "revision": None,
    "target_modules": ["value", "query"], "target_parameters": None, "task_type": "FEATURE_EXTRACTION", "use_dora": False, "use_rslora": False,
}  # fmt: skip
QUERY, VALUE = "encoder.layer.1.attention.self.query", "encoder.layer.0.attention.self.value"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def pair(module: str, rank: int = 4, rows: int = 32, columns: int = 32) -> dict[str, torch.Tensor]:
    name = f"base_model.model.{module}"
    return {f"{name}.lora_A.weight": random(rank, columns), f"{name}.lora_B.weight": random(rows, rank, seed=1)}


def delta(tensors: dict[str, torch.Tensor], module: str) -> torch.Tensor:
    a, b = (tensors[f"base_model.model.{module}.lora_{part}.weight"].double() for part in "AB")
    return b @ a


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "base", BERT, bert_tensors(BERT))


def adapter(folder: Path, base: Path | str | None, tensors: dict[str, torch.Tensor] | None = None, **settings: Any) -> Path:
    """A folder as peft writes it."""
    folder.mkdir()
    named = {"base_model_name_or_path": base if base is None else str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(SETTINGS | named | settings))
    save_file(tensors or {**pair(QUERY), **pair(VALUE)}, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 6 / 4),
        ({"use_rslora": True}, 6 / 2),
        ({"alpha_pattern": {"key": 100, "self.query": 5}}, 5 / 4),
        ({"r": 8, "rank_pattern": {r"layer\.\d+\.attention\.self\.(query|value)": 4}}, 6 / 4),
        ({"fan_in_fan_out": True}, 6 / 4),  # which peft itself takes back for a linear layer
    ],
)
def test_a_pair_is_added_to_its_weight_and_rounded_once(
    base: Path, tmp_path: Path, settings: dict[str, Any], scale: float
) -> None:
    folder = adapter(tmp_path / "a", base, **settings)
    model, plain = nb.load(folder, head=None), nb.load(base, head=None)
    pairs = load_file(folder / "adapter_model.safetensors")
    weight = plain.layers[1].attn.q.weight
    assert torch.equal(model.layers[1].attn.q.weight, (weight.double() + scale * delta(pairs, QUERY)).float())
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, plain.state_dict()[name])]
    assert changed == ["layers.0.attn.v.weight", "layers.1.attn.q.weight"]
    assert model.restructured


def test_a_table_and_its_whole_copy(base: Path, tmp_path: Path) -> None:
    name = "base_model.model.embeddings.word_embeddings"
    whole = random(len(VOCAB), 32, seed=5)
    tensors = {
        f"{name}.lora_embedding_A": random(4, len(VOCAB)),
        f"{name}.lora_embedding_B": random(32, 4),
        f"{name}.base_layer.weight": whole,
    }
    model = nb.load(adapter(tmp_path / "a", base, tensors), head=None)
    a, b = (tensors[f"{name}.lora_embedding_{part}"].double() for part in "AB")
    assert torch.equal(model.embed.token.weight, (whole.double() + 1.5 * (b @ a).T).float())


def test_a_matrix_that_the_family_cuts(tmp_path: Path) -> None:
    config = TINY["modernbert"]
    base = write_folder(tmp_path / "base", config, tensors_of(config))
    pairs = pair("layers.1.attn.Wqkv", rows=96)
    model, plain = nb.load(adapter(tmp_path / "a", base, pairs), head=None), nb.load(base, head=None)
    added = 1.5 * delta(pairs, "layers.1.attn.Wqkv")
    for n, part in enumerate("qkv"):
        weight = plain.get_parameter(f"layers.1.attn.{part}.weight")
        expected = (weight.double() + added[32 * n : 32 * (n + 1)]).float()
        assert torch.equal(model.get_parameter(f"layers.1.attn.{part}.weight"), expected)


@pytest.mark.parametrize("family", ["nomic_bert", "gte"])
def test_names_that_transformers_gives_in_memory(family: str, tmp_path: Path) -> None:
    """Some families have other names there than in their files; in its gated feed-forward part, its gate is what is activated."""
    base = write_folder(tmp_path / "base", TINY[family], tensors_of(TINY[family]))
    modules = {
        "layers.1.self_attn.q_proj": "layers.1.attn.q",
        "layers.0.mlp.gate_proj": "layers.0.mlp.up",
        "layers.0.mlp.up_proj": "layers.0.mlp.gate",
    }
    pairs = {name: t for module in modules for name, t in pair(module, rows=48 if "mlp" in module else 32).items()}
    pairs = {name: len(name) * t if "up_proj" in name else t for name, t in pairs.items()}  # or the two would be the same
    model, plain = nb.load(adapter(tmp_path / "a", base, pairs), head=None), nb.load(base, head=None)
    for module, ours in modules.items():
        expected = (plain.get_parameter(f"{ours}.weight").double() + 1.5 * delta(pairs, module)).float()
        assert torch.equal(model.get_parameter(f"{ours}.weight"), expected)


def classifier(classes: int = 3) -> dict[str, torch.Tensor]:
    """Pairs, and a head as peft saves it, with what it does not use."""
    head = {"weight": random(classes, 32), "bias": random(classes)}
    saved = {f"base_model.model.classifier.{leaf}": value for leaf, value in head.items()}
    unused = {"base_model.model.classifier.original_module.bias": random(classes, seed=9)}
    return {**pair(f"bert.{QUERY}"), **saved, **unused, f"base_model.model.bert.{QUERY}.base_layer.bias": random(32, seed=7)}


def test_a_head_comes_with_the_adapter(base: Path, tmp_path: Path) -> None:
    tensors = classifier()
    folder = adapter(
        tmp_path / "a", base, tensors, task_type="SEQ_CLS", modules_to_save=["classifier", "score"], bias="lora_only"
    )
    classify = nb.Classifier(folder, device="cpu")
    assert classify.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    whole = load_file(base / "model.safetensors")
    whole[f"{QUERY}.weight"] = (whole[f"{QUERY}.weight"].double() + 1.5 * delta(tensors, f"bert.{QUERY}")).float()
    whole[f"{QUERY}.bias"] = tensors[f"base_model.model.bert.{QUERY}.base_layer.bias"]
    whole |= {f"classifier.{leaf}": tensors[f"base_model.model.classifier.{leaf}"] for leaf in ("weight", "bias")}
    labels = {"id2label": {n: f"LABEL_{n}" for n in range(3)}, "architectures": ["BertForSequenceClassification"]}
    expected = nb.Classifier(write_folder(tmp_path / "whole", BERT | labels, whole), device="cpu")
    assert classify(TEXTS, top_k=None) == expected(TEXTS, top_k=None)
    assert np.array_equal(
        nb.Embedder(folder, device="cpu", pooling="mean")(TEXTS),
        nb.Embedder(tmp_path / "whole", device="cpu", pooling="mean")(TEXTS),
    )

    (folder / "config.json").write_text(json.dumps({"id2label": {"0": "bad", "1": "so so", "2": "good"}}))
    assert nb.Classifier(folder, device="cpu").labels == ("bad", "so so", "good")
    nb.load(folder).save(tmp_path / "again")
    again = nb.Classifier(tmp_path / "again", device="cpu")
    assert again(TEXTS) == nb.Classifier(folder, device="cpu")(TEXTS)
    assert not list((tmp_path / "again").glob("adapter*"))
    assert again.labels == ("bad", "so so", "good")


def test_half_a_head(base: Path, tmp_path: Path) -> None:
    tensors = {name: t for name, t in classifier().items() if not name.endswith("classifier.weight")}
    with pytest.raises(
        NotFoundError, match=r"brings a head for 'classify' without head.classifier.out.weight, and its base model has none"
    ):
        nb.load(adapter(tmp_path / "a", base, tensors, task_type="SEQ_CLS"))
    folder = adapter(tmp_path / "b", base, classifier(), task_type="SEQ_CLS")
    for strange in ({"a": "x"}, {"0": "x", "1": "y"}, ["x", "y", "z"], {"0": "x", "1": "y", "7": "z"}):
        (folder / "config.json").write_text(json.dumps({"id2label": strange}))
        assert nb.load(folder).config.labels == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_a_head_in_place_of_the_base_models_own(tmp_path: Path) -> None:
    config = BERT | {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "no", "1": "yes"}}
    own = {"classifier.weight": random(2, 32, seed=3), "classifier.bias": random(2, seed=3)}
    base = write_folder(tmp_path / "base", config, bert_tensors(config, prefix="bert.") | own)
    tensors = classifier()
    folder = adapter(tmp_path / "a", base, tensors, task_type="TOKEN_CLS")
    model = nb.load(folder)
    assert model.tasks == ("tag",)
    (head,) = model.head.values()
    assert torch.equal(head.last.weight, tensors["base_model.model.classifier.weight"])
    assert nb.load(adapter(tmp_path / "b", base, pair(f"bert.{QUERY}"))).tasks == (
        "classify",
    )  # an adapter without a head leaves that of the base
    with pytest.raises(RefusedError, match=r"brings a head \(classifier\), and adapter_config.json has no task_type"):
        nb.load(adapter(tmp_path / "c", base, tensors, task_type=None))


def test_the_files_beside_an_adapter_go_first(base: Path, tmp_path: Path) -> None:
    modules = [
        {"path": path, "type": f"sentence_transformers.models.{kind}"}
        for path, kind in {"": "Transformer", "1_Pooling": "Pooling"}.items()
    ]
    folder = adapter(tmp_path / "a", base)
    for place, mode in ((base, "cls"), (folder, "mean")):
        (place / "modules.json").write_text(json.dumps(modules))
        (place / "1_Pooling").mkdir()
        (place / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}))
    embed = nb.Embedder(folder, device="cpu")
    assert embed.pooling == ("mean",)
    (folder / "vocab.txt").write_text("\n".join([*VOCAB[:-1], "new"]))
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer"}))
    assert nb.Embedder(folder, device="cpu").tokenizer.vocab["new"] == len(VOCAB) - 1
    assert "new" not in nb.Embedder(base, device="cpu").tokenizer.vocab
    nb.load(folder).save(tmp_path / "again")
    again = nb.Embedder(tmp_path / "again", device="cpu")
    assert (again.pooling, again.tokenizer.vocab) == (("mean",), nb.Embedder(folder, device="cpu").tokenizer.vocab)
    assert np.array_equal(again(TEXTS), embed(TEXTS))


def test_pickled_and_recorded(base: Path, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", base)
    embed = nb.Embedder(folder, device="cpu", pooling="mean")
    assert np.array_equal(pickle.loads(pickle.dumps(embed))(TEXTS), embed(TEXTS))
    assert resolve(folder).digest() not in (
        resolve(base).digest(),
        resolve(adapter(tmp_path / "b", base, pair(QUERY))).digest(),
    )


def test_another_base(base: Path, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", tmp_path / "elsewhere")
    with pytest.raises(NotFoundError, match=r"base model of the adapter .* is not to be had: .* Or pass another, base=\."):
        nb.load(folder)
    model = nb.load(folder, base=base)
    assert np.array_equal(
        nb.Embedder(folder, base=base, device="cpu", pooling="mean")(TEXTS),
        nb.Embedder(model, device="cpu", pooling="mean")(TEXTS),
    )
    with pytest.raises(NotFoundError, match="names no base model: pass it, base="):
        nb.load(adapter(tmp_path / "b", None))
    with pytest.raises(RefusedError, match=r"is a model, not an adapter .*leave it out"):
        nb.load(base, base=base)
    with pytest.raises(RefusedError, match="which is an adapter itself"):
        nb.load(adapter(tmp_path / "c", folder))


def test_both_on_the_hub(hub: HubServer, base: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = adapter(tmp_path / "a", "owner/base")
    hub.add("owner/base", {path.name: path.read_bytes() for path in base.iterdir()})
    hub.add("owner/adapter", {path.name: path.read_bytes() for path in folder.iterdir()} | {"README.md": b"x"})
    model = nb.load("owner/adapter", head=None)
    assert torch.equal(model.layers[1].attn.q.weight, nb.load(folder, head=None, base=base).layers[1].attn.q.weight)
    assert "README.md" not in hub.fetched
    assert torch.equal(nb.load("owner/adapter", head=None, offline=True).layers[1].attn.q.weight, model.layers[1].attn.q.weight)
    assert model.snapshot is not None
    assert model.snapshot.base is not None
    assert (model.snapshot.repo, model.snapshot.base.repo) == ("owner/adapter", "owner/base")


@pytest.mark.parametrize(
    ("settings", "tensors", "error", "says"),
    [
        (
            {"use_dora": True},
            None,
            RefusedError,
            "use_dora to True, which nativebert does not compute: merge it once with peft",
        ),
        ({"peft_type": "IA3"}, None, RefusedError, "of the kind 'IA3', and nativebert merges LORA"),
        ({"trainable_token_indices": [1, 2]}, None, RefusedError, "trainable_token_indices"),
        ({"something_new": 3}, None, RefusedError, "something_new to 3"),
        (
            {"init_lora_weights": "pissa_niter_16"},
            None,
            RefusedError,
            "changed the base model too.*path_initial_model_for_weight_conversion",
        ),
        ({"r": 5}, None, CorruptError, "of rank 4, and adapter_config.json says 5"),
        ({"lora_alpha": "much"}, None, CorruptError, "'lora_alpha' must be a number"),
        ({"rank_pattern": {"(": 4}}, None, CorruptError, "is no pattern"),
        ({}, {f"base_model.model.{QUERY}.lora_A.weight": random(4, 32)}, CorruptError, "must have lora_A"),
        (
            {},
            pair(QUERY, rows=31),
            CorruptError,
            r"it is \(31, 32\) for layers.1.attn.q.weight, which is \(32, 32\) in the base model",
        ),
        (
            {},
            pair("encoder.layer.1.attention.self.gate"),
            RefusedError,
            "bert has no encoder.layer.1.attention.self.gate.weight",
        ),
        ({}, pair("embeddings.word_embeddings", rows=len(VOCAB)), RefusedError, "is no linear layer in bert"),
        (
            {},
            {**pair(QUERY), f"base_model.model.{QUERY}.lora_magnitude_vector": random(32)},
            RefusedError,
            "bert has no .*lora_magnitude_vector",
        ),
        (
            {},
            {**pair(QUERY), f"base_model.model.{VALUE}.bias": random(32) / 0},
            WeightsMapError,
            "not finite: layers.0.attn.v.bias",
        ),
        (
            {},
            {name: 1e30 * t for name, t in pair(QUERY).items()},
            RefusedError,
            "layers.1.attn.q.weight with its adapter has values that are not finite",
        ),
        ({}, {QUERY: random(32)}, RefusedError, "nobody here knows encoder.layer.1.attention.self.query"),
        ({}, {**pair(QUERY), f"base_model.model.{VALUE}.bias": random(32).int()}, RefusedError, "nobody here knows .*I32"),
    ],
)
def test_what_is_not_plain_lora_is_refused_by_name(
    base: Path,
    tmp_path: Path,
    settings: dict[str, Any],
    tensors: dict[str, torch.Tensor] | None,
    error: type[Exception],
    says: str,
) -> None:
    folder = adapter(tmp_path / "a", base, tensors, **settings)
    with pytest.raises(error, match=says):
        nb.load(folder, head=None)
    if error is RefusedError and "finite" not in says:
        assert [problem for problem in inspect(resolve(folder)).problems if problem.startswith("would not load: ")]


def test_other_files(base: Path, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", base)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(WeightsMapError, match="truncated or damaged"):
        nb.load(folder)
    weights.rename(folder / "adapter_model.bin")
    with pytest.raises(RefusedError, match=r"its weights are a pickle file.*safe_serialization=True"):
        nb.load(folder)
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(RefusedError, match=r"if its adapter is merged already, remove adapter_config.json"):
        nb.load(folder)


def test_a_table_that_the_output_layer_shares(tmp_path: Path) -> None:
    config = BERT | {"architectures": ["BertForMaskedLM"]}
    lm = {"cls.predictions.transform.dense.weight": random(32, 32), "cls.predictions.transform.dense.bias": random(32),
          "cls.predictions.transform.LayerNorm.weight": random(32), "cls.predictions.transform.LayerNorm.bias": random(32),
          "cls.predictions.bias": random(len(VOCAB))}  # fmt: skip
    base = write_folder(tmp_path / "base", config, bert_tensors(config, prefix="bert.", pooler=False) | lm)
    name = "base_model.model.bert.embeddings.word_embeddings"
    tensors = {f"{name}.lora_embedding_A": random(4, len(VOCAB)), f"{name}.lora_embedding_B": random(32, 4)}
    folder = adapter(tmp_path / "a", base, tensors)
    with pytest.raises(RefusedError, match="token table and output layer share, for one of the two"):
        nb.load(folder)
    assert nb.load(folder, head=None).tasks == ()  # the encoder has it for itself


def test_inspect_and_the_command_line_say_what_is_merged(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = adapter(tmp_path / "a", base, classifier(), task_type="SEQ_CLS")
    found = inspect(resolve(folder))
    assert found.problems == ()
    assert found.facts["adapter"] == {
        "kind": "LoRA, merged when it is loaded", "merged into": str(base), "rank": 4, "scale": [1.5], "weights it changes": 1,
        "weights it replaces": ["head.classifier.out.bias", "head.classifier.out.weight", "layers.1.attn.q.bias"], "head": "classify",
    }  # fmt: skip
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    assert (
        cli.main(["classify", str(tmp_path / "texts.txt"), "-m", str(folder), "-o", str(tmp_path / "r.csv"), "--device", "cpu"])
        == 0
    )
    assert f"{folder} (from a folder, merged into {base})" in capsys.readouterr().out
    assert cli.main(["inspect", str(folder)]) == 0
    assert "LoRA, merged when it is loaded" in capsys.readouterr().out
    other = adapter(tmp_path / "b", tmp_path / "gone")
    assert cli.main(["inspect", str(other)]) == 2
    assert "pass another, --base" in capsys.readouterr().err
    assert cli.main(["inspect", str(other), "--base", str(base)]) == 0


def test_parity_needs_another_model(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from nativebert.parity.check import check

    with pytest.raises(RefusedError, match=r"adapter was merged into this model.*save it, and check that folder"):
        check(adapter(tmp_path / "a", base))


def test_an_adapter_for_a_task_is_another_thing(base: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="has no adapters for tasks"):
        nb.load(adapter(tmp_path / "a", base), adapter="retrieval.query")


def test_by_the_calls_of_transformers(base: Path, tmp_path: Path) -> None:
    from nativebert import hf

    folder = adapter(tmp_path / "a", base, classifier(), task_type="SEQ_CLS")
    classify, ids = nb.Classifier(folder, device="cpu"), torch.tensor([[2, 5, 6, 3]])
    model = hf.AutoModelForSequenceClassification.from_pretrained(folder)
    assert (model.config.num_labels, model(ids).logits.shape) == (3, (1, 3))
    named = hf.AutoModelForSequenceClassification.from_pretrained(folder, id2label={0: "a", 1: "b", 2: "c"})
    assert torch.equal(named(ids).logits, model(ids).logits)
    found = hf.pipeline("text-classification", model=str(folder), device="cpu")(TEXTS)
    assert [(row["label"], row["score"]) for row in found] == [(row["label"], row["score"]) for row in classify(TEXTS)]
    with pytest.raises(RefusedError, match="its head has 3 classes, and one of 5 was asked for"):
        hf.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=5)
    assert hf.AutoTokenizer.from_pretrained(folder)("the cat")["input_ids"] == classify.tokenizer.ids_batch(["the cat"]).ids[0]


def test_a_tokenizer_of_its_own_needs_no_base_model(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", tmp_path / "gone")
    with pytest.raises(NotFoundError, match="is not to be had"):
        resolve(folder, weights=False)
    (folder / "vocab.txt").write_text("\n".join(VOCAB))
    assert resolve(folder, weights=False).tokenizer == folder


def test_another_adapter_than_was_pickled(base: Path, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", base)
    data = pickle.dumps(nb.Embedder(folder, device="cpu", pooling="mean"))
    save_file(
        {name: 2 * t for name, t in load_file(folder / "adapter_model.safetensors").items()},
        folder / "adapter_model.safetensors",
    )
    with pytest.raises(RefusedError, match="holds other weights now"):
        pickle.loads(data)
