"""Commands over tables of any size: rows in, the same rows with their results out, to a file that is streamed or a folder of shards."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nativebert.cli import common
from nativebert.errors import BadInputError
from nativebert.io.read import Columns

if TYPE_CHECKING:
    from nativebert.io.tables import TableReader
    from nativebert.jobs.job import JobReport
    from nativebert.tasks.base import Task

REJECTED = 3  # exit code: done, except some rows, which a file lists

_MODULES = {
    "Embedder": "embed", "Classifier": "classify", "Tagger": "tag", "Answerer": "answer", "Ranker": "rank",
}  # fmt: skip
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
        for name in ("keep", "drop", "strict", "resume", "shard_rows", "output_format", "log_json")
        if getattr(args, name) not in (None, False)
    ]
    if getattr(args, "vector_type", "float32") != "float32":
        asked.append("vector_type")
    if is_folder(args.output) or args.resume:
        return True
    for name in asked:
        if name in ("shard_rows", "output_format", "log_json"):
            raise BadInputError(
                f"--{name.replace('_', '-')} is for a folder of shards: end the output with a slash, as in -o OUT/"
            )
    if asked and args.output in (None, "-"):
        raise BadInputError(f"--{asked[0].replace('_', '-')} requires an output file or folder: -o OUT")
    return bool(asked) or (args.output is not None and Path(args.output).suffix.lower() in _ONLY_TABLES)


def run(
    args: argparse.Namespace,
    task: str,
    wanted: Columns,
    *,
    make: Sequence[str],
    call: Mapping[str, Any],
    vectors: str = "float32",
    usual: str = "text",
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

    Returns:
        The exit code: 0, or 3 where rows were rejected.
    """
    from nativebert.io.table_writer import format_of_target

    if getattr(args, "explain", False):
        raise BadInputError("--explain shows texts, and a table is written: remove one of them")
    folder = is_folder(args.output) or args.resume
    if args.output is None:
        raise BadInputError("--resume requires the folder of a job: -o OUT/")
    if not folder:
        format_of_target(args.output)
        from nativebert.io.write import check_place

        check_place(args.output, "results.parquet")
        if args.file != "-":
            common.check_apart(args.output, args.file)
    common.say_waiting(args.file)
    with common.at_work(args):
        reader = open_reader(args, wanted, usual)
        made = make_task(args, task, make)
        arguments = {name: value for name, value in call.items() if value is not None or name == "top_k"}
        if isinstance(call.get("threshold"), float):
            arguments.pop("top_k", None)
        if folder:
            report = _to_folder(args, made, reader, arguments, vectors)
        else:
            from nativebert.jobs.stream import to_file

            report = to_file(
                made, reader, args.output, vectors=vectors, strict=args.strict, progress=common.progress(args), **arguments
            )
    _summary(args, made, reader, report, folder)
    return REJECTED if report.rejected else 0


def open_reader(args: argparse.Namespace, wanted: Columns, usual: str = "text") -> TableReader:
    """The table of a command."""
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
    )


def make_task(args: argparse.Namespace, task: str, make: Sequence[str]) -> Task:
    """The task of a command."""
    kind = getattr(importlib.import_module(f"nativebert.tasks.{_MODULES[task]}"), task)
    made: Task = kind(args.model, **common.task_options(args, *make))
    return made


def _to_folder(args: argparse.Namespace, task: Task, reader: TableReader, call: Mapping[str, Any], vectors: str) -> JobReport:
    from nativebert.jobs.job import Job
    from nativebert.jobs.rows import SHARD_ROWS

    job = Job(
        task,
        reader,
        args.output,
        format=args.output_format or "parquet",
        shard_rows=args.shard_rows or SHARD_ROWS,
        vectors=vectors,
        strict=args.strict,
        **call,
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
        ("rows", f"{report.rows:,} from {common.name(args.file, 'input')}, column{'s' * (len(reader.texts) > 1)} {columns}"),
        ("tokens", f"{report.tokens:,}, {cut}"),
        ("seconds", f"{report.seconds:.2f} on {task.device}, {task.precision}" + (f"; {report.computed:,} rows computed" if report.computed != report.rows else "")),
    ]  # fmt: skip
    if report.empty:
        lines.append(("empty", f"{common.plural(report.empty, 'row')} with an empty text, without a result"))
    if report.rejected:
        lines.append(("rejected", f"{common.plural(report.rejected, 'row')} without a result, see {report.rejects}"))
    if report.kept_neighbours is not None:
        lines.append(("neighbors", f"{report.kept_neighbours:.1%} of the 10 nearest are kept in {args.vector_type}"))
    where = f"{common.plural(report.shards, 'file')} in {args.output}" if folder else args.output
    lines.append(("results", f"{common.plural(report.rows, 'row')} in {where}"))
    common.show(lines)
