"""Texts from a file: one a line, or a column of a CSV or JSON-lines file."""

from __future__ import annotations

import contextlib
import csv
import difflib
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from nativebert.errors import BadInput, NotFound

FORMATS = ("txt", "csv", "tsv", "jsonl")


def read_texts(source: str, *, column: str | None = None, format: str | None = None) -> list[str]:
    """Read all texts of a file, in order.

    Args:
        source: a path, or ``-`` for standard input.
        column: for CSV and JSON lines, the column (key) that holds the text; may be left out where there is only one.
        format: one of :data:`FORMATS`; None goes by the file's ending (``txt`` for standard input).

    Raises:
        NotFound: no such file.
        BadInput: not UTF-8, not in its format, no such column, or a text that is not a string; with the line's number.
    """
    format = _format(source, format)
    if format == "txt" and column is not None:
        raise BadInput(f"{source} is read as plain text, one text a line, and has no columns; leave --column out or say --format csv")
    with _open(source) as file:
        try:
            if format == "txt":
                return [line.rstrip("\r\n") for line in file]
            if format == "jsonl":
                return list(_jsonl(file, source, column))
            return list(_csv(file, source, column, "\t" if format == "tsv" else ","))
        except UnicodeDecodeError as error:
            raise BadInput(f"{source} is not UTF-8 ({error.reason} at byte {error.start}); convert it, for example with iconv") from None


def _format(source: str, format: str | None) -> str:
    if format is None:
        ending = Path(source).suffix.lower().lstrip(".")
        format = {"": "txt", "json": "jsonl", "ndjson": "jsonl", "text": "txt"}.get(ending, ending)
    if source != "-" and format not in FORMATS:
        raise BadInput(f"cannot tell how to read {source}: say --format {'|'.join(FORMATS)}")
    return format if format in FORMATS else "txt"


@contextlib.contextmanager
def _open(source: str) -> Iterator[TextIO]:
    if source == "-":
        with io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", newline="") as file:
            yield file
        return
    path = Path(source)
    if path.is_dir():
        raise BadInput(f"{source} is a folder; name a file with texts in it")
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else [], n=1)
        raise NotFound(f"there is no file {source}" + (f"; did you mean {path.parent / near[0]}?" if near else "")) from None
    except OSError as error:
        raise BadInput(f"{source} cannot be read: {error.strerror}") from None
    with file:
        yield file


def _csv(file: Iterable[str], source: str, column: str | None, delimiter: str) -> Iterator[str]:
    rows = csv.reader(file, delimiter=delimiter, strict=True)
    try:
        header = next(rows, None)
        if header is None:
            raise BadInput(f"{source} is empty; the first line of a CSV file names its columns")
        at = header.index(_column(column, header, source))
        for row in rows:
            if row:
                if at >= len(row):
                    raise BadInput(f"{source}, line {rows.line_num}: {len(row)} fields, where the header has {len(header)}")
                yield row[at]
    except csv.Error as error:
        raise BadInput(f"{source}, line {rows.line_num}: {error}") from None


def _jsonl(file: Iterable[str], source: str, column: str | None) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            record: Any = json.loads(line)
        except ValueError as error:
            raise BadInput(f"{source}, line {number}: not JSON ({error})") from None
        if isinstance(record, dict):
            record = record.get(key) if (key := _column(column, list(record), source, number)) else None
        if not isinstance(record, str):
            raise BadInput(f"{source}, line {number}: the text is {json.dumps(record)[:40]}, not a string")
        yield record


def _column(asked: str | None, there: list[str], source: str, line: int = 1) -> str:
    if asked is None:
        if len(there) == 1:
            return there[0]
        if "text" in there:
            return "text"
        raise BadInput(f"{source} has {len(there)} columns ({', '.join(there[:8])}): say which one holds the text with --column")
    if asked not in there:
        near = difflib.get_close_matches(asked, there, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise BadInput(f"{source}, line {line}: no column {asked!r}; there is {', '.join(there[:8])}.{hint}")
    return asked
