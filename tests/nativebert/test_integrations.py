"""What the adapters do by themselves; tests/integrations has them with the programs that they are for."""

from __future__ import annotations

import importlib
import pickle
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hf_checkpoints import make
from models import minilm, one_thread

import nativebert as nb
from nativebert.errors import BadInputError
from nativebert.integrations.common import missing, prepared
from nativebert.integrations.datasets import Apply

TEXTS = ["Anna went to Paris.", "The market fell on Monday.", "", "a cat"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    pytest.importorskip("transformers")
    return make(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def embed() -> nb.Embedder:
    return nb.Embedder(minilm(), device="cpu")


def test_a_task_is_taken_as_it_is_or_made(embed: nb.Embedder) -> None:
    assert prepared(nb.Embedder, embed, {}) is embed
    for model in (minilm(), str(minilm()), "all-MiniLM-L6-v2", embed.snapshot, nb.load(minilm())):
        made = prepared(nb.Embedder, model, {"device": "cpu", "max_tokens": 9})
        assert (made.max_tokens, made.device) == (9, "cpu")
        assert np.array_equal(made(TEXTS), embed(TEXTS))


def test_options_that_would_do_nothing_are_refused(embed: nb.Embedder) -> None:
    with pytest.raises(
        BadInputError, match="precision, stride: given with Embedder that is made already, where it would have no"
    ):
        prepared(nb.Embedder, embed, {"precision": "int8", "stride": 1})
    with pytest.raises(BadInputError, match="model must be a folder, a name on the Hub or a loaded model, not Embedder"):
        prepared(nb.Ranker, embed, {})
    with pytest.raises(TypeError, match="unexpected keyword argument 'precison'"):
        prepared(nb.Embedder, minilm(), {"precison": "int8"})


@pytest.mark.parametrize(
    ("program", "package"),
    [
        ("bertopic", "bertopic"),
        ("keybert", "keybert"),
        ("langchain", "langchain-core"),
        ("sklearn", "scikit-learn"),
        ("spacy", "spacy"),
    ],
)
def test_a_missing_package_is_named(program: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bertopic", "keybert", "langchain_core", "sklearn", "spacy"):
        for known in [name, *(known for known in sys.modules if known.startswith(f"{name}."))]:
            monkeypatch.setitem(sys.modules, known, None)
    monkeypatch.delitem(sys.modules, f"nativebert.integrations.{program}", raising=False)
    with pytest.raises(ImportError, match=f"needs the package {package}, which cannot be imported .*: pip install {package}$"):
        importlib.import_module(f"nativebert.integrations.{program}")


def test_why_a_package_cannot_be_imported_is_told() -> None:
    error = missing("spacy", ImportError("libfoo.so: cannot open shared object file", name="thinc"))
    assert "libfoo.so: cannot open shared object file" in str(error)
    assert error.name == "thinc"


class _BaseEmbedder:
    """As BERTopic and KeyBERT have it."""

    def __init__(self, embedding_model: Any = None, word_embedding_model: Any = None) -> None:
        self.embedding_model = embedding_model
        self.word_embedding_model = word_embedding_model

    def embed(self, documents: Any, verbose: bool = False) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("program", ["bertopic", "keybert"])
def test_a_backend_is_what_the_program_knows(program: str, embed: nb.Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    backend: Any = ModuleType(f"{program}.backend")
    backend.BaseEmbedder = _BaseEmbedder
    monkeypatch.setitem(sys.modules, program, ModuleType(program))
    monkeypatch.setitem(sys.modules, f"{program}.backend", backend)
    monkeypatch.delitem(sys.modules, f"nativebert.integrations.{program}", raising=False)
    module = importlib.import_module(f"nativebert.integrations.{program}")
    made = module.NativeBertBackend(embed)
    assert isinstance(made, _BaseEmbedder)
    assert made.embedding_model is embed
    assert made.word_embedding_model is None
    for texts in (TEXTS, np.array(TEXTS), np.array(TEXTS, object)):
        assert np.array_equal(made.embed(texts), embed(TEXTS))
        assert np.array_equal(made.embed(texts, verbose=True), embed(TEXTS))
    assert module.NativeBertBackend(str(minilm()), device="cpu", truncate_dim=5).embed(TEXTS).shape == (4, 5)
    monkeypatch.delitem(sys.modules, f"nativebert.integrations.{program}")


# -- a function for datasets.map


def test_a_task_over_a_column(models: dict[str, str], embed: nb.Embedder) -> None:
    rows = {"text": TEXTS, "other": TEXTS[::-1]}
    found = Apply(embed, "text", "vector")(rows)
    assert list(found) == ["vector"]
    assert np.array_equal(found["vector"], embed(TEXTS))
    tag = nb.Tagger(models["ner"], device="cpu")
    assert Apply(tag, ["text"], into="entities", top_k=2)(rows) == {"entities": tag(TEXTS, top_k=2)}
    rank = nb.Ranker(models["cross"], device="cpu")
    scores = Apply(rank, ("other", "text"), into="score")(rows)["score"]
    assert scores.tolist() == rank(list(zip(TEXTS[::-1], TEXTS))).tolist()
    classify = nb.Classifier(models["nli"], device="cpu")
    pairs = list(zip(TEXTS, TEXTS[::-1]))
    assert Apply(classify, ("text", "other"), into="label")(rows)["label"] == classify(pairs)


def test_a_task_over_one_row(models: dict[str, str], embed: nb.Embedder) -> None:
    row = {"text": TEXTS[0], "other": TEXTS[1]}
    assert Apply(embed, "text", "vector")(row)["vector"].tolist() == embed(TEXTS[:1])[0].tolist()
    classify = nb.Classifier(models["nli"], device="cpu")
    assert Apply(classify, ("text", "other"), "label")(row) == {"label": classify([(TEXTS[0], TEXTS[1])])[0]}


def test_a_column_that_is_no_texts_is_refused(embed: nb.Embedder) -> None:
    with pytest.raises(BadInputError, match="text 1 is None"):
        Apply(embed, "text", "vector")({"text": ["a", None]})
    for columns in ((), ("a", "b", "c")):
        with pytest.raises(BadInputError, match=f"column must name one column, or two for pairs, not {len(columns)}"):
            Apply(embed, columns, "vector")


def test_a_function_is_another_where_the_files_are(tmp_path: Path) -> None:
    folder = shutil.copytree(minilm(), tmp_path / "m")
    before = pickle.dumps(Apply(nb.Embedder(folder, device="cpu"), "text", "vector"))
    assert pickle.dumps(Apply(nb.Embedder(folder, device="cpu"), "text", "vector")) == before
    (folder / "notes.md").write_text("nobody reads this")
    assert pickle.dumps(Apply(nb.Embedder(folder, device="cpu"), "text", "vector")) == before
    assert len(before) < 10_000
    again = pickle.loads(before)
    assert np.array_equal(again({"text": TEXTS})["vector"], nb.Embedder(folder, device="cpu")(TEXTS))
    others = [
        Apply(nb.Embedder(folder, device="cpu"), "text", "other"),
        Apply(nb.Embedder(folder, device="cpu"), "other", "vector"),
        Apply(nb.Embedder(folder, device="cpu"), "text", "vector", prompt="query: "),
        Apply(nb.Embedder(folder, device="cpu", max_tokens=9), "text", "vector"),
        Apply(nb.Embedder(folder, device="cpu", normalize=False), "text", "vector"),
    ]
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(
        pooling.read_text("utf-8").replace('"pooling_mode_mean_tokens": true', '"pooling_mode_mean_tokens":  true')
    )
    others.append(Apply(nb.Embedder(folder, device="cpu"), "text", "vector"))
    found = [pickle.dumps(other) for other in others]
    assert len({before, *found}) == len(others) + 1
