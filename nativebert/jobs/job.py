"""A task over a table of any size, in shards that are written whole or not at all, so that it can be stopped at any moment and go on later."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nativebert import __version__
from nativebert.errors import BadInputError, DiskFullError, RefusedError
from nativebert.io.table_writer import FORMATS, matrix, table_file
from nativebert.io.tables import TableReader, open_table
from nativebert.jobs.columns import ResultColumns
from nativebert.jobs.corpus import Corpus
from nativebert.jobs.manifest import (
    PROGRESS,
    REJECTS,
    add_progress,
    check_same,
    locked,
    read_manifest,
    read_progress,
    sync_folder,
    write_manifest,
    write_progress,
    write_whole,
)
from nativebert.jobs.progress import Progress
from nativebert.jobs.provenance import provenance_of
from nativebert.jobs.rows import SHARD_ROWS, Compute, Finished, ahead, shards, survey
from nativebert.jobs.vectors import kept_neighbours
from nativebert.tasks.base import Task
from nativebert.tasks.embed import Embedder

_PACKAGES = ("torch", "tokenizers", "numpy", "pyarrow")  # whose versions may change a bit of the output
_SAMPLE = 1000  # vectors, to measure the effect of fewer bytes


@dataclass(frozen=True)
class JobReport:
    """What came of a job, all its runs together.

    Attributes:
        out: the folder; or the file, of :func:`nativebert.jobs.stream.to_file`.
        rows: of the input, and of the output.
        shards: files of the output.
        tokens: that were read.
        cut, cut_rows: tokens that were left out, of how many rows.
        empty: rows with an empty text, which have no result.
        rejected: rows that could not be done, which have no result and stand in ``_rejects.jsonl`` with their reasons.
        kept_neighbours: of vectors in fewer bytes, the share of the 10 nearest neighbours that they keep; None for float32.
        computed: rows that this run computed; the others were there before.
        seconds: of this run.
    """

    out: Path
    rows: int
    shards: int
    tokens: int
    cut: int
    cut_rows: int
    empty: int
    rejected: int
    kept_neighbours: float | None
    computed: int
    seconds: float

    @property
    def rejects(self) -> Path:
        """The file of rejected rows, where there are any."""
        return self.out / REJECTS if self.out.is_dir() else self.out.with_name(f"{self.out.name}.rejects.jsonl")


class Job:
    """A task over a table, into a folder.

    The folder gets a file for every so many rows (``part-00000.parquet``, ...), in the order of the table, with the kept columns and the results; and
    ``_manifest.json``, which says what made them. After a crash, :meth:`run` with ``resume=True`` goes on behind the last whole file, and the finished folder
    is the same to the byte as if nothing had happened.

    Args:
        task: any task, made from a model with files.
        source: the table, as of :func:`nativebert.io.tables.open_table`; or a :class:`~nativebert.io.tables.TableReader`.
        out: the folder.
        column: the text column, or two of them for pairs; None for the only one, or ``text``.
        keep: the columns that stay beside the results; None for all.
        drop: those of them that do not.
        format: of the files: parquet, feather, csv, tsv, jsonl or npy.
        shard_rows: rows of a file.
        vectors: numbers of vectors: float32, float16, int8 or binary.
        strict: stop at a row without a text, or one that is too long; without it, such rows have no result.
        corpus: of an Embedder, what to search for each text of the table, which are the queries.
        **call: arguments of the task's calls (``prompt_name="query"``, ``top_k=3``), with JSON values; ``query=`` of a Ranker and ``question=`` of an
            Answerer, for all rows.

    Raises:
        NativeBertError: one of its kinds, for a table or an argument that cannot be used.
    """

    def __init__(
        self,
        task: Task,
        source: Any,
        out: str | os.PathLike[str],
        *,
        column: str | Sequence[str] | None = None,
        keep: Sequence[str] | None = None,
        drop: Sequence[str] = (),
        format: str = "parquet",
        shard_rows: int = SHARD_ROWS,
        vectors: str = "float32",
        strict: bool = False,
        corpus: Corpus | None = None,
        **call: Any,
    ) -> None:
        if format not in FORMATS:
            raise BadInputError(f"format must be one of {', '.join(FORMATS)}, not {format!r}")
        if shard_rows < 1:
            raise BadInputError(f"shard_rows must be at least 1, not {shard_rows}")
        columns = [column] if column is None or isinstance(column, str) else list(column)
        if not isinstance(source, TableReader):
            wanted = {("column", "pair column")[n]: name for n, name in enumerate(columns)}
            source = open_table(source, wanted, keep=keep, drop=drop)
        self.task, self.reader, self.out = task, source, Path(out)
        self.results = ResultColumns(task, call, len(self.reader.texts), vectors, corpus)
        self.format, self.shard_rows, self.strict, self.call = format, shard_rows, strict, call

    # -- what it is

    def _identity(self) -> dict[str, Any]:
        """All that the output depends on, as JSON."""
        task, call = self.task, self.call
        prompt = task.prompt_text(call.get("prompt"), call.get("prompt_name")) if isinstance(task, Embedder) else ""
        options = {name: value for name, value in call.items() if name != "batch_tokens"}
        return {
            "job": {
                "task": type(task).__name__,
                "columns": list(self.reader.texts),
                "kept": list(self.reader.kept),
                "call": options,
                "format": self.format,
                "shard_rows": self.shard_rows,
                "vectors": self.results.vectors,
                "stride": call.get("stride") or task.stride,
                "device": task.device.partition(":")[0],
                "backend": getattr(task.plan, "backend", ""),
            }
            | ({} if self.results.corpus is None else {"corpus": self.results.corpus.identity}),
            "model": provenance_of(task, prompt, task.dimension if isinstance(task, Embedder) else None, call),
            "input": self.reader.fingerprint(),
            "versions": {"nativebert": __version__, **{name: _version(name) for name in _PACKAGES}},
        }

    # -- running

    def run(
        self, *, resume: bool = False, progress: bool | None = None, log: Callable[[Mapping[str, Any]], None] | None = None
    ) -> JobReport:
        """Compute what is not there yet.

        Reading, computing and writing overlap. Before the work, the table is read once, so that errors in it are reported at once.

        Args:
            resume: go on with the job that the folder holds, if it holds one.
            progress: show a progress bar, by tokens; None, the default, shows one on a terminal.
            log: called with what happens as JSON: ``{"event": "start" | "shard" | "end", ...}``.

        Raises:
            BadInputError: the folder holds something else, or a job without ``resume``; or a row that cannot be used, by ``strict``.
            RefusedError: ``resume``, and the input, the model, a version or an option is another than when the job was begun.
            DiskFullError: no room; what is written stays, and the job can go on.
        """
        started = time.perf_counter()
        identity = self._identity()
        try:
            self._check_folder(resume)
            with locked(self.out):
                before = read_manifest(self.out)
                if before is not None:
                    if identity["input"] is None or self.reader.once:
                        raise RefusedError(
                            f"{self.reader.name} cannot be read again, so the job in {self.out} cannot go on: save it to a file first"
                        )
                    check_same(self.out, before, identity)
                    if "result" in before:
                        return self._report(before["result"], 0, started)
                return self._run(identity, before, progress, log, started)
        except (OSError, BadInputError, DiskFullError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._full() from error
            if isinstance(cause, OSError) and not self.out.is_dir():
                raise BadInputError(f"folder {self.out} was removed while the job ran: start again") from error
            raise

    def _check_folder(self, resume: bool) -> None:
        out = self.out
        if out.exists() and not out.is_dir():
            raise BadInputError(f"{out} is a file: a job's output is a folder")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInputError(f"folder {out} cannot be made: {error.strerror}") from None
        if not os.access(out, os.W_OK | os.X_OK):
            raise BadInputError(f"{out} cannot be written: no permission")
        manifest = read_manifest(out)
        if manifest is not None and not resume:
            done = (
                "a finished job" if "result" in manifest else f"a job that was stopped after {len(read_progress(out)):,} shards"
            )
            raise BadInputError(f"{out} holds {done}: go on with it by resume=True, or choose another folder")
        strangers = [path.name for path in out.iterdir() if not path.name.startswith((".part-", "._", "_lock"))]
        if manifest is None and strangers:
            raise BadInputError(f"{out} is not empty ({sorted(strangers)[0]}), and holds no job: choose another folder")

    def _run(
        self,
        identity: dict[str, Any],
        before: Mapping[str, Any] | None,
        progress: bool | None,
        log: Callable[[Mapping[str, Any]], None] | None,
        started: float,
    ) -> JobReport:
        out, reader = self.out, self.reader
        for draft in (*out.glob(".part-*"), *out.glob("._*")):  # of a process that was killed
            draft.unlink(missing_ok=True)
        done = self._whole_shards() if before is not None else []
        known = None if reader.once else survey(reader, self.strict)
        bar = Progress(known, progress)
        compute = Compute(reader, self.results, strict=self.strict, on_rows=bar.add)
        if before is None:
            identity["kept_neighbours"] = self._neighbours()
            write_manifest(out, identity)
        else:
            identity["kept_neighbours"] = before.get("kept_neighbours")
        write_progress(out, done)
        rows_before = sum(record["rows"] for record in done)
        _tell(log, event="start", out=str(out), rows=known and known.rows, shards_done=len(done), rows_done=rows_before)
        writing: Future[None] | None = None
        computed = 0
        with (
            bar,
            ThreadPoolExecutor(1) as writer,
            contextlib.closing(ahead(shards(reader, self.shard_rows, strict=self.strict))) as read,
        ):
            for number, shard in enumerate(read):
                if number < len(done):
                    bar.skip(done[number]["tokens"], shard.size)
                    continue
                finished = compute(shard)
                computed += len(shard.items)
                if writing is not None:
                    writing.result()
                writing = writer.submit(self._write, number, finished, identity, done, log)
            if writing is not None:
                writing.result()
        if not done:
            raise BadInputError(f"{reader.name} contains no texts")
        if not reader.once and reader.fingerprint() != identity["input"]:
            raise RefusedError(
                f"{reader.name} was changed while the job ran, so its rows may not belong together: begin again in another folder"
            )
        result = self._finish(identity, done)
        report = self._report(result, computed, started)
        _tell(
            log,
            event="end",
            rows=report.rows,
            tokens=report.tokens,
            rejected=report.rejected,
            empty=report.empty,
            seconds=round(report.seconds, 3),
        )
        return report

    def _whole_shards(self) -> list[dict[str, Any]]:
        """Records of the shards that are there as they were written."""
        records = read_progress(self.out)
        for n, record in enumerate(records):
            path = self.out / record["file"]
            if not path.is_file() or digest(path) != record["sha256"]:
                return records[:n]
        return records

    def _write(
        self,
        number: int,
        finished: Finished,
        identity: Mapping[str, Any],
        done: list[dict[str, Any]],
        log: Callable[[Mapping[str, Any]], None] | None,
    ) -> None:
        path = self.out / f"part-{number:05d}.{self.format}"
        with table_file(str(path), self.format, finished.batch.schema, identity["model"]) as file:
            file.write(finished.batch)
        record = {
            "shard": number,
            "file": path.name,
            "rows": len(finished.batch),
            "sha256": digest(path),
            "tokens": finished.tokens,
            "cut": finished.cut,
            "cut_rows": finished.cut_rows,
            "empty": finished.shard.empty,
            "rejects": list(finished.rejects.items()),
        }
        add_progress(self.out, record)
        done.append(record)
        _tell(
            log,
            event="shard",
            shard=number,
            rows=record["rows"],
            rows_done=finished.shard.first + len(finished.batch),
            tokens=finished.tokens,
        )

    def _finish(self, identity: Mapping[str, Any], done: list[dict[str, Any]]) -> dict[str, Any]:
        rejects = [(row, reason) for record in done for row, reason in record["rejects"]]
        if rejects:
            lines = (json.dumps({"row": row, "reason": reason}, ensure_ascii=False) + "\n" for row, reason in rejects)
            write_whole(self.out / REJECTS, "".join(lines))
        sums = {name: sum(record[name] for record in done) for name in ("rows", "tokens", "cut", "cut_rows", "empty")}
        shards = [{name: record[name] for name in ("file", "rows", "sha256")} for record in done]
        result = {**sums, "rejected": len(rejects), "kept_neighbours": identity["kept_neighbours"], "shards": shards}
        whole = {name: value for name, value in identity.items() if name != "kept_neighbours"}
        write_manifest(self.out, {**whole, "result": result})
        (self.out / PROGRESS).unlink(missing_ok=True)
        sync_folder(self.out)
        return result

    def _report(self, result: Mapping[str, Any], computed: int, started: float) -> JobReport:
        sums = {name: result[name] for name in ("rows", "tokens", "cut", "cut_rows", "empty", "rejected", "kept_neighbours")}
        (self.out / PROGRESS).unlink(missing_ok=True)
        return JobReport(
            out=self.out, shards=len(result["shards"]), computed=computed, seconds=time.perf_counter() - started, **sums
        )

    def _neighbours(self) -> float | None:
        """What vectors in fewer bytes keep of the order of neighbours, measured on the first texts."""
        if self.results.vectors == "float32" or self.reader.once:
            return None
        first = next(shards(self.reader, _SAMPLE))
        texts = [text for text in first.items if text is not None]
        if len(texts) < 20:
            return None
        column = ResultColumns(self.task, self.call, 1)(texts).columns[0].drop_null()
        return round(kept_neighbours(matrix(column), self.results.vectors), 4)

    # -- errors

    def _full(self) -> DiskFullError:
        rows = sum(record["rows"] for record in read_progress(self.out))
        return DiskFullError(
            f"not enough disk space in {self.out}: {rows:,} rows are done and stay; make room, and go on with resume=True"
        )


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _tell(log: Callable[[Mapping[str, Any]], None] | None, **event: Any) -> None:
    if log is not None:
        log(event)
