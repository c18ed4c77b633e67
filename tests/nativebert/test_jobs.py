"""Jobs: whole shards or none, the same bytes however often they were stopped, and nothing written over what is another job's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import BERT, texts, write_folder

pa = pytest.importorskip("pyarrow", reason="tables need pyarrow (extra tables)")
import pyarrow.parquet as pq  # noqa: E402
from test_cli_tasks import models as models  # noqa: E402

import nativebert as nb  # noqa: E402
from nativebert import errors  # noqa: E402
from nativebert.errors import BadInputError, DiskFullError, Doubtful, RefusedError  # noqa: E402
from nativebert.jobs import manifest  # noqa: E402
from nativebert.jobs.columns import ResultColumns  # noqa: E402
from nativebert.jobs.job import Job  # noqa: E402
from nativebert.jobs.vectors import KINDS, kept_neighbours, reduced  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::nativebert.errors.Truncated")
TEXTS = [text or "the cat" for text in texts(230, 12)]


class Crash(BaseException):
    """Nothing catches it."""


@pytest.fixture(scope="module")
def embed(models: Path) -> nb.Embedder:
    return nb.Embedder(models / "embed")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    pq.write_table(
        pa.table({"id": list(range(len(TEXTS))), "text": TEXTS, "stars": [n % 5 for n in range(len(TEXTS))]}),
        tmp_path / "in.parquet",
    )
    return tmp_path / "in.parquet"


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_a_folder_of_shards(embed: nb.Embedder, source: Path, tmp_path: Path) -> None:
    events: list[Any] = []
    report = Job(embed, source, tmp_path / "out", shard_rows=100).run(log=events.append)
    assert sorted(files(tmp_path / "out")) == [
        "_manifest.json",
        "part-00000.parquet",
        "part-00001.parquet",
        "part-00002.parquet",
    ]
    table = pq.read_table(tmp_path / "out")  # what begins with _ is passed by
    assert table.column_names == ["id", "text", "stars", "embedding"]
    assert table["id"].to_pylist() == list(range(230))
    assert np.array_equal(np.array(table["embedding"].to_pylist(), np.float32), embed(TEXTS))
    assert (report.rows, report.shards, report.computed, report.rejected) == (230, 3, 230, 0)
    assert [event["event"] for event in events] == ["start", "shard", "shard", "shard", "end"]
    assert report.tokens == sum(event["tokens"] for event in events[1:-1])
    made = json.loads(pq.read_schema(tmp_path / "out" / "part-00000.parquet").metadata[b"nativebert"])
    assert made["weights"] == embed.snapshot.digest()
    assert made["pooling"] == ["mean"]


def test_a_job_that_is_stopped_anywhere_ends_with_the_same_bytes(
    embed: nb.Embedder, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Job(embed, source, tmp_path / "whole", shard_rows=50).run()
    whole = files(tmp_path / "whole")
    out = tmp_path / "out"
    steps = 0
    real = {name: getattr(os, name) for name in ("replace", "fsync", "unlink")}
    left = [0]

    def crashing(name: str) -> Any:
        def step(*args: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise Crash
            return real[name](*args, **options)

        return step

    for name in real:
        monkeypatch.setattr(os, name, crashing(name))
    while True:  # crash at each step that puts something on the disk, one after the other
        steps += 1
        shutil.rmtree(out, ignore_errors=True)
        left[0] = steps
        try:
            Job(embed, source, out, shard_rows=50).run()
            break
        except Crash:
            left[0] = 0
            report = Job(embed, source, out, shard_rows=50).run(resume=True)
            assert report.rows == 230
            assert files(out) == whole, steps
    assert steps > 20


@pytest.mark.slow
def test_killed(models: Path, source: Path, tmp_path: Path) -> None:
    program = (
        "import sys, nativebert as nb, time; from nativebert.jobs import rows\n"
        "call = rows.Compute.__call__\n"
        "rows.Compute.__call__ = lambda self, shard: (time.sleep(0.05), call(self, shard))[1]\n"  # there is a moment to be killed in
        f"nb.Job(nb.Embedder({str(models / 'embed')!r}), {str(source)!r}, sys.argv[1], shard_rows=10).run(resume=True)"
    )
    run = [sys.executable, "-c", program]
    subprocess.run([*run, str(tmp_path / "whole")], check=True)
    killed = 0
    while True:
        process = subprocess.Popen([*run, str(tmp_path / "out")])
        before = len(list((tmp_path / "out").glob("part-*")))
        while process.poll() is None and len(list((tmp_path / "out").glob("part-*"))) < before + 4:
            time.sleep(0.01)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += 1
    assert killed > 2
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def stopped(job: Job, monkeypatch: pytest.MonkeyPatch, after: int = 1) -> None:
    """Run a job until so many shards are written."""
    with monkeypatch.context() as patch:
        count = [0]

        def add(out: Path, record: Any) -> None:
            manifest.add_progress(out, record)
            count[0] += 1
            if count[0] == after:
                raise Crash

        patch.setattr("nativebert.jobs.job.add_progress", add)
        with pytest.raises(Crash):
            job.run()


def test_resume_is_refused_where_rows_would_not_belong_together(
    embed: nb.Embedder, models: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    stopped(Job(embed, source, out, shard_rows=50), monkeypatch)
    before = files(out)

    def refused(job: Job, message: str, kind: type[Exception] = RefusedError, resume: bool = True) -> None:
        with pytest.raises(kind, match=message):
            job.run(resume=resume)
        assert files(out) == before

    refused(
        Job(embed, source, out, shard_rows=50),
        r"holds a job that was stopped after 1 shards: go on with it by resume=True",
        BadInputError,
        False,
    )
    refused(Job(embed, source, out, shard_rows=60), "options are others.*shard_rows: 50 then, 60 now")
    refused(Job(embed, source, out, shard_rows=50, keep=["id"]), "options are others")
    refused(Job(embed, source, out, shard_rows=50, prompt="query: "), "options are others|model or its settings")
    refused(
        Job(nb.Embedder(models / "embed", pooling="cls"), source, out, shard_rows=50),
        r'its settings are others.*pooling: "mean" then, "cls" now',
    )
    other = write_folder(tmp_path / "other", {**BERT, "layer_norm_eps": 1e-11})
    with pytest.warns(errors.Assumed):
        refused(Job(nb.Embedder(other), source, out, shard_rows=50), "model or its settings are others")
    with monkeypatch.context() as patch:
        patch.setattr("nativebert.jobs.job._version", lambda package: "0")
        refused(Job(embed, source, out, shard_rows=50), "installed versions are others")
    pq.write_table(pa.table({"id": [1], "text": ["another"], "stars": [1]}), source)
    refused(Job(embed, source, out, shard_rows=50), "input has changed since")
    refused(Job(embed, iter([{"id": 1, "text": "a", "stars": 1}]), out, shard_rows=50), "cannot be read again")


def test_a_shard_that_was_altered_is_computed_again(
    embed: nb.Embedder, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Job(embed, source, tmp_path / "whole", shard_rows=50).run()
    out = tmp_path / "out"
    stopped(Job(embed, source, out, shard_rows=50), monkeypatch, after=3)
    (out / "part-00001.parquet").write_bytes(b"damaged")
    report = Job(embed, source, out, shard_rows=50).run(resume=True)
    assert report.computed == 180
    assert files(out) == files(tmp_path / "whole")
    again = Job(embed, source, out, shard_rows=50).run(resume=True)  # finished: nothing to do
    assert (again.computed, again.rows) == (0, 230)
    with pytest.raises(BadInputError, match="holds a finished job"):
        Job(embed, source, out, shard_rows=50).run()


def test_folders_that_are_not_a_jobs(embed: nb.Embedder, source: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(BadInputError, match=r"full is not empty \(mine.txt\), and holds no job"):
        Job(embed, source, tmp_path / "full").run(resume=True)
    with pytest.raises(BadInputError, match="is a file: a job's output is a folder"):
        Job(embed, source, source).run()
    (tmp_path / "out").mkdir()
    with manifest.locked(tmp_path / "out"), pytest.raises(BadInputError, match="another process is at work"):
        Job(embed, source, tmp_path / "out").run()


def test_a_disk_that_is_full_and_a_folder_that_goes_away(
    embed: nb.Embedder, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Job(embed, source, tmp_path / "whole", shard_rows=50).run()
    out = tmp_path / "out"
    real, parts = os.replace, [0]

    def full(a: Any, b: Any) -> None:
        parts[0] += "part-" in str(b)
        if parts[0] == 3:
            raise OSError(28, "No space left on device")
        real(a, b)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(
            DiskFullError,
            match=r"not enough disk space in .*out: 100 rows are done and stay; make room, and go on with resume=True",
        ):
            Job(embed, source, out, shard_rows=50).run()
    assert Job(embed, source, out, shard_rows=50).run(resume=True).computed == 130
    assert files(out) == files(tmp_path / "whole")

    def gone(a: Any, b: Any) -> None:
        if "part-00001" in str(b):
            shutil.rmtree(tmp_path / "gone")
        real(a, b)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", gone)
        with pytest.raises(BadInputError, match="gone was removed while the job ran: start again"):
            Job(embed, source, tmp_path / "gone", shard_rows=50).run()


def test_rows_that_cannot_be_done(embed: nb.Embedder, tmp_path: Path) -> None:
    lines = [
        {"text": "the cat", "n": 0},
        {"text": None, "n": 1},
        {"text": 5, "n": 2},
        {"text": "  ", "n": 3},
        {"text": "the cat sat on the mat", "n": 4},
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
    report = Job(embed, tmp_path / "in.jsonl", tmp_path / "out", too_long="error", max_tokens=5).run()
    assert (report.rows, report.empty, report.rejected, report.cut) == (5, 1, 3, 0)
    rejects = [json.loads(line) for line in (tmp_path / "out" / "_rejects.jsonl").read_text().splitlines()]
    assert rejects == [
        {"row": 1, "reason": "null"},
        {"row": 2, "reason": "not text: 5"},
        {"row": 4, "reason": "8 tokens, and the limit is 5"},
    ]
    vectors = pq.read_table(tmp_path / "out")["embedding"].to_pylist()
    assert [vector is None for vector in vectors] == [False, True, True, True, True]
    assert np.array_equal(np.array(vectors[0], np.float32), embed("the cat")[0])
    with pytest.raises(BadInputError, match=r"row 1 of .*in.jsonl \(from 0\): its text is null.*strict=True"):
        Job(embed, tmp_path / "in.jsonl", tmp_path / "strict", strict=True).run()
    assert not list((tmp_path / "strict").glob("part-*"))  # told before the work
    with pytest.raises(BadInputError, match=r"row 1 of .* \(from 0\) has 8 tokens, and the limit is 5"):
        Job(embed, ["a", "the cat sat on the mat"], tmp_path / "long", strict=True, too_long="error", max_tokens=5).run()
    assert Job(embed, tmp_path / "in.jsonl", tmp_path / "cut", max_tokens=5).run().cut_rows == 1


@pytest.mark.parametrize("format", ["parquet", "feather", "csv", "tsv", "jsonl", "npy"])
def test_formats_of_shards(format: str, embed: nb.Embedder, source: Path, tmp_path: Path) -> None:
    Job(embed, source, tmp_path / "out", shard_rows=200, format=format, keep=["stars"]).run()
    assert len(list((tmp_path / "out").glob(f"part-*.{format}"))) == 2
    if format == "npy":
        back = np.concatenate([np.load(path) for path in sorted((tmp_path / "out").glob("*.npy"))])
        assert np.array_equal(back, embed(TEXTS))


def test_every_task(models: Path, tmp_path: Path) -> None:
    pairs = {"text": TEXTS[:20], "question": ["which cat ?"] * 20, "label": ["x"] * 20}

    def table(task: Any, **options: Any) -> Any:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        Job(task, pairs, tmp_path / "out", drop=["question"], **options).run()
        return pq.read_table(tmp_path / "out").to_pylist()

    classify = nb.Classifier(models / "classify")
    with pytest.warns(Doubtful, match="the result is named 'predicted_label'"):
        rows = table(classify, column="text")
    assert [(row["predicted_label"], row["score"]) for row in rows] == [
        (one["label"], one["score"]) for one in classify(TEXTS[:20])
    ]
    assert [row["labels"] for row in table(classify, column="text", top_k=None)] == classify(TEXTS[:20], top_k=None)
    tag = nb.Tagger(models / "tag")
    assert [row["entities"] for row in table(tag, column="text")] == tag(TEXTS[:20])
    answer = nb.Answerer(models / "answer")
    want = answer(["which cat ?"] * 20, TEXTS[:20])
    for options in ({"column": ("question", "text")}, {"column": "text", "question": "which cat ?"}):
        assert [{name: row[name] for name in want[0]} for row in table(answer, **options)] == want
    rank = nb.Ranker(models / "rank")
    want = rank([("which cat ?", text) for text in TEXTS[:20]]).tolist()
    for options in ({"column": ("question", "text")}, {"column": "text", "query": "which cat ?"}):
        assert [row["score"] for row in table(rank, **options)] == want
    for task, options, message in (
        (rank, {"column": "text"}, "Ranker reads pairs: name two columns, or pass query="),
        (tag, {"column": ("question", "text")}, "Tagger reads single texts"),
        (tag, {"column": "text", "temperature": 1}, "Tagger has no argument 'temperature'"),
        (tag, {"column": "text", "vectors": "int8"}, "float32 for tasks without vectors"),
    ):
        with pytest.raises(BadInputError, match=message):
            Job(task, pairs, tmp_path / "out", **options)


def test_shards_are_cut_by_bytes_too() -> None:
    from nativebert.io.tables import open_table
    from nativebert.jobs.rows import shards

    reader = open_table(["x" * n for n in (10, 10, 50, 1, 1, 1, 1)])
    cut = list(shards(reader, rows=3, size=30))
    assert [(shard.first, len(shard.items)) for shard in cut] == [(0, 2), (2, 1), (3, 3), (6, 1)]
    assert [text for shard in cut for text in shard.items] == [
        text for block in reader for text in block.batch.column("text").to_pylist()
    ]


def test_vectors_in_fewer_bytes(embed: nb.Embedder, tmp_path: Path) -> None:
    vectors = embed(TEXTS)
    assert kept_neighbours(vectors, "float32") == 1
    losses = [kept_neighbours(vectors, kind) for kind in ("float16", "int8", "binary")]
    assert 1 >= losses[0] >= losses[1] > 0.9 > losses[2] > 0.1
    for kind in KINDS[1:]:
        report = Job(embed, TEXTS, tmp_path / kind, vectors=kind).run()
        stored = np.array(pq.read_table(tmp_path / kind)["embedding"].to_pylist())
        assert np.array_equal(stored.astype(reduced(vectors, kind).dtype), reduced(vectors, kind))
        assert report.kept_neighbours == pytest.approx(kept_neighbours(vectors, kind), abs=1e-3)
    with pytest.raises(BadInputError, match="multiple of 8, not 30"):
        ResultColumns(nb.Embedder(embed.snapshot, truncate_dim=30), {}, 1, "binary")


def test_a_changed_input_is_noticed_while_the_job_runs(embed: nb.Embedder, source: Path, tmp_path: Path) -> None:
    def log(event: Any) -> None:
        if event["event"] == "shard" and event["shard"] == 0:
            pq.write_table(pq.read_table(source).slice(0, 5), source)

    with pytest.raises(RefusedError, match="was changed while the job ran"):
        Job(embed, source, tmp_path / "out", shard_rows=50).run(log=log)
    assert "result" not in json.loads((tmp_path / "out" / "_manifest.json").read_text())


def test_a_model_without_files(tmp_path: Path, models: Path) -> None:
    model, tokenizer = nb.load(models / "embed"), nb.Tokenizer.from_folder(models / "embed")
    model.snapshot, model.tokenizer = None, tokenizer
    embedder = nb.Embedder(model)
    with pytest.raises(BadInputError, match=r"the model has no files .*: save it first"):
        Job(embedder, TEXTS, tmp_path / "out").run()
