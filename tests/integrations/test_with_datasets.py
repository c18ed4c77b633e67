"""Tasks over datasets: results, and what the cache finds again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hf_checkpoints import make
from models import minilm, one_thread

import nativebert as nb

pytest.importorskip("datasets")

import datasets

from nativebert.integrations.datasets import Apply

TEXTS = ["Anna went to Paris.", "The market fell on Monday.", "", "a cat"] * 10


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    datasets.disable_progress_bars()
    with one_thread():
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    pytest.importorskip("transformers")
    return make(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def embed() -> nb.Embedder:
    return nb.Embedder(minilm(), device="cpu")


def stored(folder: Path) -> Any:
    """A dataset on disk, as the cache is for such."""
    datasets.Dataset.from_dict({"text": TEXTS, "other": TEXTS[::-1]}).save_to_disk(folder)
    return datasets.load_from_disk(folder)


@pytest.mark.parametrize("processes", [None, 2])
def test_vectors_to_the_bit(tmp_path: Path, embed: nb.Embedder, processes: int | None) -> None:
    expected = embed(TEXTS)
    found = stored(tmp_path / "d").map(Apply(embed, "text", "vector"), batched=True, batch_size=7, num_proc=processes)
    assert found.column_names == ["text", "other", "vector"]
    assert np.array_equal(np.array(found.with_format("numpy")["vector"][:]), expected)
    assert found.features["vector"].feature.dtype == "float32"
    alone = stored(tmp_path / "e").map(Apply(embed, "text", "vector"))
    assert np.array_equal(np.array(alone.with_format("numpy")["vector"][:]), expected)


def test_streams_and_formats(tmp_path: Path, embed: nb.Embedder) -> None:
    data, expected = stored(tmp_path / "d"), embed(TEXTS)
    streamed = data.to_iterable_dataset().map(Apply(embed, "text", "vector"), batched=True, batch_size=3)
    assert np.array_equal(np.array([row["vector"] for row in streamed], np.float32), expected)
    for kind in ("numpy", "torch", "pandas"):
        found = data.with_format(kind).map(Apply(embed, "text", "vector"), batched=True).with_format("numpy")
        assert np.array_equal(found["vector"][:], expected)


def test_other_tasks(tmp_path: Path, models: dict[str, str]) -> None:
    data = stored(tmp_path / "d")
    tag = nb.Tagger(models["ner"], device="cpu")
    assert data.map(Apply(tag, "text", "entities"), batched=True)["entities"][:] == tag(TEXTS)
    classify = nb.Classifier(models["emotions"], device="cpu")
    assert data.map(Apply(classify, "text", "labels", top_k=2), batched=True)["labels"][:] == classify(TEXTS, top_k=2)
    rank = nb.Ranker(models["cross"], device="cpu")
    scores = data.map(Apply(rank, ("text", "other"), "score"), batched=True)["score"][:]
    assert scores == rank(list(zip(TEXTS, TEXTS[::-1]))).tolist()


def test_a_first_batch_without_entities(models: dict[str, str]) -> None:
    from datasets import Features, Value

    data, tag = datasets.Dataset.from_dict({"text": ["", *TEXTS]}), nb.Tagger(models["ner"], device="cpu")
    entity = {"text": Value("string"), "label": Value("string"), "score": Value("float64")}
    entity |= {"start": Value("int64"), "end": Value("int64")}
    features = Features({**data.features, "entities": [entity]})
    found = data.map(Apply(tag, "text", "entities"), batched=True, batch_size=1, features=features)
    assert found["entities"][:] == tag(["", *TEXTS])


def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each call of an Embedder has."""
    calls: list[int] = []
    whole = nb.Embedder.__call__

    def counted(self: nb.Embedder, texts: Any, **more: Any) -> Any:
        calls.append(len(texts))
        return whole(self, texts, **more)

    monkeypatch.setattr(nb.Embedder, "__call__", counted)
    return calls


def test_the_cache_finds_what_was_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(minilm(), tmp_path / "m")
    data, calls = stored(tmp_path / "d"), count(monkeypatch)

    def mapped(**options: Any) -> Any:
        return data.map(Apply(nb.Embedder(folder, device="cpu", **options), "text", "vector"), batched=True)

    first = mapped()
    assert sum(calls) == len(TEXTS)
    assert mapped()._fingerprint == first._fingerprint
    assert sum(calls) == len(TEXTS), "the second time out of the cache"
    assert mapped(truncate_dim=5)._fingerprint != first._fingerprint
    assert sum(calls) == 2 * len(TEXTS)
    config = folder / "config.json"
    config.write_text(config.read_text("utf-8").replace('"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-5'))
    changed = mapped()
    assert sum(calls) == 3 * len(TEXTS), "another model in the same folder"
    assert changed["vector"][0] != first["vector"][0]


PROGRAM = """
import sys
import datasets
import nativebert as nb
from nativebert.integrations.datasets import Apply

datasets.disable_progress_bars()
data = datasets.load_from_disk(sys.argv[1])
embed = nb.Embedder(sys.argv[2], device="cpu", max_tokens=99)
embed(["used before it is hashed"] * int(sys.argv[3]))
print(data.map(Apply(embed, "text", "vector", prompt="a "), batched=True)._fingerprint)
print(data.map(lambda rows: {"vector": embed(rows["text"])}, batched=True)._fingerprint)
print(len(list(data.cache_files)), len(list(__import__("pathlib").Path(sys.argv[1]).glob("cache-*"))))
"""


def test_every_process_finds_it(tmp_path: Path) -> None:
    stored(tmp_path / "d")
    outs = []
    for used in ("0", "3"):
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": used}
        argv = [sys.executable, "-c", PROGRAM, str(tmp_path / "d"), str(minilm()), used]
        run = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=200)
        assert run.returncode == 0, run.stderr
        assert "couldn't be hashed" not in run.stderr
        outs.append(run.stdout)
    assert outs[0] == outs[1]
    assert outs[1].split()[-1] == "2", "one file for each function, not one for each process"
