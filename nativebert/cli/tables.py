"""Commands over tables of any size: rows in, the same rows with their results out, to a file that is streamed or a folder of shards."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nativebert.cli import common
from nativebert.errors import BadInputError
from nativebert.io.read import Columns

if TYPE_CHECKING:
    from nativebert.io.tables import TableReader
    from nativebert.jobs.corpus import Corpus
    from nativebert.jobs.job import JobReport
    from nativebert.tasks.base import Task

_MODULES = {
    "Embedder": "embed", "Classifier": "classify", "Tagger": "tag", "Answerer": "answer", "Ranker": "rank", "MaskFiller": "fill",
}  # fmt: skip
_OF_R = (".rds", ".rdata", ".rda")  # endings of outputs that are written at the end
_ONLY_TABLES = (".parquet", ".pq", ".feather", ".arrow", ".tsv")  # endings of outputs that are always written row by row


def is_folder(output: str | None) -> bool:
    """Whether an output means a folder of shards: it ends with a slash, or holds a job."""
    if output is None or output == "-":
        return False
    return output.endswith(("/", os.sep)) or (Path(output) / "_manifest.json").is_file()


def is_table_job(args: argparse.Namespace) -> bool:
    """Whether a command is one over a table: by its output, or an option that only tables have."""
    asked = [
        name
        for name in ("keep", "drop", "resume", "shard_rows", "output_format", "log_json")
        if getattr(args, name) not in (None, False)
    ]
    if getattr(args, "vector_type", "float32") != "float32":
        asked.append("vector_type")
    if is_folder(args.output) or args.resume:
        return True
    if args.output is not None and Path(args.output).suffix.lower() in _OF_R and set(asked) <= {"keep", "drop"}:
        return False
    check_no_folder(args)
    return bool(asked) or is_only_table(args.output)


def check_no_folder(args: argparse.Namespace) -> None:
    """Refuse options of a folder of shards where the output is none."""
    for name in ("shard_rows", "output_format", "log_json"):
        if getattr(args, name):
            raise BadInputError(
                f"--{name.replace('_', '-')} is for a folder of shards: end the output with a slash, as in -o OUT/"
            )


def is_only_table(output: str | None) -> bool:
    """Whether the ending of an output is one that is always written row by row."""
    return output is not None and Path(output).suffix.lower() in _ONLY_TABLES


def run(
    args: argparse.Namespace,
    task: str,
    wanted: Columns,
    *,
    make: Sequence[str],
    call: Mapping[str, Any],
    vectors: str = "float32",
    usual: str = "text",
    source: Callable[[], TableReader] | None = None,
    corpus: Callable[[Any], Corpus] | None = None,
) -> int:
    """Run a task over a table.

    Args:
        args: of the command.
        task: name of the task's class.
        wanted: the text columns, by their options.
        make: options of the command that the task is made with, beside those of all tasks.
        call: arguments of the task's calls; those that are None are left out, except ``top_k``.
        vectors: type of an Embedder's numbers.
        usual: what the text column is mostly called.
        source: opens the table, where it is not ``args.file``.
        corpus: makes what an Embedder searches.

    Returns:
        The exit code: 0, or 3 where rows were rejected.
    """
    from nativebert.io.table_writer import format_of_target

    if getattr(args, "explain", False):
        raise BadInputError("--explain shows texts, and a table is written: remove one of them")
    folder = is_folder(args.output) or args.resume
    if args.resume and args.output in (None, "-"):
        raise BadInputError("--resume requires the folder of a job: -o OUT/")
    if args.output in (None, "-"):
        from nativebert.io.write import standard_output

        standard_output()
    elif not folder:
        format_of_target(args.output)
        from nativebert.io.write import check_place

        check_place(args.output, "results.parquet")
        if args.file != "-":
            common.check_apart(args.output, args.file)
    common.say_waiting(args.file)
    with common.at_work(args):
        reader = open_reader(args, wanted, usual) if source is None else source()
        made = make_task(args, task, make)
        searched = None if corpus is None else corpus(made)
        arguments = {name: value for name, value in call.items() if value is not None or name == "top_k"}
        if isinstance(call.get("threshold"), float):
            arguments.pop("top_k", None)
        if folder:
            report = _to_folder(args, made, reader, {**arguments, "corpus": searched, "vectors": vectors})
        else:
            from nativebert.jobs.stream import to_file

            report = to_file(
                made,
                reader,
                args.output or "-",
                vectors=vectors,
                strict=args.strict,
                progress=common.progress(args),
                corpus=searched,
                **arguments,
            )
    _summary(args, made, reader, report, folder)
    return common.REJECTED if report.rejected else 0


def open_reader(args: argparse.Namespace, wanted: Columns, usual: str = "text", *, guess: bool = True) -> TableReader:
    """The table of a command; ``guess`` as of :func:`nativebert.io.tables.open_table`."""
    from nativebert.io.tables import open_table

    return open_table(
        args.file,
        wanted,
        format=args.format,
        delimiter=args.delimiter,
        quoting=args.quoting,
        keep=getattr(args, "keep", None),
        drop=getattr(args, "drop", None) or (),
        usual=usual,
        guess=guess,
    )


def make_task(args: argparse.Namespace, task: str, make: Sequence[str]) -> Task:
    """The task of a command."""
    kind = getattr(importlib.import_module(f"nativebert.tasks.{_MODULES[task]}"), task)
    made: Task = kind(args.model, **common.task_options(args, *make))
    return made


def _to_folder(args: argparse.Namespace, task: Task, reader: TableReader, options: Mapping[str, Any]) -> JobReport:
    from nativebert.jobs.job import Job
    from nativebert.jobs.rows import SHARD_ROWS

    job = Job(
        task,
        reader,
        args.output,
        format=args.output_format or "parquet",
        shard_rows=args.shard_rows or SHARD_ROWS,
        strict=args.strict,
        **options,
    )

    def log(event: Mapping[str, Any]) -> None:
        print(json.dumps(event), file=sys.stderr, flush=True)

    show = False if args.log_json else common.progress(args)
    return job.run(resume=args.resume, progress=show, log=log if args.log_json else None)


def _summary(args: argparse.Namespace, task: Task, reader: TableReader, report: JobReport, folder: bool) -> None:
    if args.quiet or args.log_json:
        return
    columns = ", ".join(map(repr, reader.texts))
    cut = f"{report.cut:,} truncated in {common.plural(report.cut_rows, 'row')}" if report.cut else "none truncated"
    lines = [
        ("model", common.origin(args, task.snapshot)),
        *common.of_task(task),
        ("rows", f"{report.rows:,} from {reader.name}, column{'s' * (len(reader.texts) > 1)} {columns}"),
        ("tokens", f"{report.tokens:,}, {cut}"),
        ("seconds", f"{report.seconds:.2f} on {task.device}, {task.precision}" + (f"; {report.computed:,} rows computed" if report.computed != report.rows else "")),
    ]  # fmt: skip
    if report.empty:
        lines.append(("empty", f"{common.plural(report.empty, 'row')} with an empty text, without a result"))
    if report.rejected:
        where = "" if args.output in (None, "-") else f", see {report.rejects}"
        lines.append(("rejected", f"{common.plural(report.rejected, 'row')} without a result{where}"))
    if report.kept_neighbours is not None:
        lines.append(("neighbors", f"{report.kept_neighbours:.1%} of the 10 nearest are kept in {args.vector_type}"))
    where = f"{common.plural(report.shards, 'file')} in {args.output}" if folder else common.name(args.output or "-", "output")
    lines.append(("results", f"{common.plural(report.rows, 'row')} in {where}"))
    common.show(lines, sys.stderr if args.output in (None, "-") else sys.stdout)
