"""Metrics against their definitions and against known values."""

from __future__ import annotations

import random

import numpy as np
import pytest

from nativebert.train import metrics


def test_entities() -> None:
    labels = ["B-PER", "I-PER", "O", "I-LOC", "B-LOC", "I-ORG", "O", "B-PER"]
    assert metrics.entities(labels) == {(0, 2, "PER"), (3, 4, "LOC"), (4, 5, "LOC"), (5, 6, "ORG"), (7, 8, "PER")}


def test_tagging() -> None:
    true = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-ORG"]]
    predicted = [["B-PER", "I-PER", "O", "B-ORG"], ["B-ORG", "B-ORG"]]
    found = metrics.tagging(true, predicted)
    assert (found["precision"], found["recall"]) == (0.5, pytest.approx(2 / 3))
    assert found["f1"] == pytest.approx(4 / 7)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert metrics.tagging([["NOUN", "VERB"]], [["NOUN", "NOUN"]])["f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert metrics.tagging([["O"]], [["O"]])["accuracy"] == 1.0


def test_answering() -> None:
    """As SQuAD's own script has them."""
    found = metrics.answering([["the Eiffel Tower", "Eiffel"], [], ["red car"]], ["eiffel tower!", "", "a blue car"])
    assert found["exact_match"] == pytest.approx(200 / 3)
    assert found["f1"] == pytest.approx(100 * (1 + 1 + 0.5) / 3)
    assert metrics.answering([[]], ["something"])["f1"] == 0


def test_regression_and_ranks() -> None:
    true, predicted = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 10.0])
    found = metrics.regression(true, predicted)
    assert found["mae"] == 2.0
    assert found["spearman"] == pytest.approx(0.8)
    assert found["pearson"] == pytest.approx(np.corrcoef(true, predicted)[0, 1])
    assert np.isnan(metrics.spearman(np.ones(4), true))


def test_labels() -> None:
    found = metrics.single_label(np.array([0, 1, 2, 2]), np.array([0, 2, 2, 2]))
    assert found["accuracy"] == 0.75
    assert found["f1_macro"] == pytest.approx((1 + 0 + 0.8) / 3)
    several = metrics.multi_label(np.array([[1, 0], [1, 1]]), np.array([[1, 0], [0, 1]]))
    assert several == {"f1_micro": pytest.approx(0.8), "f1_macro": pytest.approx((2 / 3 + 1) / 2), "accuracy": 0.5}


def test_entities_of_other_schemes() -> None:
    assert metrics.entities(["S-A", "B-A", "E-A", "O", "U-B", "L-B"]) == {
        (0, 1, "A"), (1, 3, "A"), (4, 5, "B"), (5, 6, "B"),
    }  # fmt: skip
    assert metrics.tagging([["S-A", "O"]], [["S-A", "O"]])["f1"] == 1.0


@pytest.mark.parametrize("scheme", ["BI", "BIES"])
def test_entities_against_seqeval(scheme: str) -> None:
    theirs = pytest.importorskip("seqeval.metrics")
    r = random.Random(0)
    labels = ["O", *(f"{mark}-{kind}" for mark in scheme for kind in "XY")]
    for _ in range(100):
        true = [[r.choice(labels) for _ in range(r.randint(1, 9))] for _ in range(5)]
        guess = [[r.choice(labels) if r.random() < 0.4 else label for label in row] for row in true]
        found = metrics.tagging(true, guess)
        assert found["f1"] == pytest.approx(theirs.f1_score(true, guess))
        assert found["precision"] == pytest.approx(theirs.precision_score(true, guess))
        assert found["recall"] == pytest.approx(theirs.recall_score(true, guess))


def test_answers_with_and_without() -> None:
    """As SQuAD's own script has them; HasAns and NoAns only where there are both."""
    found = metrics.answering([["red car"], ["x"], [], []], ["a blue car", "x", "", "y"])
    assert found["HasAns_exact"] == 50
    assert found["HasAns_f1"] == 75
    assert found["NoAns_exact"] == 50
    assert found["f1"] == pytest.approx((50 + 100 + 100 + 0) / 4)
    assert metrics.answering([], []) == {"exact_match": 0.0, "f1": 0.0}


def test_probabilities() -> None:
    true = np.array([0, 1, 1, 0])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    found = metrics.single_label(true, probabilities.argmax(1), probabilities)
    assert found["roc_auc"] == 1.0
    assert found["ece"] == pytest.approx((0.1 + 0.2 + 0.6 + 0.3) / 4)
    assert "roc_auc" not in metrics.single_label(np.array([0, 0]), np.array([0, 1]), probabilities[:2])
    several = metrics.multi_label(np.array([[1, 0], [1, 1]]), np.array([[1, 0], [0, 1]]), np.array([[0.9, 0.2], [0.4, 0.8]]))
    assert several["average_precision"] == 1.0


def test_calibration() -> None:
    """A prediction on the edge of two bins is in the upper one, and 1.0 in the last."""
    found = metrics.calibration(np.array([0.5, 0.55, 1.0, 0.95]), np.array([True, False, True, True]))
    assert found.counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 2]
    assert found.accuracy[5] == 0.5
    assert found.confidence[5] == pytest.approx(0.525)
    assert np.isnan(found.accuracy[0])
    assert found.error == pytest.approx((abs(1.05 - 1) + abs(1.95 - 2)) / 4)


def test_ranking() -> None:
    found = metrics.ranking(
        [np.array([0, 1, 0]), np.array([1, 0, 0]), np.array([0, 0])],
        [np.array([0.3, 0.2, 0.1]), np.array([3, 2, 1]), np.zeros(2)],
    )
    assert found["mrr@10"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found["map"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found["ndcg@10"] == pytest.approx((1 / np.log2(3) + 1 + 0) / 3)
    assert found["accuracy"] == pytest.approx(1 / 3)
    far = metrics.ranking([np.arange(12) == 11], [np.arange(12)[::-1]])
    assert (far["mrr@10"], far["ndcg@10"]) == (0.0, 0.0)


def test_similarity() -> None:
    found = metrics.similarity(np.array([0.0, 2.5, 5.0]), np.array([-1.0, 0.9, 1.0]))
    assert found["spearman_cosine"] == 1.0
    assert found["pearson_cosine"] == pytest.approx(np.corrcoef([0, 2.5, 5], [-1, 0.9, 1])[0, 1])


def test_the_metrics_of_every_task() -> None:
    """The table of names has every metric that a function gives, and the best of each task is among them."""
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    true = np.array([0, 1, 1])
    results = {
        "single_label_classification": metrics.single_label(true, probabilities.argmax(1), probabilities),
        "multi_label_classification": metrics.multi_label(np.eye(2, dtype=int), np.eye(2, dtype=int), np.eye(2)),
        "regression": metrics.regression(true, true),
        "tag": metrics.tagging([["B-X"]], [["B-X"]]),
        "answer": metrics.answering([["x"], []], ["x", ""]),
        "similarity": metrics.similarity(true, true),
        "rank": metrics.ranking([true], [true]),
    }
    for task, (best, names) in metrics.METRICS.items():
        assert best in names, task
        assert set(names) <= set(metrics.NAMES), task
        if task in results:
            assert set(results[task]) == set(names) - {"loss"}, task
    assert not metrics.greater_is_better("eval_loss")
    assert not metrics.greater_is_better("ece")
    assert not metrics.greater_is_better("my_loss")
    assert metrics.greater_is_better("eval_f1")
