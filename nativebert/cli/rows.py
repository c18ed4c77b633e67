"""Rows of a file in, results of each row out: in parts, so that memory does not grow with the file, and the other columns beside them."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from nativebert import console
from nativebert.cli import common
from nativebert.errors import BadInputError, Doubtful, NativeBertError, Truncated, warn
from nativebert.io.read import Columns

if TYPE_CHECKING:
    from nativebert.io.write import Records
    from nativebert.jobs.rows import Survey
    from nativebert.tasks.base import Task
    from nativebert.tasks.results import Report

Row = tuple[str | None, ...]

_PART = 2**13  # rows
_NAMED = 5  # rejected rows that are named where no file can name them


class Part(NamedTuple):
    """Some rows of a file.

    Attributes:
        first: number of the first, from 0.
        rows: their texts; None for what is no text.
        there: those of them that have a text, and so a result.
        rejects: row of the file -> why it has none, empty texts aside.
        beside: the columns that were not read.
        size: bytes of text.
    """

    first: int
    rows: list[Row]
    there: list[int]
    rejects: dict[int, str]
    beside: dict[str, list[Any]]
    size: int


@dataclass
class Source:
    """The rows of a command.

    Attributes:
        columns: that are read; none of a file without columns.
        others: the columns that stay beside the results.
        parts: in the order of the file.
        survey: of a file that is read in parts; None for one in memory, or one that cannot be read twice.
        whole: whether there is only one part.
    """

    columns: tuple[str, ...]
    others: tuple[str, ...]
    parts: Iterator[Part]
    survey: Survey | None = None
    whole: bool = False


@dataclass
class Totals:
    """What was done so far.

    Attributes:
        rows, empty: how many, and those of them with an empty text.
        rejects: row -> why it has no result.
        results: results, as the command counts them.
        report: sums, in the form of the report of one call.
    """

    rows: int = 0
    empty: int = 0
    rejects: dict[int, str] = field(default_factory=dict)
    results: int = 0
    report: Report | None = None

    def add(self, part: Part, report: Report) -> None:
        self.rows += len(part.rows)
        self.empty += len(part.rows) - len(part.there) - len(part.rejects)
        self.rejects |= part.rejects
        import numpy as np

        # memory for the long ones only
        own = replace(
            report,
            tokens=report.tokens.sum(keepdims=True),
            cut=report.cut[report.cut > 0],
            windows=report.windows[report.windows > 1],
        )
        if (before := self.report) is not None:
            own = replace(
                own,
                tokens=before.tokens + own.tokens,
                cut=np.concatenate([before.cut, own.cut]),
                windows=np.concatenate([before.windows, own.windows]),
                batches=before.batches + own.batches,
                seconds=before.seconds + own.seconds,
            )
        self.report = own


def is_streamed(args: argparse.Namespace) -> bool:
    """Whether the rows are read in parts: with pyarrow, but for ``--na``, which needs the reader that sees quotes."""
    return importlib.util.find_spec("pyarrow") is not None and args.na is None


def open_source(args: argparse.Namespace, wanted: Columns, usual: str = "text", *, streamed: bool) -> Source:
    """The rows of ``args.file``."""
    strict = getattr(args, "strict", False)
    if not streamed:
        table = common.read_file(args, args.file, wanted, usual=usual, main=True)
        args.columns_read = table.columns
        rows: list[Row] = [tuple(row) for row in table.rows]
        empty = [n for n, row in enumerate(rows) if any(not text or not text.strip() for text in row)]
        if strict and empty:
            raise BadInputError(
                f"row {empty[0]:,} of {common.name(args.file, 'input')} (from 0): its text is empty. Mend it, or leave out --strict: then it has no result"
            )
        gone = set(empty)
        part = Part(0, rows, [n for n in range(len(rows)) if n not in gone], {}, {}, 0)
        return Source(table.columns, (), iter([part]), whole=True)
    from nativebert.cli.tables import open_reader
    from nativebert.io.files import table_format
    from nativebert.jobs.rows import shards, survey

    common.say_waiting(args.file)
    with common.notes(args):
        reader = open_reader(args, wanted, usual, guess=False)
        known = None if reader.once else survey(reader, strict)
    others = tuple(name for name in reader.kept if name not in reader.texts)
    columns = reader.texts
    with contextlib.suppress(NativeBertError):  # of a pattern or a folder
        columns = () if table_format(args.file, args.format) == "txt" else columns

    def parts() -> Iterator[Part]:
        for shard in shards(reader, _PART, strict=strict):
            texts = [shard.kept.column(name).to_pylist() for name in reader.texts]
            there = [n for n, item in enumerate(shard.items) if item is not None]
            beside = {name: shard.kept.column(name).to_pylist() for name in others}
            yield Part(shard.first, list(zip(*texts)), there, shard.rejects, beside, shard.size)

    return Source(columns, others, parts(), known)


def computed(
    args: argparse.Namespace,
    source: Source,
    task: Task,
    call: Callable[[list[Row], dict[str, Any]], tuple[Any, Report]],
    totals: Totals,
) -> Iterator[tuple[Part, Any]]:
    """Each part with the results of the rows that have a text; counts them in ``totals``.

    Args:
        args: of the command.
        source: the rows.
        task: what computes them.
        call: gives the results of rows, and the report; takes arguments of a task's call as its second.
        totals: where to count.
    """
    from nativebert.jobs.progress import Progress
    from nativebert.jobs.rows import renumbered

    bar = contextlib.nullcontext() if source.whole else Progress(source.survey, common.progress(args))
    more = {"return_report": True, "progress": common.progress(args) if source.whole else False}
    with bar as shown:
        for part in source.parts:
            items = [part.rows[n] for n in part.there]
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", Truncated)
                    results, report = call(items, more)
            except NativeBertError as error:
                error.args = (renumbered(str(error), [part.first + n for n in part.there]), *error.args[1:])
                raise
            totals.add(part, report)
            if shown is not None:
                shown.add(int(report.tokens.sum()), part.size)
            yield part, results
    if not totals.rows:
        raise BadInputError(f"{common.name(args.file, 'input')} contains no texts")
    _tell_cut(task, totals)


def _tell_cut(task: Task, totals: Totals) -> None:
    """What the calls would have told one after the other."""
    report = totals.report
    if report is None or not len(report.cut):
        return
    long, lost = len(report.cut), int(report.cut.sum())
    whole = lost + int(report.tokens.sum())
    are, were = ("is", "was") if long == 1 else ("are", "were")
    warn(
        f"{long:,} of {totals.rows:,} {task.noun}s {are} longer than {task.options.max_tokens} tokens and {were} cut: {lost:,} of "
        f"{whole:,} tokens ({lost / whole:.1%}) were left out. Pass too_long='window' to read all of them, 'error' to refuse.",
        Truncated,
    )


def beside(part: Part, taken: Collection[str]) -> dict[str, list[Any]]:
    """The other columns of a part, under names that no result has."""
    return {f"input_{name}" if name in taken else name: values for name, values in part.beside.items()}


def run(
    args: argparse.Namespace,
    wanted: Columns,
    task: Callable[[], Task],
    call: Callable[[Any, list[Row], dict[str, Any]], tuple[Any, Report]],
    build: Callable[[int, Sequence[Row], Sequence[Any]], Records],
    *,
    count: Callable[[Any], int],
    what: Sequence[str],
    keys: int,
    usual: str = "text",
    explain: Callable[[Any, Sequence[Row], Any, Report, TextIO], None] | None = None,
    shorten: Callable[[Records, Sequence[Row]], Records] | None = None,
) -> int:
    """Run a task over the rows of a file, and write or show a result for each.

    Args:
        args: of the command.
        wanted, usual: columns, as of :func:`nativebert.io.read.read_columns`.
        task: makes the task.
        call: the results of rows: of a task, rows and further arguments of the call.
        build: the number of a first row, rows, and their results, None where there is none -> records.
        count: how many of what the command counts a result is.
        what: the words for one of them, and for several.
        keys: columns of the table that say which text a row belongs to.
        explain: shows rows with their results for people, in place of the table.
        shorten: the records as the table for people has them.

    Returns:
        The exit code.
    """
    from nativebert.io.write import RDATA, RDS, check_ending, record_file

    shown = explain is not None or (args.output is None and console.is_terminal(sys.stdout))
    if args.output is not None or not shown:
        ending = check_ending(args.output or "-")  # before the work, not after it
        whole = shown or ending in (RDS, *RDATA)
    else:
        whole = True
    source = open_source(args, wanted, usual, streamed=is_streamed(args) and not whole)
    if args.output is not None:
        common.check_apart(args.output, args.file)
    totals, parts = Totals(), list[tuple[Part, Any]]()
    with common.at_work(args), contextlib.ExitStack() as stack:
        made = task()
        write = stack.enter_context(record_file(args.output or "-")) if args.output is not None or not shown else None
        full: Report | None = None

        def calling(rows: list[Row], more: dict[str, Any]) -> tuple[Any, Report]:
            nonlocal full
            results, full = call(made, rows, more)
            return results, full

        for part, results in computed(args, source, made, calling, totals):
            totals.results += sum(map(count, results))
            spread: list[Any] = [None] * len(part.rows)
            for n, result in zip(part.there, results, strict=True):
                spread[n] = result
            built = build(part.first, part.rows, spread)
            if shown:
                parts.append((part, results))
            if write is not None:
                write(common.beside_other_columns(args, built) if source.whole else _with(part, built))
    # what people read must not mix with what programs read
    out = sys.stderr if args.output == "-" or (args.output is None and not shown) else sys.stdout
    if shown and full is not None:
        if explain is not None:
            (part, results) = parts[0]
            explain(made, [part.rows[n] for n in part.there], results, full, out)
        else:
            common.show_table(built if shorten is None else shorten(built, parts[0][0].rows), keys, out)
        if not args.quiet:
            print(file=out)
    summarize(args, source, made, totals, common.target(args, common.plural(totals.results, *what)), out)
    return common.REJECTED if totals.rejects else 0


def summarize(args: argparse.Namespace, source: Source, task: Task, totals: Totals, results: common.Lines, out: TextIO) -> None:
    """Print what was done, and which rows have no result; the reasons of those that were rejected go to a file, if there is one."""
    columns = ", ".join(map(repr, source.columns))
    of = f", column{'s' * (len(source.columns) > 1)} {columns}" if columns else ""
    inputs = [("texts", f"{totals.rows:,} from {common.name(args.file, 'input')}{of}")]
    if totals.empty:
        results = [("empty", f"{common.plural(totals.empty, 'row')} with an empty text, without a result"), *results]
    if totals.rejects:
        results = [
            ("rejected", f"{common.plural(len(totals.rejects), 'row')} without a result{_rejects(args, totals)}"),
            *results,
        ]
    assert totals.report is not None
    common.summarize(args, totals.report, task.snapshot, inputs, results, out)


def _rejects(args: argparse.Namespace, totals: Totals) -> str:
    """Write the rejected rows beside the output, or name the first of them."""
    if args.output in (None, "-"):
        named = ", ".join(f"{row} ({reason})" for row, reason in list(totals.rejects.items())[:_NAMED])
        return f": {named}{', ...' * (len(totals.rejects) > _NAMED)}"
    from nativebert.jobs.stream import write_rejects

    return f", see {write_rejects(Path(args.output), totals.rejects)}"


def _with(part: Part, records: Records) -> Records:
    """Records with the other columns of their rows."""
    from nativebert.io.write import Records, as_cell

    others = beside(part, {*records.columns, *(records.records[0] if records.records else ())})
    if not others:
        return records
    at = records.columns.index("item") if "item" in records.columns else None
    lines = [{**record, **{name: values[n] for name, values in others.items()}} for n, record in enumerate(records.records)]
    rows = [
        [*row, *(as_cell(values[n if at is None else row[at] - part.first]) for values in others.values())]
        for n, row in enumerate(records.rows)
    ]
    return Records(lines, [*records.columns, *others], rows)


def note_left_out(args: argparse.Namespace, source: Source) -> None:
    """Tell once that a matrix has no place for the other columns."""
    if source.others:
        names = ", ".join(source.others[:_NAMED]) + ", ..." * (len(source.others) > _NAMED)
        with common.notes(args):
            warn(
                f"{args.output} holds the vectors alone, in the order of the rows; for the other columns ({names}) beside them, write .parquet, .csv or .jsonl",
                Doubtful,
            )
