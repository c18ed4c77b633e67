"""Metrics against their definitions and against known values."""

from __future__ import annotations

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
