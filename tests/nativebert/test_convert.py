"""`nativebert convert`: the tensors of a pickle, and nothing else of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models import BERT, bert_tensors, write_folder
from safetensors.torch import load_file

import nativebert as nb
from nativebert import cli, hub
from nativebert.convert import _work, convert
from nativebert.errors import BadInputError, CorruptError, NativeBertError, NotFoundError, RefusedError

pytestmark = pytest.mark.slow  # a conversion is a process of its own

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def tensors() -> Tensors:
    return bert_tensors(BERT)


@pytest.fixture
def folder(tmp_path: Path, tensors: Tensors) -> Path:
    """A folder as transformers wrote them until 2023."""
    folder = write_folder(tmp_path / "old", BERT, tensors)
    (folder / "model.safetensors").unlink()
    torch.save(OrderedDict(tensors), folder / "pytorch_model.bin")
    return folder


def same(a: Tensors, b: Tensors) -> bool:
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


def test_in_place(folder: Path, tensors: Tensors, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RefusedError, match="nativebert convert"):
        hub.resolve(folder)
    assert cli.main(["convert", str(folder)]) == 0
    assert f"{len(tensors)} tensors" in capsys.readouterr().out
    assert same(load_file(folder / "model.safetensors"), tensors)
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json", "model.safetensors", "pytorch_model.bin", "tokenizer_config.json", "vocab.txt",
    ]  # fmt: skip
    assert nb.load(folder).ledger is not None
    with pytest.raises(RefusedError, match="is there already"):
        convert(folder)


def test_to_another_folder(folder: Path, tensors: Tensors, tmp_path: Path) -> None:
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "config.json").write_text("{}")
    torch.save({"linear.weight": torch.ones(3, 2)}, folder / "2_Dense" / "pytorch_model.bin")
    (folder / "train.py").write_text("import this")
    done = convert(folder, tmp_path / "new")
    assert [one.target.relative_to(tmp_path / "new").as_posix() for one in done.files] == [
        "model.safetensors",
        "2_Dense/model.safetensors",
    ]
    assert sorted(done.copied) == ["2_Dense/config.json", "config.json", "tokenizer_config.json", "vocab.txt"]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == sorted(
        ["2_Dense", "config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"]
    )
    assert same(load_file(tmp_path / "new" / "model.safetensors"), tensors)
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        ["2_Dense", "config.json", "pytorch_model.bin", "tokenizer_config.json", "vocab.txt", "train.py"]
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_every_dtype_in_both_formats(zipped: bool, tmp_path: Path) -> None:
    tensors = {"empty": torch.zeros(0, 3)}
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool):
        numbers = torch.arange(6).view(2, 3)
        tensors |= {f"{dtype}": numbers.to(dtype), f"{dtype} turned": numbers.to(dtype).t()}
    torch.save(tensors, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    convert(tmp_path / "x.pt", tmp_path / "out")
    assert same(load_file(tmp_path / "out" / "model.safetensors"), tensors)


def test_shards(folder: Path, tensors: Tensors) -> None:
    (folder / "pytorch_model.bin").unlink()
    names = sorted(tensors)
    places = {name: f"pytorch_model-0000{1 + n % 2}-of-00002.bin" for n, name in enumerate(names)}
    for shard in set(places.values()):
        torch.save({name: tensors[name] for name in names if places[name] == shard}, folder / shard)
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    convert(folder)
    assert same(load_file(folder / "model.safetensors"), tensors)
    (folder / "model.safetensors").unlink()
    for shard, error in (
        ("../x.bin", RefusedError),
        ("/etc/passwd", RefusedError),
        ("absent.bin", NotFoundError),
        (3, RefusedError),
    ):
        index.write_text(json.dumps({"weight_map": {"a": shard}}))
        with pytest.raises(error):
            convert(folder)
    for text in ("[", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {}}'):
        index.write_text(text)
        with pytest.raises(CorruptError):
            convert(folder)


def test_shared_tensors(tmp_path: Path, tensors: Tensors) -> None:
    """What the family ties is left out, and comes back when loaded; what merely shares memory is written apart."""
    config = BERT | {"architectures": ["BertForMaskedLM"]}
    folder = write_folder(tmp_path / "mlm", config, tensors)
    (folder / "model.safetensors").unlink()
    table = tensors["embeddings.word_embeddings.weight"]
    H, V = BERT["hidden_size"], BERT["vocab_size"]
    bias = torch.randn(V)
    whole = {f"bert.{name}": t for name, t in tensors.items() if not name.startswith("pooler")}
    head = {
        "cls.predictions.transform.dense.weight": torch.randn(H, H), "cls.predictions.transform.dense.bias": torch.randn(H),
        "cls.predictions.transform.LayerNorm.weight": torch.randn(H), "cls.predictions.transform.LayerNorm.bias": torch.randn(H),
        "cls.predictions.bias": bias,
    }  # fmt: skip
    tied = {"cls.predictions.decoder.weight": table, "cls.predictions.decoder.bias": bias}
    stranger = torch.randn(8, 4)
    extra = {"x.all": stranger, "x.half": stranger[:4]}
    torch.save(whole | head | tied | extra, folder / "pytorch_model.bin")
    (one,) = convert(folder).files
    assert one.dropped == {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    assert one.cloned == ("x.half",)
    assert same(load_file(one.target), whole | head | extra)
    (folder / "config.json").unlink()  # an unknown family: nothing is dropped
    one.target.unlink()
    (one,) = convert(folder).files
    assert one.dropped == {}
    assert set(one.cloned) == {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "x.half"}
    assert same(load_file(one.target), whole | head | tied | extra)


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code(zipped: bool, folder: Path, tensors: Tensors, capsys: pytest.CaptureFixture[str]) -> None:
    mark = folder / "executed"
    torch.save({**tensors, "bomb": Bomb(mark)}, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    assert cli.main(["convert", str(folder)]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "pytorch_model.bin holds more than tensors: it asks for posix.system" in said.err
    assert "weights_only=False" not in said.err  # torch's advice, which is the one thing not to do
    assert not mark.exists()
    assert not (folder / "model.safetensors").exists()
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]
    torch.load(folder / "pytorch_model.bin", weights_only=False)  # the bomb is a real one
    assert mark.exists()


def test_no_variable_opens_it(folder: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = folder / "executed"
    torch.save({"bomb": Bomb(mark)}, folder / "pytorch_model.bin")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(RefusedError, match=r"posix\.system"):
        convert(folder)
    assert not mark.exists()


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(
                {"protocol_version": 1000, "little_endian": True, "type_sizes": {}} if name == "sys_info" else 0, 2
            )
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def _compressed(path: Path) -> None:
    torch.save({"a": torch.zeros(10**6)}, path)
    with zipfile.ZipFile(path) as old:
        parts = {entry.filename: old.read(entry) for entry in old.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in parts.items():
            new.writestr(name, data)


HOSTILE = {
    "tar": (_tar, RefusedError, r"\.tar format"),
    "compressed": (_compressed, RefusedError, "compressed archive"),
    "expanded": (lambda p: torch.save({"a": torch.zeros(1).expand(10**12)}, p), RefusedError, "larger than its bytes"),
    "shared a thousand times": (
        lambda p: torch.save((lambda t: {str(n): t for n in range(1000)})(torch.zeros(10**5)), p), RefusedError, "twice its size",
    ),
    "nested": (lambda p: torch.save({"state_dict": {"a": torch.zeros(3)}, "epoch": 3}, p), RefusedError, "'state_dict' is a dict"),
    "list": (lambda p: torch.save([torch.zeros(3)], p), RefusedError, "holds a list"),
    "number": (lambda p: torch.save({"a": torch.zeros(3), "lr": 0.1}, p), RefusedError, "'lr' is a float"),
    "empty": (lambda p: torch.save({}, p), RefusedError, "no tensors"),
    "sparse": (lambda p: torch.save({"a": torch.eye(3).to_sparse()}, p), RefusedError, "not a plain tensor"),
    "complex": (lambda p: torch.save({"a": torch.zeros(3, dtype=torch.complex64)}, p), RefusedError, "not a plain tensor"),
    "meta": (lambda p: torch.save({"a": torch.zeros(10**9, device="meta")}, p), RefusedError, "not a plain tensor|larger"),
    "whole model": (lambda p: torch.save(torch.nn.Linear(2, 2), p), RefusedError, r"asks for torch\.nn\.modules\.linear\.Linear"),
    "bare pickle": (lambda p: p.write_bytes(pickle.dumps({"a": 1})), (RefusedError, CorruptError), "x.bin"),
    "memory": (lambda p: p.write_bytes(b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R."), (RefusedError, CorruptError), "x.bin"),
    "nothing": (lambda p: p.write_bytes(b""), CorruptError, "cannot be read"),
    "text": (lambda p: p.write_text("version https://git-lfs"), (CorruptError, RefusedError), "x.bin"),
}  # fmt: skip


@pytest.mark.parametrize("what", ["tar", "memory", "nested"])
def test_hostile_files(what: str, tmp_path: Path) -> None:
    make, error, said = HOSTILE[what]
    make(tmp_path / "x.bin")
    with pytest.raises(error, match=said) as caught:
        convert(tmp_path / "x.bin", tmp_path / "out")
    assert len(str(caught.value)) < 600
    assert not list((tmp_path / "out").glob("*"))


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], object]:
    """What the other process does, in this one, without its limits: that saves the start of a process for each file."""
    monkeypatch.setattr("nativebert.convert._limit_memory", lambda extra: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    return lambda path: _work({"sources": [str(path)], "draft": str(path.with_suffix(".out"))})


@pytest.mark.parametrize("what", [what for what in HOSTILE if what != "memory"])
def test_hostile_files_inside(what: str, work: Callable[[Path], object], tmp_path: Path) -> None:
    make, error, said = HOSTILE[what]
    make(tmp_path / "x.bin")
    with pytest.raises(error, match=said) as caught:
        work(tmp_path / "x.bin")
    assert len(str(caught.value)) < 600
    assert not (tmp_path / "x.out").exists()


def test_damaged_files(folder: Path, work: Callable[[Path], object]) -> None:
    path = folder / "pytorch_model.bin"
    raw = path.read_bytes()
    for part in (0.001, 0.1, 0.5, 0.9, 0.99, 0.999):
        path.write_bytes(raw[: int(part * len(raw))])
        with pytest.raises((CorruptError, RefusedError)):
            work(path)
    for at in range(0, len(raw), len(raw) // 200):  # whatever is changed, it is tensors or an error of ours
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x55]) + raw[at + 1 :])
        with contextlib.suppress(CorruptError, RefusedError):
            work(path)


def test_time_limit(folder: Path) -> None:
    with pytest.raises(CorruptError, match=r"longer than 0\.01 seconds"):
        convert(folder, time_limit=0.01)
    assert not (folder / "model.safetensors").exists()


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no folder and no file"):
        convert(tmp_path / "absent")
    with pytest.raises(NotFoundError, match="nothing to convert"):
        convert(tmp_path)
    (tmp_path / "model.h5").write_bytes(b"x")
    with pytest.raises(BadInputError, match="neither a folder nor"):
        convert(tmp_path / "model.h5")


def test_all_parts_or_none(folder: Path) -> None:
    (folder / "2_Dense").mkdir()
    broken = folder / "2_Dense" / "pytorch_model.bin"
    broken.write_bytes(b"not a pickle at all")
    with pytest.raises(NativeBertError):
        convert(folder)
    assert not (folder / "model.safetensors").exists()
    torch.save({"linear.weight": torch.ones(3, 2)}, broken)
    assert len(convert(folder).files) == 2


def test_the_encoder_in_a_part_is_converted_with_all_that_it_needs(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "old" / "0_Transformer", BERT)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    modules = [{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]
    modules.append({"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"})
    (tmp_path / "old" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "old" / "1_Pooling").mkdir()
    (tmp_path / "old" / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "cls"}))
    convert(tmp_path / "old", tmp_path / "new")
    nb.Embedder(tmp_path / "new", device="cpu")(["the cat"])
