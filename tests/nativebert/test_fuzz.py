"""Files mutated at random: every outcome is a model or an error of ours, soon, and in little memory."""

from __future__ import annotations

import copy
import json
import os
import resource
import shutil
import struct
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import BERT, VOCAB, one_thread, write_folder

import nativebert as nb
from nativebert import inspect
from nativebert.errors import NativeBertError
from nativebert.hub import resolve
from weights_map import WeightsMapError

pytestmark = pytest.mark.slow

OURS = (NativeBertError, WeightsMapError)
SECONDS = 5.0
MEGABYTES = 200
CASES = int(
    os.environ.get("NATIVEBERT_FUZZ", 120)
)  # for each of the eight tests; asked for by the variable, they are new each time
CONFIG = BERT | {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 24, "id2label": {"0": "a", "1": "b"}}

fuzz = settings(
    max_examples=CASES, deadline=None, database=None, derandomize="NATIVEBERT_FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


@settings(max_examples=5, deadline=None, database=None)
@given(st.text(), st.integers(), st.floats())
def _first(text: str, whole: int, number: float) -> None:
    """Where there is no .hypothesis yet, hypothesis makes its tables of characters and constants first, in 200 MB."""


@pytest.fixture(scope="module", autouse=True)
def _bounded() -> Iterator[None]:
    """In one thread, and with little more memory at the end than at the beginning."""
    with one_thread():
        _first()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        yield
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / (1024 if sys.platform == "linux" else 1024**2)
        assert grown < MEGABYTES, f"{grown:.0f} MB more than before"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_folder(tmp_path_factory.mktemp("fuzz") / "model", CONFIG)
    parts = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    listed = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(parts.items())
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 16, "pooling_mode_mean_tokens": true}')
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 30, "do_lower_case": false}')
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"q": "a dog is "}, "similarity_fn_name": "cosine"}')
    # a tokenizer.json, as the tokenizers library writes it
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(models.WordPiece({word: n for n, word in enumerate(VOCAB)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.save(str(folder / "tokenizer.json"))
    nb.Embedder(folder, device="cpu")(["the cat sat"])  # imports, and whatever is kept for ever
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return tmp_path / "model"


def outcome(pristine: Path, folder: Path, changes: dict[str, bytes | None]) -> None:
    """Use a copy of the folder with some files changed, or absent, in every way that reads files."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(pristine, folder)
    for name, data in changes.items():
        if data is None:
            (folder / name).unlink(missing_ok=True)
        else:
            (folder / name).write_bytes(data)
    ends, said = [], "fine"
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for use in (_embed, _load, _inspect):
            try:
                use(folder)
                ends.append("fine")
            except OURS as error:
                ends.append(type(error).__name__)
                said = str(error)
        assert 0 < len(said) < 20_000
    assert time.perf_counter() - began < SECONDS
    seen.update(ends)


seen: Counter[str] = Counter()


def _embed(folder: Path) -> None:
    vectors = nb.Embedder(folder, device="cpu")(["the cat sat", "", "learning ##ing [SEP]"])
    assert vectors.shape[0] == 3


def _load(folder: Path) -> None:
    nb.load(folder)


def _inspect(folder: Path) -> None:
    inspect.inspect(resolve(folder)).as_dict()


# ---- mutations

ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 7, 2**31, 2**63, 10**30, -(10**30), 0.5, 1e308, "", "x", "../x", "/etc/passwd", "\0", "é" * 50, "bert",
    "eval", "__import__('os')", [], [1], [None], {}, {"a": 1}, [[[]]], "F32", "I64", [2**40, 2**40], [-1, 3], [0, 0],
]  # fmt: skip


@st.composite
def mutated_json(draw: st.DrawFn, value: Any) -> Any:
    """One to three changes anywhere in a JSON value."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        holder: list[Any] = [value]
        parent: Any = holder
        key: Any = 0
        while isinstance(parent[key], (dict, list)) and parent[key] and (parent is holder or draw(st.integers(0, 3))):
            parent = parent[key]
            keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            key = draw(st.sampled_from(keys[:200]))
        match draw(st.integers(0, 5)):
            case 0 | 1 | 2:
                parent[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
            case 3 if parent is not holder:
                del parent[key]
            case 4 if isinstance(parent, dict):
                parent[draw(st.sampled_from([*parent, "new", "", "auto_map", "architectures"]))] = copy.deepcopy(parent[key])
            case _ if isinstance(parent[key], (int, float)) and not isinstance(parent[key], bool):
                parent[key] = parent[key] * draw(st.sampled_from([-1, 2, 3, 10**6])) + draw(st.integers(-2, 2))
            case _ if isinstance(parent[key], str):
                parent[key] = draw(mutated_text(parent[key]))
            case _:
                parent[key] = [parent[key], copy.deepcopy(parent[key])]
        value = holder[0]
    return value


@st.composite
def mutated_text(draw: st.DrawFn, text: str) -> str:
    at, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
    return text[:at] + draw(st.text(max_size=5)) + text[end:]


@st.composite
def mutated_bytes(draw: st.DrawFn, data: bytes, most: int | None = None) -> bytes:
    """Bits flipped, pieces cut out, doubled, or put in; in the first ``most`` bytes."""
    raw = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        end = min(len(raw), most or len(raw))
        at = draw(st.integers(0, max(end - 1, 0)))
        match draw(st.integers(0, 4)):
            case 0 | 1 if raw:
                raw[at] ^= 1 << draw(st.integers(0, 7))
            case 2:
                del raw[at : at + draw(st.integers(1, 20))]
            case 3:
                raw[at:at] = draw(st.binary(max_size=8))
            case _ if not draw(st.integers(0, 3)):
                del raw[at:]
            case _:
                raw[at:at] = raw[at : at + 30]
    return bytes(raw)


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


Changes = Callable[[st.DataObject, Path, str], bytes]


def by_value(data: st.DataObject, pristine: Path, name: str) -> bytes:
    return dumped(data.draw(mutated_json(json.loads((pristine / name).read_bytes()))))


def by_bytes(data: st.DataObject, pristine: Path, name: str) -> bytes:
    return data.draw(mutated_bytes((pristine / name).read_bytes()))


@pytest.mark.parametrize("change", [by_value, by_bytes])
def test_config(pristine: Path, folder: Path, change: Changes) -> None:
    @fuzz
    @given(st.data())
    def check(data: st.DataObject) -> None:
        outcome(pristine, folder, {"config.json": change(data, pristine, "config.json")})

    check()


@pytest.mark.parametrize("structured", [True, False])
def test_weights(pristine: Path, folder: Path, structured: bool) -> None:
    raw = (pristine / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])

    @fuzz
    @given(st.data())
    def check(data: st.DataObject) -> None:
        if structured:
            text = dumped(data.draw(mutated_json(header)))
            changed = struct.pack("<Q", len(text)) + text + raw[8 + length :]
        else:
            changed = data.draw(mutated_bytes(raw, 8 + length))
        outcome(pristine, folder, {"model.safetensors": changed})

    check()


@pytest.mark.parametrize("change", [by_value, by_bytes])
def test_tokenizer(pristine: Path, folder: Path, change: Changes) -> None:
    @fuzz
    @given(st.data())
    def check(data: st.DataObject) -> None:
        outcome(pristine, folder, {"tokenizer.json": change(data, pristine, "tokenizer.json")})

    check()


def test_vocabulary(pristine: Path, folder: Path) -> None:
    @fuzz
    @given(st.data())
    def check(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(["vocab.txt", "tokenizer_config.json"]))
        outcome(pristine, folder, {"tokenizer.json": None, name: by_bytes(data, pristine, name)})

    check()


def test_sentence_files(pristine: Path, folder: Path) -> None:
    names = [
        "modules.json",
        "1_Pooling/config.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        "tokenizer_config.json",
    ]

    @fuzz
    @given(st.data())
    def check(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(names))
        change = data.draw(st.sampled_from([by_value, by_value, by_bytes]))
        outcome(pristine, folder, {name: change(data, pristine, name)})

    check()


def test_mutations_reach_something() -> None:
    """After all others: neither all refused at the door nor all harmless."""
    if seen.total() >= 3 * CASES:
        assert seen["fine"] > 0.05 * seen.total()
        assert len(seen) > 4
