"""The commands over tables: what goes where, and what they say."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="tables need pyarrow (extra tables)")
import pyarrow.parquet as pq  # noqa: E402
from test_cli import Run, one_line  # noqa: E402
from test_cli import run as run  # noqa: E402
from test_cli_tasks import models as models  # noqa: E402

import nativebert as nb  # noqa: E402
from nativebert.cli import plan as plans  # noqa: E402
from nativebert.cli import rows  # noqa: E402
from nativebert.io.vectors import read_vectors  # noqa: E402
from nativebert.jobs.corpus import Corpus  # noqa: E402
from nativebert.search import semantic_search  # noqa: E402

TEXTS = ["the cat sat", "a dog", "", "the cat sat on the mat"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text("id;review;stars\n" + "".join(f"{n};{text};{n + 1}\n" for n, text in enumerate(TEXTS)))
    return path


def test_the_other_columns_stay(run: Run, models: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    done = run("embed", table, "--column", "review", "-m", models / "embed", "-o", out)
    assert done.code == 0, done.err
    assert "read with ';' as the separator" in done.err
    assert "1 row with an empty text, without a result" in done.out
    back = pq.read_table(out)
    assert back.column_names == ["id", "review", "stars", "embedding"]
    vectors = back["embedding"].to_pylist()
    assert vectors[2] is None
    assert np.array_equal(np.array(vectors[:2], np.float32), nb.Embedder(models / "embed")(TEXTS[:2]))
    assert json.loads(back.schema.metadata[b"nativebert"])["pooling"] == ["mean"]
    run("classify", table, "--column", "review", "-m", models / "classify", "-o", tmp_path / "c.csv", "--keep", "stars")
    assert (tmp_path / "c.csv").read_text().splitlines()[0] == "stars,label,score"
    run("tag", table, "--column", "review", "-m", models / "tag", "-o", tmp_path / "t.jsonl", "--drop", "id,stars")
    assert [list(json.loads(line)) for line in (tmp_path / "t.jsonl").read_text().splitlines()] == [["review", "entities"]] * 4
    run(
        "answer",
        table,
        "--context-column",
        "review",
        "--question",
        "which cat ?",
        "-m",
        models / "answer",
        "-o",
        tmp_path / "a.feather",
    )
    assert "answer" in pa.ipc.open_file(tmp_path / "a.feather").schema.names
    done = run("rank", table, "--column", "review", "--query", "cat", "-m", models / "rank", "-o", tmp_path / "r.parquet")
    assert pq.read_table(tmp_path / "r.parquet").column_names == ["id", "review", "stars", "score"]


def test_the_other_columns_stay_in_files_of_every_form(run: Run, models: Path, table: Path, tmp_path: Path) -> None:
    argv = (table, "--column", "review", "--delimiter", ";", "-o")
    out = tmp_path / "o.jsonl"

    def written(*words: object) -> list[dict[str, Any]]:
        done = run(words[0], *argv, out, *words[1:])
        assert done.code == 0, done.err
        return [json.loads(line) for line in out.read_text().splitlines()]

    for n, row in enumerate(written("embed", "-m", models / "embed")):
        assert (row["id"], row["stars"], row["text"]) == (str(n), str(n + 1), TEXTS[n])
        assert (row["embedding"] is None) == (TEXTS[n] == "")
    run("embed", *argv, tmp_path / "v.csv", "-m", models / "embed")
    assert [row["stars"] for row in csv.DictReader((tmp_path / "v.csv").open())] == ["1", "2", "3", "4"]
    for vectors in (out, tmp_path / "v.csv"):
        run("embed", *argv, vectors, "-m", models / "embed")
        found = read_vectors(str(vectors)).vectors
        assert np.isnan(found).all(1).tolist() == [False, False, True, False]
        assert np.array_equal(found[[0, 1, 3]], nb.Embedder(models / "embed")([text for text in TEXTS if text]))
    assert [row["stars"] for row in written("tag", "-m", models / "tag")] == ["1", "2", "3", "4"]
    for row in written("search", "--query", "cat", "-m", models / "embed"):
        assert (row["id"], row["text"]) == (str(row["index"]), TEXTS[row["index"]])
    for row in written("rank", "--query", "cat", "--top-k", "2", "-m", models / "rank"):
        assert row["stars"] == str(row["index"] + 1)
    run("tag", *argv, tmp_path / "t.csv", "-m", models / "tag")
    for row in csv.DictReader((tmp_path / "t.csv").open()):
        assert row["id"] == row["item"]
    (tmp_path / "l.csv").write_text('text,label,"a,b"\nx,y,z\n')
    run("classify", tmp_path / "l.csv", "-m", models / "classify", "-o", tmp_path / "c.csv")
    (row,) = csv.DictReader((tmp_path / "c.csv").open())
    assert (row["input_label"], row["a,b"]) == ("y", "z")


COMMANDS = {
    "embed": (), "classify": (), "tag": (), "answer": ("--question", "which cat ?"), "fill": (),
    "classify --top-k 2": ("--top-k", "2"), "tag --top-k 2": ("--top-k", "2"), "answer --top-k 2": ("--top-k", "2", "--question", "a cat ?"),
}  # fmt: skip
MASKED = ["the [MASK] sat", "", "a [MASK]", " ", "the [MASK] sat on the mat", "[MASK]", "one [MASK]"]


@pytest.mark.parametrize(("command", "ending"), [*itertools.product(COMMANDS, ("csv", "jsonl", "-")), ("embed", "npy")])
def test_rows_in_parts_are_rows_at_once(
    command: str, ending: str, run: Run, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the parts, with pyarrow and without: the same bytes; and rows without a text have no result and are counted."""
    name = command.split()[0]
    (tmp_path / "in.txt").write_text("\n".join(MASKED))
    out = tmp_path / f"o.{ending}"
    found: set[bytes] = set()
    for size, streamed in ((2**13, True), (2, True), (1, False)):
        monkeypatch.setattr(rows, "_PART", size)
        monkeypatch.setattr(rows, "is_streamed", lambda args, answer=streamed: answer)
        argv = (tmp_path / "in.txt", "-m", models / name, "-o", "-" if ending == "-" else out, *COMMANDS[command])
        done = run(name, *argv)
        assert done.code == 0, done.err
        assert "2 rows with an empty text, without a result" in (done.err if ending == "-" else done.out)
        found.add(done.out.encode() if ending == "-" else out.read_bytes())
        strict = run(name, *argv, "--strict") if name != "fill" else None
        assert strict is None or "row 1 of" in one_line(strict)
    assert len(found) == 1
    if ending in ("jsonl", "-"):
        records = [json.loads(line) for line in found.pop().splitlines()]
        assert len(records) == len(MASKED)
        for record, text in zip(records, MASKED):
            assert (next(iter(reversed(record.values()))) is None) == (not text.strip())
    if ending == "npy":
        assert np.isnan(np.load(out)).all(axis=1).tolist() == [not text.strip() for text in MASKED]


def test_empty_texts_are_no_candidates(run: Run, models: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("\n".join(["the cat", "", "a dog", "  ", "the cat"]))
    for command, model in (("search", "embed"), ("rank", "rank"), ("duplicates", "embed")):
        query = () if command == "duplicates" else ("--query", "a dog")
        done = run(command, tmp_path / "in.txt", *query, "-m", models / model, "-o", tmp_path / "o.jsonl")
        assert "2 rows with an empty text, without a result" in done.out
        hits = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
        assert {hit["index"] for hit in hits} == ({0, 4} if command == "duplicates" else {0, 2, 4})
        assert all(hit["text"] == ["the cat", "", "a dog", "", "the cat"][hit["index"]] for hit in hits)
    for ending in ("npy", "csv", "jsonl", "parquet"):
        run("embed", tmp_path / "in.txt", "-m", models / "embed", "-o", tmp_path / f"v.{ending}")
        argv = ("search", tmp_path / "in.txt", "--query", "a dog", "-m", models / "embed", "-o", "-")
        known = run(*argv, "--vectors", tmp_path / f"v.{ending}")
        assert (known.code, known.out) == (0, run(*argv).out), known.err


def test_columns_beside_results_on_standard_output(run: Run, models: Path, table: Path, tmp_path: Path) -> None:
    argv = (table, "--column", "review", "--delimiter", ";", "-m")
    for command in ("embed", "classify", "tag"):
        lines = [json.loads(line) for line in run(command, *argv, models / command, "-o", "-", "--keep", "id").out.splitlines()]
        assert [line["id"] for line in lines] == ["0", "1", "2", "3"]
        assert all("review" not in line and "stars" not in line for line in lines)
        whole = [json.loads(line) for line in run(command, *argv, models / command, "-o", "-").out.splitlines()]
        assert [line["stars"] for line in whole] == ["1", "2", "3", "4"]
    noted = run("embed", *argv, models / "embed", "-o", tmp_path / "v.npy")
    assert noted.err.count("holds the vectors alone") == 1
    assert "for the other columns (id, stars) beside them, write .parquet, .csv or .jsonl" in noted.err


def test_errors_name_the_row_of_the_file(run: Run, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_PART", 2)
    (tmp_path / "in.txt").write_text("a\n\nb\nc\n\n" + "the cat " * 100)
    done = run("classify", tmp_path / "in.txt", "-m", models / "classify", "-o", tmp_path / "o.csv", "--too-long", "error")
    assert "text 5 has" in one_line(done)
    done = run("classify", tmp_path / "in.txt", "-m", models / "classify", "-o", tmp_path / "o.csv")
    assert done.err.count("1 of 6 texts is longer than") == 1


def test_a_job_on_the_command_line(run: Run, models: Path, table: Path, tmp_path: Path) -> None:
    argv = ("embed", table, "--column", "review", "-m", models / "embed", "--shard-rows", "3", "--delimiter", ";")
    assert run(*argv, "-o", f"{tmp_path}/out/", "--log-json").code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "_manifest.json",
        "part-00000.parquet",
        "part-00001.parquet",
    ]
    assert "holds a finished job: go on with it by --resume, or" in one_line(run(*argv, "-o", f"{tmp_path}/out/"))
    done = run(*argv, "-o", tmp_path / "out", "--resume")
    assert "0 rows computed" in done.out
    done = run("verify", tmp_path / "out")
    assert (done.code, "4 of 4 rows computed again, 0 different" in done.out) == (0, True), done
    logged = run(*argv, "-o", f"{tmp_path}/two/", "--log-json", "--output-format", "jsonl").err.splitlines()
    assert [json.loads(line)["event"] for line in logged if line.startswith("{")] == ["start", "shard", "shard", "end"]
    table_of = pq.read_table(tmp_path / "out" / "part-00001.parquet")
    pq.write_table(table_of.slice(0, 0), tmp_path / "out" / "part-00001.parquet")
    done = run("verify", tmp_path / "out", "--json")
    assert done.code == 1
    assert json.loads(done.out)["wrong_files"] == ["part-00001.parquet"]


def test_verify_finds_a_row_that_is_wrong(run: Run, models: Path, table: Path, tmp_path: Path) -> None:
    run("embed", table, "--column", "review", "-m", models / "embed", "-o", f"{tmp_path}/out/", "--keep", "id")
    part = tmp_path / "out" / "part-00000.parquet"
    stored = pq.read_table(part)
    rows = stored["embedding"].combine_chunks().take(pa.array([1, 0, 2, 3]))
    pq.write_table(stored.set_column(1, "embedding", rows), part)
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    manifest["result"]["shards"][0]["sha256"] = hashlib.sha256(part.read_bytes()).hexdigest()  # who changed it knew of the hash
    (tmp_path / "out" / "_manifest.json").write_text(json.dumps(manifest))
    assert "name the input table too" in one_line(run("verify", tmp_path / "out"))
    with_input = run("verify", tmp_path / "out", table)
    assert (with_input.code, "2 different: 0, 1" in with_input.out) == (1, True), with_input


def test_search_and_fill_as_jobs(run: Run, models: Path, table: Path, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("n,query\n" + "".join(f"{n},{text}\n" for n, text in enumerate(TEXTS * 2)))
    argv = ("search", table, "--column", "review", "--delimiter", ";", "--queries", tmp_path / "q.csv", "-m", models / "embed")
    argv = tuple(";" if word == ";" else word for word in argv)
    (tmp_path / "q.csv").write_text((tmp_path / "q.csv").read_text().replace(",", ";"))
    out = f"{tmp_path}/hits/"
    assert run(*argv, "--top-k", 2, "--shard-rows", 3, "-o", out).code == 0
    rows = pq.read_table(tmp_path / "hits").to_pylist()
    assert [row["n"] for row in rows] == [str(n) for n in range(8)]
    assert rows[0]["hits"][0] == {"index": 0, "score": pytest.approx(1, abs=1e-5), "text": TEXTS[0]}
    assert rows[2]["hits"] is None
    assert all(hit["index"] != 2 for row in rows for hit in row["hits"] or ())
    done = run(*argv, "--top-k", 2, "--shard-rows", 3, "-o", out, "--resume")
    assert "0 rows computed" in done.out
    table.write_text(table.read_text().replace("a dog", "another"))
    assert "options are others" in one_line(run(*argv, "--top-k", 2, "--shard-rows", 3, "-o", out, "--resume"))
    assert run(*argv[:6], "--query", "cat", "-m", models / "embed", "-o", tmp_path / "one.parquet").code == 0
    assert pq.read_table(tmp_path / "one.parquet").column_names == ["query", "hits"]
    assert "takes either --queries FILE or --query" in one_line(run(*argv, "--query", "cat", "-o", out, "--resume"))
    (tmp_path / "m.txt").write_text("\n".join(MASKED))
    assert run("fill", tmp_path / "m.txt", "-m", models / "fill", "-o", f"{tmp_path}/fill/", "--shard-rows", 2).code == 0
    assert [row["candidates"] is None for row in pq.read_table(tmp_path / "fill").to_pylist()] == [
        not t.strip() for t in MASKED
    ]


def test_rows_that_are_rejected_show_in_the_exit_code(run: Run, models: Path, tmp_path: Path) -> None:
    lines = tmp_path / "in.jsonl"
    lines.write_text('{"text": "the cat"}\n{"text": null}\n{"text": 5}\n')
    done = run("embed", lines, "-m", models / "embed", "-o", f"{tmp_path}/out/")
    assert done.code == 3
    assert "2 rows without a result, see" in done.out
    assert (tmp_path / "out" / "_rejects.jsonl").read_text().count("\n") == 2
    assert run("embed", lines, "-m", models / "embed", "-o", tmp_path / "o.parquet").code == 3
    assert (tmp_path / "o.parquet.rejects.jsonl").read_text().splitlines()[1] == '{"row": 2, "reason": "not text: 5"}'
    assert "row 1 of" in one_line(run("embed", lines, "-m", models / "embed", "-o", tmp_path / "o.parquet", "--strict"))
    for command in ("embed", "classify"):
        done = run(command, lines, "-m", models / command, "-o", tmp_path / "o.csv")
        assert (done.code, "2 rows without a result, see" in done.out) == (3, True)
        assert (tmp_path / "o.csv.rejects.jsonl").read_text().splitlines()[0] == '{"row": 1, "reason": "null"}'
        shown = run(command, lines, "-m", models / command, "-o", "-")
        assert (shown.code, shown.out.count("\n")) == (3, 3)
        assert "2 rows without a result: 1 (null), 2 (not text: 5)" in shown.err
        assert [json.loads(line)["text"] for line in shown.out.splitlines()] == ["the cat", None, None]


@pytest.mark.parametrize("ending", ["npy", "csv", "jsonl", "parquet", "feather"])
def test_vectors_of_tables_are_found_by_search(ending: str, run: Run, models: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": TEXTS[:2], "n": [1, 2]}), tmp_path / "in.parquet")
    out = tmp_path / f"v.{ending}"
    assert run("embed", tmp_path / "in.parquet", "-m", models / "embed", "-o", out, "--keep", "text,n").code == 0
    embed = nb.Embedder(models / "embed")
    vectors, texts = read_vectors(str(out))
    assert np.array_equal(vectors, embed(TEXTS[:2]))
    assert texts in (TEXTS[:2], None)
    argv = ("search", tmp_path / "in.parquet", "--query", "cat", "-o", "-", "-m")
    done = run(*argv, models / "embed", "--vectors", out)
    assert done.code == 0, done.err
    want = semantic_search(embed(["cat"]), embed(TEXTS[:2]), measure=embed.config.similarity)[0]
    assert [json.loads(line)["index"] for line in done.out.splitlines() if line.startswith("{")] == [
        hit["index"] for hit in want
    ]
    assert "pooling" in one_line(run(*argv, models / "embed", "--vectors", out, "--pooling", "cls"))


def test_plan(run: Run, models: Path, table: Path) -> None:
    done = run("plan", table, "--column", "review", "-m", models / "embed", "--max-tokens", "6", "--json")
    planned = json.loads(done.out)
    lengths = [len(ids) for ids in nb.Tokenizer.from_folder(models / "embed").ids_batch([text for text in TEXTS if text]).ids]
    assert (planned["rows"], planned["empty"], planned["tokens"], planned["longest"]) == (4, 1, sum(lengths), max(lengths))
    assert (planned["cut_rows"], planned["cut"]) == (1, max(lengths) - 6)
    assert planned["seconds"] > 0
    assert planned["output"] == 4 * 32 * 4
    shown = run("plan", table, "--column", "review", "-m", models / "embed", "--max-tokens", "6").out
    assert "1 row over 6 would lose 2 tokens" in shown
    assert "over 6  1  █" in shown
    windows = json.loads(
        run(
            "plan", table, "--column", "review", "-m", models / "embed", "--max-tokens", "6", "--too-long", "window", "--json"
        ).out
    )
    assert (windows["windowed"], windows["cut"]) == (1, 0)


@pytest.mark.parametrize(
    ("task", "options", "call"),
    [
        ("embed", (), {}), ("classify", (), {}), ("classify", ("--pair-column", "other"), {}), ("tag", (), {}), ("fill", (), {}),
        ("rank", ("--query", "which cat ?"), {"query": "which cat ?"}), ("answer", ("--question", "which cat ?"), {"question": "which cat ?"}),
        ("answer", ("--question-column", "other"), {}), ("search", ("--vectors", "v.npy"), {}),
    ],
)  # fmt: skip
def test_plan_of_every_task(
    task: str,
    options: tuple[str, ...],
    call: dict[str, Any],
    run: Run,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", np.ones((3, 32), np.float32))
    rows = [(f"the [MASK] {'sat on the mat ' * n}", f"a dog {n} ?") for n in range(12)]
    pq.write_table(pa.table({"text": [text for text, _ in rows], "other": [other for _, other in rows]}), "in.parquet")
    model = models / ("embed" if task == "search" else task)
    long = "window" if task in ("tag", "answer") else "truncate"
    argv = ("in.parquet", "--column", "text", "-m", model, "--max-tokens", "20")
    planned = json.loads(run("plan", *argv, "--task", task, *options, "--json").out)
    assert planned["fastest"] <= planned["seconds"] <= planned["slowest"] * 1.01
    kind = plans.TASKS[task]
    corpus = {"corpus": Corpus(np.ones((3, 32), np.float32))} if task == "search" else {}
    columns = (
        ["other", "text"] if "--question-column" in options else ["text", "other"] if "--pair-column" in options else "text"
    )
    made = getattr(nb, kind)(model, max_tokens=20, too_long=long)
    report = nb.Job(made, "in.parquet", "out", column=columns, **call, **corpus).run()
    assert (planned["rows"], planned["tokens"] - planned["cut"]) == (report.rows, report.tokens)
    assert planned["cut_rows"] == report.cut_rows
    if long == "window":
        texts = [text for text, _ in rows]
        asked = ["which cat ?"] * 12 if call else [other for _, other in rows]
        counts = made(*([asked] if task == "answer" else []), texts, return_report=True)[1].windows
        assert (planned["windowed"], planned["windows"]) == ((counts > 1).sum(), counts[counts > 1].sum())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["plan", "{table}", "--task", "rank", "-m", "m"], "--task rank requires --query TEXT"),
        (["plan", "{table}", "--task", "search"], "--task search requires --vectors FILE"),
        (["plan", "{table}", "--query", "a"], "--query is for --task rank"),
        (["embed", "{table}", "-o", "-", "--keep", "no", "--column", "review", "--delimiter", ";"], "no column 'no'"),
        (["embed", "{table}", "-o", "-", "--strict", "--column", "review", "--delimiter", ";"], "row 2 of"),
        (
            ["embed", "{table}", "-o", "x.npy", "--shard-rows", "3"],
            "--shard-rows is for a folder of shards: end the output with a slash",
        ),
        (["classify", "{table}", "-m", "m", "--resume"], "--resume requires the folder of a job: -o OUT/"),
        (["embed", "{table}", "-o", "{table}", "--keep", "id", "--column", "review"], "is the input file"),
        (["rank", "{table}", "--query", "a", "--query", "b", "-m", "m", "-o", "o/"], "takes one --query"),
        (["tag", "{table}", "-m", "m", "-o", "o/", "--explain"], "--explain shows texts"),
        (["embed", "{tmp}/x.xlsx", "-o", "o.npy"], "is a spreadsheet: save it as CSV UTF-8"),
        (["verify", "{tmp}"], "holds no job"),
        (["plan", "-", "--format", "csv", "-m", "{models}/embed"], "standard input can be read only once"),
    ],
)
def test_errors_are_one_line(run: Run, models: Path, table: Path, tmp_path: Path, argv: list[str], message: str) -> None:
    (tmp_path / "x.xlsx").write_bytes(b"PK\x03\x04")
    result = run(*(word.format(table=table, tmp=tmp_path, models=models) for word in argv), stdin="text\na\n")
    assert result.code == 2
    assert message in one_line(result)
