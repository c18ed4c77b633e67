"""Is a job's folder what the job wrote: hashes of all files, and a random sample of rows computed again."""

from __future__ import annotations

import inspect
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nativebert.tasks.answer
import nativebert.tasks.classify
import nativebert.tasks.embed
import nativebert.tasks.fill
import nativebert.tasks.rank
import nativebert.tasks.tag
import nativebert.tasks.zeroshot
from nativebert.errors import BadInputError, CorruptError, NotFoundError
from nativebert.io.files import arrow
from nativebert.io.tables import open_table
from nativebert.jobs.columns import ResultColumns
from nativebert.jobs.job import digest
from nativebert.jobs.manifest import read_manifest
from nativebert.jobs.provenance import provenance_of
from nativebert.jobs.rows import Compute, shards
from nativebert.tasks.base import Task

_TASKS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        nativebert.tasks.answer.Answerer,
        nativebert.tasks.classify.Classifier,
        nativebert.tasks.embed.Embedder,
        nativebert.tasks.fill.MaskFiller,
        nativebert.tasks.rank.Ranker,
        nativebert.tasks.tag.Tagger,
        nativebert.tasks.zeroshot.ZeroShot,
    )
}


@dataclass(frozen=True)
class Verified:
    """What was found.

    Attributes:
        rows, shards: of the job.
        wrong_files: files that are not there, or hold something else than the job wrote.
        sampled: rows that were computed again.
        wrong_rows: those of them (numbers from 0) that came out differently.
    """

    rows: int
    shards: int
    wrong_files: list[str]
    sampled: int
    wrong_rows: list[int]

    @property
    def ok(self) -> bool:
        """Whether all is as it should be."""
        return not self.wrong_files and not self.wrong_rows


def verify(
    out: str | Path, *, task: Task | None = None, source: Any = None, sample: int = 100, seed: int | None = None
) -> Verified:
    """Check a finished job's folder.

    Args:
        out: the folder.
        task: the task that made it; None makes it as the manifest says.
        source: the input table, needed where the text columns were not kept in the output.
        sample: rows to compute again, of parquet and feather files; 0 for none. Hits of a search are not computed again, as the folder has no corpus.
        seed: of the sample; None for another one each time.

    Raises:
        NotFoundError: no finished job there.
        BadInputError: the texts of the sample are not in the output, and ``source`` is not given.
        CorruptError: the model is another than that of the job.
    """
    out = Path(out)
    manifest = read_manifest(out)
    if manifest is None or "result" not in manifest:
        state = "an unfinished job: finish it with --resume" if manifest is not None else "no job"
        raise NotFoundError(f"{out} holds {state}")
    files = manifest["result"]["shards"]
    wrong = [
        shard["file"]
        for shard in files
        if not (out / shard["file"]).is_file() or digest(out / shard["file"]) != shard["sha256"]
    ]
    job, rows = manifest["job"], manifest["result"]["rows"]
    if not sample or wrong or job["format"] not in ("parquet", "feather") or "corpus" in job:
        return Verified(rows, len(files), wrong, 0, [])
    chosen = sorted(random.Random(seed).sample(range(rows), min(sample, rows)))
    task = task or task_of(manifest)
    _check_model(task, manifest, out)
    stored, texts = _stored(out, manifest, chosen), job["columns"]
    given = stored if set(texts) <= set(job["kept"]) else _from_source(source, texts, chosen, out)
    results = ResultColumns(task, job["call"], len(texts), job["vectors"])
    reader = open_table(given.select(texts), {f"column {n}": name for n, name in enumerate(texts)}, keep=[])
    compute = Compute(reader, results)
    again = arrow().Table.from_batches([compute(shard).batch for shard in shards(reader)])
    theirs = stored.select(stored.column_names[len(job["kept"]) :])
    differ = [
        row
        for n, row in enumerate(chosen)
        if any(
            theirs.column(at).slice(n, 1).to_pylist() != again.column(at).slice(n, 1).to_pylist()
            for at in range(theirs.num_columns)
        )
    ]
    return Verified(rows, len(files), wrong, len(chosen), differ)


def task_of(manifest: dict[str, Any]) -> Task:
    """The task that a manifest describes."""
    kind, made = _TASKS[manifest["job"]["task"]], manifest["model"]
    known = set(inspect.signature(kind.__init__).parameters) | {"precision", "max_tokens", "too_long"}
    options = {
        name: value for name, value in made.items() if name in known and value is not None and name not in ("model", "self")
    }
    task: Task = kind(
        made["model"], device=manifest["job"]["device"], stride=manifest["job"]["stride"], revision=made["commit"], **options
    )
    return task


def _check_model(task: Task, manifest: dict[str, Any], out: Path) -> None:
    made = manifest["model"]
    now = provenance_of(task, made.get("prompt", ""), made.get("width"))
    for name in ("weights", "tokenizer"):
        if now[name] != made[name]:
            raise CorruptError(
                f"{out} was made with other {name} than {made['model']} has now: pass the model it was made with"
            )


def _stored(out: Path, manifest: dict[str, Any], chosen: list[int]) -> Any:
    """The chosen rows of the output."""
    pa, first, parts = arrow(), 0, []
    for shard in manifest["result"]["shards"]:
        own = [row - first for row in chosen if first <= row < first + shard["rows"]]
        if own:
            read = arrow("parquet").read_table if manifest["job"]["format"] == "parquet" else arrow("feather").read_table
            parts.append(read(str(out / shard["file"])).take(pa.array(own)))
        first += shard["rows"]
    return pa.concat_tables(parts)


def _from_source(source: Any, texts: list[str], chosen: list[int], out: Path) -> Any:
    """The texts of the chosen rows, from the input."""
    if source is None:
        raise BadInputError(
            f"the texts are not in {out} (column {', '.join(texts)}): name the input table too, or use --sample 0"
        )
    reader = open_table(source, {f"column {n}": name for n, name in enumerate(texts)}, keep=[])
    pa, first, parts = arrow(), 0, []
    for block in reader:
        own = [row - first for row in chosen if first <= row < first + len(block.batch)]
        if own:
            parts.append(pa.Table.from_batches([block.batch]).take(pa.array(own)))
        first += len(block.batch)
    return pa.concat_tables(parts)
