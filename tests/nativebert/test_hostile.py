"""Broken and hostile folders: each is one clear error that says what to do, soon, and no model is left half made."""

from __future__ import annotations

import json
import math
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import BERT, DISTILBERT, bert_tensors, distilbert_tensors, one_thread, write_folder
from safetensors.torch import save_file

import nativebert as nb
from nativebert.errors import CorruptError, NativeBertError, NotFoundError, RefusedError
from nativebert.nn.model import Model
from weights_map import BadFileError, MismatchError, WeightsMapError

SECONDS = 5.0  # most that a refusal may take: the machine may be busy
OURS = (NativeBertError, WeightsMapError)
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "model", BERT)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """``refused(folder, error, *phrases)``: neither load nor Embedder makes a model of it; returns the message."""

    def check(folder: Path, error: type[Exception], *phrases: str) -> str:
        given: list[object] = []
        with monkeypatch.context() as patch:
            patch.setattr(Model, "load_state_dict", lambda *args, **_: given.append(args))
            for make in (nb.load, lambda f: nb.Embedder(f, pooling="mean", device="cpu")):
                began = time.perf_counter()
                with pytest.raises(error) as caught:
                    make(folder)
                assert time.perf_counter() - began < SECONDS
                assert isinstance(caught.value, OURS)
        assert not given, "weights were put into a model that cannot be loaded"
        message = str(caught.value)
        assert len(message) < 5000
        for phrase in phrases:
            assert phrase in message
        return message

    return check


Refuses = Callable[..., str]


# ---- the weight file


def header_of(path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length])


def with_header(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite the header alone."""
    raw, header = path.read_bytes(), header_of(path)
    data = raw[8 + struct.unpack("<Q", raw[:8])[0] :]
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("left", [0, 1, 7, 8, 100, 0.3, 0.9, -1])
def test_truncated(folder: Path, refused: Refuses, left: float) -> None:
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(raw[: int(left * len(raw)) if 0 < left < 1 else int(left)])
    refused(folder, BadFileError, WEIGHTS, "download it again")


@pytest.mark.parametrize("length", [0, 1, 17, 10**6, 10**8 + 1, 2**40, 2**63, 2**64 - 1])
def test_wrong_header_length(folder: Path, refused: Refuses, length: int) -> None:
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", length) + raw[8:])
    refused(folder, BadFileError, WEIGHTS, "download it again")


def test_huge_header_that_is_there(folder: Path, refused: Refuses) -> None:
    """A header of 2 GB, in a sparse file that takes no room on the disk."""
    with (folder / WEIGHTS).open("wb") as file:
        file.write(struct.pack("<Q", 2 * 10**9) + b"{")
        file.truncate(2 * 10**9 + 8)
    refused(folder, BadFileError, "header", "download it again")


NAME = "encoder.layer.0.attention.self.query.weight"


def overlap(header: dict[str, Any]) -> None:
    other = header["encoder.layer.0.attention.self.key.weight"]
    header[NAME]["data_offsets"] = other["data_offsets"]


def outside(header: dict[str, Any]) -> None:
    last = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    header[NAME]["data_offsets"] = [last, last + 32 * 32 * 4]


def entry(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header[NAME].update(changes)


@pytest.mark.parametrize(
    "change",
    [
        overlap,
        outside,
        entry(data_offsets=[10, 5]),
        entry(data_offsets=[-8, 4088]),
        entry(data_offsets=[0.0, 4096.0]),
        entry(data_offsets=[2**63, 2**63 + 4096]),
        entry(data_offsets=[0]),
        entry(shape=[32, 33]),
        entry(shape=[-32, -32]),
        entry(shape=[2**62, 4]),
        entry(shape=[2**32, 2**32, 2**32]),
        entry(shape="32 x 32"),
        entry(shape=None),
        entry(dtype="F16"),  # declared half as wide as it is
        entry(dtype="F64"),  # and the file holds half the bytes that it declares
        entry(dtype="F128"),
        entry(dtype="os.system"),
        entry(dtype=7),
        lambda header: header.update({NAME: [1, 2, 3]}),
        lambda header: header.update({NAME: None}),
        lambda header: header.update({"__metadata__": {"format": {"a": "b"}}}),
        lambda header: header.pop(NAME),  # leaves a hole in the data
    ],
)
def test_damaged_header(folder: Path, refused: Refuses, change: Callable[[dict[str, Any]], None]) -> None:
    with_header(folder / WEIGHTS, change)
    refused(folder, BadFileError, WEIGHTS, "download it again")


@pytest.mark.parametrize("text", [b"[1]", b"null", b'"a"', b"{", b"\xff\xfe{}", b"[" * 100_000, b'{"a":' * 50_000])
def test_header_that_is_no_object(folder: Path, refused: Refuses, text: bytes) -> None:
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text)
    refused(folder, BadFileError, "download it again")


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.uint8, torch.float8_e4m3fn])
def test_weights_that_are_no_floats(folder: Path, refused: Refuses, dtype: torch.dtype) -> None:
    tensors = bert_tensors(BERT)
    tensors[NAME] = tensors[NAME].to(dtype)
    save_file(tensors, folder / WEIGHTS)
    refused(folder, RefusedError, NAME, "weights must be F64, F32, F16 or BF16")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_weights_that_are_not_finite(folder: Path, refused: Refuses, value: float, dtype: torch.dtype) -> None:
    tensors = bert_tensors(BERT)
    tensors[NAME] = tensors[NAME].to(dtype)
    tensors[NAME][3, 4] = value
    save_file(tensors, folder / WEIGHTS)
    refused(folder, BadFileError, "layers.0.attn.q.weight", "not finite", "damaged or its training failed")


def test_weights_that_the_precision_cannot_hold(folder: Path, refused: Refuses) -> None:
    tensors = bert_tensors(BERT)
    tensors[NAME] = tensors[NAME].double()
    tensors[NAME][3, 4] = 1e300
    save_file(tensors, folder / WEIGHTS)
    refused(folder, RefusedError, "layers.0.attn.q.weight", "1e+300", "torch.float32", "wider precision=")
    assert nb.load(folder, precision="float64").layers[0].attn.q.weight[3, 4] == 1e300
    tensors[NAME] = bert_tensors(BERT)[NAME]
    tensors[NAME][3, 4] = 70000.0
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(RefusedError, match=r"70000, which torch.float16 cannot hold"):
        nb.load(folder, precision="float16")
    assert nb.load(folder, precision="bfloat16").dtype == torch.bfloat16


@pytest.mark.parametrize("pretend", [b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(60), b"<!DOCTYPE html>", b"GGUF" + bytes(60)])
def test_something_else_under_the_name(folder: Path, refused: Refuses, pretend: bytes) -> None:
    (folder / WEIGHTS).write_bytes(pretend)
    refused(folder, BadFileError, "not a safetensors file", "safetensors format")


def test_only_a_pickle(folder: Path, refused: Refuses) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    refused(folder, RefusedError, "does not open pickle", "`nativebert convert FOLDER`")


# ---- shards


@pytest.fixture
def sharded(folder: Path) -> Path:
    tensors = bert_tensors(BERT)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    places = {name: f"model-0000{1 + n % 2}-of-00002.safetensors" for n, name in enumerate(names)}
    for shard in sorted(set(places.values())):
        save_file({name: tensors[name] for name in names if places[name] == shard}, folder / shard)
    reindex(folder, places)
    assert nb.load(folder).config.width == 32
    return folder


def reindex(folder: Path, places: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def places_of(folder: Path) -> dict[str, str]:
    return json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]


def test_a_shard_is_missing(sharded: Path, refused: Refuses) -> None:
    (sharded / "model-00002-of-00002.safetensors").unlink()
    refused(sharded, NotFoundError, "model-00002-of-00002.safetensors", "incomplete")


@pytest.mark.parametrize(
    "place",
    ["../other.safetensors", "/etc/passwd", "..\\other.safetensors", "C:other.safetensors", "a/../../b.safetensors"],
)
def test_the_index_names_a_file_outside(sharded: Path, refused: Refuses, place: str) -> None:
    (sharded.parent / "other.safetensors").write_bytes((sharded / "model-00001-of-00002.safetensors").read_bytes())
    reindex(sharded, places_of(sharded) | {NAME: place})
    refused(sharded, RefusedError, "outside its folder", "do not trust this model")


@pytest.mark.parametrize(
    ("places", "phrase"),
    [
        ({}, "weight_map"),
        ([], "weight_map"),
        (None, "weight_map"),
        ({NAME: 3}, "incomplete"),
        ({NAME: "config.json"}, ".safetensors file"),
        ({NAME: "model-00001-of-00002.safetensors"}, "index does not list it"),
        ({NAME: "model-00009-of-00002.safetensors"}, "incomplete"),
    ],
)
def test_an_index_that_makes_no_sense(sharded: Path, refused: Refuses, places: object, phrase: str) -> None:
    reindex(sharded, places)
    refused(sharded, OURS, phrase)


def test_an_index_that_promises_what_no_shard_holds(sharded: Path, refused: Refuses) -> None:
    reindex(sharded, places_of(sharded) | {"more": "model-00001-of-00002.safetensors"})
    refused(sharded, BadFileError, "more", "does not", "download it again")


# ---- the weights and the config disagree


def test_wrong_width(folder: Path, refused: Refuses) -> None:
    write_folder(folder, BERT | {"hidden_size": 64}, bert_tensors(BERT))
    refused(folder, MismatchError, "config says H=64", "embeddings.word_embeddings.weight")


def test_more_layers_in_the_file(folder: Path, refused: Refuses) -> None:
    write_folder(folder, BERT | {"num_hidden_layers": 1}, bert_tensors(BERT))
    refused(folder, MismatchError, "unexpected", "encoder.layer.1", "the model has no such parameter")


def test_fewer_layers_in_the_file(folder: Path, refused: Refuses) -> None:
    write_folder(folder, BERT | {"num_hidden_layers": 3}, bert_tensors(BERT))
    refused(folder, MismatchError, "missing", "the file lacks", "encoder.layer.2")


def test_a_tensor_is_missing(folder: Path, refused: Refuses) -> None:
    tensors = bert_tensors(BERT)
    del tensors[NAME]
    save_file(tensors, folder / WEIGHTS)
    refused(folder, MismatchError, "1 missing", NAME)


def test_a_tensor_that_nobody_knows(folder: Path, refused: Refuses) -> None:
    save_file(bert_tensors(BERT) | {"encoder.layer.0.adapter.weight": torch.ones(2)}, folder / WEIGHTS)
    refused(folder, MismatchError, "1 unexpected", "encoder.layer.0.adapter.weight")


def test_both_prefixes(folder: Path, refused: Refuses) -> None:
    tensors = bert_tensors(BERT)
    save_file(tensors | {f"bert.{name}": t * 2 for name, t in tensors.items()}, folder / WEIGHTS)
    refused(folder, MismatchError, "unexpected", "a second copy of")


def test_half_a_pooler(folder: Path, refused: Refuses) -> None:
    tensors = bert_tensors(BERT)
    del tensors["pooler.dense.bias"]
    save_file(tensors, folder / WEIGHTS)
    refused(folder, MismatchError, "missing", "pooler.dense.bias")


@pytest.mark.parametrize(("config", "tensors"), [(BERT, distilbert_tensors(DISTILBERT)), (DISTILBERT, bert_tensors(BERT))])
def test_another_family(folder: Path, refused: Refuses, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    write_folder(folder, config, tensors)
    refused(folder, MismatchError, "missing", "unexpected")


def test_no_tensors(folder: Path, refused: Refuses) -> None:
    save_file({}, folder / WEIGHTS)
    refused(folder, MismatchError, "missing")


# ---- config.json


def configure(folder: Path, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps(BERT | changes))


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"vocab_size": 10**12}, "'vocab_size' must be between 1 and"),
        ({"vocab_size": 10**400}, "'vocab_size' must be between 1 and"),
        ({"vocab_size": "30522"}, "'vocab_size' must be a whole number, not '30522'"),
        ({"vocab_size": 30522.0}, "'vocab_size' must be a whole number"),
        ({"vocab_size": True}, "'vocab_size' must be a whole number, not True"),
        ({"vocab_size": [1]}, "'vocab_size' must be a whole number"),
        ({"num_hidden_layers": 10**9}, "'num_hidden_layers' must be between 0 and 1000"),
        ({"num_hidden_layers": -1}, "'num_hidden_layers' must be between"),
        ({"hidden_size": 0}, "'hidden_size' must be between"),
        ({"hidden_size": 2**31 - 1, "vocab_size": 2**31 - 1}, "a width of 2147483647 (embeddings: None) is beyond any model"),
        ({"intermediate_size": {}}, "'intermediate_size' must be a whole number"),
        ({"num_attention_heads": 5}, "not a multiple of the 5 attention heads"),
        ({"num_attention_heads": 0}, "'num_attention_heads' must be between"),
        ({"num_attention_heads": 2**31 - 1}, "not a multiple of"),
        ({"max_position_embeddings": -512}, "'max_position_embeddings' must be between"),
        ({"layer_norm_eps": "1e-12"}, "'layer_norm_eps' must be a number"),
        ({"layer_norm_eps": math.nan}, "'layer_norm_eps' must be a finite number"),
        ({"layer_norm_eps": math.inf}, "'layer_norm_eps' must be a finite number"),
        ({"layer_norm_eps": 10**400}, "'layer_norm_eps' must be a finite number"),
        ({"layer_norm_eps": -1e-12}, "'layer_norm_eps' must be a finite number between 0"),
        ({"hidden_dropout_prob": 1.5}, "'hidden_dropout_prob' must be a finite number between 0 and 1"),
        ({"hidden_act": 3}, "'hidden_act' must be a string"),
        ({"hidden_act": ["gelu"]}, "'hidden_act' must be a string"),
        ({"pad_token_id": "[PAD]"}, "'pad_token_id' must be a whole number"),
        ({"architectures": "BertModel"}, "'architectures' must be a list of names"),
        ({"architectures": [{}]}, "'architectures' must be a list of names"),
        ({"model_type": None}, "no usable 'model_type'"),
        ({"model_type": ["bert"]}, "no usable 'model_type'"),
    ],
)
def test_a_value_that_cannot_be(folder: Path, refused: Refuses, changes: dict[str, Any], phrase: str) -> None:
    configure(folder, **changes)
    refused(folder, CorruptError, "config.json", phrase)


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"model_type": "deberta"}, "does not know the model family 'deberta'"),
        ({"model_type": "distilbret"}, "The nearest one it knows is 'distilbert'"),
        ({"model_type": "../../etc"}, "It knows: albert, bert"),
        ({"model_type": ""}, "It knows: albert, bert"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"is_decoder": 1}, "is_decoder is 1"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder is True"),
        ({"position_embedding_type": "relative_key"}, "positions enter the attention as relative distances"),
        ({"position_embedding_type": [[[]]]}, "positions enter the attention"),
        ({"pruned_heads": {"0": [1]}}, "some attention heads were removed"),
        ({"quantization_config": {"load_in_8bit": True}}, "stored quantised"),
        ({"quantization_config": {}}, "stored quantised"),
        ({"hidden_act": "laplace"}, "hidden_act is 'laplace'; nativebert computes gelu"),
        ({"hidden_act": "__import__('os')"}, "nativebert computes gelu"),
    ],
)
def test_what_would_change_the_numbers(folder: Path, refused: Refuses, changes: dict[str, Any], phrase: str) -> None:
    configure(folder, **changes)
    refused(folder, RefusedError, phrase)


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size"])
def test_a_key_is_missing(folder: Path, refused: Refuses, key: str) -> None:
    """What transformers fills in, so do we: and then it must fit the file."""
    (folder / "config.json").write_text(json.dumps({k: v for k, v in BERT.items() if k != key}))
    refused(folder, OURS, {"hidden_size": "H=768", "num_hidden_layers": "160 missing"}.get(key, "config says"))


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON in UTF-8"),
        (b"[1, 2]", "contains a list instead of a JSON dict"),
        (b'"bert"', "contains a str"),
        (b"null", "contains a NoneType"),
        (b"{}", "no usable 'model_type'"),
        (b"[" * 100_000 + b"]" * 100_000, "is not JSON"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "is not JSON"),
        (b'{"model_type": "bert", "layer_norm_eps": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b"\x80\x04\x95", "is not JSON"),
    ],
)
def test_config_that_is_no_object(folder: Path, refused: Refuses, text: bytes, phrase: str) -> None:
    (folder / "config.json").write_bytes(text)
    refused(folder, CorruptError, phrase)


@pytest.mark.parametrize("depth", [50, 500, 900, 960, 980, 990, 1000, 5000])
def test_a_value_nested_deep(folder: Path, refused: Refuses, depth: int) -> None:
    nested = "[" * depth + "]" * depth
    (folder / "config.json").write_text(json.dumps(BERT)[:-1] + f', "position_embedding_type": {nested}}}')
    refused(folder, (RefusedError, CorruptError), "config.json")


def test_no_config(folder: Path, refused: Refuses) -> None:
    (folder / "config.json").unlink()
    refused(folder, NotFoundError, "has no config.json")


def test_a_thousand_layers_are_refused_without_taking_memory(folder: Path, refused: Refuses) -> None:
    configure(folder, num_hidden_layers=1000, vocab_size=2**31 - 1, hidden_size=2**20, intermediate_size=2**31 - 1)
    refused(folder, MismatchError, "shape", "missing")


# ---- sentence-transformers files


def modules(folder: Path, content: object) -> None:
    (folder / "modules.json").write_text(json.dumps(content))


@pytest.mark.parametrize("path", ["../1_Pooling", "/etc", "a/../../b", "..", "C:\\x"])
def test_modules_lead_outside(folder: Path, refused: Refuses, path: str) -> None:
    modules(folder, [{"path": path, "type": "sentence_transformers.models.Pooling"}])
    refused(folder, RefusedError, "outside its folder", "do not trust this model")


@pytest.mark.parametrize("content", [{}, "x", [1], [[]], None])
def test_modules_of_another_shape(folder: Path, refused: Refuses, content: object) -> None:
    modules(folder, content)
    refused(folder, CorruptError, "modules.json", "Download it again")


# ---- chance


def loads_or_says_why(folder: Path) -> bool:
    began = time.perf_counter()
    try:
        model = nb.load(folder)
        assert all(p.isfinite().all() for p in model.parameters())
        model(torch.tensor([[1, 2, 3]]), output_hidden_states=True)
        return True
    except OURS:
        return False
    finally:
        assert time.perf_counter() - began < SECONDS


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, 2, 4, 32, 10**6, 2**31 - 1, 2**31, 2**63, 10**30, -1, 10**400])
    | st.floats()
    | st.text(max_size=20)
    | st.lists(st.integers(), max_size=3)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=3)
)
MORE_KEYS = (
    "layer_norm_eps hidden_dropout_prob attention_probs_dropout_prob initializer_range dropout attention_dropout "
    "is_decoder add_cross_attention is_encoder_decoder pruned_heads quantization_config position_embedding_type "
    "id2label num_labels architectures sinusoidal_pos_embds dtype torch_dtype"
)
CHANCE = {"deadline": None, "derandomize": True, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    here = tmp_path_factory.mktemp("ready")
    return {c["model_type"]: write_folder(here / c["model_type"], c) for c in (BERT, DISTILBERT)}


@settings(max_examples=200, **CHANCE)
@given(st.data())
def test_any_values_in_config(ready: dict[str, Path], data: st.DataObject) -> None:
    config = data.draw(st.sampled_from([BERT, DISTILBERT]))
    keys = st.sampled_from([*config, *MORE_KEYS.split()])
    changes = data.draw(st.dictionaries(keys, VALUES, min_size=1, max_size=3))
    folder = ready[config["model_type"]]
    (folder / "config.json").write_text(json.dumps(config | changes))
    try:
        loads_or_says_why(folder)
    finally:
        (folder / "config.json").write_text(json.dumps(config))


@settings(max_examples=200, **CHANCE)
@given(st.data())
def test_any_bytes_in_the_header(ready: dict[str, Path], data: st.DataObject) -> None:
    folder = ready[data.draw(st.sampled_from(["bert", "distilbert"]))]
    whole = (folder / WEIGHTS).read_bytes()
    end = 8 + struct.unpack("<Q", whole[:8])[0]
    raw = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, end - 1))
        new = data.draw(st.binary(min_size=1, max_size=4) | st.sampled_from([b"9", b"0", b'"', b"}", b"-", b"e", b"."]))
        if data.draw(st.booleans()):
            raw[at : at + len(new)] = new
        else:
            raw[at:at] = new
    (folder / WEIGHTS).unlink()  # another test's model may still be mapped to it
    (folder / WEIGHTS).write_bytes(raw)
    try:
        loads_or_says_why(folder)
    finally:
        (folder / WEIGHTS).unlink()
        (folder / WEIGHTS).write_bytes(whole)


def test_what_chance_is_measured_against_loads(ready: dict[str, Path]) -> None:
    assert all(loads_or_says_why(folder) for folder in ready.values())
