"""Where tables come from: a file, a folder, a pattern, a URI of pyarrow.fs; and pyarrow itself, which only tables need."""

from __future__ import annotations

import glob
import hashlib
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any

from nativebert.errors import BadInputError, NativeBertError, NotFoundError
from nativebert.io.read import check_kind, check_present, format_of

COMPRESSED = (".gz", ".zst", ".bz2")
TEXT_FORMATS = ("txt", "csv", "tsv", "jsonl")
ARROW_FORMATS = ("parquet", "feather")
_ARROW_ENDINGS = {"pq": "parquet", "arrow": "feather", "ipc": "feather"}
_EXCEL = ("xlsx", "xls", "xlsm", "ods")
_BLOCK = 1 << 20
_URI = r"[a-z][a-z0-9+.-]+://"


def arrow(part: str = "") -> Any:
    """The package pyarrow, or a module of it.

    Raises:
        NativeBertError: it is not installed; names the extra.
    """
    try:
        return importlib.import_module(f"pyarrow.{part}" if part else "pyarrow")
    except ImportError as error:
        raise NativeBertError(
            f"tables that are streamed, parquet and feather files require pyarrow: pip install 'nativebert[tables]' ({error})"
        ) from None


@dataclass(frozen=True)
class Place:
    """A file on a filesystem of pyarrow.

    Attributes:
        name: as messages call it.
        filesystem: of pyarrow.fs; None for standard input.
        path: on that filesystem.
        local: whether it is on this machine.
    """

    name: str
    filesystem: Any
    path: str
    local: bool
    _held: list[tuple[bytes, IO[bytes]]] = field(default_factory=list, repr=False, compare=False)

    def head(self) -> tuple[bytes, IO[bytes]]:
        """The first bytes of a text file, which were looked at, and the stream that goes on behind them. Of standard input, which cannot be
        read again, they are the same each time.

        Raises:
            BadInputError: it cannot be read, or does not begin as UTF-8 text does.
        """
        if self._held:
            return self._held[0]
        stream = self.open()
        first = b""
        try:
            while len(first) < _BLOCK and (data := stream.read(_BLOCK - len(first))):
                first += data
        except OSError as error:
            raise unreadable(self, error) from None
        check_kind(first, "-" if self.filesystem is None else self.name)
        if self.filesystem is None:
            self._held.append((first, stream))
        return first, stream

    def open(self) -> IO[bytes]:
        """Its bytes from the beginning, decompressed by what its name ends with."""
        if self.filesystem is None:
            if sys.stdin is None:
                raise BadInputError("standard input is closed: pass a file")
            return sys.stdin.buffer
        try:
            stream: IO[bytes] = self.filesystem.open_input_stream(self.path, compression="detect")
            return stream
        except OSError as error:
            raise unreadable(self, error) from None

    def open_random(self) -> Any:
        """Its bytes at any place, as the Arrow formats read them."""
        try:
            return self.filesystem.open_input_file(self.path)
        except OSError as error:
            raise unreadable(self, error) from None

    def fingerprint(self) -> dict[str, Any]:
        """What distinguishes this content from another: the SHA-256 of a file on this machine; the size and time of a remote one."""
        if self.filesystem is None:
            return {"name": "-"}
        if not self.local:
            info = self.filesystem.get_file_info(self.path)
            return {"name": Path(self.path).name, "size": info.size, "modified": info.mtime_ns}
        with open(self.path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"name": Path(self.path).name, "size": file.tell(), "sha256": digest}


def unreadable(place: Place, error: Exception) -> BadInputError:
    """The error for a file that cannot be read."""
    return BadInputError(f"{place.name} cannot be read: {str(error) or type(error).__name__}")


def table_format(source: str, format: str | None = None) -> str:
    """Format of a file by its name without the ending of a compression, or ``format``.

    Raises:
        BadInputError: no format that is known; of a spreadsheet, how to save it.
    """
    path = Path(source)
    name = path.stem if path.suffix.lower() in COMPRESSED else path.name
    kind = format or format_of(name if source != "-" else "-")
    kind = _ARROW_ENDINGS.get(kind, kind)
    if kind in _EXCEL:
        raise BadInputError(
            f"{source} is a spreadsheet: save it as CSV UTF-8 in Excel or LibreOffice (File > Save As), and pass the .csv file"
        )
    if kind not in (*TEXT_FORMATS, *ARROW_FORMATS):
        check_present(source)
        raise BadInputError(
            f"unknown format of {source}: use --format {', '.join(TEXT_FORMATS)}, {ARROW_FORMATS[0]} or {ARROW_FORMATS[1]}"
        )
    return kind


def is_plain(source: str, format: str | None = None) -> bool:
    """Whether a path is for :mod:`nativebert.io.read`, which needs no pyarrow: standard input, or a file that is neither compressed nor parquet or feather."""
    if source == "-":
        return format not in ARROW_FORMATS
    path = Path(source)
    if re.match(_URI, source) or path.is_dir() or (glob.has_magic(source) and not path.exists()):
        return False
    kind = format or format_of(source)
    return path.suffix.lower() not in COMPRESSED and _ARROW_ENDINGS.get(kind, kind) not in (*ARROW_FORMATS, *_EXCEL)


def places(source: str, format: str | None = None) -> tuple[list[Place], str]:
    """The files that a path, folder, pattern or URI names, in the order of their names, and the format of all.

    In a folder (and those in it), names that begin with ``.`` or ``_`` are left out, as other readers of tables do.

    Raises:
        NotFoundError: nothing there.
        BadInputError: files of several formats, or of none.
    """
    if source == "-":
        return [Place("standard input", None, "-", False)], table_format("-", format)
    fs = arrow("fs")
    if re.match(_URI, source):
        try:
            filesystem, path = fs.FileSystem.from_uri(source.rstrip("/"))
        except Exception as error:  # pyarrow has errors of many kinds for it
            raise BadInputError(f"{source} cannot be opened: {error}") from None
        names = _remote(fs, filesystem, path, source)
        scheme = source.split("://")[0]
        found = [Place(f"{scheme}://{name.lstrip('/')}", filesystem, name, scheme == "file") for name in names]
    else:
        found = [Place(name, fs.LocalFileSystem(), name, True) for name in _local(source)]
    formats = {table_format(place.path, format) for place in found}
    if len(formats) > 1:
        raise BadInputError(
            f"{source} holds files of several formats ({', '.join(sorted(formats))}): name one kind with a pattern, such as {source.rstrip('/')}/*.csv"
        )
    return found, formats.pop()


def _known(name: str) -> bool:
    path = Path(name)
    ending = Path(path.stem).suffix if path.suffix.lower() in COMPRESSED else path.suffix
    kind = format_of(f"x{ending}") if ending else ""
    return _ARROW_ENDINGS.get(kind, kind) in (*TEXT_FORMATS, *ARROW_FORMATS)


def _shown(parts: tuple[str, ...]) -> bool:
    return not any(part.startswith((".", "_")) for part in parts)


def _local(source: str) -> list[str]:
    path = Path(source)
    if path.is_dir():
        names = [
            str(p) for p in sorted(path.rglob("*")) if p.is_file() and _shown(p.relative_to(path).parts) and _known(p.name)
        ]
        if not names:
            raise NotFoundError(f"folder {source} contains no txt, csv, tsv, jsonl, parquet or feather files")
        return names
    if not path.exists() and glob.has_magic(source):
        names = sorted(name for name in glob.glob(source, recursive=True) if Path(name).is_file())
        if not names:
            raise NotFoundError(f"no file matches {source}")
        return names
    check_present(source)
    return [source]


def _remote(fs: Any, filesystem: Any, path: str, source: str) -> list[str]:
    if glob.has_magic(path):
        base = path[: glob.magic_check.search(path).start()].rpartition("/")[0]  # type: ignore[attr-defined]
        keep: Callable[[str], bool] = lambda name: fnmatch(name, path)  # noqa: E731
    else:
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise NotFoundError(f"{source} does not exist")
        if info.type == fs.FileType.File:
            return [path]
        base = path
        keep = lambda name: _known(name) and _shown(tuple(name[len(base) :].strip("/").split("/")))  # noqa: E731
    infos = filesystem.get_file_info(fs.FileSelector(base, recursive=True))
    names = sorted(info.path for info in infos if info.is_file and keep(info.path))
    if not names:
        raise NotFoundError(f"nothing at {source} is a file that can be read")
    return names


class Rest:
    """A stream whose first bytes were read already, as a file that begins with them."""

    closed = False

    def __init__(self, first: bytes, stream: IO[bytes]) -> None:
        self._first, self._stream = first, stream

    def read(self, size: int = -1) -> bytes:
        """As of a file."""
        if not self._first:
            return self._stream.read(size)
        data, self._first = (self._first, b"") if size < 0 else (self._first[:size], self._first[size:])
        return data

    def readable(self) -> bool:
        """As of a file."""
        return True

    def close(self) -> None:
        """As of a file."""
        self.closed = True


def lines(place: Place, first: bytes, stream: IO[bytes]) -> Iterator[bytes]:
    """Lines of a stream, without what ended them (``\\n``, ``\\r\\n`` or ``\\r``); the end of the last begins no further one."""
    rest, data = b"", first or stream.read(_BLOCK)
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    while data:
        held = b"\r" if data.endswith(b"\r") else b""  # a \n may follow
        whole = rest + (data[:-1] if held else data)
        if b"\0" in data:
            raise BadInputError(f"{place.name} is not a text file: it contains a NUL byte")
        *full, rest = re.split(rb"\r\n|\r|\n", whole) if b"\r" in whole else whole.split(b"\n")
        yield from full
        rest += held
        data = stream.read(_BLOCK)
    if rest:
        yield rest.removesuffix(b"\r")
