"""What nativebert.hf saves reloads equal, here and in the libraries whose names it has; what cannot be saved is refused."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hf_checkpoints import make
from models import BERT, bert_tensors, write_folder
from test_sentence import TRANSFORMER, saved

import nativebert as nb
from nativebert.errors import RefusedError
from nativebert.hf import AutoModel, AutoModelForSequenceClassification, CrossEncoder, SentenceTransformer

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::nativebert.errors.Truncated")]

MEAN = ("Pooling", {"word_embedding_dimension": 32, "pooling_mode": "mean"})
TEXTS = ["the cat sat on the mat. a dog is on the mat", "deep learning", "the DOG"]
PAIRS = [("a cat", "the cat sat on the mat"), ("deep learning is powerful, is it?", "a dog"), ("the", "cats")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    where = write_folder(tmp_path / "m", BERT)
    saved(where, TRANSFORMER, MEAN, ("Normalize", None), sentence_bert_config={"max_seq_length": 12, "do_lower_case": False})
    return where


def limit(model: Any, value: int) -> None:
    model.tokenizer.model_max_length = value


VECTORS: dict[str, Callable[[SentenceTransformer], Any]] = {
    "include_prompt": lambda m: m.set_pooling_include_prompt(False),
    "tokenizer.model_max_length": lambda m: limit(m, 7),
    "max_seq_length": lambda m: setattr(m, "max_seq_length", 6),
    "half": lambda m: m.half(),
    "bfloat16": lambda m: m.bfloat16(),
    "prompt": lambda m: m.prompts.update(query="the "),
    "truncate_dim": lambda m: setattr(m, "truncate_dim", 5),
    "all": lambda m: [m.set_pooling_include_prompt(False), limit(m, 9), m.bfloat16()],
}


@pytest.mark.parametrize("change", VECTORS)
def test_changes_of_vectors(folder: Path, tmp_path: Path, change: str) -> None:
    import sentence_transformers

    model = SentenceTransformer(folder, device="cpu")
    before = model.encode_query(TEXTS, prompt=None if change == "prompt" else "a cat ")
    VECTORS[change](model)
    given: dict[str, Any] = {} if change == "prompt" else {"prompt": "a cat "}
    now = model.encode_query(TEXTS, **given)
    assert now.shape != before.shape or np.abs(now - before).max() > 1e-5
    model.save_pretrained(tmp_path / "saved")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=nb.errors.Truncated)
        again = SentenceTransformer(tmp_path / "saved", device="cpu")
    assert np.array_equal(again.encode_query(TEXTS, **given), now)
    assert (again.max_seq_length, again.dtype, again.truncate_dim) == (model.max_seq_length, model.dtype, model.truncate_dim)
    there = sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    theirs = np.asarray(there.encode_query(TEXTS, **given), np.float32)
    np.testing.assert_allclose(theirs, now, atol=2e-2 if model.dtype != torch.float32 else 1e-5)
    assert there.dtype == model.dtype
    again.float()
    again.save_pretrained(tmp_path / "again")
    assert SentenceTransformer(tmp_path / "again", device="cpu").dtype == torch.float32


def test_the_limit_goes_before_that_of_the_tokenizer_s_settings(folder: Path, tmp_path: Path) -> None:
    settings = {"max_seq_length": 12, "tokenizer_args": {"model_max_length": 9, "do_lower_case": False}}
    saved(folder, TRANSFORMER, MEAN, sentence_bert_config=settings)
    model = SentenceTransformer(folder, device="cpu")
    assert model.max_seq_length == 9
    model.max_seq_length = 6
    model.save_pretrained(tmp_path / "saved")
    again = SentenceTransformer(tmp_path / "saved", device="cpu")
    assert again.max_seq_length == 6
    assert np.array_equal(again.encode(TEXTS), model.encode(TEXTS))


def test_a_cut_at_the_beginning_is_refused(folder: Path) -> None:
    model = SentenceTransformer(folder, device="cpu")
    model.tokenizer.truncation_side = "left"
    for call in (lambda: model.encode(TEXTS), lambda: model.save_pretrained("x")):
        with pytest.raises(RefusedError, match=r"does not support tokenizer\.truncation_side='left'"):
            call()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"truncation_side": "left"}))
    embed = nb.Embedder(folder, device="cpu")
    embed(TEXTS[1:])  # none of these is cut
    with pytest.raises(RefusedError, match=r"text 0 has 15 tokens and the limit is 12.*cut at their beginning"):
        embed(TEXTS)
    nb.Embedder(folder, device="cpu", too_long="window")(TEXTS)


def test_what_a_tokenizer_of_a_model_was_set_to(folder: Path, tmp_path: Path) -> None:
    model = SentenceTransformer(folder, device="cpu")
    model.tokenizer.padding_side = "left"
    model.save_pretrained(tmp_path / "saved")
    assert SentenceTransformer(tmp_path / "saved", device="cpu").tokenizer.padding_side == "left"


SCORES: dict[str, Callable[[CrossEncoder], Any]] = {
    "identity": lambda m: setattr(m, "activation_fn", torch.nn.Identity()),
    "max_length": lambda m: setattr(m, "max_length", 8),
    "tokenizer.model_max_length": lambda m: limit(m, 7),
    "both": lambda m: [setattr(m, "activation_fn", torch.nn.Identity()), setattr(m, "max_length", 9)],
}


@pytest.mark.parametrize("change", SCORES)
def test_changes_of_scores(folders: dict[str, str], tmp_path: Path, change: str) -> None:
    import sentence_transformers

    model = CrossEncoder(folders["cross"], device="cpu")
    before = model.predict(PAIRS)
    SCORES[change](model)
    now = model.predict(PAIRS)
    assert np.abs(now - before).max() > 1e-6
    model.save_pretrained(tmp_path / "saved")
    again = CrossEncoder(tmp_path / "saved", device="cpu")
    assert np.array_equal(again.predict(PAIRS), now)
    assert again.max_length == model.max_length
    there = sentence_transformers.CrossEncoder(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(there.predict(PAIRS), now, atol=1e-5)
    assert there.max_length == model.max_length
    again.save_pretrained(tmp_path / "again")
    assert np.array_equal(CrossEncoder(tmp_path / "again", device="cpu").predict(PAIRS), now)


def test_a_cross_encoder_of_16_bits(folders: dict[str, str], tmp_path: Path) -> None:
    model = CrossEncoder(folders["cross"], device="cpu", model_kwargs={"torch_dtype": "bfloat16"})
    model.save_pretrained(tmp_path / "saved")
    again = CrossEncoder(tmp_path / "saved", device="cpu")
    assert np.array_equal(again.predict(PAIRS), model.predict(PAIRS))
    assert not np.array_equal(again.predict(PAIRS), CrossEncoder(folders["cross"], device="cpu").predict(PAIRS))


@pytest.mark.parametrize(
    "function", [torch.tanh, torch.nn.Tanh(), torch.nn.ReLU(), lambda x: x * 2], ids=["tanh", "Tanh", "ReLU", "lambda"]
)
def test_activations_that_a_folder_cannot_name(folders: dict[str, str], tmp_path: Path, function: Any) -> None:
    model = CrossEncoder(folders["cross"], device="cpu", activation_fn=function)
    with pytest.raises(RefusedError, match="a folder cannot say that activation_fn is"):
        model.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_an_untouched_cross_encoder_is_saved_byte_for_byte(folders: dict[str, str], tmp_path: Path) -> None:
    CrossEncoder(folders["cross"], device="cpu").save_pretrained(tmp_path / "saved")
    for path in (tmp_path / "saved").iterdir():
        assert path.read_bytes() == (Path(folders["cross"]) / path.name).read_bytes()


def test_limits_of_cross_encoders_are_those_of_the_reference(folders: dict[str, str], tmp_path: Path) -> None:
    import sentence_transformers

    theirs = sentence_transformers.CrossEncoder(folders["cross"], device="cpu", max_length=9)
    theirs.save_pretrained(str(tmp_path / "theirs"))
    path = tmp_path / "theirs" / "sentence_bert_config.json"
    for limits in (
        {},
        {"max_seq_length": 7},
        {"processor_kwargs": {"model_max_length": 8}},
        {"tokenizer_args": {"do_lower_case": False}},
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | limits))
        there = sentence_transformers.CrossEncoder(str(path.parent), device="cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nb.errors.Assumed)
            ours = CrossEncoder(path.parent, device="cpu")
            native = nb.Ranker(path.parent, device="cpu")
        assert ours.max_length == native.max_tokens == there.max_seq_length
        np.testing.assert_allclose(ours.predict(PAIRS), there.predict(PAIRS), atol=1e-6)
        np.testing.assert_allclose(native(PAIRS), there.predict(PAIRS), atol=1e-6)


def test_a_prompt_of_a_cross_encoder_is_refused(folders: dict[str, str], tmp_path: Path) -> None:
    CrossEncoder(folders["cross"], device="cpu").save_pretrained(tmp_path / "m")
    said: dict[str, Any] = {"model_type": "CrossEncoder", "prompts": {"q": "query: ", "none": ""}}
    path = tmp_path / "m" / "config_sentence_transformers.json"
    for default in (None, "none"):
        path.write_text(json.dumps(said | {"default_prompt_name": default}))
        nb.Ranker(tmp_path / "m", device="cpu")
    path.write_text(json.dumps(said | {"default_prompt_name": "q"}))
    for kind in (nb.Ranker, CrossEncoder):
        with pytest.raises(RefusedError, match="puts the prompt 'q' before its texts"):
            kind(tmp_path / "m", device="cpu")


# ---- models


TYPES: dict[str, Callable[[Any], Any]] = {
    "half": lambda m: m.half(),
    "bfloat16": lambda m: m.bfloat16(),
    "to": lambda m: m.to(torch.bfloat16),
    "double": lambda m: m.double(),
}


@pytest.mark.parametrize("kind", ["AutoModel", "AutoModelForSequenceClassification"])
@pytest.mark.parametrize("change", TYPES)
def test_number_types_of_models(folders: dict[str, str], tmp_path: Path, kind: str, change: str) -> None:
    import transformers

    name = folders["bert" if kind == "AutoModel" else "cross"]
    ours = {"AutoModel": AutoModel, "AutoModelForSequenceClassification": AutoModelForSequenceClassification}[kind]
    model = TYPES[change](ours.from_pretrained(name))
    model.save_pretrained(tmp_path / "saved")
    again = ours.from_pretrained(tmp_path / "saved")
    theirs = getattr(transformers, kind).from_pretrained(tmp_path / "saved")
    assert again.dtype == model.dtype == theirs.dtype
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
        assert torch.equal(theirs.state_dict()[name], value), name


@pytest.mark.parametrize("asked", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_a_number_type_that_was_asked_for(tmp_path: Path, asked: str, stored: torch.dtype) -> None:
    tensors = {name: t.to(stored) for name, t in bert_tensors(BERT).items()}
    folder = write_folder(tmp_path / "m", BERT | {"dtype": str(stored).removeprefix("torch.")}, tensors)
    model = AutoModel.from_pretrained(folder, dtype=asked)
    model.save_pretrained(tmp_path / "saved")
    again = AutoModel.from_pretrained(tmp_path / "saved")
    assert again.dtype == model.dtype
    assert all(torch.equal(again.state_dict()[name], value) for name, value in model.state_dict().items())
    nb.load(folder, precision=asked).save(tmp_path / "native")
    native = nb.load(tmp_path / "native", precision=asked)
    assert all(torch.equal(native.state_dict()[k], v) for k, v in nb.load(folder, precision=asked).state_dict().items())
    said = json.loads((tmp_path / "native" / "config.json").read_text())["dtype"]
    # what a file of more bits is loaded in is the caller's to say; fewer, or others, are what the values are
    assert said == (asked if asked in ("float16", "bfloat16") else str(stored).removeprefix("torch."))


def test_an_untouched_model_is_saved_byte_for_byte(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", BERT)
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    nb.load(folder).save(tmp_path / "native")
    for copy in ("saved", "native"):
        for path in (tmp_path / copy).iterdir():
            assert path.read_bytes() == (folder / path.name).read_bytes()


@pytest.mark.parametrize("name", ["sentence_roberta_config.json", "adapter_config.json", "modules.json", "added_tokens.json"])
def test_files_of_another_model_are_not_mixed_with_what_is_saved(tmp_path: Path, name: str) -> None:
    model = nb.load(write_folder(tmp_path / "m", BERT))
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / name).write_text("{}")
    with pytest.raises(RefusedError, match=f"holds {name} of another model"):
        model.save(tmp_path / "to")
    assert {path.name for path in (tmp_path / "to").iterdir()} == {name}


def test_changes_of_a_model_in_the_layout_of_old_versions(folder: Path, tmp_path: Path) -> None:
    inside = folder / "0_Transformer"
    inside.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file() and path.name != "modules.json"]:
        path.rename(inside / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([modules[0] | {"path": inside.name}, *modules[1:]]))
    model = SentenceTransformer(folder, device="cpu")
    VECTORS["all"](model)
    model.tokenizer.padding_side = "left"
    model.save_pretrained(tmp_path / "saved")
    again = SentenceTransformer(tmp_path / "saved", device="cpu")
    assert (again.max_seq_length, again.dtype, again.tokenizer.padding_side) == (9, torch.bfloat16, "left")
    assert np.array_equal(again.encode(TEXTS, prompt="a cat "), model.encode(TEXTS, prompt="a cat "))
    AutoModel.from_pretrained(folder).half().save_pretrained(tmp_path / "half")
    assert AutoModel.from_pretrained(tmp_path / "half").dtype == torch.float16
    nb.load(folder).save(tmp_path / "small", precision="int8")
    nb.Embedder(tmp_path / "small", device="cpu")
