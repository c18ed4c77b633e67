"""The components in spaCy."""

from __future__ import annotations

import importlib.metadata
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hf_checkpoints import make
from models import minilm, one_thread

import nativebert as nb
from nativebert.errors import BadInputError, NativeBertError, NativeBertWarning

pytest.importorskip("spacy")

import spacy
from spacy.tokens import Doc, DocBin

from nativebert.integrations.spacy import with_vectors

TEXTS = [
    "Anna went to Paris.",
    "The market fell in London on Monday, and in\nNew  York.",
    "",
    " ",
    "a",
    "😀 O'Neill's U.S. café",
] * 4


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    pytest.importorskip("transformers")
    return make(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def nlp(models: dict[str, str]) -> Any:
    made = spacy.blank("en")
    made.add_pipe("nativebert_vectors", config={"model": str(minilm()), "options": {"device": "cpu"}})
    options = {"device": "cpu", "aggregation": "first"}
    made.add_pipe("nativebert_entities", config={"model": models["ner"], "options": options})
    return made


def entities(doc: Any) -> list[tuple[Any, ...]]:
    return [(e.text, e.label_, e.start_char, e.end_char, e._.nativebert_score) for e in doc.ents]


@pytest.fixture(scope="module")
def expected(models: dict[str, str]) -> list[tuple[Any, Any]]:
    tag = nb.Tagger(models["ner"], device="cpu", aggregation="first")
    return list(zip(nb.Embedder(minilm(), device="cpu")(TEXTS), tag(TEXTS), strict=True))


@pytest.mark.filterwarnings("ignore:.*share a token of spaCy")
def test_vectors_and_entities(nlp: Any, expected: list[tuple[Any, Any]]) -> None:
    one_by_one, piped = [nlp(text) for text in TEXTS], list(nlp.pipe(TEXTS, batch_size=5))
    for docs in (one_by_one, piped):
        for doc, text, (vector, found) in zip(docs, TEXTS, expected, strict=True):
            assert doc.text == text
            assert np.array_equal(doc.vector, vector)
            assert np.array_equal(doc._.nativebert_vector, vector)
            assert doc.has_vector
            assert doc.vector_norm == pytest.approx(1, abs=1e-6)
            assert doc._.nativebert_entities == found
            assert len(doc.ents) <= len(found)
            assert all(e._.nativebert_score is not None for e in doc.ents)
    assert sum(len(doc.ents) for doc in piped) > 4


@pytest.mark.filterwarnings("ignore:.*share a token of spaCy", "ignore:.W109")
@pytest.mark.parametrize("processes", [1, 2])
def test_several_processes_give_the_same(nlp: Any, processes: int, expected: list[tuple[Any, Any]]) -> None:
    alone = list(nlp.pipe(TEXTS))
    docs = list(map(with_vectors, nlp.pipe(TEXTS, n_process=processes, batch_size=5)))
    for doc, other, (vector, found) in zip(docs, alone, expected, strict=True):
        assert np.array_equal(doc.vector, vector)
        assert doc._.nativebert_entities == found
        assert entities(doc) == entities(other)
        assert doc.similarity(docs[0]) == other.similarity(alone[0])
    tuples = list(nlp.pipe([(text, n) for n, text in enumerate(TEXTS)], as_tuples=True, n_process=processes))
    assert [n for _, n in tuples] == list(range(len(TEXTS)))


@pytest.mark.filterwarnings("ignore:.*share a token of spaCy")
def test_vectors_go_where_documents_go(nlp: Any) -> None:
    doc = nlp(TEXTS[1])
    assert np.array_equal(pickle.loads(pickle.dumps(doc)).vector, doc.vector)
    with pytest.warns(UserWarning, match="W109"):
        data = doc.to_bytes()
    again = Doc(nlp.vocab).from_bytes(data)
    (stored,) = DocBin(store_user_data=True, docs=[doc]).get_docs(nlp.vocab)
    for other in (again, stored):
        assert np.array_equal(other._.nativebert_vector, doc.vector)
        assert np.array_equal(with_vectors(other).vector, doc.vector)
        assert entities(other) == entities(doc)
        assert list(other._.nativebert_entities) == doc._.nativebert_entities  # a DocBin makes tuples of lists


SPAWNED = """
import multiprocessing
import sys
import spacy
import nativebert.integrations.spacy

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    nlp = spacy.blank("en")
    nlp.add_pipe("nativebert_vectors", config={"model": sys.argv[1], "options": {"device": "cpu"}})
    nlp.add_pipe("nativebert_entities", config={"model": sys.argv[2], "options": {"device": "cpu"}})
    texts = ["Anna went to Paris.", "", "The market fell."]
    for one, other in zip(nlp.pipe(texts), nlp.pipe(texts, n_process=2), strict=True):
        assert (one._.nativebert_vector == other._.nativebert_vector).all()
        assert one._.nativebert_entities == other._.nativebert_entities
        assert [str(e) for e in one.ents] == [str(e) for e in other.ents]
    print("the same")
"""


def test_processes_that_are_spawned(models: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(SPAWNED)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "program.py", str(minilm()), models["ner"]]
    run = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
    assert run.stdout == "the same\n", run.stderr


def test_similarity_is_the_cosine(nlp: Any) -> None:
    embed = nb.Embedder(minilm(), device="cpu")
    a, b = nlp("A cat sat."), nlp("The kitten was sitting.")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert a.similarity(b) == pytest.approx(float(embed.similarity(embed(a.text), embed(b.text))[0, 0]), abs=1e-6)
    assert a.similarity(a) == pytest.approx(1, abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*share a token of spaCy")
def test_pipelines_are_saved(nlp: Any, tmp_path: Path) -> None:
    nlp.to_disk(tmp_path / "nlp")
    again = spacy.load(tmp_path / "nlp")
    assert again.pipe_names == ["nativebert_vectors", "nativebert_entities"]
    assert np.array_equal(again(TEXTS[0]).vector, nlp(TEXTS[0]).vector)
    assert entities(again(TEXTS[1])) == entities(nlp(TEXTS[1]))
    assert sum(file.stat().st_size for file in (tmp_path / "nlp").rglob("*") if file.is_file()) < 2_000_000
    assert np.array_equal(again.from_bytes(nlp.to_bytes())(TEXTS[0]).vector, nlp(TEXTS[0]).vector)


class Found:
    """A tagger that finds what it is told to."""

    def __init__(self, text: str, *spans: tuple[int, int]) -> None:
        self.text = text
        self.found = [
            {"text": text[a:b], "label": "X", "score": 1 / (n + 2), "start": a, "end": b} for n, (a, b) in enumerate(spans)
        ]

    def __call__(self, texts: list[str], progress: bool) -> list[list[dict[str, Any]]]:
        return [self.found if text == self.text else [] for text in texts]


def test_entities_become_spans_of_whole_tokens() -> None:
    from nativebert.integrations.spacy import Entities

    text = "New-York and co2emissions rose"
    nlp = spacy.blank("en")
    assert [token.text for token in nlp(text)] == ["New", "-", "York", "and", "co2emissions", "rose"]
    tagger: Any = Found(text, (0, 8), (13, 16), (26, 30))
    doc = Entities(tagger)(nlp(text))
    assert entities(doc) == [("New-York", "X", 0, 8, 1 / 2), ("co2emissions", "X", 13, 25, 1 / 3), ("rose", "X", 26, 30, 1 / 4)]
    assert doc._.nativebert_entities == tagger.found
    several: Any = Found(text, (0, 8), (13, 16), (16, 25), (26, 30))
    with pytest.warns(
        NativeBertWarning, match=r"1 of 4 entities share a token of spaCy with another entity.*nativebert_entities has all"
    ):
        doc = Entities(several)(nlp(text))
    assert [e[:2] for e in entities(doc)] == [("New-York", "X"), ("co2emissions", "X"), ("rose", "X")]
    assert doc._.nativebert_entities == several.found


def test_entities_that_are_there_stay_unless_they_are_to_go() -> None:
    from nativebert.integrations.spacy import Entities

    text = "Anna went to Paris"
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "CITY", "pattern": "Paris"}])
    tagger: Any = Found(text, (0, 4), (13, 18))
    with pytest.warns(NativeBertWarning, match="1 of 2 entities share a token"):
        kept = Entities(tagger)(nlp(text))
    assert [(e.text, e.label_) for e in kept.ents] == [("Anna", "X"), ("Paris", "CITY")]
    replaced = Entities(tagger, overwrite=True)(nlp(text))
    assert [(e.text, e.label_) for e in replaced.ents] == [("Anna", "X"), ("Paris", "X")]


def test_what_is_wrong_is_told(models: dict[str, str]) -> None:
    nlp = spacy.blank("en")
    with pytest.raises(BadInputError, match="precision must be"):
        nlp.add_pipe("nativebert_vectors", config={"model": str(minilm()), "options": {"precision": "float8"}})
    with pytest.raises(ValueError, match="model"):
        nlp.add_pipe("nativebert_entities")
    with pytest.raises(NativeBertError, match="tag"):
        nlp.add_pipe("nativebert_entities", config={"model": str(minilm())})
    with pytest.raises(ValueError, match=r"not <class .str.>|valid string"):
        nlp.add_pipe("nativebert_vectors", config={"model": 7})
    assert nlp.pipe_names == []


def test_spacy_finds_the_components_by_name(tmp_path: Path) -> None:
    installed = {one.name for one in importlib.metadata.entry_points(group="spacy_factories")}
    if not {"nativebert_vectors", "nativebert_entities"} <= installed:
        pytest.skip("this nativebert was installed before it had these components")
    program = (
        "import spacy, sys; nlp = spacy.blank('en'); nlp.add_pipe('nativebert_vectors', config={'model': sys.argv[1]}); "
        "print(nlp('a').vector.shape)"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", program, str(minilm())], env=env, capture_output=True, text=True, timeout=120)
    assert run.stdout == "(384,)\n", run.stderr
