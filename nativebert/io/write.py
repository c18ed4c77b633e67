"""Vectors and records to a file, written whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from nativebert.errors import BadInputError, DiskFullError
from nativebert.files import replacing
from nativebert.io.rds import Frame, dump_rdata, dump_rds

Vectors = NDArray[np.float32]

# Files of R: for readRDS() and load()
RDS, RDATA = ".rds", (".rdata", ".rda")
RECORD_ENDINGS = (".csv", ".jsonl", RDS, *RDATA)
VECTOR_ENDINGS = (".npy", *RECORD_ENDINGS)


class Records(NamedTuple):
    """Results in two forms.

    Attributes:
        records: what stands on the lines of a JSON-lines file.
        columns, rows: what stands in a table: names, and cells that are texts, numbers or None.
    """

    records: Sequence[Mapping[str, Any]]
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def write_vectors(
    target: str, vectors: Vectors, texts: Sequence[str | None], beside: Mapping[str, Sequence[Any]] | None = None
) -> None:
    """Write vectors in the format that the file's ending names.

    ``.npy`` holds the float32 matrix alone. ``.csv`` has a column ``text`` and columns ``d1`` to ``dN``; ``.jsonl`` has
    ``{"text": ..., "embedding": [...]}`` on each line. Numbers are written with as many digits as float32 needs to come
    back exactly. ``.rds`` is a list of R with the vector ``text`` and the matrix ``embeddings``; ``.RData`` (``.rda``) holds the two as variables. A file
    that was there is replaced when the new one is whole; until then it stays as it is.

    Args:
        target: a path, or ``-`` for JSON lines on standard output.
        vectors: float32 ``(n, dimension)``; a row of NaN, of an empty text, is written as NaN (npy, R), empty cells (csv) or null (JSON lines).
        texts: the ``n`` texts.
        beside: other columns, of ``n`` values each; they stand behind the numbers of csv and JSON-lines files, and in no other.

    Raises:
        BadInputError: an ending that says nothing, a place that cannot be written to, or numbers that are not finite.
        DiskFullError: no room.
    """
    with vector_file(target, vectors.shape[1]) as write:
        write(vectors, texts, beside)


@contextlib.contextmanager
def vector_file(target: str, width: int) -> Iterator[Callable[..., None]]:
    """A function ``write(vectors, texts, beside=None)`` that adds rows to a file as of :func:`write_vectors`, to be called as often as there are parts.

    Memory does not grow with the parts, but for files of R, which are written at the end.

    Raises:
        BadInputError, DiskFullError: as :func:`write_vectors`.
    """
    kind = _VECTOR_FILES[check_ending(target, VECTOR_ENDINGS, "vectors.npy")]
    with output_stream(target) as stream:
        file = kind(stream, width)

        def write(vectors: Vectors, texts: Sequence[str | None], beside: Mapping[str, Sequence[Any]] | None = None) -> None:
            none = np.isnan(vectors).all(axis=1) if len(vectors) else np.zeros(0, bool)
            if bad := int((~np.isfinite(vectors)).any(axis=1).sum() - none.sum()):
                raise BadInputError(
                    f"{bad:,} of {len(vectors):,} vectors contain NaN or infinity; nothing was written. "
                    "float16 overflows in some models: use --precision float32 or bfloat16"
                )
            file.write(vectors, texts, beside or {}, none.tolist())

        yield write
        file.close()


def write_records(target: str, records: Records) -> None:
    """Write results in the format that the file's ending names: ``.jsonl`` a record a line, ``.csv`` the table, with its header, ``.rds`` the table as a data
    frame of R, ``.RData`` (``.rda``) the same as a variable ``results``.

    Numbers are written with as many digits as bring the same float back; None is an empty cell. A file that was there is replaced when
    the new one is whole.

    Args:
        target: a path, or ``-`` for JSON lines on standard output.
        records: the results.

    Raises:
        BadInputError: an ending that says nothing, or a place that cannot be written to.
        DiskFullError: no room.
    """
    with record_file(target) as write:
        write(records)


def write_arrays(target: str, arrays: Mapping[str, Any]) -> None:
    """Write arrays to a ``.npz`` file, by name, uncompressed.

    Raises:
        BadInputError: a place that cannot be written to.
        DiskFullError: no room.
    """
    with output_file(target) as file:
        np.savez(file, **arrays)


@contextlib.contextmanager
def record_file(target: str) -> Iterator[Callable[[Records], None]]:
    """A function that adds results to a file as of :func:`write_records`, to be called as often as there are parts, all with the same columns.

    Memory does not grow with the parts, but for files of R, which are written at the end.

    Raises:
        BadInputError, DiskFullError: as :func:`write_records`.
    """
    kind = _RECORD_FILES[check_ending(target)]
    with output_stream(target) as stream:
        file = kind(stream)
        yield file.write
        file.close()


def check_ending(target: str, endings: Sequence[str] = RECORD_ENDINGS, example: str = "results.jsonl") -> str:
    """The ending of a file that can be written.

    Args:
        target: a path, or ``-`` for JSON lines on standard output.
        endings: those that are understood; without ``.jsonl``, ``-`` is not.
        example: the name of a file, for errors.

    Returns:
        One of ``endings``; ``.jsonl`` for standard output.

    Raises:
        BadInputError: an ending that says nothing, or a place that cannot be written to.
    """
    stream = "write - for JSON lines on standard output" if ".jsonl" in endings else ""
    if target == "-" and stream:
        standard_output()
        return ".jsonl"
    path = Path(target)
    ending = path.suffix.lower()
    if ending not in endings and not path.is_dir():
        known = f"use one of the extensions {', '.join(endings)}"
        raise BadInputError(f"unknown format of {target}: {known}{stream and f', or {stream}'}")
    check_place(target, example, stream)
    return ending


def check_place(target: str, example: str, stream: str = "") -> None:
    """Check that a file can be written, before a long job.

    Args:
        target: a path.
        example: the name of a file, for errors.
        stream: what errors say of standard output; "" where it cannot be written to.

    Raises:
        BadInputError: no folder, no plain file, no permission.
    """
    path = Path(target)
    if path.is_dir():
        raise BadInputError(f"{target} is a folder: name a file in it, such as {path / example}")
    folder = _resolved(path).parent
    if not folder.is_dir():
        raise BadInputError(f"folder {path.parent} does not exist: create it first")
    if path.exists() and not path.is_file():
        raise BadInputError(f"{target} is not a regular file{stream and f'; {stream}'}")
    if not os.access(folder, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise BadInputError(f"{target} cannot be written: no permission")


def check_folder(target: str) -> None:
    """Check that a folder can be created or written to, before a long job.

    Raises:
        BadInputError: something else is in its place, or there is no permission.
    """
    there = _resolved(Path(target))
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        raise BadInputError(f"{target} cannot be a folder: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadInputError(f"{target} cannot be written: no permission in {there}")


def standard_output() -> TextIO:
    """Standard output, for results.

    Raises:
        BadInputError: it is closed.
    """
    if sys.stdout is None:
        raise BadInputError("standard output is closed: name an output file")
    return sys.stdout


def _resolved(path: Path) -> Path:
    """Target of a symbolic link: the file is replaced, not the link."""
    return Path(os.path.realpath(path))


@contextlib.contextmanager
def output_stream(target: str) -> Iterator[IO[bytes]]:
    """:func:`output_file`, or standard output for ``-``."""
    if target != "-":
        with output_file(target) as file:
            yield file
        return
    stream = standard_output()
    stream.flush()
    yield stream.buffer
    stream.buffer.flush()


@contextlib.contextmanager
def output_file(target: str) -> Iterator[IO[bytes]]:
    """A file for output that replaces ``target`` once all is written; on any error ``target`` stays as it was.

    Raises:
        BadInputError: it cannot be written.
        DiskFullError: no room.
    """
    try:
        with replacing(_resolved(Path(target))) as file:
            yield file
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"not enough disk space for {target}; nothing was written") from error
        raise BadInputError(f"{target} cannot be written: {error.strerror}") from error


class _NpyVectors:
    def __init__(self, file: IO[bytes], width: int) -> None:
        self._file, self._width, self._rows = file, width, 0
        self._header()

    def _header(self) -> None:
        # numpy leaves room in a header for any number of rows
        described = {"descr": "<f4", "fortran_order": False, "shape": (self._rows, self._width)}
        np.lib.format.write_array_header_1_0(self._file, described)

    def write(
        self, vectors: Vectors, texts: Sequence[str | None], beside: Mapping[str, Sequence[Any]], none: list[bool]
    ) -> None:
        self._file.write(np.ascontiguousarray(vectors, "<f4").tobytes())
        self._rows += len(vectors)

    def close(self) -> None:
        self._file.seek(0)
        self._header()


class _CsvVectors:
    def __init__(self, file: IO[bytes], width: int) -> None:
        self._file, self._width, self._begun = file, width, False

    def write(
        self, vectors: Vectors, texts: Sequence[str | None], beside: Mapping[str, Sequence[Any]], none: list[bool]
    ) -> None:
        # Every text in quotes, so that no comma, quote, line break or leading space in it can be misread
        self._head(beside)
        for text, row, empty, *others in zip(texts, vectors, none, *beside.values(), strict=True):
            numbers = "," * (self._width - 1) if empty else ",".join(map(digits, row.tolist()))
            quoted = "" if text is None else f'"{text.replace(chr(34), chr(34) * 2)}"'
            self._file.write(f"{quoted},{numbers}{_cells(others)}\n".encode())

    def _head(self, beside: Mapping[str, Sequence[Any]]) -> None:
        if not self._begun:
            self._file.write(f"text,{','.join(f'd{i + 1}' for i in range(self._width))}{_cells(beside)}\n".encode())
            self._begun = True

    def close(self) -> None:
        self._head({})


class _JsonlVectors:
    def __init__(self, file: IO[bytes], width: int) -> None:
        self._file = file

    def write(
        self, vectors: Vectors, texts: Sequence[str | None], beside: Mapping[str, Sequence[Any]], none: list[bool]
    ) -> None:
        for text, row, empty, *others in zip(texts, vectors, none, *beside.values(), strict=True):
            numbers = "null" if empty else f"[{', '.join(map(digits, row.tolist()))}]"
            more = "".join(
                f", {json.dumps(name, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False, default=str)}"
                for name, value in zip(beside, others)
            )
            self._file.write(f'{{"text": {json.dumps(text, ensure_ascii=False)}, "embedding": {numbers}{more}}}\n'.encode())

    def close(self) -> None:
        pass


class _RVectors:
    dump: Callable[..., None] = staticmethod(dump_rds)

    def __init__(self, file: IO[bytes], width: int) -> None:
        self._file, self._texts, self._parts = file, list[str | None](), [np.empty((0, width), np.float32)]

    def write(
        self, vectors: Vectors, texts: Sequence[str | None], beside: Mapping[str, Sequence[Any]], none: list[bool]
    ) -> None:
        self._texts += texts
        self._parts.append(vectors)

    def close(self) -> None:
        self.dump(self._file, {"text": self._texts, "embeddings": np.concatenate(self._parts)})


class _RDataVectors(_RVectors):
    dump = staticmethod(dump_rdata)


def _cells(values: Iterable[Any]) -> str:
    """Cells of a row of a csv file, each with the comma before it: texts in quotes, None empty."""
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_NONNUMERIC, lineterminator="").writerow(map(as_cell, values))
    return f",{line.getvalue()}" if line.getvalue() else ""


def as_cell(value: Any) -> Any:
    """A value as a cell of a table: a text, a number or None; what is nested is JSON."""
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def digits(value: float) -> str:
    """A float32 in digits that bring it back."""
    digits = f"{value:.9g}"  # nine digits bring every float32 back (IEEE 754)
    return "-0.0" if digits == "-0" else digits  # JSON readers take -0 for the integer 0


class _CsvRecords:
    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._begun = file, False

    def write(self, records: Records) -> None:
        # Texts in quotes, numbers without; None is empty
        text = io.TextIOWrapper(self._file, "utf-8", newline="")
        try:
            if not self._begun:
                csv.writer(text, lineterminator="\n").writerow(records.columns)
                self._begun = True
            table = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
            table.writerows(records.rows)
        finally:
            text.detach()

    def close(self) -> None:
        pass


class _JsonlRecords:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, records: Records) -> None:
        for record in records.records:
            self._file.write(
                json.dumps(record, ensure_ascii=False, default=str).encode() + b"\n"
            )  # dates, of other columns, as text

    def close(self) -> None:
        pass


class _RRecords:
    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._columns, self._rows = file, list[str](), list[Sequence[Any]]()

    def write(self, records: Records) -> None:
        self._columns, self._rows = list(records.columns), [*self._rows, *records.rows]

    def _frame(self) -> Frame:
        return Frame({name: [row[n] for row in self._rows] for n, name in enumerate(self._columns)})

    def close(self) -> None:
        dump_rds(self._file, self._frame())


class _RDataRecords(_RRecords):
    def close(self) -> None:
        dump_rdata(self._file, {"results": self._frame()})


_VECTOR_FILES: dict[str, Any] = {
    ".npy": _NpyVectors, ".csv": _CsvVectors, ".jsonl": _JsonlVectors, RDS: _RVectors, **dict.fromkeys(RDATA, _RDataVectors)
}  # fmt: skip
_RECORD_FILES: dict[str, Any] = {
    ".csv": _CsvRecords, ".jsonl": _JsonlRecords, RDS: _RRecords, **dict.fromkeys(RDATA, _RDataRecords)
}  # fmt: skip
