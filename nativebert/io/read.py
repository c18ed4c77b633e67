"""Texts from a file: one a line, or a column of a CSV or JSON-lines file."""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nativebert.errors import BadInputError, Doubtful, NotFoundError, warn

FORMATS = ("txt", "csv", "tsv", "jsonl")
TABLES = ("csv", "tsv")
QUOTINGS = ("double", "none")
_ENDINGS = {"": "txt", "text": "txt", "json": "jsonl", "ndjson": "jsonl"}

_SEPARATORS = ",;\t|^~¦\x01\x1f"  # what files in the world are written with
_MANY = 5  # line breaks in one row, above which somebody should look at it

# What a file begins with that is not text -> what it is, and the command that makes it what it holds
_PACKED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
}
_OTHERS = {
    b"PK\x03\x04": "a zip archive, as Excel's .xlsx files are too: unpack it, or save the table as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file: save it as CSV, or as text, in UTF-8",
    b"PAR1": "a parquet file: write its column to a .jsonl or .csv first",
    b"%PDF": "a PDF: take the text out of it first",
    b"\x93NUMPY": "an array of numpy: texts are needed here",
}


class Texts(NamedTuple):
    """Texts in the order of their file, and the column (JSON key) that they were taken from, if any."""

    texts: list[str]
    column: str | None


class Table(NamedTuple):
    """Rows of texts in the order of their file, and the columns (JSON keys) that they were taken from; none in a txt file."""

    rows: list[tuple[str, ...]]
    columns: tuple[str, ...]


# Name of the option that selects a column -> the column, or None for the default one
Columns = Mapping[str, str | None]


def read_texts(source: str, *, column: str | None = None, format: str | None = None) -> Texts:
    """Read all texts of a file.

    In a txt file every line is a text, an empty one too; the end of the last line begins no further text. CSV and TSV
    files name their columns in the first row; blank lines between rows are not rows. In JSON lines each line is a
    string, or an object that holds the text under the same key as all others.

    Args:
        source: a path, or ``-`` for standard input.
        column: for CSV and JSON lines, the column (key) that holds the text. It may be left out where there is only
            one, or one called ``text``.
        format: one of :data:`FORMATS`; None goes by the file's ending (``txt`` for standard input).

    Raises:
        NotFoundError: no such file.
        BadInputError: not UTF-8, not in its format, no such column, or a text that is not a string; with the line's number.
    """
    table = read_columns(source, {"--column": column}, format=format)
    return Texts([text for (text,) in table.rows], table.columns[0] if table.columns else None)


def read_columns(
    source: str,
    wanted: Columns,
    *,
    format: str | None = None,
    delimiter: str | None = None,
    quoting: str | None = None,
    na: str | None = None,
    usual: str = "text",
    numbers: bool = False,
    format_option: str | None = "--format",
) -> Table:
    """Read several columns of a file, as :func:`read_texts` does one.

    Args:
        source: a path, or ``-`` for standard input.
        wanted: the columns, under the names of the options that errors speak of, as ``{"--column": "text", "--pair-column": "b"}``; of a CSV or
            TSV file, ``{}`` for all. None, for at most one of them, stands for the only column, or the one with the usual name.
        format: one of :data:`FORMATS`; None goes by the file's ending (``txt`` for standard input).
        delimiter: the character between the fields of a CSV or TSV file; None for a comma, or a tab in a TSV file.
        quoting: of CSV and TSV files: ``"double"``, a field may stand in double quotes, or ``"none"``, a double quote is a letter like any
            other. None for ``"none"`` in a TSV file, else ``"double"``.
        na: what stands for a missing value in CSV and TSV files, such as ``NA`` of R's ``write.csv``: read as an empty text. In double quotes it is a text
            like any other.
        usual: what a column is mostly called.
        numbers: in JSON lines, take numbers, true, false and null too, as they are written; null as an empty text.
        format_option: what errors call the option for ``format``; None where there is none.

    Raises:
        NotFoundError: no such file.
        BadInputError: as :func:`read_texts`; and where the first line of a CSV or TSV file is one column, and would be several with another
            separator.

    Warns:
        Doubtful: double quotes that may have been read in another sense than they were written.
    """
    format = _format(source, format, format_option)
    name = "standard input" if source == "-" else source
    if format == "txt":
        check_no_columns(name, wanted, format_option)
    if format not in TABLES and (delimiter or quoting or na):
        raise BadInputError(
            f"{name} is read as {format}; --delimiter, --quoting and --na apply to csv and tsv only: remove them"
        )
    content = _decode(_bytes(source), source, name)
    if format == "txt":
        return Table([(line.removesuffix("\n"),) for line in io.StringIO(content, newline=None)], ())
    if format == "jsonl":
        rows = _jsonl(content, source, name, wanted, usual, numbers)
    else:
        rows = _csv(content, name, wanted, usual, format, delimiter, quoting, na)
    names = next(rows)
    return Table(list(rows), names)


def read_records(source: str) -> list[dict[str, Any]]:
    """All objects of a JSON-lines file, whatever their values are.

    Raises:
        NotFoundError: no such file.
        BadInputError: not UTF-8, or a line that is not a JSON object; with its number.
    """
    name = "standard input" if source == "-" else source
    records = []
    for number, line in enumerate(io.StringIO(_decode(_bytes(source), source, name), newline=None), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInputError(f"{name}, line {number}: not JSON ({error}).{json_lines_advice(line, source)}") from None
        if not isinstance(record, dict):
            raise BadInputError(f"{name}, line {number}: {short_json(record)} is not an object with names and values")
        records.append(record)
    return records


def check_no_columns(name: str, wanted: Columns, format_option: str | None = "--format") -> None:
    """Refuse to look for columns in a txt file.

    Raises:
        BadInputError: a column is named, or there are several.
    """
    named = [option for option, column in wanted.items() if column is not None]
    if named or len(wanted) > 1:
        out = f"remove {' and '.join(named)}" if len(wanted) == 1 else "use a csv, tsv or jsonl file"
        or_say = f", or use {format_option} csv" if format_option else ""
        raise BadInputError(f"{name} is read as txt (one text per line), which has no columns: {out}{or_say}")


def format_of(source: str, format: str | None = None) -> str:
    """Format of a file: one of :data:`FORMATS`, or its ending if that is none of them. ``format`` overrides the ending."""
    ending = Path(source).suffix.lower().lstrip(".")
    return format or ("txt" if source == "-" else _ENDINGS.get(ending, ending))


def _format(source: str, format: str | None, option: str | None) -> str:
    format = format_of(source, format)
    if format not in FORMATS:
        check_kind(_bytes(source), source)  # that it is not there at all, or packed, is the better message
        say = (
            f"use {option} {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
            if option
            else f"use one of the file extensions .{', .'.join(FORMATS)}"
        )
        raise BadInputError(f"unknown format of {source}: {say}")
    return format


def _bytes(source: str) -> bytes:
    if source == "-":
        if sys.stdin is None:
            raise BadInputError("standard input is closed: pass a file")
        return sys.stdin.buffer.read()
    check_present(source)
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise BadInputError(f"{source} cannot be read: {error.strerror}") from None


def check_present(source: str) -> None:
    """Check that there is a file.

    Raises:
        NotFoundError: there is none; names one with nearly the same name.
        BadInputError: it is a folder.
    """
    path = Path(source)
    if path.is_dir():
        raise BadInputError(f"{source} is a folder: pass a file")
    try:
        there = path.exists()
    except OSError as error:
        raise BadInputError(f"{source} cannot be read: {error.strerror}") from None
    if not there:
        folder = path.parent
        if not folder.is_dir():
            raise NotFoundError(f"file {source} does not exist: the folder {folder} does not exist")
        near = difflib.get_close_matches(path.name, [p.name for p in folder.iterdir() if p.is_file()], n=1)
        raise NotFoundError(f"file {source} does not exist" + (f"; did you mean {folder / near[0]}?" if near else ""))


def _decode(data: bytes, source: str, name: str) -> str:
    check_kind(data, source)
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        where = f"line {line}: byte 0x{data[error.start]:02x} at {error.start}"
        raise BadInputError(f"{name} is not UTF-8 ({where}): {_encoding_advice(data, source)}") from None
    if "\0" in content:
        line = content.count("\n", 0, content.index("\0")) + 1
        raise BadInputError(f"{name} is not a text file: line {line} contains a NUL byte")
    return content


def check_kind(data: bytes, source: str) -> None:
    """Refuse what begins as no UTF-8 text does."""
    name = "standard input" if source == "-" else source
    for begin, (packer, command) in _PACKED.items():
        if data.startswith(begin):
            inner = Path(Path(source).stem if Path(source).suffix in (".gz", ".bz2", ".xz", ".zst") else source)
            new = inner.name if inner.name != Path(source).name else f"{inner.stem}.unpacked{inner.suffix}"
            raise BadInputError(f"{name} is compressed with {packer}; decompress it first: {_conversion(command, source, new)}")
    for begin, what in _OTHERS.items():
        if data.startswith(begin):
            raise BadInputError(f"{name} is not a text file but {what}")
    for encoding, marks in {"UTF-32": (b"\xff\xfe\0\0", b"\0\0\xfe\xff"), "UTF-16": (b"\xff\xfe", b"\xfe\xff")}.items():
        if data.startswith(marks):
            raise BadInputError(f"{name} is not UTF-8 but {encoding}: {_convert(encoding, source)}")
    if b"\0" not in data:
        return
    # without a mark: of the letters that most texts are of, these of every four bytes are zero
    zero = tuple(data[n::4].count(0) > len(data) // 8 for n in range(4))
    unmarked = {(0, 1, 0, 1): "UTF-16LE", (1, 0, 1, 0): "UTF-16BE", (0, 1, 1, 1): "UTF-32LE", (1, 1, 1, 0): "UTF-32BE"}
    if zero in unmarked:
        raise BadInputError(f"{name} seems to be {unmarked[zero]}, not UTF-8: {_convert(unmarked[zero], source)}")


def _encoding_advice(data: bytes, source: str) -> str:
    """Advice for bytes that are not UTF-8."""
    wrong, right = data.decode("utf-8", "replace").count("\ufffd"), len(re.findall(rb"[\xc2-\xf4][\x80-\xbf]+", data))
    if right > wrong:
        return f"most of the file is, so it is damaged there, or joined from several files. Fix it, or drop the invalid bytes: {_conversion('iconv -c -f UTF-8 -t UTF-8', source, _named(source, 'mended'))}"
    try:
        data.decode("cp1252")  # a superset of the letters of Latin-1, which lacks the euro sign, dashes and curved quotes
    except UnicodeDecodeError:
        return "convert it first: iconv -f ENCODING -t UTF-8, with the encoding of the file (`iconv -l` lists all encodings)"
    return f"convert it first. For a Windows or Western European encoding: {_convert('CP1252', source)}"


def _convert(encoding: str, source: str) -> str:
    return _conversion(f"iconv -f {encoding} -t UTF-8", source, _named(source, "utf8"))


def _named(source: str, what: str) -> str:
    path = Path(source)
    return f"{path.stem}.{what}{path.suffix}"


def _conversion(command: str, source: str, new: str) -> str:
    """Shell command that converts a file; ``new`` is the name of the output, in the same folder."""
    if source == "-":
        return f"put `{command} |` in front of this command"
    return f"`{command} < {shlex.quote(source)} > {shlex.quote(str(Path(source).with_name(new)))}`, and pass the new file"


def _csv(
    content: str,
    name: str,
    wanted: Columns,
    usual: str,
    format: str,
    delimiter: str | None,
    quoting: str | None,
    na: str | None,
) -> Iterator[tuple[str, ...]]:
    """The columns' names, then their values."""
    delimiter = delimiter or ("\t" if format == "tsv" else ",")
    plain = (quoting or ("none" if format == "tsv" else "double")) == "none"
    content, skipped = _strip_sep_line(content, name, delimiter)
    limit = csv.field_size_limit(max(len(content), 131072))  # a global of the csv module; texts may be long
    of_row: list[str] = []  # the lines of the present row
    rows = csv.reader(
        _recording(content, of_row), delimiter=delimiter, strict=True, quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL
    )
    line = 1 + skipped  # where the present row begins
    swallowed: list[str] = []
    quoted: list[int] = []
    try:
        try:
            header = next(rows, None)
        except csv.Error:
            header = None
            check_separator(content, name, delimiter, wanted, [])
            raise
        if not header:
            raise BadInputError(f"{name} is empty: the first line of a {format} file must contain the column names")
        if len(header) == 1 and header[0] not in wanted.values():
            check_separator(content, name, delimiter, wanted, header)
        if plain and quoting is None and any(map(_in_quotes, header)):
            raise BadInputError(
                f"the column names of {name} are in double quotes ({quoted_list(header)}), and .tsv files are read without quoting: use --quoting double, or "
                "--quoting none if the quotes are part of the names"
            )
        check_separator_of(content, name, delimiter, wanted, header)
        columns = choose_columns(wanted, usual, header, name) if wanted else tuple(header)
        for column in columns:
            if header.count(column) > 1:
                raise BadInputError(f"{name} has {header.count(column)} columns named {column!r}: rename all but one")
        yield columns
        indices = [header.index(column) for column in columns]
        number = 0
        line = rows.line_num + 1 + skipped
        of_row.clear()
        for row in rows:
            if row and len(row) != len(header):
                raise BadInputError(
                    f"{name}, line {line}: {len(row)} fields, but the header has {len(header)}. {_likely_cause(content, delimiter, plain, header)}"
                )
            if row:
                number += 1
                if len(of_row) > 1 and _may_hold_several_rows(of_row, delimiter, len(header)):
                    swallowed.append(f"row {number} (lines {line} to {rows.line_num + skipped})")
                if na in row:
                    row = _without_na(row, row if plain else _as_written("".join(of_row), delimiter), na)
                fields = tuple(row[index] for index in indices)
                if plain and any(field.startswith('"') for field in fields):
                    quoted.append(line)
                yield fields
            line = rows.line_num + 1 + skipped
            of_row.clear()
    except csv.Error as error:
        if "unexpected end" in str(error):
            hint = "a double quote opens here and is never closed: close it"
        else:
            hint = f"text after a closing double quote ({error}): inside a quoted field, write each double quote twice"
        raise BadInputError(
            f"{name}, line {line}: {hint}; or use --quoting none if double quotes are ordinary characters in this file"
        ) from None
    finally:
        csv.field_size_limit(limit)
    if swallowed:
        more = f" and {len(swallowed) - 5:,} more" if len(swallowed) > 5 else ""
        warn(
            f"{name}: {', '.join(swallowed[:5])}{more} contain line breaks inside double quotes and were each read as one row. If a stray quote has swallowed "
            "rows, use --quoting none, or fix the quote.",
            Doubtful,
        )
    if quoted and quoting is None:
        note_quotes(name, len(quoted), number, quoted[0])


def note_quotes(name: str, quoted: int, rows: int, line: int) -> None:
    """Note that texts of a tsv file begin with a double quote, the first in a ``line``."""
    warn(
        f"{name}: {quoted:,} of {rows:,} rows {'has' if quoted == 1 else 'have'} a text that begins with a double quote, the first in line {line}. In .tsv files "
        "quotes are read as ordinary characters; use --quoting double if the texts are quoted, else --quoting none.",
        Doubtful,
    )


def _without_na(row: list[str], written: list[str], na: str | None) -> list[str]:
    """The fields of a row, empty where ``na`` stands without quotes."""
    return ["" if field == na == raw else field for field, raw in zip(row, written, strict=True)]


def _as_written(line: str, delimiter: str) -> list[str]:
    """The fields of a row with their double quotes."""
    edge = re.escape(delimiter)
    return re.findall(rf'(?:^|{edge})("(?:[^"]|"")*"|[^{edge}\r\n]*)', line)


def _recording(content: str, lines: list[str]) -> Iterator[str]:
    for line in io.StringIO(content, newline=""):
        lines.append(line)
        yield line


def _strip_sep_line(content: str, name: str, delimiter: str) -> tuple[str, int]:
    """The content without the line ``sep=;``, which gives Excel the separator, and how many lines that is."""
    line, _, rest = re.split(r"(\r\n|\r|\n|\Z)", content, maxsplit=1)
    told = re.fullmatch(r'"?sep=(.)"?', line, re.IGNORECASE)
    if told is None:
        return content, 0
    if told[1] != delimiter:
        raise BadInputError(
            f"the first line of {name}, {line}, sets the separator to {separator_name(told[1])}, but the file is read with {separator_name(delimiter)}: "
            f"use --delimiter {_separator_argument(told[1])}"
        )
    return rest, 1


def check_separator(content: str, name: str, delimiter: str, wanted: Columns, header: list[str]) -> None:
    """Refuse a first line that has more columns with another separator than with the one it is read with."""
    if (other := likely_separator(content, delimiter, len(header))) is None:
        return
    separator, names = other
    option = next((option for option, column in wanted.items() if column is None), None)
    one = f"one column, {_cut(header[0])!r}," if header else "not a valid row"
    offered = option and header and header[0].isprintable()
    only = f", or {option} {shlex.quote(header[0])} if it is one column" if offered else ""
    raise BadInputError(
        f"the first line of {name} is {one} with {separator_name(delimiter)} as the separator, and {len(names)} columns, {quoted_list(names)}, with "
        f"{separator_name(separator)}: use --delimiter {_separator_argument(separator)}{only}"
    )


def check_separator_of(content: str, name: str, delimiter: str, wanted: Columns, header: list[str]) -> None:
    """Refuse a first line that has the columns that were asked for with another separator, and not with the one it is read with."""
    columns = {column for column in wanted.values() if column is not None}
    if columns <= set(header):
        return
    for separator, names in _columns_by_separator(content, delimiter).items():
        if columns <= set(names):
            raise BadInputError(
                f"{name} has no column {min(columns - set(header))!r} with {separator_name(delimiter)} as the separator, but has it with "
                f"{separator_name(separator)}: use --delimiter {_separator_argument(separator)}"
            )


def _columns_by_separator(content: str, delimiter: str) -> dict[str, list[str]]:
    """The columns of the first line, with each other separator."""
    line = re.split(r"[\r\n]", content, maxsplit=1)[0]
    return {other: next(csv.reader([line], delimiter=other), []) for other in _SEPARATORS if other != delimiter}


def likely_separator(content: str, delimiter: str, columns: int) -> tuple[str, list[str]] | None:
    """The separator that gives the first line the most columns, more than it has, and their names."""
    read = _columns_by_separator(content, delimiter)
    best = max(read, key=lambda other: len(read[other]))
    return (best, read[best]) if len(read[best]) > max(columns, 1) else None


def _likely_cause(content: str, delimiter: str, plain: bool, header: list[str]) -> str:
    """Likely cause of a row with another number of fields than the header."""
    if other := likely_separator(content, delimiter, len(header)):
        return f"If {separator_name(other[0])} is the separator, use --delimiter {_separator_argument(other[0])}"
    if plain:
        return "If texts with separators or line breaks are in double quotes, use --quoting double"
    return "A text that contains the separator or a line break must be in double quotes"


def _may_hold_several_rows(lines: list[str], delimiter: str, columns: int) -> bool:
    """Whether the lines of one row look as if they had been several rows."""
    counts = [line.count(delimiter) for line in lines]
    alike = set(counts) == {columns - 1} if len(lines) == 2 else min(counts) >= columns - 1
    return len(lines) > _MANY or (alike and (columns > 1 or len(lines) > 2))


def _in_quotes(field: str) -> bool:
    return len(field) > 1 and field[0] == field[-1] == '"'


def separator_name(separator: str) -> str:
    """A separator as messages name it."""
    return {"\t": "a tab", " ": "a space"}.get(separator, repr(separator))


def _separator_argument(separator: str) -> str:
    """A separator as it is written on the command line."""
    return "tab" if separator == "\t" else f"'{separator}'" if separator.isprintable() else f"'\\x{ord(separator):02x}'"


def _jsonl(content: str, source: str, name: str, wanted: Columns, usual: str, numbers: bool) -> Iterator[tuple[str, ...]]:
    """The keys (none where the lines are bare strings), then the texts."""
    keys: tuple[str, ...] | None = None
    for number, line in enumerate(io.StringIO(content, newline=None), 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            record: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInputError(f"{where}: not JSON ({error}).{json_lines_advice(line, source)}") from None
        if keys is None:
            if isinstance(record, list):
                raise BadInputError(
                    f"{where}: the text is {short_json(record)}, not a string.{json_lines_advice(line, source)}"
                )
            keys = _keys(wanted, usual, record, where)
            yield keys
        if not keys:
            yield (_checked(record, where, numbers),)
            continue
        if not isinstance(record, dict):
            raise BadInputError(
                f"{where}: {short_json(record)} is not an object with {quoted_list(list(keys))} like the first line"
            )
        for key in keys:
            if key not in record:
                raise BadInputError(f"{where}: the key {key!r} is missing; the keys are {quoted_list(list(record))}")
        yield tuple(_checked(record[key], where, numbers) for key in keys)
    if keys is None:
        yield ()


def json_lines_advice(line: str, source: str) -> str:
    """Advice for JSON that is not one value per line."""
    form = {"[": ("A JSON array", "jq -c '.[]'"), "{": ("An object over several lines", "jq -c .")}.get(line.lstrip()[0])
    if form is None:
        return ""
    new = f"{Path(source).stem}{'.lines' if Path(source).suffix == '.jsonl' else ''}.jsonl"
    return f" {form[0]}? Convert it to JSON lines: {_conversion(form[1], source, new)}"


def _keys(wanted: Columns, usual: str, first: Any, where: str) -> tuple[str, ...]:
    """The keys to look for, by the first line of a file."""
    if isinstance(first, dict):
        return choose_columns(wanted, usual, list(first), where)
    if isinstance(first, str):
        check_no_keys(wanted, where)
    return ()


def check_no_keys(wanted: Columns, where: str) -> None:
    """Refuse to look for keys in a line of JSON that is a string.

    Raises:
        BadInputError: a column is named.
    """
    for option, column in wanted.items():
        if column is not None:
            raise BadInputError(f"{where} is a string without keys, so it has no {column!r}: remove {option}")


def _checked(text: Any, where: str, numbers: bool) -> str:
    if numbers and (text is None or isinstance(text, (int, float))):
        return "" if text is None else json.dumps(text)
    if not isinstance(text, str):
        raise BadInputError(f"{where}: the text is {short_json(text)}, not a string")
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise BadInputError(
            f"{where}: invalid Unicode (a lone surrogate such as \\ud83d): the text was truncated inside a character when it was written"
        )
    return text


def choose_columns(wanted: Columns, usual: str, there: list[str], where: str) -> tuple[str, ...]:
    names = tuple(_column(option, column, usual, there, where) for option, column in wanted.items())
    if len(set(names)) < len(names):
        raise BadInputError(f"{' and '.join(wanted)} are both {names[0]!r}: choose two different columns of {where}")
    return names


def _column(option: str, column: str | None, usual: str, there: list[str], where: str) -> str:
    if column is None:
        if len(there) == 1:
            return there[0]
        if usual in there:
            return usual
        raise BadInputError(f"{where} has the columns {quoted_list(there)}: select the {usual} column with {option}")
    if column not in there:
        near = difflib.get_close_matches(column, there, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise BadInputError(f"{where} has no column {column!r}; the columns are {quoted_list(there)}{hint}")
    return column


def quoted_list(names: list[str]) -> str:
    """Names for a message, of many the first eight."""
    return (", ".join(map(repr, names[:8])) or "none") + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def short_json(value: object) -> str:
    """A value as JSON, shortened, for a message."""
    return _cut(json.dumps(value))


def _cut(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
