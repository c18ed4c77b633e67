"""Metrics of an evaluation: scikit-learn's, and those of SQuAD and of entities (extra ``train``)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nativebert.errors import NotFoundError

Array = NDArray[Any]


def _sklearn() -> Any:
    try:
        import sklearn.metrics
    except ImportError as error:
        raise NotFoundError("metrics come from scikit-learn: pip install nativebert[train]") from error
    return sklearn.metrics


def single_label(true: Array, predicted: Array) -> dict[str, float]:
    """Accuracy, F1 (macro and weighted) and Matthews' correlation of one label for each example, ``(n,)`` each."""
    metrics = _sklearn()
    return {
        "accuracy": float(metrics.accuracy_score(true, predicted)),
        "f1_macro": float(metrics.f1_score(true, predicted, average="macro", zero_division=0)),
        "f1_weighted": float(metrics.f1_score(true, predicted, average="weighted", zero_division=0)),
        "mcc": float(metrics.matthews_corrcoef(true, predicted)),
    }


def multi_label(true: Array, predicted: Array) -> dict[str, float]:
    """F1 (micro and macro) and the share of examples whose labels are all right, of zeros and ones ``(n, C)``."""
    metrics = _sklearn()
    return {
        "f1_micro": float(metrics.f1_score(true, predicted, average="micro", zero_division=0)),
        "f1_macro": float(metrics.f1_score(true, predicted, average="macro", zero_division=0)),
        "accuracy": float(metrics.accuracy_score(true, predicted)),
    }


def regression(true: Array, predicted: Array) -> dict[str, float]:
    """Errors, and Pearson's and Spearman's correlation, of numbers ``(n,)`` or ``(n, C)``; NaN where one side is constant."""
    metrics = _sklearn()
    pairs = [(a, b) for a, b in zip(np.atleast_2d(true.T), np.atleast_2d(predicted.T))]
    return {
        "mse": float(metrics.mean_squared_error(true, predicted)),
        "mae": float(metrics.mean_absolute_error(true, predicted)),
        "pearson": float(np.mean([_pearson(a, b) for a, b in pairs])),
        "spearman": float(np.mean([spearman(a, b) for a, b in pairs])),
    }


def spearman(a: Array, b: Array) -> float:
    """Spearman's correlation, ties at their mean rank; NaN where one side is constant."""
    from scipy.stats import rankdata  # comes with scikit-learn

    return _pearson(rankdata(a), rankdata(b))


def _pearson(a: Array, b: Array) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm else float("nan")


# ---- entities


def entities(labels: Sequence[str]) -> set[tuple[int, int, str]]:
    """Entities of a sentence: first word, the one after the last, type. ``B-`` begins one; an ``I-`` of another type, or without one before it,
    begins one too, as ``conlleval`` of CoNLL-2003 has it."""
    found, start, kind = set(), 0, ""
    for n, label in enumerate([*labels, "O"]):
        mark, _, name = label.partition("-")
        if kind and (mark != "I" or name != kind):
            found.add((start, n, kind))
            kind = ""
        if mark in ("B", "I") and name and not kind:
            start, kind = n, name
    return found


def tagging(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Precision, recall and F1 of whole entities, micro-averaged as ``conlleval`` has them, and the accuracy of words.

    Where no label has the form ``B-TYPE`` or ``I-TYPE``, the words are what counts, and F1 is the macro average over their labels.
    """
    flat = [(a, b) for one, other in zip(true, predicted, strict=True) for a, b in zip(one, other, strict=True)]
    accuracy = sum(a == b for a, b in flat) / max(len(flat), 1)
    if not any(label[:2] in ("B-", "I-") for row in (*true, *predicted) for label in row):
        f1 = _sklearn().f1_score([a for a, _ in flat], [b for _, b in flat], average="macro", zero_division=0) if flat else 0.0
        return {"accuracy": accuracy, "f1": float(f1)}
    right = gold = guessed = 0
    for one, other in zip(true, predicted):
        a, b = entities(one), entities(other)
        right, gold, guessed = right + len(a & b), gold + len(a), guessed + len(b)
    precision, recall = right / guessed if guessed else 0.0, right / gold if gold else 0.0
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"precision": precision, "recall": recall, "f1": f1, "accuracy": accuracy}


# ---- answers


def normalized_answer(text: str) -> str:
    """An answer in lower case, without punctuation, articles and double spaces. Reference: SQuAD's ``evaluate-v2.0.py``."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def answering(true: Sequence[Sequence[str]], predicted: Sequence[str]) -> dict[str, float]:
    """Exact match and F1 of answers, in percent, by the rules of SQuAD; an example without answers has the empty one."""
    exact, f1 = [], []
    for answers, guess in zip(true, predicted, strict=True):
        answers = [a for a in answers if normalized_answer(a)] or [""]
        exact.append(max(float(normalized_answer(a) == normalized_answer(guess)) for a in answers))
        f1.append(max(_overlap(a, guess) for a in answers))
    count = max(len(exact), 1)
    return {"exact_match": 100 * sum(exact) / count, "f1": 100 * sum(f1) / count}


def _overlap(answer: str, guess: str) -> float:
    a, b = normalized_answer(answer).split(), normalized_answer(guess).split()
    if not a or not b:
        return float(a == b)
    same = sum((Counter(a) & Counter(b)).values())
    precision, recall = same / len(b), same / len(a)
    return 2 * precision * recall / (precision + recall) if same else 0.0
