"""Safetensors files, header first: what they hold, zero-copy views of it, and writing it back byte for byte.

Whether a file is sound is decided by the ``safetensors`` library alone. What is added here is where in the
file each tensor lies, shards as one checkpoint, messages that say what to do, and a writer that keeps a
file's own layout.

A file is mapped copy-on-write: its views may be written to, and the file on disk never changes.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from safetensors import SafetensorError, safe_open

from weights_map.errors import BadFile, BadTensor, UnknownName, WeightsMapError

BITS = MappingProxyType(
    {
        **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
        **dict.fromkeys(("F32", "I32", "U32"), 32),
        **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
        **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
        **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
        "F4": 4,
    }
)
"""How wide one number of each dtype is."""

# What the buffer protocol calls a number ("l" is as wide as the machine says, hence the width) -> our name of it.
_FORMATS = MappingProxyType(
    {
        **{(code, width): f"I{8 * width}" for code in "bhilq" for width in (1, 2, 4, 8)},
        **{(code, width): f"U{8 * width}" for code in "BHILQ" for width in (1, 2, 4, 8)},
        ("e", 2): "F16",
        ("f", 4): "F32",
        ("d", 8): "F64",
        ("?", 1): "BOOL",
    }
)

# What people rename to .safetensors, by its first bytes.
_DISGUISES = (
    (b"\x80", "a pickle"),
    (b"PK\x03\x04", "a zip archive, most likely a pickle saved by torch.save"),
    (b"<", "an HTML or XML page, most likely a web server's error message"),
    (b"version https://git-lfs", "a git-LFS pointer, not the file it points to; run 'git lfs pull'"),
    (b"GGUF", "a GGUF file"),
    (b"\x89HDF", "an HDF5 file"),
)

_WEIGHTS = {".safetensors", ".bin", ".pt", ".h5", ".msgpack"}
_INDEX_SUFFIX = ".safetensors.index.json"
_SAMPLE = 64  # bytes of a tensor that stand for all
_LARGEST_INDEX = 100_000_000  # bytes: the limit that the library sets for a header
_AGAIN = "download it again, or ask whoever wrote it"


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: ``start`` to ``end`` are bytes counted from the beginning of ``file``."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.start

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)


@dataclass(frozen=True, eq=False)
class View:
    """A tensor as bytes: ``buffer`` holds its numbers, little-endian, last dimension fastest.

    Raises:
        BadTensor: the dtype is unknown, or the buffer is not as long as dtype and shape say.
    """

    dtype: str
    shape: tuple[int, ...]
    buffer: memoryview

    def __post_init__(self) -> None:
        if self.dtype not in BITS:
            raise BadTensor(f"unknown dtype {self.dtype!r}; known are {', '.join(BITS)}")
        if prod(self.shape) * BITS[self.dtype] != self.buffer.nbytes * 8:
            raise BadTensor(f"{self.buffer.nbytes} bytes are not a tensor of {describe(self.dtype, self.shape)}")

    @staticmethod
    def of(value: object, dtype: str, shape: tuple[int, ...]) -> View:
        """A view of whatever the caller has: a View, a torch tensor, an array with the buffer protocol, or bare bytes.

        Args:
            value: arrays bring their own dtype and shape.
            dtype, shape: what bare bytes are taken to be.

        Raises:
            BadTensor: it is none of these, or bare bytes of another length.
        """
        if isinstance(value, View):
            return value
        if hasattr(value, "untyped_storage"):  # a torch tensor, so torch is there already
            from weights_map.torch import view

            return view(value)  # type: ignore[arg-type]
        try:
            buffer = memoryview(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, BufferError) as error:
            raise BadTensor(f"a {type(value).__name__} is not a tensor: {error}") from None
        number = (buffer.format.lstrip("@=<"), buffer.itemsize)
        if buffer.ndim != 1 or number != ("B", 1):  # an array, not bare bytes
            if number not in _FORMATS:
                raise BadTensor(f"a {type(value).__name__} of format {buffer.format!r} has no dtype in this format")
            dtype, shape = _FORMATS[number], buffer.shape or ()
        return View(dtype, shape, _flat(buffer))

    def rows(self, start: int, stop: int) -> View:
        """The part from ``start`` to ``stop`` of the first dimension, without a copy."""
        each = self.buffer.nbytes // self.shape[0] if self.shape[0] else 0
        return View(self.dtype, (stop - start, *self.shape[1:]), self.buffer[start * each : stop * each])


Stack = Sequence[View]
"""A tensor in parts, to be joined along dimension 0."""


def _flat(buffer: memoryview) -> memoryview:
    if not buffer.nbytes:
        return memoryview(b"")  # Python refuses to recast an empty array
    return (buffer if buffer.c_contiguous else memoryview(buffer.tobytes())).cast("B")


def describe(dtype: str, shape: Sequence[int]) -> str:
    """``F32 30522 x 384``; a single number has the shape ``()``."""
    return f"{dtype} {' x '.join(map(str, shape)) or '()'}".strip()


def same_bytes(one: memoryview, other: memoryview) -> bool:
    """Whether two buffers are equal, read piece by piece up to the first difference."""
    step = 1 << 20  # bytes objects compare at memory speed, memoryviews one number at a time
    return one.nbytes == other.nbytes and all(
        bytes(one[at : at + step]) == bytes(other[at : at + step]) for at in range(0, one.nbytes, step)
    )


class Checkpoint:
    """The tensors of one safetensors file, or of several shards with an index.

    Opening reads the headers only; the bytes are mapped, and read when somebody looks at them.

    Attributes:
        path: what was opened: a file, an index file, or a folder.
        tensors: every tensor by its name, in the order of the headers.
        files: the safetensors files, one or a shard each.
        metadata: the header's free text; for shards, of all headers together.
    """

    def __init__(self, path: Path, shards: Sequence[_File], index: tuple[str, bytes] | None = None) -> None:
        self.path = path
        self.files = tuple(shard.path for shard in shards)
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(
            {name: info for shard in shards for name, info in shard.tensors.items()}
        )
        self.metadata: Mapping[str, str] = MappingProxyType(
            {key: value for shard in shards for key, value in shard.metadata.items()}
        )
        self._shards = {shard.path: shard for shard in shards}
        self._index = index  # its name and content
        self._closed = False

    @staticmethod
    def open(path: str | os.PathLike[str]) -> Checkpoint:
        """Opens a .safetensors file, a .safetensors.index.json, or a folder that holds ``model`` as one of them.

        Raises:
            BadFile: it is absent, damaged, something else in disguise, or its shards do not fit its index.
        """
        path = Path(path)
        try:
            if path.is_dir():
                return Checkpoint._of_folder(path)
            if not path.exists():
                raise BadFile(f"{path}: there is no such file or folder")
            if path.name.endswith(".json"):
                return Checkpoint._of_index(path, path)
            return Checkpoint(path, [_File.open(path)])
        except OSError as error:  # no permission, a name too long, a disk that fails
            raise BadFile(f"{path}: cannot be read: {error}") from error

    @staticmethod
    def _of_folder(folder: Path) -> Checkpoint:
        if (single := folder / "model.safetensors").exists():
            return Checkpoint(folder, [_File.open(single)])
        if (index := folder / f"model{_INDEX_SUFFIX}").exists():
            return Checkpoint._of_index(folder, index)
        others = sorted(file.name for file in folder.iterdir() if file.suffix in _WEIGHTS)
        found = f"; it holds {', '.join(others[:5])}" if others else ""
        raise BadFile(
            f"{folder}: holds neither model.safetensors nor model{_INDEX_SUFFIX}{found}. Give the file's own path; "
            "weights in another format (.bin, .pt, .h5) have to be converted to safetensors first"
        )

    @staticmethod
    def _of_index(path: Path, index: Path) -> Checkpoint:
        content, places = _read_index(index)
        names = sorted(set(places.values()))
        if absent := [name for name in names if not (index.parent / name).exists()]:
            raise BadFile(f"{index}: {len(absent)} of {len(names)} shards are not beside it; download {', '.join(absent[:5])}")
        shards = [_File.open(index.parent / name) for name in names]
        for shard in shards:
            for name in shard.tensors:
                if places.get(name) != shard.path.name:
                    says = f"names {places[name]} for it" if name in places else "does not know it"
                    raise BadFile(f"{shard.path}: holds tensor {name!r}, but the index {says}; {_AGAIN}")
        held = {name for shard in shards for name in shard.tensors}
        for name, place in places.items():
            if name not in held:
                raise BadFile(f"{index}: says that {place} holds tensor {name!r}, but it does not; {_AGAIN}")
        return Checkpoint(path, shards, (index.name, content))

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors together."""
        return sum(info.nbytes for info in self.tensors.values())

    def view(self, name: str) -> View:
        """A tensor's bytes, not copied; valid as long as it is referenced, also after :meth:`close`.

        Raises:
            UnknownName: the file has no such tensor.
            WeightsMapError: the checkpoint is closed.
        """
        if name not in self.tensors:
            raise UnknownName(f"{self.path}: has no tensor {name!r}")
        if self._closed:
            raise WeightsMapError(f"{self.path}: is closed; open it again")
        info = self.tensors[name]
        return View(info.dtype, info.shape, memoryview(self._shards[info.file].bytes)[info.start : info.end])

    def fingerprint(self) -> str:
        """A digest of every tensor's name, dtype and shape and of a few of its numbers: quick, and another one after any training that
        reaches all of a tensor. No proof against somebody who means to deceive.

        Raises:
            WeightsMapError: the checkpoint is closed.
        """
        digest = hashlib.sha256()
        for name, info in self.tensors.items():
            buffer = self.view(name).buffer
            middle = max(0, buffer.nbytes - _SAMPLE) // 2
            digest.update(f"{name} {describe(info.dtype, info.shape)}\n".encode())
            digest.update(buffer[middle : middle + _SAMPLE])
        return digest.hexdigest()

    def release(self) -> None:
        """Gives back the memory of what was read so far; it is read from the file again when it is next looked at.

        What was changed in place of the tensors is lost: for those who have copied what they need. Does nothing where the system cannot.
        """
        if hasattr(mmap, "MADV_DONTNEED"):
            for shard in self._shards.values():
                shard.bytes.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Lets go of the files. Their memory is given back when the last view of it is gone."""
        self._shards = {}
        self._closed = True

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save(self, path: str | os.PathLike[str], changes: Mapping[str, Stack]) -> None:
        """Writes the checkpoint with some of its tensors replaced, or some added, in its own layout.

        With no change of dtype or shape and nothing added, a file keeps its header byte for byte. Otherwise
        it gets a fresh header. Added tensors go into the last shard.

        Args:
            path: a file, or for shards a folder (or the path of its index). Written whole or not at all:
                each file under another name first, then moved into place. It may be the file that is open.
            changes: for each name the parts which, joined along dimension 0, make the tensor.
        """
        if self._closed:
            raise WeightsMapError(f"{self.path}: is closed; open it again")
        path = Path(path)
        if self._index is None:
            targets = [path / self.files[0].name if path.is_dir() else path]
        elif path.suffix == ".safetensors" or (path.is_file() and not path.name.endswith(".json")):
            raise BadFile(f"{path}: the checkpoint has an index and shards; give a folder to save it to")
        else:
            folder = path.parent if path.name.endswith(".json") else path
            folder.mkdir(parents=True, exist_ok=True)
            targets = [folder / shard.name for shard in self.files]
            targets.append(path if path.name.endswith(".json") else folder / self._index[0])
        added = {name: stack for name, stack in changes.items() if name not in self.tensors}
        with _replacing(targets) as temporary:
            for shard, target in zip(self._shards.values(), temporary):
                shard.save(target, changes, added if shard.path == self.files[-1] else {})
            if self._index is not None:
                temporary[-1].write_bytes(self._new_index(self._index[1], changes, added))

    def _new_index(self, old: bytes, changes: Mapping[str, Stack], added: Mapping[str, Stack]) -> bytes:
        grown = sum(_size(stack) for stack in changes.values())
        grown -= sum(self.tensors[name].nbytes for name in changes if name in self.tensors)
        if not added and not grown:
            return old
        content = json.loads(old)
        content["weight_map"].update(dict.fromkeys(added, self.files[-1].name))
        metadata = content.get("metadata")
        if isinstance(metadata, dict) and isinstance(metadata.get("total_size"), int):
            metadata["total_size"] += grown
        return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def stacked(name: str, parts: Stack) -> tuple[str, tuple[int, ...]]:
    """Dtype and shape of the whole.

    Raises:
        BadTensor: the parts differ in dtype, or in a dimension other than the first.
    """
    first = parts[0]
    if any((part.dtype, part.shape[1:]) != (first.dtype, first.shape[1:]) for part in parts):
        kinds = ", ".join(describe(part.dtype, part.shape) for part in parts)
        raise BadTensor(f"{name}: cannot be joined from {kinds}")
    return first.dtype, first.shape if len(parts) == 1 else (sum(part.shape[0] for part in parts), *first.shape[1:])


def _size(parts: Stack) -> int:
    return sum(part.buffer.nbytes for part in parts)


def write(path: str | os.PathLike[str], tensors: Mapping[str, Stack], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a new safetensors file, whole or not at all.

    Args:
        tensors: for each name the parts which, joined along dimension 0, make the tensor.
        metadata: free text for the header; ``{"format": "pt"}`` is what transformers asks for.
    """
    with _replacing([Path(path)]) as (temporary,):
        _write_fresh(temporary, tensors, metadata or {})


def _write_fresh(path: Path, tensors: Mapping[str, Stack], metadata: Mapping[str, str]) -> None:
    kinds = {name: stacked(name, parts) for name, parts in tensors.items()}
    # the order the library writes: wide numbers first, so that each tensor is aligned, then by name
    names = sorted(tensors, key=lambda name: (-BITS[kinds[name][0]], kinds[name][0], name))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        start, end = end, end + _size(tensors[name])
        header[name] = {"dtype": kinds[name][0], "shape": kinds[name][1], "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        _write_all(out, (part.buffer for name in names for part in tensors[name]))
    _File.open(path)  # what we wrote must pass the library's checks, too


def _write_all(out: IO[bytes], buffers: Iterator[memoryview]) -> None:
    for buffer in buffers:
        out.write(buffer)
    out.flush()
    os.fsync(out.fileno())


@contextmanager
def _replacing(targets: Sequence[Path]) -> Iterator[list[Path]]:
    """Paths to write to; only when all was written do they take the places of ``targets``."""
    token = secrets.token_hex(4)
    temporary = [target.with_name(f".{target.name}.{token}.tmp") for target in targets]
    try:
        yield temporary
        for new, target in zip(temporary, targets):
            os.replace(new, target)
    except OSError as error:
        raise BadFile(f"{targets[0]}: cannot be written: {error.strerror or error}") from error
    finally:
        for new in temporary:
            with suppress(OSError):
                new.unlink()


@dataclass(frozen=True, eq=False)
class _File:
    """One safetensors file, mapped."""

    path: Path
    bytes: mmap.mmap
    data_start: int
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]

    @staticmethod
    def open(path: Path) -> _File:
        if not path.is_file():
            raise BadFile(f"{path}: {'is not a file' if path.exists() else 'there is no such file'}")
        try:
            with safe_open(path, framework="numpy"):  # the library's checks: sizes, JSON, dtypes, offsets, no holes
                pass
            with path.open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            data_start = 8 + int.from_bytes(content[:8], "little")
            header = json.loads(content[8:data_start].decode(), object_pairs_hook=_unique)
            metadata = header.pop("__metadata__", None) or {}
            tensors = {name: _info(name, entry, path, data_start) for name, entry in header.items()}
        except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadFile(f"{path}: {_diagnose(path, str(error))}") from error
        return _File(path, content, data_start, tensors, metadata)

    def save(self, path: Path, changes: Mapping[str, Stack], added: Mapping[str, Stack]) -> None:
        whole = memoryview(self.bytes)
        tensors: dict[str, Stack] = {
            name: changes[name] if name in changes else (View(info.dtype, info.shape, whole[info.start : info.end]),)
            for name, info in self.tensors.items()
        }
        same = all(stacked(name, tensors[name]) == (info.dtype, info.shape) for name, info in self.tensors.items())
        if added or not same:
            _write_fresh(path, {**tensors, **added}, self.metadata)
            return
        places = sorted(self.tensors.values(), key=lambda info: (info.start, info.end))
        with path.open("wb") as out:
            out.write(whole[: self.data_start])
            _write_all(out, (part.buffer for info in places for part in tensors[info.name]))


def _info(name: str, entry: dict[str, Any], path: Path, data_start: int) -> TensorInfo:
    start, end = entry["data_offsets"]
    return TensorInfo(name, entry["dtype"], tuple(entry["shape"]), path, data_start + start, data_start + end)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which no name may stand twice: JSON lets the last one win, silently."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} stands in it twice")
    return content


def _diagnose(path: Path, says: str) -> str:
    """What is wrong with a file that did not pass, and what to do."""
    size = path.stat().st_size
    if size == 0:
        return f"is empty; {_AGAIN}"
    with path.open("rb") as file:
        head = file.read(64)
    begins_well = head[4:9] == b"\0\0\0\0{"  # a length below 4 GiB, then JSON: damaged perhaps, but no disguise
    for magic, what in _DISGUISES:
        if not begins_well and head.lstrip().startswith(magic):
            return f"is not a safetensors file but {what}; it was not opened. Give a file in safetensors format"
    length = int.from_bytes(head[:8], "little")
    says = says.removeprefix("Error while deserializing header: ")[:300]
    if size < 8 or 8 + length > size:
        claims = f"; it says that its header has {length} bytes" if size >= 8 else ""
        return f"has {size} bytes only{claims} ({says}): it is cut short or no safetensors file; {_AGAIN}"
    if "incomplete metadata" in says or "not fully covered" in says or "MetadataIncompleteBuffer" in says:
        return f"its {size} bytes are fewer or more than its header describes: it is cut short or damaged; {_AGAIN}"
    return f"is not a sound safetensors file: {says}; {_AGAIN}"


def _is_plain(name: str) -> bool:
    return name.isprintable() and not set(name) & set("/\\:")


def _read_index(index: Path) -> tuple[bytes, dict[str, str]]:
    """An index's bytes, and its ``weight_map``: for each tensor the name of its shard, which lies beside the index."""
    try:
        if index.stat().st_size > _LARGEST_INDEX:
            raise ValueError(f"it is larger than {_LARGEST_INDEX} bytes")
        content = index.read_bytes()
        parsed = json.loads(content.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{index}: is not a JSON index of shards: {error}; {_AGAIN}") from error
    places = parsed.get("weight_map") if isinstance(parsed, dict) else None
    if not isinstance(places, dict) or not places:
        raise BadFile(f"{index}: has no 'weight_map' of tensor names to shards; {_AGAIN}")
    for name, place in places.items():
        # only the name is judged: in the Hub's cache the file itself is a link to somewhere else
        if not isinstance(place, str) or not place.endswith(".safetensors") or not _is_plain(place):
            raise BadFile(f"{index}: names {place!r} for {name!r}; a shard is a .safetensors file beside the index")
    return content, places
