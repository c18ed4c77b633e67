"""A task over a table of any size into one file, which is written whole or not at all; and over a table in a program, which comes back as what it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nativebert.errors import Doubtful, warn
from nativebert.io.files import arrow
from nativebert.io.provenance import check_writable, text_line, write_provenance
from nativebert.io.table_writer import format_of_target, table_file
from nativebert.io.tables import TableReader, open_table
from nativebert.io.write import output_file
from nativebert.jobs.columns import ResultColumns
from nativebert.jobs.corpus import Corpus
from nativebert.jobs.job import JobReport
from nativebert.jobs.progress import Progress
from nativebert.jobs.provenance import provenance_of
from nativebert.jobs.rows import Compute, Finished, ahead, shards, survey
from nativebert.tasks.base import Task
from nativebert.tasks.embed import Embedder

_ROWS = 2**14  # that memory holds


def to_file(
    task: Task,
    source: Any,
    target: str | os.PathLike[str],
    *,
    vectors: str = "float32",
    strict: bool = False,
    progress: bool | None = None,
    corpus: Corpus | None = None,
    **call: Any,
) -> JobReport:
    """Write a table with a task's results beside its columns.

    Args:
        task: any task.
        source: the table, as of :func:`nativebert.io.tables.open_table`, or a reader of one.
        target: a .parquet, .feather, .csv, .tsv, .jsonl or .npy file; ``-`` for JSON lines on standard output.
        vectors, strict, progress, corpus, **call: as of :class:`nativebert.jobs.job.Job`.

    Returns:
        What was done. Rows that could not be done are in ``TARGET.rejects.jsonl``.

    Raises:
        NativeBertError: as of :meth:`nativebert.jobs.job.Job.run`.
    """
    started, target = time.perf_counter(), os.fspath(target)
    reader = source if isinstance(source, TableReader) else open_table(source)
    format = "jsonl" if target == "-" else format_of_target(target)
    beside = (
        target != "-"
        and format in ("csv", "jsonl", "npy")
        and isinstance(task, Embedder)
        and corpus is None
        and task.snapshot is not None
    )
    if beside:
        check_writable(target)
    results = ResultColumns(task, call, len(reader.texts), vectors, corpus)
    prompt = task.prompt_text(call.get("prompt"), call.get("prompt_name")) if isinstance(task, Embedder) else ""
    width = task.dimension if isinstance(task, Embedder) else None
    provenance = provenance_of(task, prompt, width, call) if task.snapshot is not None else None
    bar = Progress(None if reader.once else survey(reader, strict), progress)
    compute = Compute(reader, results, strict=strict, on_rows=bar.add)
    done: list[Finished] = []
    texts = hashlib.sha256()
    writing: Future[Any] | None = None
    with (
        bar,
        ThreadPoolExecutor(1) as thread,
        contextlib.closing(ahead(shards(reader, _ROWS, strict=strict))) as read,
        table_file(target, format, compute.schema, provenance) as file,
    ):
        for shard in read:
            finished = compute(shard)
            for item in shard.items if beside else ():
                texts.update(text_line(item or ""))
            if writing is not None:
                writing.result()
            writing = thread.submit(file.write, finished.batch)
            done.append(finished._replace(batch=len(finished.batch), shard=shard._replace(items=[], kept=None)))
        if writing is not None:
            writing.result()
    if beside and provenance is not None:
        write_provenance(target, {**provenance, "vectors": vectors}, texts.hexdigest())
    report = JobReport(
        out=Path(target), rows=sum(part.batch for part in done), shards=1, tokens=sum(part.tokens for part in done),
        cut=sum(part.cut for part in done), cut_rows=sum(part.cut_rows for part in done), empty=sum(part.shard.empty for part in done),
        rejected=sum(len(part.rejects) for part in done), kept_neighbours=None, computed=sum(part.batch for part in done),
        seconds=time.perf_counter() - started,
    )  # fmt: skip
    if report.rejected and target != "-":
        write_rejects(Path(target), {row: reason for part in done for row, reason in part.rejects.items()})
    return report


def write_rejects(target: Path, rejects: Mapping[int, str]) -> Path:
    """Write which rows of a table have no result, and why, to ``TARGET.rejects.jsonl``; returns its path."""
    path = target.with_name(f"{target.name}.rejects.jsonl")
    with output_file(str(path)) as out:
        for row, reason in rejects.items():
            out.write(json.dumps({"row": row, "reason": reason}, ensure_ascii=False).encode() + b"\n")
    return path


def with_results(
    task: Task,
    table: Any,
    *,
    column: str | Sequence[str] | None = None,
    keep: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    vectors: str = "float32",
    strict: bool = False,
    corpus: Corpus | None = None,
    **call: Any,
) -> Any:
    """A table with a task's results beside its columns, as what it came in: a data frame of pandas or polars, a table or dataset; of a reader of
    pyarrow, a reader that computes while it is read; of an iterable, an Arrow table.

    Args:
        task: any task.
        table: as of :func:`nativebert.io.tables.open_table`.
        column: the text column, or two of them for pairs; None for the only one, or ``text``.
        keep, drop, vectors, strict, corpus, **call: as of :class:`nativebert.jobs.job.Job`.

    Raises:
        NativeBertError: as of :meth:`nativebert.jobs.job.Job.run`.

    Warns:
        Doubtful: rows without a text, which have no result; once, with their number.
    """
    names = [column] if column is None or isinstance(column, str) else list(column)
    reader = open_table(table, {("column", "pair column")[n]: name for n, name in enumerate(names)}, keep=keep, drop=drop)
    compute = Compute(reader, ResultColumns(task, call, len(reader.texts), vectors, corpus), strict=strict)

    def batches() -> Iterator[Any]:
        rows = empty = rejected = 0
        for shard in shards(reader, _ROWS, strict=strict):
            finished = compute(shard)
            rows, empty, rejected = rows + len(shard.items), empty + shard.empty, rejected + len(finished.rejects)
            yield finished.batch
        if empty or rejected:
            warn(
                f"{empty + rejected:,} of {rows:,} rows of {reader.name} have no result: {empty:,} with an empty text, {rejected:,} with none that can be read. "
                "Pass strict=True to stop there.",
                Doubtful,
            )

    pa = arrow()
    streamed = pa.RecordBatchReader.from_batches(compute.schema, batches())
    if isinstance(table, pa.RecordBatchReader):
        return streamed
    whole = streamed.read_all()
    package = type(table).__module__.partition(".")[0]
    if package == "pandas":
        frame = whole.to_pandas()
        frame.index = table.index
        return frame
    if package == "polars":
        import polars

        return polars.from_arrow(whole)
    if package == "datasets":
        import datasets

        return datasets.Dataset(whole)
    return whole
