"""The recipes of docs/scale.md, run as they stand, each in a process of its own: every row, in order, with the bits of one process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import MINILM_ID, minilm

pa = pytest.importorskip("pyarrow", reason="tables need pyarrow (extra tables)")
import pyarrow.parquet as pq  # noqa: E402

import nativebert as nb  # noqa: E402

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text("utf-8")
RECIPES = dict(re.findall(r"^### (.+?)\n(?:(?!^### ).)*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
PACKAGES = {
    "Ray Data": "ray.data", "Spark": "pyspark", "Dask": "dask.dataframe", "Daft": "daft", "DuckDB": "duckdb", "polars": "polars", "LanceDB": "lancedb",
    "datasets": "datasets",
}  # fmt: skip
TEXTS = [
    f"{what} number {n} on the {where} shelf"
    for n in range(100)
    for what, where in (("a small bird", "upper"), ("the grey cat", "lower"))
]


def test_every_engine_has_its_recipe() -> None:
    assert list(RECIPES) == list(PACKAGES)
    assert PAGE.count("```python") == len(RECIPES)


def run(program: str, folder: Path) -> tuple[int, str]:
    """The exit code of a recipe, and what it said: into a file, which the daemons of an engine may keep open."""
    pq.write_table(pa.table({"id": list(range(len(TEXTS))), "text": TEXTS}), folder / "reviews.parquet")
    (folder / "recipe.py").write_text(program.replace(f'"{MINILM_ID}"', repr(str(minilm()))), "utf-8")
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]), "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder), "PYSPARK_PYTHON": sys.executable,
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_DEDUP_LOGS": "0",
    }  # fmt: skip
    with open(folder / "said", "w") as said:
        done = subprocess.run([sys.executable, "recipe.py"], cwd=folder, env=env, stdout=said, stderr=said, timeout=280)
    return done.returncode, (folder / "said").read_text()


def check(folder: Path) -> None:
    """All rows are there once, in order, with the bits of this process."""
    out = folder / "out.parquet" if (folder / "out.parquet").is_file() else folder / "out"
    table = pq.read_table(out).to_pydict()
    assert table["id"] == list(range(len(TEXTS)))
    assert table["text"] == TEXTS
    assert np.array_equal(np.array(table["embedding"], np.float32), nb.Embedder(minilm())(TEXTS))


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name: str, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[name], reason=f"the recipe for {name} needs {PACKAGES[name].partition('.')[0]}")
    if name == "Spark":
        java = (
            subprocess.run(["java", "-version"], capture_output=True)
            if any(os.access(f"{path}/java", os.X_OK) for path in os.get_exec_path())
            else None
        )
        if java is None or java.returncode:
            pytest.skip("Spark needs Java")
    code, said = run(RECIPES[name], tmp_path)
    assert code == 0, said
    check(tmp_path)


@pytest.mark.slow
def test_ray_loses_and_doubles_nothing_when_a_worker_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray.data", reason="the recipe for Ray needs ray")
    kill = f"""
    def __call__(self, table):
        import os, pathlib
        mark = pathlib.Path({str(tmp_path / "killed")!r})
        if table["id"][0].as_py() >= 64 and not mark.exists():  # in the middle, once
            mark.touch()
            os.kill(os.getpid(), {int(signal.SIGKILL)})
"""
    program = RECIPES["Ray Data"].replace("\n    def __call__(self, table):\n", kill).replace("batch_size=512", "batch_size=32")
    code, said = run(program, tmp_path)
    assert code == 0, said
    assert (tmp_path / "killed").exists()
    check(tmp_path)


def test_tables_of_programs_come_back_as_what_they_were(tmp_path: Path) -> None:
    embed: Any = nb.Embedder(minilm())
    table = pa.table({"id": [3, 4], "text": TEXTS[:2]})
    want = embed(TEXTS[:2])

    def same(column: Any) -> bool:
        return np.array_equal(np.array(list(column), np.float32), want)

    pd = pytest.importorskip("pandas")
    frame = nb.with_results(embed, pd.DataFrame({"id": [3, 4], "text": TEXTS[:2]}, index=["x", "y"]))
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.index) == ["x", "y"]
    assert same(frame["embedding"])
    assert same(nb.with_results(embed, table)["embedding"].to_pylist())
    reader = nb.with_results(embed, table.to_reader())
    assert isinstance(reader, pa.RecordBatchReader)
    assert same(reader.read_all()["embedding"].to_pylist())
    assert nb.with_results(embed, TEXTS[:2], keep=[]).column_names == ["embedding"]
    datasets = pytest.importorskip("datasets")
    dataset = nb.with_results(embed, datasets.Dataset.from_dict({"text": TEXTS[:2]}))
    assert isinstance(dataset, datasets.Dataset)
    assert same(dataset["embedding"])
    polars = pytest.importorskip("polars")
    for source in (polars.DataFrame({"text": TEXTS[:2]}), polars.LazyFrame({"text": TEXTS[:2]})):
        result = nb.with_results(embed, source)
        assert isinstance(result, polars.DataFrame)
        assert result.schema["embedding"] == polars.Array(polars.Float32, 384)
        assert same(result["embedding"].to_list())


@pytest.mark.parametrize("format", ["parquet", "feather", "csv", "jsonl", "npy"])
def test_files_read_back_by_others_are_equal(format: str, tmp_path: Path) -> None:
    from nativebert.jobs.stream import to_file

    embed = nb.Embedder(minilm())
    path = str(tmp_path / f"v.{format}")
    to_file(embed, {"id": list(range(50)), "text": TEXTS[:50]}, path)
    want = embed(TEXTS[:50])
    pd, polars, duckdb = (pytest.importorskip(name) for name in ("pandas", "polars", "duckdb"))
    names = [f"d{n + 1}" for n in range(want.shape[1])]
    read: dict[str, list[Any]] = {
        "parquet": [
            lambda: pd.read_parquet(path)["embedding"].tolist(), lambda: polars.read_parquet(path)["embedding"].to_list(),
            lambda: pq.read_table(path)["embedding"].to_pylist(), lambda: [row[0] for row in duckdb.sql(f"SELECT embedding FROM '{path}'").fetchall()],
        ],
        "feather": [
            lambda: pd.read_feather(path)["embedding"].tolist(), lambda: polars.read_ipc(path)["embedding"].to_list(),
            lambda: pa.ipc.open_file(path).read_all()["embedding"].to_pylist(),
        ],
        "csv": [
            lambda: pd.read_csv(path)[names].to_numpy(), lambda: polars.read_csv(path).select(names).to_numpy(),
            lambda: duckdb.sql(f"SELECT {', '.join(names)} FROM '{path}'").fetchall(),
        ],
        "jsonl": [
            lambda: pd.read_json(path, lines=True)["embedding"].tolist(), lambda: polars.read_ndjson(path)["embedding"].to_list(),
            lambda: [row[0] for row in duckdb.sql(f"SELECT embedding FROM '{path}'").fetchall()],
        ],
        "npy": [lambda: np.load(path)],
    }  # fmt: skip
    for one in read[format]:
        assert np.array_equal(np.array(one(), np.float32), want)
