"""Files: headers, views, shards; arbitrary bytes give a Checkpoint or a BadFileError, and no other error."""

from __future__ import annotations

import json
import os
import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from map_samples import Blob, bert, bert_tensors, put, put_shards, raw

from weights_map import BadFileError, BadTensorError, Checkpoint, UnknownNameError, View, WeightsMapError, match, report
from weights_map.safetensors import as_view, same_bytes, write

TWO = {"a": Blob.of((2, 3), seed="a"), "b": Blob.of((4,), "BF16", seed="b")}


# -------------------------------------------------------------------- reading


def test_a_file_of_the_library_is_read(tmp_path: Path) -> None:
    arrays = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7), "none": np.zeros((0, 4), np.float16)}
    safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors", {"format": "np"})
    checkpoint = Checkpoint.open(tmp_path / "a.safetensors")
    assert checkpoint.metadata == {"format": "np"}
    assert checkpoint.files == (tmp_path / "a.safetensors",)
    assert checkpoint.nbytes == 6 * 4 + 8
    assert {n: (info.dtype, info.shape, info.count) for n, info in checkpoint.tensors.items()} == {
        "x": ("F32", (2, 3), 6),
        "n": ("I64", (), 1),
        "none": ("F16", (0, 4), 0),
    }
    for name, array in arrays.items():
        info = checkpoint.tensors[name]
        assert bytes(checkpoint.view(name).buffer) == array.tobytes()
        assert (tmp_path / "a.safetensors").read_bytes()[info.start : info.end] == array.tobytes()


def test_views_can_be_written_to_and_the_file_does_not_change(tmp_path: Path) -> None:
    path = put(tmp_path / "a.safetensors", TWO)
    before = path.read_bytes()
    checkpoint = Checkpoint.open(path)
    checkpoint.view("a").buffer[:4] = b"\1\2\3\4"
    assert bytes(checkpoint.view("a").buffer[:4]) == b"\1\2\3\4"  # no copy: the same memory
    assert path.read_bytes() == before
    assert bytes(Checkpoint.open(path).view("a").buffer) == TWO["a"].data


def test_views_outlive_the_checkpoint(tmp_path: Path) -> None:
    with Checkpoint.open(put(tmp_path / "a.safetensors", TWO)) as checkpoint:
        view = checkpoint.view("b")
    assert bytes(view.buffer) == TWO["b"].data
    with pytest.raises(WeightsMapError, match="closed"):
        checkpoint.view("b")
    with pytest.raises(WeightsMapError, match="closed"):
        checkpoint.save(tmp_path / "b.safetensors", {})


def test_an_unknown_tensor(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="has no tensor 'c'"):
        Checkpoint.open(put(tmp_path / "a.safetensors", TWO)).view("c")


def test_a_folder_an_index_and_links_as_in_the_hubs_cache(tmp_path: Path) -> None:
    put(tmp_path / "model.safetensors", TWO)
    assert set(Checkpoint.open(tmp_path).tensors) == {"a", "b"}
    shards = put_shards(tmp_path / "blobs", [{"a": TWO["a"]}, {"b": TWO["b"]}])
    snapshot = tmp_path / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    for n, file in enumerate(sorted(shards.iterdir())):
        file.rename(shards / str(n))  # a blob is named by its hash
        (snapshot / file.name).symlink_to(f"../../blobs/{n}")
    for path in (snapshot, snapshot / "model.safetensors.index.json"):
        checkpoint = Checkpoint.open(path)
        assert [file.name for file in checkpoint.files] == [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
        assert {n: bytes(checkpoint.view(n).buffer) for n in checkpoint.tensors} == {n: b.data for n, b in TWO.items()}


# -------------------------------------------------------------------- views of arrays and bytes


def test_views_of_arrays_bytes_and_nonsense() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for value in (array, memoryview(array), np.asfortranarray(array)):
        view = as_view(value, "I8", ())
        assert (view.dtype, view.shape, bytes(view.buffer)) == ("F32", (2, 3), array.tobytes())
    assert as_view(array.tobytes(), "F32", (3, 2)).shape == (3, 2)
    assert as_view(np.array(2.5), "I8", ()).shape == ()
    assert as_view(np.zeros((3, 0)), "I8", ()).shape == (3, 0)
    for dtype, code in [("int64", "I64"), ("uint16", "U16"), ("bool", "BOOL"), ("float16", "F16"), ("int8", "I8")]:
        assert as_view(np.zeros((2, 1), dtype), "F32", ()).dtype == code
    for nonsense in ([1.0], "text", None, np.zeros(2, ">f4"), np.array(["x"])):
        with pytest.raises(BadTensorError):
            as_view(nonsense, "F32", (1,))
    with pytest.raises(BadTensorError, match="3 bytes are not a tensor of F32 1"):
        as_view(b"abc", "F32", (1,))
    with pytest.raises(BadTensorError, match="unknown dtype 'F33'"):
        View("F33", (1,), memoryview(b"abcd"))


def test_same_bytes_compares_all_bytes() -> None:
    one = bytearray(3 << 20)
    for at in (0, 1 << 20, (3 << 20) - 1):
        other = bytearray(one)
        other[at] = 1
        assert not same_bytes(memoryview(one), memoryview(other))
    assert same_bytes(memoryview(one), memoryview(bytearray(one)))
    assert not same_bytes(memoryview(one), memoryview(one)[:-1])


def test_what_is_written_is_what_the_library_reads(tmp_path: Path) -> None:
    big, small = View("F32", (2, 1), memoryview(b"12345678")), View("BF16", (1,), memoryview(b"ab"))
    write(tmp_path / "a.safetensors", {"small": (small, small, small), "ü": (big,)}, {"k": "v"})
    with safetensors.safe_open(tmp_path / "a.safetensors", "numpy") as file:
        assert file.metadata() == {"k": "v"}
        assert file.get_tensor("ü").tobytes() == b"12345678"
        assert file.get_slice("small").get_shape() == [3]
    assert bytes(Checkpoint.open(tmp_path / "a.safetensors").view("small").buffer) == b"ababab"
    assert all(info.start % 4 == 0 for n, info in Checkpoint.open(tmp_path / "a.safetensors").tensors.items() if n == "ü")
    with pytest.raises(BadTensorError, match="x: cannot be joined from BF16 1, F32 2 x 1"):
        write(tmp_path / "b.safetensors", {"x": (small, big)})
    with pytest.raises(BadFileError, match="cannot be written"):
        write(tmp_path / "no folder" / "b.safetensors", {})
    assert sorted(os.listdir(tmp_path)) == ["a.safetensors"]  # nothing half-written is left


# -------------------------------------------------------------------- hostile files


def _header(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _entry(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


FOUR = b"1234"
HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "seven bytes": (b"\1\0\0\0\0\0\0", "has only 7 bytes"),
    "only a length": (struct.pack("<Q", 2), "truncated"),
    "length zero": (struct.pack("<Q", 0), "not a valid"),
    "length beyond the end": (_header({}, length=1000), "says that its header has 1000 bytes"),
    "length of exabytes": (_header({}, length=2**62), "truncated"),
    "length beyond 64 bits signed": (_header({}, length=2**64 - 1), "truncated"),
    "data cut": (_header({"a": _entry()}, FOUR[:3]), "fewer or more than its header describes"),
    "data too long": (_header({"a": _entry()}, FOUR + b"x"), "fewer or more than its header describes"),
    "hole": (_header({"a": _entry(offsets=(4, 8))}, FOUR * 2), "invalid offset"),
    "overlap": (_header({"a": _entry(), "b": _entry()}, FOUR), "invalid offset"),
    "end before start": (_header({"a": _entry(offsets=(4, 0))}, FOUR), "not a valid"),
    "negative offset": (_header({"a": _entry(offsets=(-4, 0))}, FOUR), "not a valid"),
    "shape and bytes differ": (_header({"a": _entry(shape=(2,))}, FOUR), "not a valid"),
    "shape overflows": (_header({"a": _entry(shape=(2**40, 2**40))}, FOUR), "overflow"),
    "shape of fractions": (_header({"a": _entry(shape=(1.0,))}, FOUR), "not a valid"),
    "unknown dtype": (_header({"a": _entry("F99")}, FOUR), "unknown variant `F99`"),
    "dtype no text": (_header({"a": _entry(32)}, FOUR), "not a valid"),
    "no dtype": (_header({"a": {"shape": [1], "data_offsets": [0, 4]}}, FOUR), "not a valid"),
    "three offsets": (_header({"a": _entry(offsets=(0, 2, 4))}, FOUR), "not a valid"),
    "name twice": (
        _header(b'{"a":%b,"a":%b}' % ((json.dumps(_entry()).encode(),) * 2), FOUR),
        "the name 'a' appears twice",
    ),
    "metadata no text": (_header({"__metadata__": {"a": 1}}), "not a valid"),
    "not JSON": (_header(b"not JSON at all"), "not a valid"),
    "not UTF-8": (_header(b'{"\xff":1}'), "not a valid"),
    "lone surrogate": (_header(b'{"\\ud800":%b}' % json.dumps(_entry()).encode(), FOUR), "not a valid"),
    "a list": (_header([]), "not a valid"),
    "deep": (_header(b'{"a":' * 5000), "not a valid"),
    "a number of many digits": (_header({"a": _entry(shape=(1,), offsets=(0, 10**40))}, FOUR), "not a valid"),
    "pickle": (pickle.dumps({"weight": [1.0] * 50}), "but a pickle"),
    "torch.save": (b"PK\x03\x04" + b"\0" * 100, "zip archive"),
    "web page": (b"\n<!DOCTYPE html><html><body>404 Not Found</body></html>", "HTML"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "GGUF": (b"GGUF" + b"\0" * 30, "GGUF"),
    "HDF5": (b"\x89HDF\r\n" + b"\0" * 30, "HDF5"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_file_is_refused(name: str, tmp_path: Path) -> None:
    content, expected = HOSTILE[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    for opened in (path, tmp_path):
        with pytest.raises(BadFileError) as error:
            Checkpoint.open(opened)
        message = str(error.value)
        assert message.startswith(str(path))
        assert expected in message
        assert len(message) < 700 + len(str(path))


def test_a_length_of_640_is_no_pickle(tmp_path: Path) -> None:
    text = json.dumps({"a": _entry()}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(_header(text.ljust(640), FOUR))  # begins with 80 02, as a pickle does
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert list(Checkpoint.open(path).tensors) == ["a"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadFileError, match="fewer or more"):
        Checkpoint.open(path)


def test_paths_without_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    for path, expected in [
        (tmp_path, r"pytorch_model\.bin.*converted"),
        (tmp_path / "nothing.safetensors", "no such file"),
        (tmp_path / "pipe.safetensors", "is not a file"),
        (tmp_path / "loop.safetensors", "no such file|cannot be read"),
        (tmp_path / ("x" * 5000), "cannot be read"),
        (Path("\0"), "no such file"),
    ]:
        with pytest.raises(BadFileError, match=expected):
            Checkpoint.open(path)


SHARD = "model-00001-of-00001.safetensors"


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (b"", "not a JSON index"),
        (b"\xff\xfe", "not a JSON index"),
        (b"[" * 100_000, "not a JSON index"),
        (b'{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}', "appears twice"),
        (b'{"weight_map":{"a":%b}}' % (b"1" * 5000), "not a JSON index"),
        (b"[]", "has no 'weight_map'"),
        (b"{}", "has no 'weight_map'"),
        ({"weight_map": []}, "has no 'weight_map'"),
        ({"weight_map": {}}, "has no 'weight_map'"),
        ({"weight_map": {"a": 1}}, "names 1 for 'a'"),
        ({"weight_map": {"a": None}}, "names None for 'a'"),
        ({"weight_map": {"a": "../x.safetensors"}}, "beside the index"),
        ({"weight_map": {"a": "/etc/x.safetensors"}}, "beside the index"),
        ({"weight_map": {"a": "sub/x.safetensors"}}, "beside the index"),
        ({"weight_map": {"a": "sub\\x.safetensors"}}, "beside the index"),
        ({"weight_map": {"a": "C:x.safetensors"}}, "beside the index"),
        ({"weight_map": {"a": "x\0.safetensors"}}, "beside the index"),
        ({"weight_map": {"a": "\ud800.safetensors"}}, "beside the index"),
        ({"weight_map": {"a": ".."}}, "beside the index"),
        ({"weight_map": {"a": "pytorch_model.bin"}}, "beside the index"),
        ({"weight_map": {"a": "x" * 5000 + ".safetensors"}}, "cannot be read"),
        ({"weight_map": {"a": SHARD, "b": "gone.safetensors"}}, "1 of 2 shards are not beside it; download gone"),
        ({"weight_map": {"a": SHARD}}, "holds tensor 'b', but the index does not list it"),
        ({"weight_map": {"a": SHARD, "b": SHARD, "c": SHARD}}, "holds tensor 'c', but it does not"),
        ({"weight_map": {"a": SHARD, "b": "other.safetensors"}}, "says it is in other.safetensors"),
    ],
)
def test_a_wrong_index_is_refused(index: Any, expected: str, tmp_path: Path) -> None:
    put(tmp_path / SHARD, TWO)
    put(tmp_path / "other.safetensors", {"z": TWO["a"]})
    path = tmp_path / "model.safetensors.index.json"
    path.write_bytes(index if isinstance(index, bytes) else json.dumps(index).encode())
    with pytest.raises(BadFileError) as error:
        Checkpoint.open(tmp_path)
    assert expected in str(error.value)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    put_shards(tmp_path, [{"a": TWO["a"]}, {"b": TWO["b"]}])
    shard = tmp_path / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(BadFileError, match=r"model-00002-of-00002\.safetensors: its"):
        Checkpoint.open(tmp_path)


VALID = raw(bert_tensors(1), {"format": "pt"}, padding=3)


@given(st.data())
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_checkpoint_or_a_bad_file(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(VALID)
    header = int.from_bytes(VALID[:8], "little") + 8
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, header))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "drop"])):
            case "flip":
                content[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del content[data.draw(st.integers(0, len(content))) :]
            case "insert":
                content[at:at] = data.draw(st.sampled_from([b"9", b'"', b"-", b"{", b"]", b"\\", b"\0" * 9, b"\xff"]))
            case "drop":
                del content[at : at + data.draw(st.integers(1, 9))]
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    try:
        checkpoint = Checkpoint.open(path)
    except BadFileError:
        return
    assert sum(checkpoint.view(name).buffer.nbytes for name in checkpoint.tensors) == checkpoint.nbytes
    ledger = match(bert(), checkpoint)
    assert report.text(ledger) and report.as_json(ledger)  # noqa: PT018
    ledger.save(ledger.read(), tmp_path / "y.safetensors")
    assert (tmp_path / "y.safetensors").read_bytes() == bytes(content)


def test_released_memory_is_read_again_from_the_file(tmp_path: Path) -> None:
    array = np.arange(100_000, dtype=np.float32)
    safetensors.numpy.save_file({"x": array}, tmp_path / "a.safetensors")
    checkpoint = Checkpoint.open(tmp_path / "a.safetensors")
    view = checkpoint.view("x")
    seen = np.frombuffer(view.buffer, np.float32)
    seen[:] = 7
    assert seen.sum() == 700_000
    checkpoint.release()
    if sys.platform == "linux":
        assert np.array_equal(seen, array)  # and what was changed is lost
    assert np.array_equal(np.frombuffer((tmp_path / "a.safetensors").read_bytes()[-400_000:], np.float32), array)
