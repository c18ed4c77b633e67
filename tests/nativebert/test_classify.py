"""The Classifier: against the text-classification pipeline of transformers, and what it promises beyond."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classifiers import FAMILIES, LIMIT, classifier, pairs, pipeline
from models import one_thread, texts

import nativebert as nb
from nativebert.errors import BadInputError, RefusedError, TooLongError, Truncated
from nativebert.tasks.classify import Classifier, over_windows

PROBLEMS: dict[str, tuple[list[str], dict[str, str]]] = {
    "single": (["bad", "fair", "good"], {}),
    "said to be single": (["bad", "good"], {"problem_type": "single_label_classification"}),
    "multi": (["red", "green", "blue", "old"], {"problem_type": "multi_label_classification"}),
    "one label": (["spam"], {}),
    "one of several": (["spam"], {"problem_type": "multi_label_classification"}),
    "regression": (["stars"], {"problem_type": "regression"}),
    "two regressions": (["joy", "anger"], {"problem_type": "regression"}),
}
SOME = [*texts(40, 12), *texts(6, 60, seed=1), "", "cat"]
LONG = " ".join(random.Random(0).choices("the cat sat on mat a dog deep is . ?".split(), k=230))  # a token each


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with one_thread():
        yield


# SOME has texts that are cut; the tests that care ask for the warning
pytestmark = pytest.mark.filterwarnings("ignore::nativebert.errors.Truncated")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder for a family and one of PROBLEMS, made once."""
    root, made = tmp_path_factory.mktemp("classifiers"), {}

    def folder(family: str, problem: str = "single") -> Path:
        key = f"{family} {problem}".replace(" ", "_")
        if key not in made:
            labels, more = PROBLEMS[problem]
            made[key] = classifier(root / key, family, labels, **more)
        return made[key]

    return folder


@pytest.fixture
def classify(folders: Any) -> Classifier:
    return Classifier(folders("bert"), device="cpu")


def equal(ours: Any, theirs: Any) -> None:
    """The same labels in the same order, and the same scores."""
    if isinstance(ours, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            equal(a, b)
    else:
        assert ours["label"] == theirs["label"]
        assert abs(ours["score"] - theirs["score"]) <= 1e-5


# -- against transformers


@pytest.mark.reference
@pytest.mark.parametrize("family", FAMILIES)
def test_labels_and_scores_as_in_the_reference(folders: Any, family: str) -> None:
    ours, theirs = Classifier(folders(family), device="cpu"), pipeline("text-classification", folders(family), family)
    for top_k in (1, 2, 3, 9, None):
        given = {"truncation": True, "top_k": top_k}
        expected = [one[0] for one in theirs(SOME, **given)] if top_k == 1 else theirs(SOME, **given)
        equal(ours(SOME, top_k=top_k), expected)
    equal(ours(SOME), theirs(SOME, truncation=True))
    assert len({one["label"] for one in ours(SOME)}) > 1 or np.ptp(ours.scores(SOME)) > 0.1


@pytest.mark.reference
@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_as_in_the_reference(folders: Any, family: str) -> None:
    some = [*pairs(30, 6), *pairs(10, 30, seed=1), ("a", LONG), (LONG, "a"), (LONG, LONG), ("", "a")]
    ours, theirs = Classifier(folders(family), device="cpu"), pipeline("text-classification", folders(family), family)
    expected = [theirs({"text": a, "text_pair": b}, truncation=True, top_k=None) for a, b in some]
    equal(ours(some, top_k=None), expected)
    equal(ours([list(pair) for pair in some], top_k=None), expected)
    assert np.abs(ours.scores(some[:30]) - ours.scores([(b, a) for a, b in some[:30]])).max() > 1e-3


@pytest.mark.reference
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_every_problem_as_in_the_reference(folders: Any, family: str, problem: str) -> None:
    folder, some = folders(family, problem), texts(30, 6)
    ours, theirs = Classifier(folder, device="cpu"), pipeline("text-classification", folder, family)
    equal(ours(some), theirs(some))
    equal(ours(some, top_k=None), theirs(some, top_k=None))
    functions = {"single": "softmax", "multi": "sigmoid", "regression": "none"}
    for name, function in functions.items():
        if name == "single" and len(ours.labels) == 1:
            continue
        other = Classifier(folder, device="cpu", problem=name)
        equal(other(some, top_k=None), theirs(some, top_k=None, function_to_apply=function))


# -- what is promised


def test_the_problem_is_read_from_the_config(folders: Any) -> None:
    some, found = texts(20, 6), {problem: Classifier(folders("bert", problem), device="cpu") for problem in PROBLEMS}
    assert {name: c.problem for name, c in found.items()} == {
        "single": "single", "said to be single": "single", "multi": "multi", "one label": "multi", "one of several": "multi",
        "regression": "regression", "two regressions": "regression",
    }  # fmt: skip
    for name, c in found.items():
        assert list(c.labels) == PROBLEMS[name][0]
        scores = c.scores(some)
        assert scores.shape == (20, len(c.labels))
        assert scores.dtype == np.float32
        if c.problem == "single":
            assert np.allclose(scores.sum(1), 1, atol=1e-6)
    assert "single: bad, fair, good" in repr(found["single"])


def test_results_are_the_scores_in_order(classify: Classifier) -> None:
    scores = classify.scores(SOME[:20])
    every = classify(SOME[:20], top_k=None)
    for row, best in zip(scores, every, strict=True):
        assert [one["score"] for one in best] == sorted(row.tolist(), reverse=True)
        assert {one["label"]: one["score"] for one in best} == dict(zip(classify.labels, row.tolist(), strict=True))
    assert classify(SOME[:20]) == [best[0] for best in every]
    assert classify(SOME[:20], top_k=2) == [best[:2] for best in every]
    assert type(every[0][0]["score"]) is float


def test_threshold_gives_every_label_that_reaches_it(folders: Any) -> None:
    classify = Classifier(folders("bert", "multi"), device="cpu")
    scores = classify.scores(SOME)
    border = float(np.sort(scores.ravel())[scores.size // 2])  # exactly one of the scores
    found = classify(SOME, threshold=border)
    assert [len(best) for best in found] == (scores >= border).sum(1).tolist()
    assert found == [[one for one in best if one["score"] >= border] for best in classify(SOME, top_k=None)]
    assert 0 < sum(map(len, found)) < scores.size
    assert classify(SOME, threshold=1.1) == [[] for _ in SOME]
    for wrong in ("0.5", [0.5], float("nan")):
        with pytest.raises(BadInputError, match="threshold must be a number, not "):
            classify(SOME, threshold=wrong)  # type: ignore[arg-type]


def test_equal_scores_keep_the_order_of_the_labels() -> None:
    from nativebert.tasks.classify import best_labels

    scores = np.array([[0.2, 0.4, 0.4], [0.5, 0.5, 0.0]], np.float32)
    found = best_labels(scores, ("a", "b", "c"), None)
    assert [[one["label"] for one in best] for best in found] == [["b", "c", "a"], ["a", "b", "c"]]
    many = tuple(map(str, range(300)))
    (best,) = best_labels(np.tile(np.array([[0.25, 0.5, 0.5]], np.float32), 100), many, None)
    assert [int(one["label"]) for one in best] == sorted(range(300), key=lambda n: (n % 3 == 0, n))


def test_what_holds_texts_and_what_comes_back(classify: Classifier) -> None:
    (one,) = classify("the cat")
    assert set(one) == {"label", "score"}
    assert classify(t for t in ["the cat"]) == [one] == classify(np.array(["the cat"])) == classify(("the cat",))
    assert classify([]) == []
    assert classify.scores([]).shape == (0, 3)
    results, report = classify(["the cat", "a dog sat"], return_report=True)
    assert results.report is report
    assert report.tokens.tolist() == [len(classify.tokenizer.encode(t)) for t in ("the cat", "a dog sat")]
    _, report = classify.scores(["the cat"], return_report=True)
    assert report.windows.tolist() == [1]
    assert results.rows() == [{"item": n, **one} for n, one in enumerate(results)]
    assert [row["rank"] for row in classify("the cat", top_k=3).rows()] == [0, 1, 2]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("paired", [False, True], ids=["texts", "pairs"])
def test_bits_do_not_depend_on_order_or_company(folders: Any, family: str, paired: bool) -> None:
    some: list[Any] = [(a[:12], b) for a, b in pairs(40, 20)] if paired else SOME
    for policy in ("truncate", "window"):
        classify = Classifier(folders(family), device="cpu", too_long=policy)
        whole = classify.scores(some)
        order = random.Random(0).sample(range(len(some)), len(some))
        assert np.array_equal(classify.scores([some[n] for n in order]), whole[order])
        few = Classifier(folders(family), device="cpu", too_long=policy, batch_tokens=60)
        assert np.array_equal(few.scores(some), whole)
        for n in order[:12]:
            assert np.array_equal(classify.scores([some[n]])[0], whole[n])


def test_long_lists_are_worked_on_in_stretches(classify: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = classify.scores(SOME[:20])
    monkeypatch.setattr("nativebert.tasks.call.CHUNK_TEXTS", 7)
    assert np.array_equal(classify.scores(SOME[:20]), whole)
    with pytest.raises(BadInputError, match="text 9 "):
        classify([*SOME[:9], None])  # type: ignore[list-item]
    # a kind that changes at the border of two stretches is no less wrong
    with pytest.raises(BadInputError, match="text 7 is a tuple"):
        classify([*SOME[:7], ("a", "b")])  # type: ignore[list-item]
    with pytest.raises(BadInputError, match="text 7 is a single text among pairs"):
        classify([*pairs(7, 3), "a"])  # type: ignore[list-item]


# -- long texts


def spans(room: int, stride: int) -> list[str]:
    """The windows over LONG, as texts."""
    words = LONG.split()
    starts = [*range(0, len(words) - room, room - stride), len(words) - room]
    return [" ".join(words[start : start + room]) for start in starts]


@pytest.mark.parametrize("problem", ["single", "multi", "regression"])
def test_windows_are_averaged_or_the_highest_is_taken(folders: Any, problem: str) -> None:
    short = Classifier(folders("bert", problem), device="cpu")
    parts = spans(LIMIT - 2, stride=10)
    assert len(parts) > 3
    each = short.scores(parts)
    with pytest.warns(Truncated):
        cut = short.scores([LONG])[0]
    assert np.array_equal(cut, each[0])
    given: dict[str, Any] = {"device": "cpu", "too_long": "window", "stride": 10}
    mean, report = Classifier(folders("bert", problem), **given).scores(["cat", LONG], return_report=True)
    assert np.allclose(mean[1], each.mean(0), atol=1e-6)
    assert np.array_equal(mean[0], short.scores(["cat"])[0])
    assert report.windows.tolist() == [1, len(parts)]
    assert report.cut.sum() == 0
    assert report.tokens[1] == len(short.tokenizer.encode(LONG))
    highest = Classifier(folders("bert", problem), combine="max", **given).scores(["cat", LONG])
    assert np.array_equal(highest[1], each.max(0))
    assert np.ptp(each, axis=0).max() > 1e-3


def test_pairs_slide_over_the_second_text(folders: Any) -> None:
    short = Classifier(folders("bert"), device="cpu")
    parts = spans(LIMIT - 3 - 3, stride=8)  # without three special tokens, and three of the first text
    each = short.scores([("the cat sat", part) for part in parts])
    found = Classifier(folders("bert"), device="cpu", too_long="window", stride=8).scores([("the cat sat", LONG)])
    assert np.allclose(found[0], each.mean(0), atol=1e-6)
    with pytest.raises(TooLongError, match="shorten its first part"):
        Classifier(folders("bert"), device="cpu", too_long="window").scores([(LONG, "a")])


def test_over_windows() -> None:
    scores = np.array([[0.25, 1], [0.5, 0], [1, 3], [0, 5]], np.float32)
    starts = np.array([0, 1, 3])
    assert over_windows(scores, starts, "mean").tolist() == [[0.25, 1], [0.75, 1.5], [0, 5]]
    assert over_windows(scores, starts, "max").tolist() == [[0.25, 1], [1, 3], [0, 5]]


def test_what_is_cut_is_counted_and_told(classify: Classifier, folders: Any) -> None:
    tokens = len(classify.tokenizer.encode(LONG))
    with pytest.warns(
        Truncated, match=rf"1 of 2 texts is longer than {LIMIT} tokens and was cut: {tokens - LIMIT} of "
    ) as told:
        results = classify(["cat", LONG])
    assert len(told) == 1
    assert told[0].filename == __file__
    assert results.report.cut.tolist() == [0, tokens - LIMIT]
    with pytest.warns(Truncated) as told:
        classify.scores([LONG])
    assert told[0].filename == __file__
    with pytest.raises(TooLongError, match=f"text 1 has {tokens} tokens and the limit is {LIMIT}"):
        Classifier(folders("bert"), device="cpu", too_long="error")(["cat", LONG])


# -- what is wrong


def test_what_is_wrong_is_told(classify: Classifier, folders: Any, tmp_path: Path) -> None:
    for top_k in (0, -1, True, 1.5, "all"):
        with pytest.raises(BadInputError, match="top_k must be a whole number, 1 or more"):
            classify(["a"], top_k=top_k)  # type: ignore[arg-type]
    for wrong, message in [
        ([None], "text 0 is None"), (["a", 3], "text 1 is a int"), (7, "must be a list of strings"), ({"a"}, "not set"),
        ([("a", "b"), "c"], "text 1"), ([("a", "b", "c")], "text 0 is not a pair"), (["a", ("b", "c")], "text 1"), (b"a", "not bytes"),
        ([("a", None)], "text 0 is None"),
    ]:  # fmt: skip
        with pytest.raises(BadInputError, match=message):
            classify(wrong)  # type: ignore[arg-type]
    folder = folders("bert")
    with pytest.raises(BadInputError, match="combine must be 'mean' or 'max', not 'sum'"):
        Classifier(folder, combine="sum")
    with pytest.raises(BadInputError, match="problem must be one of 'single', 'multi', 'regression', not 'softmax'"):
        Classifier(folder, problem="softmax")
    with pytest.raises(RefusedError, match="has one label"):
        Classifier(folders("bert", "one label"), problem="single")
    with pytest.raises(BadInputError, match="needs a model with the head 'classify'"):
        Classifier(nb.load(folder, head=None), device="cpu")


def test_labels_without_names(folders: Any, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for file in folders("bert", "two regressions").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    for key in ("id2label", "label2id", "problem_type"):
        config.pop(key, None)
    (folder / "config.json").write_text(json.dumps(config))
    classify = Classifier(folder, device="cpu")
    assert classify.labels == ("LABEL_0", "LABEL_1")
    assert classify.problem == "single"


def test_reduced_precision_gives_float32_scores(folders: Any) -> None:
    some = texts(9, 6)
    exact = Classifier(folders("bert"), device="cpu").scores(some)
    half = Classifier(folders("bert"), device="cpu", precision="bfloat16").scores(some)
    assert half.dtype == np.float32
    assert np.allclose(half.sum(1), 1, atol=1e-6)
    assert 0 < np.abs(half - exact).max() < 0.1
