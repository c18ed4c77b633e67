"""The rows of a table on their way through a task: cut into shards, computed, put beside the columns that stay."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from nativebert.errors import BadInputError, Doubtful, NativeBertError, warn
from nativebert.io.files import arrow
from nativebert.io.tables import Block, TableReader
from nativebert.jobs.columns import ResultColumns

SHARD_ROWS, SHARD_BYTES = 2**15, 2**26  # of rows, and of text: what is computed again after a crash, and what memory holds
_CALL_ROWS = 2**13  # that the CPU computes at once: enough for full batches, few enough to show progress

T = TypeVar("T")


class Shard(NamedTuple):
    """Rows that are computed and written together.

    Attributes:
        first: number of the first row in the table, from 0.
        kept: a ``pyarrow.RecordBatch`` of the columns that stay.
        items: texts, or pairs of them; None for a row without a result.
        rejects: row of the table -> why it has no result.
        empty: how many rows have an empty text, and no result either.
        size: bytes of text.
    """

    first: int
    kept: Any
    items: list[Any]
    rejects: dict[int, str]
    empty: int
    size: int


class Survey(NamedTuple):
    """A table, read once without computing.

    Attributes:
        rows: how many.
        size: bytes of text.
        empty, rejected: rows with an empty text, and with none that can be read.
    """

    rows: int
    size: int
    empty: int
    rejected: int


class Finished(NamedTuple):
    """A shard with its results.

    Attributes:
        batch: the kept columns and the results, a ``pyarrow.RecordBatch``.
        shard: as it was.
        rejects: those of the shard, and the rows that were too long.
        tokens: that were read.
        cut, cut_rows: tokens that were left out, and of how many rows.
    """

    batch: Any
    shard: Shard
    rejects: dict[int, str]
    tokens: int
    cut: int
    cut_rows: int


def shards(reader: TableReader, rows: int = SHARD_ROWS, size: int = SHARD_BYTES, *, strict: bool = False) -> Iterator[Shard]:
    """A table in shards: the same ones whenever the same table is read.

    Args:
        reader: the table.
        rows, size: the most rows of a shard, and bytes of text, except a single row that has more.
        strict: raise where a row has no text.

    Raises:
        BadInputError: as of the reader; and by ``strict``.
    """
    pa = arrow()
    waiting: list[Block] = []
    first = count = held = 0

    def whole() -> Shard:
        table = pa.Table.from_batches([block.batch for block in waiting]).combine_chunks()
        batch = table.to_batches()[0]
        bad: dict[int, str] = {}
        start = 0
        for block in waiting:
            bad |= {start + row: reason for row, reason in block.bad.items()}
            start += len(block.batch)
        return _shard(pa, reader, batch, bad, first, held, strict)

    for block in reader:
        start, sizes = 0, _sizes(pa, block.batch, reader.texts)
        while start < len(block.batch):
            fits = int(np.searchsorted(np.cumsum(sizes[start:]), size - held, side="right"))
            take = min(rows - count, fits, len(block.batch) - start)
            if take or not count:
                take = max(take, 1)
                bad = {row - start: reason for row, reason in block.bad.items() if start <= row < start + take}
                waiting.append(Block(block.batch.slice(start, take), bad))
                count, held, start = count + take, held + int(sizes[start : start + take].sum()), start + take
            if count == rows or start < len(block.batch):
                yield whole()
                waiting, first, count, held = [], first + count, 0, 0
    if waiting:
        yield whole()


def _sizes(pa: Any, batch: Any, texts: Iterable[str]) -> Any:
    sizes = np.ones(len(batch), np.int64)
    for column in texts:
        lengths = pa.compute.binary_length(batch.column(column)).fill_null(0)
        sizes += lengths.to_numpy(zero_copy_only=False)
    return sizes


def _shard(pa: Any, reader: TableReader, batch: Any, bad: dict[int, str], first: int, size: int, strict: bool) -> Shard:
    columns = [batch.column(name) for name in reader.texts]
    rejects = {first + row: reason for row, reason in bad.items()}
    blank = np.zeros(len(batch), bool)
    for values in columns:
        if values.null_count:
            for row in np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False)).tolist():
                rejects.setdefault(first + row, "null")
        trimmed = pa.compute.binary_length(pa.compute.utf8_trim_whitespace(values))
        blank |= pa.compute.equal(trimmed, 0).fill_null(False).to_numpy(zero_copy_only=False)
    rejects = dict(sorted(rejects.items()))
    empty = [row for row in np.flatnonzero(blank).tolist() if first + row not in rejects]
    if strict and (rejects or empty):
        reasons = rejects | {first + row: "empty" for row in empty}
        row = min(reasons)
        raise BadInputError(
            f"row {row:,} of {reader.name} (from 0): its text is {reasons[row]}. Mend it, or leave out strict=True: then it has no result"
        )
    items: list[Any] = columns[0].to_pylist() if len(columns) == 1 else list(zip(*(values.to_pylist() for values in columns)))
    for row in (*empty, *(row - first for row in rejects)):
        items[row] = None
    return Shard(first, batch.select(list(reader.kept)), items, rejects, len(empty), size)


def survey(reader: TableReader, strict: bool = False) -> Survey:
    """Read a table once: errors in it are reported before the work, not after hours.

    Raises:
        BadInputError: as of :func:`shards`.
    """
    rows = size = empty = rejected = 0
    for shard in shards(reader, strict=strict):
        rows, size = rows + len(shard.items), size + shard.size
        empty, rejected = empty + shard.empty, rejected + len(shard.rejects)
    if not rows:
        raise BadInputError(f"{reader.name} contains no texts")
    return Survey(rows, size, empty, rejected)


class Compute:
    """A task over shards of a table.

    Args:
        reader: the table.
        results: the task.
        strict: raise where a row is too long for ``too_long="error"``.
        on_rows: called with the tokens and the bytes of text of every part of a shard when it is done.

    Attributes:
        schema: of what is written: the kept columns, then the results. A result whose name a column has already is ``predicted_...``.
    """

    def __init__(
        self,
        reader: TableReader,
        results: ResultColumns,
        *,
        strict: bool = False,
        on_rows: Callable[[int, float], None] | None = None,
    ) -> None:
        pa = arrow()
        self._reader, self._results, self._strict, self._on_rows = reader, results, strict, on_rows
        kept = [reader.schema.field(name) for name in reader.kept]
        taken = set(reader.kept)
        fields = []
        for field in results.schema:
            name = field.name
            while name in taken:
                name = f"predicted_{name}"
            fields.append(field.with_name(name))
        renamed = [name for name, field in zip(results.schema.names, fields) if name != field.name]
        if renamed:
            warn(
                f"{reader.name} has {', '.join(map(repr, renamed))} already: the result is named {', '.join(repr(f'predicted_{name}') for name in renamed)}.",
                Doubtful,
            )
        self.schema = pa.schema([*kept, *fields])

    def __call__(self, shard: Shard) -> Finished:
        """A shard with its results.

        Raises:
            BadInputError: a row that is too long, by ``strict``.
            NativeBertError: as of the task.
        """
        pa, parts, tokens, cut, cut_rows = arrow(), [], 0, 0, 0
        rejects = dict(shard.rejects)
        step = _CALL_ROWS if self._results.task.device == "cpu" else max(1, len(shard.items))
        for start in range(0, len(shard.items), step):
            items = shard.items[start : start + step]
            try:
                done = self._results(items)
            except NativeBertError as error:
                there = [shard.first + start + n for n, item in enumerate(items) if item is not None]
                error.args = (renumbered(str(error), there), *error.args[1:])
                raise
            parts.append(done.columns)
            tokens, cut, cut_rows = (
                tokens + int(done.tokens.sum()),
                cut + int(done.cut.sum()),
                cut_rows + int((done.cut > 0).sum()),
            )
            rejects |= {shard.first + start + row: reason for row, reason in done.too_long.items()}
            if done.too_long and self._strict:
                row, reason = next(iter(done.too_long.items()))
                raise BadInputError(
                    f"row {shard.first + start + row:,} of {self._reader.name} (from 0) has {reason}. Shorten it, or leave out strict=True"
                )
            if self._on_rows is not None:
                self._on_rows(int(done.tokens.sum()), shard.size * len(items) / len(shard.items))
        results = [pa.concat_arrays([part[n] for part in parts]) for n in range(len(self._results.schema))]
        batch = pa.RecordBatch.from_arrays([*shard.kept.columns, *results], schema=self.schema)
        return Finished(batch, shard, dict(sorted(rejects.items())), tokens, cut, cut_rows)


def renumbered(message: str, rows: Sequence[int]) -> str:
    """A message about text n of a call, by its number in a table; ``rows`` are the numbers of the call's texts."""

    def number(match: re.Match[str]) -> str:
        return f"{match[1]} {rows[int(match[2])]}" if int(match[2]) < len(rows) else match[0]

    return re.sub(r"\b(text|pair) (\d+)\b", number, message, count=1)


def ahead(items: Iterable[T], depth: int = 1) -> Generator[T, None, None]:
    """Items, read by a thread so many ahead of who uses them."""
    done = object()
    waiting: queue.Queue[Any] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: Any) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False

    def read() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((done, None))
        except BaseException as error:
            put((done, error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is done:
                return
            yield item
    finally:
        stop.set()
        thread.join()
