"""Shared code of the commands."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from nativebert import console
from nativebert.cli.options import as_options
from nativebert.engine import where
from nativebert.errors import BadInputError
from nativebert.io.read import TABLES, Columns, Table, format_of, read_columns

if TYPE_CHECKING:
    from nativebert.hub import Snapshot
    from nativebert.io.write import Records
    from nativebert.tasks.base import Task
    from nativebert.tasks.results import Report

Lines = list[tuple[str, str]]  # of a summary: name, value

# Exit codes beside 0, and 2 for a mistake in what was asked
BAD = 1  # the check failed
REJECTED = 3  # done, but for some rows, which are named

# Options that every task has as arguments
TASK = ("device", "precision", "batch_tokens", "too_long", "max_tokens", "stride", "revision", "offline", "base")


# ---- texts in


def read(args: argparse.Namespace, wanted: Columns, usual: str = "text") -> Table:
    """The texts of ``args.file``: what the named options ask for. An output that cannot be written is reported first."""
    from nativebert.io.write import check_ending

    if args.output is not None or not (args.explain if "explain" in args else False):
        check_ending(args.output or "-")  # before the work, not after it
    table = read_file(args, args.file, wanted, usual=usual, main=True)
    if args.output is not None:
        check_apart(args.output, args.file)
    args.columns_read = table.columns
    return table


def read_file(
    args: argparse.Namespace, path: str, wanted: Columns, *, usual: str = "text", numbers: bool = False, main: bool = False
) -> Table:
    """Texts of a file (see :func:`nativebert.io.read.read_columns`), which must hold some.

    Args:
        args: with ``delimiter`` and ``quoting``, which are for all tables of a command.
        path: of the file.
        wanted, usual, numbers: as of ``read_columns``.
        main: whether ``--format`` is about this file; among several, it need not be the table that ``--delimiter`` is about.
    """
    say_waiting(path)
    format = args.format if main else None
    if is_streamed(path, format):
        return _read_streamed(args, path, wanted, usual, format)
    alone = main and getattr(args, "queries", None) is None
    how = (
        {"delimiter": args.delimiter, "quoting": args.quoting, "na": args.na}
        if alone or format_of(path, format) in TABLES
        else {}
    )
    with notes(args):
        table = read_columns(
            path, wanted, format=format, usual=usual, numbers=numbers, format_option="--format" if main else None, **how
        )
    if not table.rows:
        raise BadInputError(f"{name(path, 'input')} contains no texts")
    return table


def with_texts(args: argparse.Namespace, rows: Sequence[tuple[str, ...]]) -> list[int]:
    """Numbers of the rows that have a text; how many have none is told in the summary.

    Raises:
        BadInputError: one has none, by ``--strict``.
    """
    there = [n for n, row in enumerate(rows) if all(text.strip() for text in row)]
    args.empty = len(rows) - len(there)
    if args.empty and getattr(args, "strict", False):
        row = next(n for n, at in enumerate([*there, -1]) if n != at)
        raise BadInputError(
            f"row {row:,} of {name(args.file, 'input')} (from 0): its text is empty. Mend it, or leave out --strict: then it has no result"
        )
    return there


def is_streamed(path: str, format: str | None = None) -> bool:
    """Whether an input is one that only pyarrow reads: parquet, feather, compressed files, folders, patterns, URIs."""
    from nativebert.io.files import is_plain

    return not is_plain(path, format)


def _read_streamed(args: argparse.Namespace, path: str, wanted: Columns, usual: str, format: str | None) -> Table:
    from nativebert.io.tables import open_table

    with notes(args):
        reader = open_table(path, wanted, format=format, delimiter=args.delimiter, quoting=args.quoting, keep=[], usual=usual)
        rows: list[tuple[str, ...]] = []
        for block in reader:
            columns = [block.batch.column(name) for name in reader.texts]
            if any(values.null_count for values in columns):
                at = min(values.to_pylist().index(None) for values in columns if values.null_count)
                reason = block.bad.get(at, "null")
                raise BadInputError(
                    f"row {len(rows) + at:,} of {reader.name} (from 0): its text is {reason}; remove the row, or fill it"
                )
            rows += zip(*(values.to_pylist() for values in columns))
    if not rows:
        raise BadInputError(f"{name(path, 'input')} contains no texts")
    return Table(rows, reader.texts)


def queries(args: argparse.Namespace) -> list[str]:
    """Queries of ``--query`` and ``--queries``."""
    texts = list(args.query or [])
    if args.queries == args.file == "-":
        raise BadInputError("--queries and FILE cannot both be standard input: name a file for one of them")
    if args.queries is not None:
        if args.output is not None:
            check_apart(args.output, args.queries)
        texts += [text for (text,) in read_file(args, args.queries, {"--queries-column": args.queries_column}).rows]
    elif args.queries_column is not None:
        raise BadInputError("--queries-column requires --queries FILE")
    if not texts:
        raise BadInputError('missing arguments: --query "TEXT" or --queries FILE')
    return texts


def check_apart(output: str, *inputs: str) -> None:
    """Refuse to write over a file that was read."""
    for path in inputs:
        if os.path.exists(path) and os.path.exists(output) and os.path.samefile(path, output):
            raise BadInputError(f"{output} is the input file: choose another output file")


def sample(args: argparse.Namespace) -> list[str] | None:
    """The texts of ``--texts``, if it is given: to run a check on."""
    if args.texts is None:
        for option in ("column", "format"):
            if getattr(args, option) is not None:
                raise BadInputError(f"--{option} requires --texts FILE")
        return None
    return [text for (text,) in read_file(args, args.texts, {"--column": args.column}, main=True).rows]


def say_waiting(source: str) -> None:
    """Tell people whose terminal is read."""
    if source == "-" and sys.stdin is not None and sys.stdin.isatty():
        print("Reading texts from standard input, one per line; press Ctrl-D to end.", file=sys.stderr)


def name(path: str, stream: str) -> str:
    """Display name of a file; ``stream`` is ``input`` or ``output``."""
    return f"standard {stream}" if path == "-" else path


def note_unknown(args: argparse.Namespace, path: str) -> None:
    """Warn that a file of vectors has no provenance record."""
    from nativebert.errors import Doubtful, warn
    from nativebert.io.provenance import provenance_file

    with notes(args):
        warn(
            f"{provenance_file(path)} does not exist, so it was not checked that the vectors in {path} match the texts and the model",
            Doubtful,
        )


# ---- at work


def notes(args: argparse.Namespace) -> AbstractContextManager[None]:
    """Context that prints nativebert's warnings in one line each, in terms of options."""
    return console.notes(partial(as_options, args))


@contextmanager
def at_work(args: argparse.Namespace) -> Iterator[None]:
    """Context in which ``--threads`` and ``--quiet`` apply, and warnings are notes."""
    if args.quiet:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with notes(args):
        if getattr(args, "threads", None) is not None:
            import torch

            torch.set_num_threads(args.threads)
        yield


def task_options(args: argparse.Namespace, *own: str) -> dict[str, Any]:
    """Arguments common to all tasks, and this task's own, without those that were not set."""
    return selected(args, *TASK, *own)


def selected(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options of these names that the command has and that were set, as keyword arguments."""
    return {name: value for name in names if (value := getattr(args, name, None)) is not None}


def progress(args: argparse.Namespace) -> bool | None:
    """``progress`` argument of a task's call: a bar on a terminal, or none."""
    return False if args.quiet else None


# ---- results out


def show_table(results: Records, keys: int, out: TextIO) -> None:
    """Print results as a table. The first ``keys`` columns say which text a row belongs to: that is said once."""
    before: Sequence[Any] = []
    rows = []
    for row in results.rows:
        same = list(row[:keys]) == list(before[:keys])
        rows.append([cell(value) if n >= keys or not same else "" for n, value in enumerate(row)])
        before = row
    console.table(rows, results.columns, file=out)


def cell(value: str | float | None) -> str:
    """A value in a table for people."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else console.short(str(value))


def summarize(
    args: argparse.Namespace, report: Report, snapshot: Snapshot | None, inputs: Lines, results: Lines, out: TextIO
) -> None:
    """Print what was done, unless ``--quiet``.

    Args:
        args: with ``model`` and ``quiet``.
        report: of the task's call.
        snapshot: the model's files.
        inputs: what was read.
        results: what was written.
        out: where to.
    """
    if args.quiet:
        return
    done = [
        ("tokens", tokens(report)),
        (
            "seconds",
            f"{report.seconds:.2f} on {where(report.device)}, {report.precision}, {plural(report.batches, 'batch', 'batches')}",
        ),
    ]
    show([("model", origin(args, snapshot)), *inputs, *done, *results], out)


def show(lines: Lines, out: TextIO | None = None) -> None:
    """Print names with their values."""
    console.facts({"": lines}, file=out)


def origin(args: argparse.Namespace, snapshot: Snapshot | None) -> str:
    """The model as it was requested, and what it resolved to."""
    if snapshot is None:
        return str(args.model)
    merged = f", merged into {snapshot.base.reference}" if snapshot.base else ""
    return f"{args.model} ({f'commit {snapshot.revision}' if snapshot.revision else f'from a {snapshot.source}'}{merged})"


def of_task(task: Task) -> Lines:
    """Summary line of the adapter in use; none for a model that has none."""
    from nativebert.tasks.embed import Embedder

    if not isinstance(task, Embedder) or not task.tasks:
        return []
    return [("task", task.task or f"none, so the model without an adapter; it has {', '.join(task.tasks)}")]


def tokens(report: Report) -> str:
    """Summary of token counts: total, truncated, in windows."""
    cut, texts_cut = int(report.cut.sum()), int((report.cut > 0).sum())
    left = f"{cut:,} truncated in {plural(texts_cut, 'text')}" if cut else "none truncated"
    long = report.windows[report.windows > 1]
    windows = f", {plural(len(long), 'text')} split into {int(long.sum()):,} windows" if len(long) else ""
    return f"{int(report.tokens.sum()):,}, {left}{windows}"


def source(path: str, table: Table) -> Lines:
    """Summary line of the input."""
    columns = ", ".join(map(repr, table.columns))
    of = f", column{'s' * (len(table.columns) > 1)} {columns}" if columns else ""
    return [("texts", f"{len(table.rows):,} from {name(path, 'input')}{of}")]


def target(args: argparse.Namespace, what: str) -> Lines:
    """Summary line of the output file; none for results on the terminal."""
    return [] if args.output is None else [("results", f"{what} in {name(args.output, 'output')}")]


def plural(count: int, one: str, more: str = "") -> str:
    """``1 text``, ``2 texts``."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def finish(
    args: argparse.Namespace,
    results: Records,
    show: Callable[[TextIO], None],
    task: Task,
    report: Report,
    inputs: Lines,
    what: str,
    *,
    explain: bool = False,
) -> int:
    """Write results where ``--output`` says; without it, show them on a terminal, and write JSON lines to a pipe. Then print the summary.

    Args:
        args: with ``output``, ``quiet`` and ``model``.
        results: the results.
        show: prints them for people, to a stream.
        task, report: the task, and the report of its call.
        inputs: summary lines of the input.
        what: number and kind of the results, as ``"3 labels"``.
        explain: show them in any case, and leave JSON lines to those who ask for them.

    Returns:
        The exit code.
    """
    from nativebert.io.write import write_records

    shown = explain or (args.output is None and console.is_terminal(sys.stdout))
    if args.output is not None or not shown:
        write_records(args.output or "-", beside_other_columns(args, results))
    # what people read must not mix with what programs read
    out = sys.stderr if args.output == "-" or (args.output is None and not shown) else sys.stdout
    if shown:
        show(out)
        if not args.quiet:
            print(file=out)
    empty = getattr(args, "empty", 0)
    none = [("empty", f"{plural(empty, 'row')} with an empty text, without a result")] if empty else []
    summarize(args, report, task.snapshot, inputs, [*none, *target(args, what)], out)
    return 0


def columns_beside(args: argparse.Namespace, read: Sequence[str], taken: Collection[str]) -> dict[str, list[Any]]:
    """The columns of the input that were not read, for an output file; none without a file, or without pyarrow to read them with.

    Args:
        args: of the command.
        read: columns that were read.
        taken: names of results; a column of such a name is called ``input_...``.
    """
    if args.output in (None, "-") or args.file == "-" or not read or importlib.util.find_spec("pyarrow") is None:
        return {}
    from nativebert.io.tables import open_table

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shown when the texts were read
        keep, drop = getattr(args, "keep", None), getattr(args, "drop", None) or ()
        how = {"format": args.format, "delimiter": args.delimiter, "quoting": args.quoting}
        reader = open_table(args.file, {}, keep=keep, drop=[*read, *(name for name in drop if name not in read)], **how)
        blocks = list(reader) if reader.kept else []
    return {
        f"input_{name}" if name in taken else name: [
            value for block in blocks for value in block.batch.column(name).to_pylist()
        ]
        for name in reader.kept
    }


def beside_other_columns(args: argparse.Namespace, results: Records) -> Records:
    """Results with the other columns of the input, which belong to the text that a result has the number of (``item`` or ``index``), or stands in the place of."""
    from nativebert.io.write import Records, as_cell

    taken = {*results.columns, *(results.records[0] if results.records else ())}
    beside = columns_beside(args, getattr(args, "columns_read", ()), taken)
    if not beside:
        return results
    at = next((results.columns.index(name) for name in ("item", "index") if name in results.columns), None)
    records = [
        {**record, **{name: values[record.get("index", n)] for name, values in beside.items()}}
        for n, record in enumerate(results.records)
    ]
    rows = [
        [*row, *(as_cell(values[n if at is None else row[at]]) for values in beside.values())]
        for n, row in enumerate(results.rows)
    ]
    return Records(records, [*results.columns, *beside], rows)


def finish_hits(
    args: argparse.Namespace,
    table: Table,
    queries: Sequence[str],
    hits: Sequence[Sequence[Mapping[str, Any]]],
    task: Task,
    report: Report,
    used: Lines | None = None,
) -> int:
    """Write the hits of each query (``index``, ``score``, ``text``), and what was done; returns the exit code."""
    from nativebert.io.write import Records

    def show(out: TextIO) -> None:
        for n, (query, of_query) in enumerate(zip(queries, hits, strict=True)):
            if n:
                print(file=out)
            rows = [[cell(value) for value in hit.values()] for hit in of_query]
            console.table(rows, ["index", "score", "text"], title=console.short(query), file=out)

    records = [{"query": query, **hit} for query, of_query in zip(queries, hits, strict=True) for hit in of_query]
    results = Records(records, list(records[0]), [list(hit.values()) for hit in records])
    inputs = [*source(args.file, table), ("queries", f"{len(queries):,}"), *(used or [])]
    return finish(args, results, show, task, report, inputs, plural(len(records), "text"))


# ---- reports


def check_report(target: str | None, *others: str | None) -> None:
    """Before the work: can a report be written there? It must not be one of the other files of the command."""
    from nativebert.io.write import check_place, standard_output

    if target == "-":
        standard_output()
    elif target is not None:
        check_place(target, "report.json", "write - for standard output")
        for other in others:
            if other is not None and os.path.realpath(other) == os.path.realpath(target):
                raise BadInputError(f"--json {target} is already used by this command: choose another file")


def write_report(target: str | None, report: dict[str, Any]) -> TextIO:
    """Write a report, if asked for; returns the stream that is free for people."""
    from nativebert.files import dump_json
    from nativebert.io.write import output_file

    if target == "-":
        print_json(report, indent=2)
        return sys.stderr
    if target is not None:
        with output_file(target) as file:
            file.write(dump_json(report).encode())
    return sys.stdout


def print_json(value: object, indent: int | None = None) -> None:
    """Print JSON to standard output."""
    from nativebert.io.write import standard_output

    out = standard_output()
    # JSON is UTF-8; where standard output is not, escapes say the same
    utf8 = (getattr(out, "encoding", None) or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=indent, ensure_ascii=not utf8), file=out)
