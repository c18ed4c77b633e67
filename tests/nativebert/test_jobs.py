"""Jobs: whole shards or none, the same bytes however often they were stopped, and nothing written over what is another job's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import BERT, texts, write_folder
from safetensors.torch import load_file, save_file

pa = pytest.importorskip("pyarrow", reason="tables need pyarrow (extra tables)")
import pyarrow.parquet as pq  # noqa: E402
from test_cli_tasks import models as models  # noqa: E402

import nativebert as nb  # noqa: E402
from benchmarks.crash import crash  # noqa: E402
from nativebert import errors  # noqa: E402
from nativebert.errors import BadInputError, DiskFullError, Doubtful, RefusedError  # noqa: E402
from nativebert.jobs import manifest  # noqa: E402
from nativebert.jobs.columns import ResultColumns  # noqa: E402
from nativebert.jobs.corpus import Corpus  # noqa: E402
from nativebert.jobs.job import Job  # noqa: E402
from nativebert.jobs.stream import to_file  # noqa: E402
from nativebert.jobs.vectors import KINDS, kept_neighbours, reduced  # noqa: E402
from nativebert.jobs.verify import verify  # noqa: E402
from nativebert.search import semantic_search  # noqa: E402

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
def test_killed_in_the_middle(models: Path, tmp_path: Path) -> None:
    """`python -m benchmarks crash` does the same with 20 kills, a real model and any task."""
    kills = crash(tmp_path, models / "embed", TEXTS, kills=4, shard_rows=8, pause=0.05)
    assert len(kills) == 4
    assert sum(kill.in_the_middle for kill in kills) >= 3, kills


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


def test_a_folder_that_goes_away_at_any_step(
    embed: nb.Embedder, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, steps = tmp_path / "out", 0
    real, left = {name: getattr(os, name) for name in ("replace", "fsync")}, [0]

    def removing(name: str) -> Any:
        def step(*args: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                shutil.rmtree(out)
            return real[name](*args, **options)

        return step

    for name in real:
        monkeypatch.setattr(os, name, removing(name))
    while True:
        steps += 1
        shutil.rmtree(out, ignore_errors=True)
        left[0] = steps
        try:
            Job(embed, source, out, shard_rows=100).run()
        except BadInputError as error:
            assert "out was removed while the job ran: start again" in str(error), steps  # noqa: PT017
            assert not out.exists() or not list(out.iterdir())
        if left[0] > 0:
            break
    assert steps > 15


def test_a_small_disk(embed: nb.Embedder, source: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()

    def mounted(*options: str) -> bool:
        return (
            subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", disk], capture_output=True).returncode
            == 0
        )

    if shutil.which("mount") is None or not mounted("size=60k"):
        pytest.skip("a small disk (tmpfs) can be mounted by root only")
    try:
        Job(embed, source, tmp_path / "whole", shard_rows=50).run()
        job = Job(embed, source, disk / "out", shard_rows=50)
        with pytest.raises(
            DiskFullError,
            match=r"not enough disk space in .*out: \d+ rows are done and stay; make room, and go on with resume=True",
        ):
            job.run()
        rows = sum(pq.read_metadata(path).num_rows for path in (disk / "out").glob("part-*"))
        assert 0 < rows < 230
        for target in ("v.parquet", "v.csv"):
            with pytest.raises(DiskFullError, match=r"not enough disk space for .*; nothing was written"):
                to_file(embed, source, disk / target)
            assert not (disk / target).exists()
        assert mounted("remount", "size=10m")
        report = job.run(resume=True)
        assert (report.rows, report.computed) == (230, 230 - rows)
        assert files(disk / "out") == files(tmp_path / "whole")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_input_that_changes_while_the_job_runs(
    embed: nb.Embedder, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(out: Path, record: Any) -> None:
        manifest.add_progress(out, record)
        if record["shard"] == 1:
            other = pa.table({"id": list(range(230)), "text": ["another"] * 230, "stars": [0] * 230})
            pq.write_table(other, tmp_path / "other.parquet")
            os.replace(tmp_path / "other.parquet", source)

    monkeypatch.setattr("nativebert.jobs.job.add_progress", add)
    with pytest.raises(RefusedError, match=r"in.parquet was changed while the job ran.*begin again in another folder"):
        Job(embed, source, tmp_path / "out", shard_rows=50).run()
    monkeypatch.undo()
    before = files(tmp_path / "out")
    assert "result" not in json.loads(before["_manifest.json"])  # nobody takes it for a finished one
    with pytest.raises(RefusedError, match="input has changed since"):
        Job(embed, source, tmp_path / "out", shard_rows=50).run(resume=True)
    assert files(tmp_path / "out") == before


@pytest.mark.parametrize("changed", ["model.safetensors", "vocab.txt", "1_P/config.json"])
def test_a_model_that_was_changed_in_its_folder(
    changed: str, models: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models / "embed", folder)
    stopped(Job(nb.Embedder(folder), source, tmp_path / "out", shard_rows=50), monkeypatch)
    before, path = files(tmp_path / "out"), folder / changed
    if changed == "vocab.txt":
        path.write_text(path.read_text() + "more\n")
    elif changed == "model.safetensors":
        tensors = {name: tensor * 1.01 for name, tensor in load_file(path).items()}
        save_file(tensors, path)
    else:
        path.write_text(json.dumps({"word_embedding_dimension": 32, "pooling_mode_cls_token": True}))
    with pytest.raises(RefusedError, match=r"the model or its settings are others than the job in .*, and nothing was changed"):
        Job(nb.Embedder(folder), source, tmp_path / "out", shard_rows=50).run(resume=True)
    assert files(tmp_path / "out") == before


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
    fill = nb.MaskFiller(models / "fill")
    pairs["text"] = [f"the [MASK] {text}" for text in TEXTS[:20]]
    assert [row["candidates"] for row in table(fill, column="text", top_k=2)] == fill(pairs["text"], top_k=2)
    zero = nb.ZeroShot(models / "classify", entailment=1)
    rows = table(zero, column="text", labels=["a cat", "a dog"])
    assert [{name: row[name] for name in ("labels", "scores")} for row in rows] == [
        {name: one[name] for name in ("labels", "scores")} for one in zero(pairs["text"], ["a cat", "a dog"])
    ]
    for task, options, message in (
        (rank, {"column": "text"}, "Ranker reads pairs: name two columns, or pass query="),
        (tag, {"column": ("question", "text")}, "Tagger reads single texts"),
        (tag, {"column": "text", "temperature": 1}, "Tagger has no argument 'temperature'"),
        (tag, {"column": "text", "vectors": "int8"}, "float32 for tasks without vectors"),
    ):
        with pytest.raises(BadInputError, match=message):
            Job(task, pairs, tmp_path / "out", **options)


def test_search_is_a_job(embed: nb.Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, queries = TEXTS[:60], {"n": list(range(170)), "query": [*TEXTS[60:228], "", "the cat"]}
    corpus = Corpus(embed(known), known, top_k=3)

    def job(name: str, corpus: Corpus = corpus) -> Job:
        return Job(embed, queries, tmp_path / name, column="query", shard_rows=50, corpus=corpus)

    report = job("whole").run()
    assert (report.rows, report.empty) == (170, 1)
    table = pq.read_table(tmp_path / "whole")
    assert table.column_names == ["n", "query", "hits"]
    assert table["hits"][168].as_py() is None
    for n, hits in enumerate(table["hits"].to_pylist()):
        if hits is not None:
            (want,) = semantic_search(embed([queries["query"][n]]), corpus.vectors, top_k=3)
            assert [hit["score"] for hit in hits] == pytest.approx([hit["score"] for hit in want], abs=1e-6)
            assert [hit["text"] for hit in hits] == [known[hit["index"]] for hit in hits]
    stopped(job("out"), monkeypatch, after=2)
    for other in (Corpus(embed(known[:59]), known[:59], top_k=3), Corpus(corpus.vectors, known, top_k=2)):
        with pytest.raises(RefusedError, match="options are others"):
            job("out", other).run(resume=True)
    assert job("out").run(resume=True).computed == 70
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    verified = verify(tmp_path / "out")
    assert (verified.ok, verified.sampled) == (True, 0)
    numbered = Corpus(corpus.vectors, index=list(range(1000, 1060)), top_k=1)
    assert nb.with_results(embed, ["the cat"], corpus=numbered)["hits"].to_pylist()[0][0]["index"] >= 1000
    with pytest.raises(BadInputError, match="60 vectors and 3 texts"):
        Corpus(corpus.vectors, known[:3])


def test_rows_without_a_text_in_tables_of_programs(embed: nb.Embedder) -> None:
    table = pa.table({"n": [1, 2, 3, 4], "text": ["the cat", " ", None, "a dog"]})
    with pytest.warns(Doubtful, match="2 of 4 rows of the Table have no result: 1 with an empty text, 1 with none") as told:
        done = nb.with_results(embed, table)
    assert len(told) == 1
    assert [vector is None for vector in done["embedding"].to_pylist()] == [False, True, True, False]
    with pytest.raises(BadInputError, match=r"row 1 of the Table \(from 0\)"):
        nb.with_results(embed, table, strict=True)
    with pytest.warns(Doubtful, match="have no result"):  # streamed: when it was read
        nb.with_results(embed, table.to_reader()).read_all()


def test_errors_name_the_row_of_the_table(models: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="text 3 has no mask"):
        Job(nb.MaskFiller(models / "fill"), ["[MASK]", "", "[MASK]", "none"], tmp_path / "out", shard_rows=2).run()


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
