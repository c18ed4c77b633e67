"""Tables in blocks of rows, whatever they come from: files of any size, data frames, datasets, iterables. Memory does not grow with rows.

Needs pyarrow (extra ``tables``). What all sources have in common: the text columns arrive as Arrow strings, and what is not text is null there, with
its reason beside it; the other columns arrive as they are (cells of csv and tsv files as they are written, which are strings).
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nativebert.errors import BadInputError, Doubtful, warn
from nativebert.io.files import Place, Rest, arrow, lines, places
from nativebert.io.read import (
    Columns,
    check_no_columns,
    check_no_keys,
    check_separator,
    check_separator_of,
    choose_columns,
    json_lines_advice,
    likely_separator,
    note_quotes,
    quoted_list,
    read_columns,
    separator_name,
    short_json,
)

ROWS = 8192  # of a block, where the source has none of its own
_CSV_BLOCK, _LONG_ROWS = 1 << 20, 64 << 20  # bytes; a row must fit
_SEP_LINE = re.compile(r'^"?sep=(.)"?(\r\n|\r|\n)', re.IGNORECASE)
_DIAGNOSED = 512 << 20  # bytes of a csv file that is read again, row by row, to say where it is wrong
_MANY = 5  # line breaks in one cell, above which somebody should look at it
_INVALID = "invalid UTF-8"


class Block(NamedTuple):
    """Some rows.

    Attributes:
        batch: a ``pyarrow.RecordBatch`` with the text columns, as ``string``, and the columns that are kept.
        bad: row of the block -> why one of its texts is none; it is null in ``batch``. Nulls of the source are not among them.
    """

    batch: Any
    bad: Mapping[int, str]


@dataclass(frozen=True)
class TableReader:
    """A table that is read from the beginning as often as it is asked for its blocks.

    Attributes:
        name: as messages call it.
        texts: names of the text columns; one, or two for pairs.
        kept: names of the columns that stay beside the results, in the order of the table.
        schema: of the blocks, a ``pyarrow.Schema``.
        once: whether it can be read only once: standard input, an iterator.
        fingerprint: what distinguishes this input from another, as JSON; None where nothing does.
    """

    name: str
    texts: tuple[str, ...]
    kept: tuple[str, ...]
    schema: Any
    once: bool
    fingerprint: Callable[[], Any]
    _blocks: Callable[[], Iterator[Block]]

    def __iter__(self) -> Iterator[Block]:
        """Blocks in the order of the table.

        Raises:
            BadInputError: a part that cannot be read; with its line or row where that is known.
        """
        return self._blocks()


class Choice(NamedTuple):
    """Which columns are read, as of :func:`open_table`."""

    wanted: Columns
    keep: Sequence[str] | None
    drop: Sequence[str]
    usual: str


def open_table(
    source: Any,
    wanted: Columns | None = None,
    *,
    format: str | None = None,
    delimiter: str | None = None,
    quoting: str | None = None,
    keep: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    usual: str = "text",
    guess: bool = True,
) -> TableReader:
    """Open a table.

    Args:
        source: a path, a folder, a pattern (``"logs/*.csv.gz"``), a URI of pyarrow.fs (``s3://...``, ``gs://...``) or ``-`` for standard input: txt, csv, tsv,
            jsonl, parquet or feather, the first four compressed with gzip, bzip2 or zstd too. Or a table or reader of pyarrow, a data frame of pandas
            or polars, a dataset of Hugging Face, a dict of columns, or any iterable of strings or dicts.
        wanted: the text columns, under the names of the options that errors speak of; None for ``{"column": None}``: the only column, or ``text``.
        format: of files; None goes by their endings.
        delimiter: of csv and tsv files; None for a comma (a tab in tsv files), or the one that their first line shows.
        quoting: ``"double"`` or ``"none"``, as of :func:`nativebert.io.read.read_columns`.
        keep: the columns that stay beside the results; None for all.
        drop: those of them that do not.
        usual: what the text column is mostly called.
        guess: take the separator that the first line of a csv file shows, with a note, where it is not the one expected; else that is an error.

    Raises:
        NotFoundError, BadInputError: nothing there, nothing that can be read, or no such column.
        NativeBertError: pyarrow is not installed.
    """
    wanted = {"column": None} if wanted is None else wanted
    choice = Choice(wanted, keep, drop, usual)
    pa = arrow()
    if not isinstance(source, (str, Path)):
        return _of_object(pa, source, choice)
    found, format = places(str(source), format)
    if format not in ("csv", "tsv") and (delimiter or quoting):
        raise BadInputError(f"{source} is read as {format}; --delimiter and --quoting apply to csv and tsv only: remove them")
    name = found[0].name if len(found) == 1 else str(source)
    fingerprint = lambda: [place.fingerprint() for place in found]  # noqa: E731
    if format in ("csv", "tsv"):
        layout = _layout(found[0], format, delimiter, quoting, wanted, guess)
        texts, kept, needed = _chosen(layout.header, choice, name)
        schema = pa.schema([(column, pa.string()) for column in needed])
        told: set[str] = set()  # notes, once however often the table is read
        read: Callable[[Place], Iterator[Block]] = lambda place: _csv_blocks(pa, place, layout, texts, needed, told)  # noqa: E731
    elif format == "txt":
        check_no_columns(name, wanted)
        texts, kept, needed = _chosen(["text"], choice, name)
        schema = pa.schema([("text", pa.string())])
        read = lambda place: _txt_blocks(pa, place)  # noqa: E731
    elif format == "jsonl":
        return _jsonl(pa, found, name, choice, fingerprint)
    else:
        theirs = _arrow_file(pa, found[0], format)[0]
        texts, kept, needed = _chosen(theirs.names, choice, name)
        schema = _plain_schema(pa, theirs, texts, needed, name)
        read = lambda place: _arrow_blocks(pa, place, format, texts, schema)  # noqa: E731
    once = found[0].filesystem is None
    return TableReader(name, texts, kept, schema, once, fingerprint, lambda: itertools.chain.from_iterable(map(read, found)))


def _chosen(there: Sequence[str], choice: Choice, name: str) -> tuple[tuple[str, ...], tuple[str, ...], list[str]]:
    """The text columns, the kept columns, and both in the order of the table."""
    keep, drop = choice.keep, choice.drop
    texts = choose_columns(choice.wanted, choice.usual, list(there), name) if choice.wanted else ()
    for option, columns in (("keep", keep or ()), ("drop", drop)):
        for column in columns:
            choose_columns({option: column}, "", list(there), name)
    kept = tuple(column for column in there if (keep is None or column in keep) and column not in drop)
    needed = [column for column in there if column in texts or column in kept]
    for column in needed:
        if list(there).count(column) > 1:
            raise BadInputError(f"{name} has {list(there).count(column)} columns named {column!r}: rename all but one")
    return texts, kept, needed


# ---- csv and tsv


class _Layout(NamedTuple):
    header: list[str]
    delimiter: str
    plain: bool  # double quotes are letters
    skip: int  # lines before the header
    format: str
    assumed: bool  # and nobody said so


def _layout(place: Place, format: str, delimiter: str | None, quoting: str | None, wanted: Columns, guess: bool) -> _Layout:
    """Separator and header, by the first lines."""
    content = place.head()[0].decode("utf-8-sig", "replace")
    plain = (quoting or ("none" if format == "tsv" else "double")) == "none"
    skip = 0
    if (told := _SEP_LINE.match(content)) is not None:
        if delimiter not in (None, told[1]):
            raise BadInputError(
                f"the first line of {place.name} sets the separator to {separator_name(told[1])}, and --delimiter says {separator_name(delimiter or '')}: "
                "remove --delimiter"
            )
        content, skip, delimiter = content[told.end() :], 1, told[1]
    usual = "\t" if format == "tsv" else ","
    header = _header(content, delimiter or usual, plain)
    if not header:
        raise BadInputError(f"{place.name} is empty: the first line of a {format} file must contain the column names")
    lonely = delimiter is None and len(header) == 1 and header[0] not in wanted.values()
    if len(header) == 1 and header[0] not in wanted.values() and not guess:
        check_separator(content, place.name, delimiter or usual, wanted, header)
    if lonely and (other := likely_separator(content, usual, 1)) is not None:
        delimiter = other[0]
        header = _header(content, delimiter, plain)
        warn(f"{place.name} was read with {separator_name(delimiter)} as the separator, which its first line shows.", Doubtful)
    check_separator_of(content, place.name, delimiter or usual, wanted, header)
    return _Layout(header, delimiter or usual, plain, skip, format, plain and quoting is None)


def _header(content: str, delimiter: str, plain: bool) -> list[str]:
    try:
        lines = io.StringIO(content, newline="")
        return next(csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL), [])
    except csv.Error:
        return []


def _csv_blocks(
    pa: Any, place: Place, layout: _Layout, texts: Sequence[str], needed: list[str], told: set[str]
) -> Iterator[Block]:
    """Blocks by pyarrow.csv at its full speed; where that gives up, once more from the beginning, in the way that reads this file."""
    header = layout.header
    once = place.filesystem is None
    if not once:
        header = _header(_SEP_LINE.sub("", place.head()[0].decode("utf-8-sig", "replace")), layout.delimiter, layout.plain)
        if missing := [column for column in needed if column not in header]:
            raise BadInputError(
                f"{place.name} has no column {missing[0]!r}, unlike the first file; its columns are {quoted_list(header)}"
            )
    block_size, as_bytes = (_LONG_ROWS, True) if once else (_CSV_BLOCK, False)
    done = broken = quoted = first_quoted = 0
    while True:
        behind = done  # rows that were read before
        last = None
        try:
            for batch in _csv_batches(pa, place, layout, {*needed, header[-1]}, block_size, as_bytes):
                last = batch if len(batch) else last
                batch, behind = batch.slice(behind), max(0, behind - len(batch))
                if len(batch):
                    for column in texts if layout.assumed else ():
                        begins = pa.compute.starts_with(batch.column(column), '"' if not as_bytes else b'"')
                        if count := pa.compute.sum(begins).as_py() or 0:
                            first_quoted = first_quoted or done + pa.compute.index(begins, True).as_py() + layout.skip + 2
                            quoted += count
                    done += len(batch)
                    broken += 0 if layout.plain else sum(_broken_cells(pa, batch.column(column)) for column in texts)
                    yield _block(pa, batch, texts, needed, place.name)
            break
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                break  # a header alone
            if "invalid UTF8" in str(error) and not as_bytes:
                as_bytes = True
            elif "straddl" in str(error) and block_size < _LONG_ROWS:
                block_size = _LONG_ROWS
            else:
                said = f"a row is longer than {_LONG_ROWS >> 20} MB" if "straddl" in str(error) else str(error)
                raise _fault(place, layout) or BadInputError(
                    f"{place.name}: {said}. If a stray double quote is at fault, use --quoting none"
                ) from None
    if last is not None and not layout.plain and _swallowed_the_end(last) and (fault := _fault(place, layout)):
        raise fault
    if place.name in told:
        return
    told.add(place.name)
    if quoted:
        note_quotes(place.name, quoted, done, first_quoted)
    if broken:
        warn(
            f"{place.name}: {broken:,} texts contain more than {_MANY} line breaks inside double quotes. If a stray quote has swallowed rows, use "
            "--quoting none, or fix the quote.",
            Doubtful,
        )


def _csv_batches(pa: Any, place: Place, layout: _Layout, columns: set[str], block_size: int, as_bytes: bool) -> Iterator[Any]:
    pc = arrow("csv")
    # as bytes, a cell that is not UTF-8 is one bad row, not the end
    kind = pa.binary() if as_bytes else pa.string()
    reader = pc.open_csv(
        pa.PythonFile(Rest(*place.head()), mode="r") if place.filesystem is None else place.open(),
        read_options=pc.ReadOptions(block_size=block_size, skip_rows=layout.skip),
        parse_options=pc.ParseOptions(
            delimiter=layout.delimiter, quote_char=False if layout.plain else '"', newlines_in_values=not layout.plain
        ),
        convert_options=pc.ConvertOptions(
            check_utf8=not as_bytes,
            include_columns=sorted(columns),
            column_types=dict.fromkeys(columns, kind),
            strings_can_be_null=False,
        ),
    )
    yield from reader


def _broken_cells(pa: Any, values: Any) -> int:
    """Cells of so many line breaks that a stray quote may have swallowed rows."""
    held = values.buffers()[2]
    if held is None or b"\n" not in held.to_pybytes():
        return 0
    several = pa.compute.greater(pa.compute.count_substring(values, "\n"), _MANY)
    return pa.compute.sum(several).as_py() or 0


def _swallowed_the_end(batch: Any) -> bool:
    """Whether a cell of the last row has line breaks: pyarrow takes an open quote to the end of the file without a word."""
    cells = batch.slice(len(batch) - 1).to_pylist()[0].values()
    return any("\n" in cell if isinstance(cell, str) else b"\n" in cell for cell in cells)


def _fault(place: Place, layout: _Layout) -> BadInputError | None:
    """What is wrong with a csv file: by the row-by-row reader, which knows the line; None where it finds nothing, or the file is too large for it."""
    path = Path(place.path)
    if place.local and path.suffix in (".csv", ".tsv", ".txt") and path.stat().st_size < _DIAGNOSED:
        quoting = "none" if layout.plain else "double"
        try:
            read_columns(place.path, {}, format=layout.format, delimiter=layout.delimiter, quoting=quoting)
        except BadInputError as error:
            return error
    return None


# ---- columns of Arrow


def _block(pa: Any, batch: Any, texts: Sequence[str], needed: Iterable[str], name: str) -> Block:
    """A block of a record batch: its text columns, and all that are bytes, as strings."""
    bad: dict[int, str] = {}
    columns = []
    for column in needed:
        values = batch.column(column)
        if column in texts or pa.types.is_binary(values.type):
            values, wrong = _strings(pa, values, column, name)
            if column in texts:
                bad |= dict.fromkeys(wrong, _INVALID)
        columns.append(values)
    return Block(pa.RecordBatch.from_arrays(columns, names=list(needed)), bad)


def _strings(pa: Any, values: Any, column: str, name: str) -> tuple[Any, list[int]]:
    """A column as ``string``, null where it is not UTF-8, and the rows where that is so."""
    types = pa.types
    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if types.is_null(values.type):
        return values.cast(pa.string()), []
    is_text = types.is_string(values.type) or types.is_large_string(values.type) or types.is_string_view(values.type)
    if not (is_text or types.is_binary(values.type) or types.is_large_binary(values.type)):
        raise BadInputError(f"column {column!r} of {name} holds {values.type}, not text: choose another column")
    try:
        if is_text:
            values.validate(full=True)
        return values.cast(pa.string()), []
    except pa.ArrowInvalid:
        pass
    decoded: list[str | None] = []
    wrong = []
    for row, value in enumerate(values.cast(pa.binary()).to_pylist()):
        try:
            decoded.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            decoded.append(None)
            wrong.append(row)
    return pa.array(decoded, pa.string()), wrong


def _plain_schema(pa: Any, theirs: Any, texts: Sequence[str], needed: Sequence[str], name: str) -> Any:
    """The schema of blocks: text columns as ``string``, others as they are (views of strings as strings, which every format can hold)."""
    fields = []
    for column in needed:
        field = theirs.field(column)
        if column in texts:
            _strings(pa, pa.nulls(0, field.type), column, name)  # refuses what is not text
        text = column in texts or pa.types.is_string_view(field.type) or pa.types.is_binary(field.type)
        fields.append(pa.field(column, pa.string() if text else field.type))
    return pa.schema(fields)


def _fitted(pa: Any, batch: Any, texts: Sequence[str], schema: Any, name: str) -> Block:
    """A block of any record batch, in the types of a schema."""
    missing = [column for column in schema.names if column not in batch.schema.names]
    if missing:
        raise BadInputError(f"{name} has no column {missing[0]!r}; its columns are {quoted_list(batch.schema.names)}")
    block = _block(pa, batch, texts, schema.names, name)
    try:
        columns = [column.cast(field.type) for column, field in zip(block.batch.columns, schema)]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise BadInputError(f"{name} has other types than the first file: {error}") from None
    return Block(pa.RecordBatch.from_arrays(columns, schema=schema), block.bad)


def _arrow_file(pa: Any, place: Place, format: str) -> tuple[Any, Any]:
    """The schema of a parquet or feather file, and what reads it."""
    if place.filesystem is None:
        raise BadInputError(f"{format} cannot be read from standard input: pass a file")
    try:
        if format == "parquet":
            parquet = arrow("parquet").ParquetFile(place.open_random())
            return parquet.schema_arrow, parquet
        file = place.open_random()
        try:
            reader = pa.ipc.open_file(file)
        except pa.ArrowInvalid:
            file.seek(0)
            reader = pa.ipc.open_stream(file)
        return reader.schema, reader
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInputError(f"{place.name} is not a {format} file: {error}") from None


def schema_of(source: str) -> Any:
    """The schema of a parquet or feather file, or of the first of several, with its metadata."""
    found, format = places(source)
    return _arrow_file(arrow(), found[0], format)[0]


def _arrow_blocks(pa: Any, place: Place, format: str, texts: Sequence[str], schema: Any) -> Iterator[Block]:
    reader = _arrow_file(pa, place, format)[1]
    if format == "parquet":
        there = [column for column in schema.names if column in reader.schema_arrow.names]
        batches = reader.iter_batches(batch_size=ROWS, columns=there)
    elif hasattr(reader, "num_record_batches"):
        batches = (reader.get_batch(n) for n in range(reader.num_record_batches))
    else:
        batches = iter(reader)
    try:
        for batch in batches:
            for start in range(0, len(batch), ROWS):
                yield _fitted(pa, batch.slice(start, ROWS), texts, schema, place.name)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInputError(f"{place.name} is damaged: {error}") from None


# ---- lines


def _txt_blocks(pa: Any, place: Place) -> Iterator[Block]:
    first, stream = place.head()
    for rows in _batched(lines(place, first, stream)):
        yield _block(
            pa, pa.RecordBatch.from_arrays([pa.array(rows, pa.binary())], names=["text"]), ["text"], ["text"], place.name
        )


def _batched(items: Iterable[Any]) -> Iterator[list[Any]]:
    items = iter(items)
    while rows := list(itertools.islice(items, ROWS)):
        yield rows


def _jsonl(
    pa: Any,
    found: list[Place],
    name: str,
    choice: Choice,
    fingerprint: Callable[[], Any],
) -> TableReader:
    once = found[0].filesystem is None

    def records() -> Iterator[list[Any]]:
        for place in found:
            yield from _batched(_records(place))

    held = records()
    first = next(held, [])
    keys = list(first[0]) if first and isinstance(first[0], dict) else ["text"]
    if first and isinstance(first[0], str):
        check_no_keys(choice.wanted, f"{name}, line 1")
    texts, kept, needed = _chosen(keys, choice, name)
    others = [key for key in needed if key not in texts]
    # one pass for the types: what is a whole number in one line may be a fraction a million lines later
    schema = _schema_of(pa, [first] if once else itertools.chain([first], held), others, name)
    schema = pa.schema([pa.field(key, pa.string()) if key in texts else schema.field(key) for key in needed])

    def blocks() -> Iterator[Block]:
        for rows in itertools.chain([first], held) if once else records():
            if rows:
                yield _of_records(pa, rows, texts, schema, name)

    return TableReader(name, texts, kept, schema, once, fingerprint, blocks)


def _records(place: Place) -> Iterator[Any]:
    first, stream = place.head()
    for number, line in enumerate(lines(place, first, stream), 1):
        if not line.strip():
            continue
        text = line.decode("utf-8", "surrogateescape")
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadInputError(
                f"{place.name}, line {number}: not JSON ({error}).{json_lines_advice(text, place.path)}"
            ) from None
        if isinstance(record, list):
            advice = json_lines_advice(text, place.path)
            raise BadInputError(f"{place.name}, line {number}: the text is {short_json(record)}, not a string.{advice}")
        yield record


def _schema_of(pa: Any, blocks: Iterable[list[Any]], keys: Sequence[str], name: str) -> Any:
    """Types of some keys of records, such as hold all their values."""
    schema = None
    if not keys:
        return pa.schema([])
    for rows in blocks:
        dicts = [row for row in rows if isinstance(row, dict)]
        fields = []
        for key in keys:
            try:
                fields.append(pa.field(key, pa.array([row.get(key) for row in dicts]).type))
            except UnicodeEncodeError:  # a lone surrogate
                fields.append(pa.field(key, pa.string()))
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
                raise BadInputError(
                    f"{name}: the values of {key!r} are of several types, which no column holds: leave it out (--drop {key})"
                ) from None
        own = pa.schema(fields)
        try:
            schema = own if schema is None else pa.unify_schemas([schema, own], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise BadInputError(
                f"{name} has values of several types under one key, which no column holds ({error}): leave it out with --drop"
            ) from None
    return schema


def _of_records(pa: Any, rows: list[Any], texts: Sequence[str], schema: Any, name: str) -> Block:
    """A block of dicts, or of strings where there is only one column."""
    bad: dict[int, str] = {}
    columns = []
    for field in schema:
        values = [row.get(field.name) if isinstance(row, dict) else row if field.name in texts else None for row in rows]
        if field.name in texts:
            for n, value in enumerate(values):
                if value is None:
                    continue
                if not isinstance(value, str):
                    bad[n], values[n] = f"not text: {short_json(value)}", None
                elif not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
                    bad[n], values[n] = _INVALID, None
        try:
            columns.append(pa.array(values, field.type))
        except UnicodeEncodeError:
            mended = [value.encode("utf-8", "replace").decode() if isinstance(value, str) else value for value in values]
            columns.append(pa.array(mended, field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise BadInputError(
                f"{name}: {field.name!r} is {field.type} in the rows before, and not here ({error}): leave it out with --drop"
            ) from None
    return Block(pa.RecordBatch.from_arrays(columns, schema=schema), bad)


# ---- objects


def _of_object(pa: Any, source: Any, choice: Choice) -> TableReader:
    """A reader of what a program holds."""
    name = f"the {type(source).__name__}"
    if isinstance(source, Mapping):
        source = pa.table(dict(source))
    elif type(source).__module__.partition(".")[0] == "pandas":
        source = pa.Table.from_pandas(source if hasattr(source, "columns") else source.to_frame("text"), preserve_index=False)
    elif hasattr(source, "collect_schema") and hasattr(source, "collect"):
        source = source.collect()  # a lazy frame of polars
    if isinstance(source, pa.RecordBatch):
        source = pa.Table.from_batches([source])
    if hasattr(source, "iter") and hasattr(source, "with_format"):  # datasets of Hugging Face
        opened = _dataset(pa, source)
    elif hasattr(source, "__arrow_c_stream__"):
        opened = pa.RecordBatchReader.from_stream(source)
    elif isinstance(source, Iterable) and not isinstance(source, (str, bytes)):
        return _of_rows(pa, source, choice)
    else:
        raise BadInputError(f"a table, a data frame or an iterable of texts is needed, not {type(source).__name__}")
    once = isinstance(source, pa.RecordBatchReader)
    texts, kept, needed = _chosen(opened.schema.names, choice, name)
    schema = _plain_schema(pa, opened.schema, texts, needed, name)

    def batches() -> Any:
        if once:
            return source
        return _dataset(pa, source) if hasattr(source, "with_format") else pa.RecordBatchReader.from_stream(source)

    def blocks() -> Iterator[Block]:
        for batch in batches():
            for start in range(0, len(batch), ROWS):
                yield _fitted(pa, batch.slice(start, ROWS), texts, schema, name)

    return TableReader(name, texts, kept, schema, once, lambda: None if once else _content(schema, blocks), blocks)


def _dataset(pa: Any, source: Any) -> Any:
    """A reader of pyarrow for a dataset of Hugging Face, in memory, on the disk or streamed."""
    rows = iter(source.with_format("arrow").iter(ROWS))
    tables = (part if isinstance(part, pa.Table) else pa.table(dict(part)) for part in rows)
    first = next(tables, None)
    if first is None:
        raise BadInputError("the dataset contains no rows")
    schema = first.schema.remove_metadata()
    batches = (batch for table in itertools.chain([first], tables) for batch in table.cast(schema).to_batches())
    return pa.RecordBatchReader.from_batches(schema, batches)


def _of_rows(pa: Any, source: Iterable[Any], choice: Choice) -> TableReader:
    """A reader of an iterable of strings or dicts."""
    name, once = f"the {type(source).__name__}", iter(source) is source
    held = _batched(source)
    first = next(held, [])
    keys = list(first[0]) if first and isinstance(first[0], dict) else ["text"]
    texts, kept, needed = _chosen(keys, choice, name)
    others = [key for key in needed if key not in texts]
    schema = _schema_of(pa, [first] if once else itertools.chain([first], held), others, name)
    schema = pa.schema([pa.field(key, pa.string()) if key in texts else schema.field(key) for key in needed])

    def blocks() -> Iterator[Block]:
        for rows in itertools.chain([first], held) if once else _batched(source):
            if rows:
                yield _of_records(pa, rows, texts, schema, name)

    return TableReader(name, texts, kept, schema, once, lambda: None if once else _content(schema, blocks), blocks)


def _content(schema: Any, blocks: Callable[[], Iterator[Block]]) -> Any:
    """A digest of all rows in memory."""
    digest = hashlib.sha256(schema.to_string().encode())
    rows = 0
    for block in blocks():
        rows += len(block.batch)
        digest.update(json.dumps(block.batch.to_pylist(), default=str, ensure_ascii=True).encode())
    return [{"name": "", "rows": rows, "sha256": digest.hexdigest()}]
