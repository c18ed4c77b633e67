"""Texts from a file: one a line, or a column of a CSV or JSON-lines file."""

from __future__ import annotations

import csv
import difflib
import io
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nativebert.errors import BadInput, NotFound

FORMATS = ("txt", "csv", "tsv", "jsonl")
_ENDINGS = {"": "txt", "text": "txt", "json": "jsonl", "ndjson": "jsonl"}


class Texts(NamedTuple):
    """Texts in the order of their file, and the column (JSON key) that they were taken from, if any."""

    texts: list[str]
    column: str | None


class Table(NamedTuple):
    """Rows of texts in the order of their file, and the columns (JSON keys) that they were taken from; none in a txt file."""

    rows: list[tuple[str, ...]]
    columns: tuple[str, ...]


# What the option is called that names a column -> the column's name, or None for the one that holds the text
Asked = Mapping[str, str | None]


def read_texts(source: str, *, column: str | None = None, format: str | None = None) -> Texts:
    """Read all texts of a file.

    In a txt file every line is a text, an empty one too; the end of the last line begins no further text. CSV and TSV
    files name their columns in the first row; blank lines between rows are no rows. In JSON lines each line is a
    string, or an object that holds the text under the same key as all others.

    Args:
        source: a path, or ``-`` for standard input.
        column: for CSV and JSON lines, the column (key) that holds the text. It may be left out where there is only
            one, or one called ``text``.
        format: one of :data:`FORMATS`; None goes by the file's ending (``txt`` for standard input).

    Raises:
        NotFound: no such file.
        BadInput: not UTF-8, not in its format, no such column, or a text that is not a string; with the line's number.
    """
    table = read_columns(source, {"--column": column}, format=format)
    return Texts([text for (text,) in table.rows], table.columns[0] if table.columns else None)


def read_columns(source: str, asked: Asked, *, format: str | None = None, usual: str = "text", numbers: bool = False) -> Table:
    """Read several columns of a file, as :func:`read_texts` does one.

    Args:
        source: a path, or ``-`` for standard input.
        asked: the columns, under the names of the options that errors speak of, as ``{"--column": "text", "--pair-column": "b"}``.
            None, for at most one of them, stands for the only column, or the one with the usual name.
        format: one of :data:`FORMATS`; None goes by the file's ending (``txt`` for standard input).
        usual: what a column is mostly called.
        numbers: in JSON lines, take numbers, true, false and null too, as they are written; null as an empty text.

    Raises:
        NotFound: no such file.
        BadInput: as :func:`read_texts`.
    """
    format = _format(source, format)
    name = "standard input" if source == "-" else source
    named = [option for option, column in asked.items() if column is not None]
    if format == "txt" and (named or len(asked) > 1):
        out = f"leave {' and '.join(named)} out" if len(asked) == 1 else "name a csv, tsv or jsonl file"
        raise BadInput(f"{name} is read as txt, a text a line, which has no columns: {out}, or say --format csv")
    content = _decode(_bytes(source), name)
    if format == "txt":
        return Table([(line.removesuffix("\n"),) for line in io.StringIO(content, newline=None)], ())
    rows = _jsonl(content, name, asked, usual, numbers) if format == "jsonl" else _csv(content, name, asked, usual, format)
    found = next(rows)
    return Table(list(rows), found)


def _format(source: str, format: str | None) -> str:
    ending = Path(source).suffix.lower().lstrip(".")
    format = format or ("txt" if source == "-" else _ENDINGS.get(ending, ending))
    if format not in FORMATS:
        _bytes(source)  # that it is not there at all is the better message
        raise BadInput(f"cannot tell how to read {source}: say --format {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    return format


def _bytes(source: str) -> bytes:
    if source == "-":
        return sys.stdin.buffer.read()
    path = Path(source)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        folder = path.parent
        if not folder.is_dir():
            raise NotFound(f"there is no file {source}: the folder {folder} does not exist") from None
        near = difflib.get_close_matches(path.name, [p.name for p in folder.iterdir() if p.is_file()], n=1)
        raise NotFound(f"there is no file {source}" + (f"; did you mean {folder / near[0]}?" if near else "")) from None
    except IsADirectoryError:
        raise BadInput(f"{source} is a folder; name a file with texts in it") from None
    except OSError as error:
        raise BadInput(f"{source} cannot be read: {error.strerror}") from None


def _decode(data: bytes, name: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadInput(f"{name} is not UTF-8 but UTF-16: convert it first, with iconv -f UTF-16 -t UTF-8")
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        where = f"line {line}: byte 0x{data[error.start]:02x} at {error.start}"
        raise BadInput(f"{name} is not UTF-8 ({where}): convert it first, for example with iconv -f LATIN1 -t UTF-8") from None
    if "\0" in content:
        line = content.count("\n", 0, content.index("\0")) + 1
        raise BadInput(f"{name} is no text file: it holds a NUL byte in line {line}")
    return content


def _csv(content: str, name: str, asked: Asked, usual: str, format: str) -> Iterator[tuple[str, ...]]:
    """The columns' names, then their values."""
    limit = csv.field_size_limit(max(len(content), 131072))  # a global of the csv module; texts may be long
    rows = csv.reader(io.StringIO(content, newline=""), delimiter="\t" if format == "tsv" else ",", strict=True)
    line = 1  # where the present row begins
    try:
        header = next(rows, None)
        if not header:
            raise BadInput(f"{name} is empty: the first line of a {format} file names its columns")
        columns = _columns(asked, usual, header, name)
        for column in columns:
            if header.count(column) > 1:
                raise BadInput(f"{name} has {header.count(column)} columns called {column!r}: rename all but one")
        yield columns
        at = [header.index(column) for column in columns]
        line = rows.line_num + 1
        for row in rows:
            if row and len(row) != len(header):
                raise BadInput(
                    f"{name}, line {line}: {len(row)} fields, and the header has {len(header)}. "
                    "A text that holds the separator or a line break must stand in double quotes"
                )
            if row:
                yield tuple(row[place] for place in at)
            line = rows.line_num + 1
    except csv.Error as error:
        hint = "a double quote opens here and is not closed" if "unexpected end" in str(error) else str(error)
        raise BadInput(f"{name}, line {line}: {hint}") from None
    finally:
        csv.field_size_limit(limit)


def _jsonl(content: str, name: str, asked: Asked, usual: str, numbers: bool) -> Iterator[tuple[str, ...]]:
    """The keys (none where the lines are bare strings), then the texts."""
    keys: tuple[str, ...] | None = None
    for number, line in enumerate(io.StringIO(content, newline=None), 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            record: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            array = " A JSON array over several lines? `jq -c '.[]'` writes it as JSON lines." if line[0] == "[" else ""
            raise BadInput(f"{where}: not JSON ({error}).{array}") from None
        if keys is None:
            keys = _keys(asked, usual, record, where)
            yield keys
        if not keys:
            yield (_checked(record, where, numbers),)
            continue
        if not isinstance(record, dict):
            raise BadInput(f"{where}: {_shown(record)} is no object with {_some(list(keys))}, as the first line is")
        for key in keys:
            if key not in record:
                raise BadInput(f"{where}: no {key!r}; there is {_some(list(record))}")
        yield tuple(_checked(record[key], where, numbers) for key in keys)
    if keys is None:
        yield ()


def _keys(asked: Asked, usual: str, first: Any, where: str) -> tuple[str, ...]:
    """The keys to look for, by the first line of a file."""
    if isinstance(first, dict):
        return _columns(asked, usual, list(first), where)
    for option, column in asked.items():
        if column is not None and isinstance(first, str):
            raise BadInput(f"{where} is a bare string and has no key {column!r}: leave {option} out")
    return ()


def _checked(text: Any, where: str, numbers: bool) -> str:
    if numbers and (text is None or isinstance(text, (int, float))):
        return "" if text is None else json.dumps(text)
    if not isinstance(text, str):
        raise BadInput(f"{where}: the text is {_shown(text)}, not a string")
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise BadInput(f"{where}: half a character (a lone surrogate, as \\ud83d): it was cut when it was written")
    return text


def _columns(asked: Asked, usual: str, there: list[str], where: str) -> tuple[str, ...]:
    found = tuple(_column(option, column, usual, there, where) for option, column in asked.items())
    if len(set(found)) < len(found):
        raise BadInput(f"{' and '.join(asked)} are both {found[0]!r}: name two columns of {where}")
    return found


def _column(option: str, column: str | None, usual: str, there: list[str], where: str) -> str:
    if column is None:
        if len(there) == 1:
            return there[0]
        if usual in there:
            return usual
        raise BadInput(f"{where} has columns {_some(there)}: say with {option} which of them holds the {usual}")
    if column not in there:
        near = difflib.get_close_matches(column, there, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise BadInput(f"{where} has no column {column!r}; there is {_some(there)}{hint}")
    return column


def _some(names: list[str]) -> str:
    return (", ".join(map(repr, names[:8])) or "none") + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:39] + "…"
