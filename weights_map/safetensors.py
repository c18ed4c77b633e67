"""Safetensors files: headers, zero-copy views of the tensors, shards, and a writer that keeps a file's layout byte for byte.

The ``safetensors`` library alone decides whether a file is valid. Files are mapped copy-on-write: views may be written to, and the file
on disk never changes.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from weights_map.errors import BadFileError, BadTensorError, UnknownNameError, WeightsMapError
from weights_map.files import parse_json, replacing

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
"""Bits per number of each dtype."""

# (format of the buffer protocol, bytes per number) -> dtype; the width of "l" depends on the platform
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

_INTEGERS: Mapping[int, Literal["B", "H", "I", "Q"]] = {8: "B", 16: "H", 32: "I", 64: "Q"}  # bits -> format

# First bytes of other formats that get renamed to .safetensors
_OTHER_FORMATS = (
    (b"\x80", "a pickle"),
    (b"PK\x03\x04", "a zip archive, most likely a pickle saved by torch.save"),
    (b"<", "an HTML or XML page, most likely a web server's error message"),
    (b"version https://git-lfs", "a git-LFS pointer, not the file it points to; run 'git lfs pull'"),
    (b"GGUF", "a GGUF file"),
    (b"\x89HDF", "an HDF5 file"),
)

_WEIGHT_SUFFIXES = {".safetensors", ".bin", ".pt", ".h5", ".msgpack"}
_INDEX_SUFFIX = ".safetensors.index.json"
_SAMPLE_BYTES = 64  # of each tensor, for a fingerprint
_MAX_INDEX_BYTES = 100_000_000  # the library's limit for a header
_DOWNLOAD_AGAIN = "download it again, or ask whoever wrote it"


@dataclass(frozen=True)
class TensorInfo:
    """Dtype, shape and location of a tensor: the bytes from ``start`` to ``end`` of ``file``."""

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
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, eq=False)
class View:
    """A tensor as bytes: little-endian, row-major (C order).

    Raises:
        BadTensorError: the dtype is unknown, or the length of the buffer is not that of dtype and shape.
    """

    dtype: str
    shape: tuple[int, ...]
    buffer: memoryview

    def __post_init__(self) -> None:
        if self.dtype not in BITS:
            raise BadTensorError(f"unknown dtype {self.dtype!r}; known are {', '.join(BITS)}")
        if prod(self.shape) * BITS[self.dtype] != self.buffer.nbytes * 8:
            raise BadTensorError(f"{self.buffer.nbytes} bytes are not a tensor of {describe(self.dtype, self.shape)}")

    @staticmethod
    def of(value: object, dtype: str, shape: tuple[int, ...]) -> View:
        """The old name of :func:`as_view`, for one version."""
        return as_view(value, dtype, shape)

    def rows(self, start: int, stop: int) -> View:
        """Rows ``start`` to ``stop`` of dimension 0, without a copy."""
        row_bytes = self.buffer.nbytes // self.shape[0] if self.shape[0] else 0
        return View(self.dtype, (stop - start, *self.shape[1:]), self.buffer[start * row_bytes : stop * row_bytes])

    def transposed(self) -> View:
        """A matrix with its dimensions swapped: a copy.

        Raises:
            BadTensorError: it is not a matrix, or its numbers are narrower than a byte.
        """
        if len(self.shape) != 2 or BITS[self.dtype] % 8:
            raise BadTensorError(f"{describe(self.dtype, self.shape)} cannot be transposed: it is not a matrix of whole bytes")
        swapped = bytearray()
        if self.buffer.nbytes:
            cells = self.buffer.cast(_INTEGERS[BITS[self.dtype]])
            swapped = swapped.join(cells[column :: self.shape[1]].tobytes() for column in range(self.shape[1]))
        return View(self.dtype, self.shape[::-1], memoryview(swapped))

    def equals(self, other: View) -> bool:
        """Whether dtype, shape and all bytes are the same."""
        return (self.dtype, self.shape) == (other.dtype, other.shape) and same_bytes(self.buffer, other.buffer)


Stack = Sequence[View]
"""The parts of a tensor, to be joined along dimension 0."""


@singledispatch
def as_view(value: object, dtype: str, shape: tuple[int, ...]) -> View:
    """A view of a View, an array with the buffer protocol, or bytes. :mod:`weights_map.torch` registers torch tensors.

    Args:
        value: an array has its own dtype and shape.
        dtype, shape: of plain bytes.

    Raises:
        BadTensorError: it is none of these, has a dtype that the format lacks, or is bytes of another length.
    """
    if isinstance(value, View):
        return value
    try:
        buffer = memoryview(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError) as error:
        todo = "; import weights_map.torch to save torch tensors" if type(value).__module__.startswith("torch") else ""
        raise BadTensorError(f"a {type(value).__name__} is not a tensor: {error}{todo}") from None
    number = (buffer.format.lstrip("@=<"), buffer.itemsize)
    if buffer.ndim != 1 or number != ("B", 1):  # an array, not plain bytes
        if number not in _FORMATS:
            raise BadTensorError(f"a {type(value).__name__} of format {buffer.format!r} has no dtype in this format")
        dtype, shape = _FORMATS[number], buffer.shape or ()
    if not buffer.nbytes:
        return View(dtype, shape, memoryview(b""))  # Python cannot cast an empty array
    return View(dtype, shape, (buffer if buffer.c_contiguous else memoryview(buffer.tobytes())).cast("B"))


def describe(dtype: str, shape: Sequence[int]) -> str:
    """``F32 30522 x 384``; the shape of a scalar is ``()``."""
    return f"{dtype} {' x '.join(map(str, shape)) or '()'}".strip()


def same_bytes(one: memoryview, other: memoryview) -> bool:
    """Whether two buffers are equal; reads block by block, up to the first difference."""
    step = 1 << 20  # bytes compare at memory speed, memoryviews element by element
    return one.nbytes == other.nbytes and all(
        bytes(one[at : at + step]) == bytes(other[at : at + step]) for at in range(0, one.nbytes, step)
    )


class Checkpoint:
    """The tensors of one safetensors file, or of several shards with an index.

    Opening reads headers only; the data is mapped, and read from disk when it is used.

    Attributes:
        path: the path that was opened: a file, an index file, or a folder.
        tensors: every tensor by name, in the order of the headers.
        files: the safetensors files: one, or one per shard.
        metadata: the header's metadata; for shards, of all headers together.
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
        self._index = index  # name and content
        self._closed = False

    @staticmethod
    def open(path: str | os.PathLike[str]) -> Checkpoint:
        """Open a .safetensors file, a .safetensors.index.json, or a folder with a ``model`` in one of these forms.

        Raises:
            BadFileError: it is absent, unreadable, damaged or in another format, or its shards and its index differ.
        """
        path = Path(path)
        try:
            if path.is_dir():
                return Checkpoint._of_folder(path)
            if not path.exists():
                raise BadFileError("there is no such file or folder", path)
            if path.name.endswith(".json"):
                return Checkpoint._of_index(path, path)
            return Checkpoint(path, [_File.open(path)])
        except OSError as error:  # no permission, a name too long, a failing disk
            raise BadFileError(f"cannot be read: {error}", path) from error

    @staticmethod
    def _of_folder(folder: Path) -> Checkpoint:
        if (single := folder / "model.safetensors").exists():
            return Checkpoint(folder, [_File.open(single)])
        if (index := folder / f"model{_INDEX_SUFFIX}").exists():
            return Checkpoint._of_index(folder, index)
        others = sorted(file.name for file in folder.iterdir() if file.suffix in _WEIGHT_SUFFIXES)
        content = f"; it holds {', '.join(others[:5])}" if others else ""
        raise BadFileError(
            f"holds neither model.safetensors nor model{_INDEX_SUFFIX}{content}. Pass the path of the file itself; "
            "weights in another format (.bin, .pt, .h5) must be converted to safetensors first",
            folder,
        )

    @staticmethod
    def _of_index(path: Path, index: Path) -> Checkpoint:
        content, shard_of = _read_index(index)
        names = sorted(set(shard_of.values()))
        if absent := [name for name in names if not (index.parent / name).exists()]:
            raise BadFileError(
                f"{len(absent)} of {len(names)} shards are not beside it; download {', '.join(absent[:5])}", index
            )
        shards = [_File.open(index.parent / name) for name in names]
        for shard in shards:
            for name in shard.tensors:
                if shard_of.get(name) != shard.path.name:
                    says = f"says it is in {shard_of[name]}" if name in shard_of else "does not list it"
                    raise BadFileError(f"holds tensor {name!r}, but the index {says}; {_DOWNLOAD_AGAIN}", shard.path, [name])
        held = {name for shard in shards for name in shard.tensors}
        for name, shard_name in shard_of.items():
            if name not in held:
                reason = f"says that {shard_name} holds tensor {name!r}, but it does not; {_DOWNLOAD_AGAIN}"
                raise BadFileError(reason, index, [name])
        return Checkpoint(path, shards, (index.name, content))

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors together."""
        return sum(info.nbytes for info in self.tensors.values())

    def view(self, name: str) -> View:
        """A tensor's bytes, without a copy; valid while it is referenced, also after :meth:`close`.

        Raises:
            UnknownNameError: the file has no such tensor.
            WeightsMapError: the checkpoint is closed.
        """
        if name not in self.tensors:
            raise UnknownNameError(f"{self.path}: has no tensor {name!r}", [name])
        self._check_open()
        info = self.tensors[name]
        return View(info.dtype, info.shape, memoryview(self._shards[info.file].bytes)[info.start : info.end])

    def fingerprint(self) -> str:
        """A SHA-256 digest of every tensor's name, dtype, shape and middle 64 bytes.

        Fast, and different after any training that changes whole tensors; it does not protect against deliberate changes elsewhere.

        Raises:
            WeightsMapError: the checkpoint is closed.
        """
        digest = hashlib.sha256()
        for name, info in self.tensors.items():
            buffer = self.view(name).buffer
            middle = max(0, buffer.nbytes - _SAMPLE_BYTES) // 2
            digest.update(f"{name} {describe(info.dtype, info.shape)}\n".encode())
            digest.update(buffer[middle : middle + _SAMPLE_BYTES])
        return digest.hexdigest()

    def release(self) -> None:
        """Drop the pages that were read so far from memory; they are read from the file again when they are used.

        Changes made in place are lost, so copy the tensors first. No effect where the system has no MADV_DONTNEED.
        """
        if hasattr(mmap, "MADV_DONTNEED"):
            for shard in self._shards.values():
                shard.bytes.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Close the files. Memory that views refer to is freed with the last of them."""
        self._shards = {}
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise WeightsMapError(f"{self.path}: is closed; open it again")

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save(self, path: str | os.PathLike[str], changes: Mapping[str, Stack]) -> None:
        """Write the checkpoint with tensors replaced or added, in its own layout.

        A file keeps its header byte for byte unless a dtype or a shape changes or a tensor is added. Added tensors go into the last
        shard.

        Args:
            path: a file, or for shards a folder (or the path of its index). Written atomically: each file under a temporary name first,
                then moved into place. It may be the file that is open.
            changes: the parts of each tensor, to be joined along dimension 0.

        Raises:
            BadFileError: it cannot be written, or is a file where shards need a folder.
            BadTensorError: the parts of a tensor cannot be joined.
            WeightsMapError: the checkpoint is closed.
        """
        self._check_open()
        path = Path(path)
        if self._index is None:
            targets = [path / self.files[0].name if path.is_dir() else path]
        elif path.suffix == ".safetensors" or (path.is_file() and not path.name.endswith(".json")):
            raise BadFileError("the checkpoint has an index and shards; give a folder to save it to", path)
        else:
            folder = path.parent if path.name.endswith(".json") else path
            folder.mkdir(parents=True, exist_ok=True)
            targets = [folder / shard.name for shard in self.files]
            targets.append(path if path.name.endswith(".json") else folder / self._index[0])
        added = {name: stack for name, stack in changes.items() if name not in self.tensors}
        with replacing(targets) as temporary:
            for shard, target in zip(self._shards.values(), temporary):
                shard.save(target, changes, added if shard.path == self.files[-1] else {})
            if self._index is not None:
                temporary[-1].write_bytes(self._new_index(self._index[1], changes, added))

    def _new_index(self, old: bytes, changes: Mapping[str, Stack], added: Mapping[str, Stack]) -> bytes:
        growth = sum(_nbytes(stack) for stack in changes.values())
        growth -= sum(self.tensors[name].nbytes for name in changes if name in self.tensors)
        if not added and not growth:
            return old
        content = parse_json(old)
        content["weight_map"].update(dict.fromkeys(added, self.files[-1].name))
        metadata = content.get("metadata")
        if isinstance(metadata, dict) and isinstance(metadata.get("total_size"), int):
            metadata["total_size"] += growth
        return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def stacked(name: str, parts: Stack) -> tuple[str, tuple[int, ...]]:
    """Dtype and shape of a tensor's parts joined along dimension 0.

    Raises:
        BadTensorError: the parts differ in dtype, or in a dimension other than the first.
    """
    first = parts[0]
    if any((part.dtype, part.shape[1:]) != (first.dtype, first.shape[1:]) for part in parts):
        kinds = ", ".join(describe(part.dtype, part.shape) for part in parts)
        raise BadTensorError(f"{name}: cannot be joined from {kinds}", [name])
    return first.dtype, first.shape if len(parts) == 1 else (sum(part.shape[0] for part in parts), *first.shape[1:])


def _nbytes(parts: Stack) -> int:
    return sum(part.buffer.nbytes for part in parts)


def write(path: str | os.PathLike[str], tensors: Mapping[str, Stack], metadata: Mapping[str, str] | None = None) -> None:
    """Write a new safetensors file, atomically.

    Args:
        tensors: the parts of each tensor, to be joined along dimension 0.
        metadata: text entries of the header; transformers requires ``{"format": "pt"}``.

    Raises:
        BadFileError: it cannot be written.
        BadTensorError: the parts of a tensor cannot be joined.
    """
    with replacing([Path(path)]) as (temporary,):
        _write_new(temporary, tensors, metadata or {})


def _write_new(path: Path, tensors: Mapping[str, Stack], metadata: Mapping[str, str]) -> None:
    kinds = {name: stacked(name, parts) for name, parts in tensors.items()}
    # the library's order: widest dtypes first, so that each tensor is aligned, then by name
    names = sorted(tensors, key=lambda name: (-BITS[kinds[name][0]], kinds[name][0], name))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        start, end = end, end + _nbytes(tensors[name])
        header[name] = {"dtype": kinds[name][0], "shape": kinds[name][1], "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    _write_file(path, len(text).to_bytes(8, "little") + text, (tensors[name] for name in names))
    _File.open(path)  # the library checks what was written


def _write_file(path: Path, header: bytes | memoryview, stacks: Iterable[Stack]) -> None:
    with path.open("wb") as file:
        file.write(header)
        for stack in stacks:
            for part in stack:
                file.write(part.buffer)
        file.flush()
        os.fsync(file.fileno())


@dataclass(frozen=True, eq=False)
class _File:
    """One mapped safetensors file."""

    path: Path
    bytes: mmap.mmap
    data_start: int
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]

    @staticmethod
    def open(path: Path) -> _File:
        if not path.is_file():
            raise BadFileError("is not a file" if path.exists() else "there is no such file", path)
        try:
            with safe_open(path, framework="numpy"):  # the library's checks: sizes, JSON, dtypes, offsets, no holes
                pass
            with path.open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            data_start = 8 + int.from_bytes(content[:8], "little")
            header = parse_json(content[8:data_start])
            metadata = header.pop("__metadata__", None) or {}
            tensors = {name: _info(name, entry, path, data_start) for name, entry in header.items()}
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise BadFileError(_diagnose(path, str(error)), path) from error
        return _File(path, content, data_start, tensors, metadata)

    def save(self, path: Path, changes: Mapping[str, Stack], added: Mapping[str, Stack]) -> None:
        whole = memoryview(self.bytes)
        tensors: dict[str, Stack] = {
            name: changes[name] if name in changes else (View(info.dtype, info.shape, whole[info.start : info.end]),)
            for name, info in self.tensors.items()
        }
        same = all(stacked(name, tensors[name]) == (info.dtype, info.shape) for name, info in self.tensors.items())
        if added or not same:
            _write_new(path, {**tensors, **added}, self.metadata)
            return
        infos = sorted(self.tensors.values(), key=lambda info: (info.start, info.end))
        _write_file(path, whole[: self.data_start], (tensors[info.name] for info in infos))


def _info(name: str, entry: dict[str, Any], path: Path, data_start: int) -> TensorInfo:
    start, end = entry["data_offsets"]
    return TensorInfo(name, entry["dtype"], tuple(entry["shape"]), path, data_start + start, data_start + end)


def _diagnose(path: Path, says: str) -> str:
    """Why a file is not valid, and what to do."""
    size = path.stat().st_size
    if size == 0:
        return f"is empty; {_DOWNLOAD_AGAIN}"
    with path.open("rb") as file:
        head = file.read(64)
    has_header = head[4:9] == b"\0\0\0\0{"  # a length below 4 GiB, then JSON: perhaps damaged, but not another format
    for magic, other in _OTHER_FORMATS:
        if not has_header and head.lstrip().startswith(magic):
            return f"is not a safetensors file but {other}; it was not opened. Use a file in safetensors format"
    length = int.from_bytes(head[:8], "little")
    says = says.removeprefix("Error while deserializing header: ")[:300]
    if size < 8 or 8 + length > size:
        claims = f"; it says that its header has {length} bytes" if size >= 8 else ""
        return f"has only {size} bytes{claims} ({says}): it is truncated, or not a safetensors file; {_DOWNLOAD_AGAIN}"
    if "incomplete metadata" in says or "not fully covered" in says or "MetadataIncompleteBuffer" in says:
        return f"its {size} bytes are fewer or more than its header describes: it is truncated or damaged; {_DOWNLOAD_AGAIN}"
    return f"is not a valid safetensors file: {says}; {_DOWNLOAD_AGAIN}"


def _read_index(index: Path) -> tuple[bytes, dict[str, str]]:
    """An index's bytes, and its ``weight_map``: tensor -> file name of its shard, which is beside the index."""
    try:
        if index.stat().st_size > _MAX_INDEX_BYTES:
            raise ValueError(f"it is larger than {_MAX_INDEX_BYTES} bytes")
        content = index.read_bytes()
        parsed = parse_json(content)
    except ValueError as error:
        raise BadFileError(f"is not a JSON index of shards: {error}; {_DOWNLOAD_AGAIN}", index) from error
    shard_of = parsed.get("weight_map") if isinstance(parsed, dict) else None
    if not isinstance(shard_of, dict) or not shard_of:
        raise BadFileError(f"has no 'weight_map' of tensor names to shards; {_DOWNLOAD_AGAIN}", index)
    for name, shard in shard_of.items():
        # only the name is checked: in the Hub's cache the file itself is a link to another folder
        if not isinstance(shard, str) or not shard.endswith(".safetensors") or not _is_file_name(shard):
            reason = f"names {shard!r} for {name!r}; a shard is a .safetensors file beside the index"
            raise BadFileError(reason, index, [name])
    return content, shard_of


def _is_file_name(name: str) -> bool:
    return name.isprintable() and not set(name) & set("/\\:")
