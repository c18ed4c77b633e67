"""NativeBertVectorizer in scikit-learn."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import minilm, one_thread

import nativebert as nb
from nativebert.errors import BadInputError, NativeBertError

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline, make_union
from sklearn.utils import estimator_checks
from sklearn.utils.validation import check_is_fitted

from nativebert.integrations.sklearn import NativeBertVectorizer

TEXTS = ["A wonderful film.", "I was bored.", "Great fun!", "What a waste.", "Lovely.", "Dull and long."] * 3
LABELS = ["good", "bad"] * 9


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def embed() -> nb.Embedder:
    return nb.Embedder(minilm(), device="cpu")


def vectorizer(**options: Any) -> NativeBertVectorizer:
    return NativeBertVectorizer(str(minilm()), device="cpu", **options)


def test_vectors_are_the_embedders(embed: nb.Embedder) -> None:
    expected = embed(TEXTS)
    vectors = vectorizer()
    assert np.array_equal(vectors.fit_transform(TEXTS, LABELS), expected)
    assert np.array_equal(vectors.transform(TEXTS), expected)
    assert np.array_equal(vectorizer().transform(np.array(TEXTS)), expected), "there is nothing to fit"
    assert np.array_equal(NativeBertVectorizer(embed).fit(TEXTS).transform(TEXTS), expected)
    assert vectors.fit(TEXTS) is vectors
    check_is_fitted(vectorizer())


def test_options_are_those_of_the_embedder() -> None:
    own = {
        "precision": "int8", "batch_tokens": 99, "too_long": "window", "max_tokens": 9, "stride": 2, "pooling": ("max", "cls"),
        "normalize": False, "truncate_dim": 100,
    }  # fmt: skip
    made = vectorizer(**own, prompt="query: ")
    assert made.get_params() == {
        "model": str(minilm()), "device": "cpu", "prompt": "query: ", "prompt_name": None, "revision": None, "offline": None, **own,
    }  # fmt: skip
    long = ["one two three four five six seven eight nine ten eleven", *TEXTS]
    expected = nb.Embedder(minilm(), device="cpu", **own)(long, prompt="query: ")  # type: ignore[arg-type]
    assert np.array_equal(made.transform(long), expected)


def test_a_parameter_that_changes_loads_anew(embed: nb.Embedder) -> None:
    vectors = vectorizer()
    assert vectors.transform(TEXTS).shape[1] == 384
    first = vectors._made
    vectors.transform(TEXTS)
    assert vectors._made is first
    vectors.set_params(truncate_dim=7, prompt="a ")
    assert np.array_equal(vectors.transform(TEXTS), nb.Embedder(minilm(), device="cpu", truncate_dim=7)(TEXTS, prompt="a "))
    vectors.truncate_dim = None
    vectors.prompt = None
    assert np.array_equal(vectors.transform(TEXTS), embed(TEXTS))
    with pytest.raises(BadInputError, match="precision must be"):
        vectors.set_params(precision="float8").fit(TEXTS)


def test_an_embedder_is_shared_and_takes_no_options(embed: nb.Embedder) -> None:
    vectors = NativeBertVectorizer(embed, prompt="query: ")
    assert np.array_equal(vectors.transform(TEXTS), embed(TEXTS, prompt="query: "))
    with pytest.raises(BadInputError, match="truncate_dim: given with Embedder that is made already"):
        NativeBertVectorizer(embed, truncate_dim=3).fit(TEXTS)
    copied = clone(vectors)
    assert np.array_equal(copied.transform(TEXTS), vectors.transform(TEXTS))


def test_clone_and_pickle_leave_the_model_out() -> None:
    vectors = vectorizer(truncate_dim=9).fit(TEXTS)
    copied = clone(vectors)
    assert copied.get_params() == vectors.get_params()
    assert "_made" not in vars(copied)
    state = pickle.dumps(vectors)
    assert len(state) < 1000
    assert np.array_equal(pickle.loads(state).transform(TEXTS), vectors.transform(TEXTS))


def test_names_and_tables() -> None:
    pandas = pytest.importorskip("pandas")
    vectors = vectorizer(truncate_dim=3)
    names = [f"nativebertvectorizer{n}" for n in range(3)]
    assert vectors.get_feature_names_out().tolist() == names
    frame = pandas.DataFrame({"text": TEXTS, "number": range(len(TEXTS))}, index=range(5, 5 + len(TEXTS)))
    table = vectors.set_output(transform="pandas").fit_transform(frame["text"])
    assert list(table.columns) == names
    assert list(table.index) == list(frame.index)
    assert np.array_equal(table, vectorizer(truncate_dim=3).transform(TEXTS))
    columns = ColumnTransformer([("text", vectorizer(truncate_dim=3), "text")], remainder="passthrough")
    assert columns.fit_transform(frame).shape == (len(TEXTS), 4)
    assert columns.get_feature_names_out().tolist() == [*(f"text__{name}" for name in names), "remainder__number"]
    with pytest.raises(BadInputError, match="one column of a table, not DataFrame"):
        vectors.transform(frame[["text"]])
    with pytest.raises(BadInputError, match="text 0 is"):
        vectors.transform(np.array(TEXTS)[:, None])
    with pytest.raises(BadInputError, match="text 1 is"):
        vectors.transform(np.array(["a", np.nan], object))


@pytest.mark.parametrize("jobs", [1, 2])
def test_pipelines_are_validated(jobs: int, embed: nb.Embedder) -> None:
    pipeline = make_pipeline(vectorizer(), LogisticRegression())
    scores = cross_val_score(pipeline, TEXTS, LABELS, cv=3, n_jobs=jobs)
    assert scores.tolist() == cross_val_score(LogisticRegression(), embed(TEXTS), LABELS, cv=3).tolist() == [1, 1, 1]
    assert pipeline.fit(TEXTS, LABELS).predict(["I liked it a lot.", "How dull."]).tolist() == ["good", "bad"]
    search = GridSearchCV(pipeline, {"nativebertvectorizer__truncate_dim": [2, None]}, cv=3, n_jobs=jobs).fit(TEXTS, LABELS)
    assert search.best_params_ == {"nativebertvectorizer__truncate_dim": None}


def test_an_embedder_goes_to_other_processes(embed: nb.Embedder) -> None:
    pipeline = make_pipeline(NativeBertVectorizer(embed), LogisticRegression())
    assert cross_val_score(pipeline, TEXTS, LABELS, cv=2, n_jobs=2).tolist() == [1, 1]


def test_beside_other_features_and_in_a_cache(tmp_path: Path) -> None:
    union = make_union(vectorizer(truncate_dim=4), TfidfVectorizer())
    assert union.fit_transform(TEXTS).shape[1] == len(union.get_feature_names_out()) > 4
    runs = []
    for _ in range(2):
        cached = make_pipeline(vectorizer(), LogisticRegression(), memory=str(tmp_path)).fit(TEXTS, LABELS)
        runs.append(cached[0])
    assert "_made" in vars(make_pipeline(vectorizer(), LogisticRegression()).fit(TEXTS, LABELS)[0])
    assert "_made" not in vars(runs[1]), "the second comes out of the cache"


@pytest.mark.parametrize(
    "check",
    [
        "check_no_attributes_set_in_init", "check_parameters_default_constructible", "check_get_params_invariance", "check_set_params",
        "check_estimator_repr", "check_estimator_cloneable", "check_mixin_order",
    ],
)  # fmt: skip
def test_what_scikit_learn_checks_of_every_estimator(check: str) -> None:
    getattr(estimator_checks, check)("NativeBertVectorizer", NativeBertVectorizer())


def test_a_model_that_is_not_there() -> None:
    made = NativeBertVectorizer("no/such-folder/anywhere", offline=True)
    with pytest.raises(NativeBertError):
        made.fit(TEXTS)
