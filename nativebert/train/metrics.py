"""Metrics of an evaluation: scikit-learn's, and those of SQuAD and of entities (extra ``train``).

Correlations are computed here from scipy's ranks (scipy comes with scikit-learn). Entities are matched here, in few lines that agree with
seqeval 1.2.2 on every metric: that package has had no release since 2020, and is installed by a setup.py of its own.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nativebert.errors import NotFoundError

Array = NDArray[Any]
Entity = tuple[int, int, str]  # first word, the one after the last, type

_MISSING = "metrics come from scikit-learn: pip install nativebert[train]"


class Metric(NamedTuple):
    """What a metric is called.

    Attributes:
        title: for people.
        hub: its type in the model cards of the Hub.
        greater_is_better: its direction.
    """

    title: str
    hub: str
    greater_is_better: bool = True


NAMES = {
    "loss": Metric("Loss", "loss", False),
    "accuracy": Metric("Accuracy", "accuracy"),
    "precision": Metric("Precision", "precision"),
    "recall": Metric("Recall", "recall"),
    "f1": Metric("F1", "f1"),
    "precision_macro": Metric("Precision (macro)", "precision"),
    "recall_macro": Metric("Recall (macro)", "recall"),
    "f1_macro": Metric("F1 (macro)", "f1"),
    "f1_micro": Metric("F1 (micro)", "f1"),
    "f1_weighted": Metric("F1 (weighted)", "f1"),
    "mcc": Metric("Matthews correlation", "matthews_correlation"),
    "roc_auc": Metric("ROC AUC", "roc_auc"),
    "average_precision": Metric("Average precision", "average_precision"),
    "ece": Metric("Expected calibration error", "ece", False),
    "mse": Metric("Mean squared error", "mse", False),
    "mae": Metric("Mean absolute error", "mae", False),
    "pearson": Metric("Pearson correlation", "pearsonr"),
    "spearman": Metric("Spearman correlation", "spearmanr"),
    "pearson_cosine": Metric("Pearson correlation of cosines", "pearson_cosine"),
    "spearman_cosine": Metric("Spearman correlation of cosines", "spearman_cosine"),
    "mrr": Metric("Mean reciprocal rank", "mrr"),
    "triplet_accuracy": Metric("Triplet accuracy", "cosine_accuracy"),
    "map": Metric("Mean average precision", "map"),
    "mrr@10": Metric("Mean reciprocal rank at 10", "mrr@10"),
    "ndcg@10": Metric("NDCG at 10", "ndcg@10"),
    "exact_match": Metric("Exact match", "exact_match"),
    "HasAns_exact": Metric("Exact match, with an answer", "exact_match"),
    "HasAns_f1": Metric("F1, with an answer", "f1"),
    "NoAns_exact": Metric("Exact match, without an answer", "exact_match"),
    "perplexity": Metric("Perplexity", "perplexity", False),
}


class TaskMetrics(NamedTuple):
    """Metrics of a task.

    Attributes:
        best: the one that the best checkpoint is chosen by.
        names: all of them, those that not every evaluation has included.
    """

    best: str
    names: tuple[str, ...]


METRICS: Mapping[str, TaskMetrics] = {
    "single_label_classification": TaskMetrics(
        "accuracy",
        ("loss", "accuracy", "f1_macro", "f1_weighted", "precision_macro", "recall_macro", "mcc", "roc_auc", "ece"),
    ),
    "multi_label_classification": TaskMetrics("f1_micro", ("loss", "f1_micro", "f1_macro", "accuracy", "average_precision")),
    "regression": TaskMetrics("spearman", ("loss", "mse", "mae", "pearson", "spearman")),
    "tag": TaskMetrics("f1", ("loss", "precision", "recall", "f1", "accuracy")),
    "answer": TaskMetrics("f1", ("loss", "exact_match", "f1", "HasAns_exact", "HasAns_f1", "NoAns_exact")),
    "similarity": TaskMetrics("spearman_cosine", ("pearson_cosine", "spearman_cosine")),
    "retrieval": TaskMetrics("accuracy", ("accuracy", "mrr", "triplet_accuracy")),
    "rank": TaskMetrics("ndcg@10", ("loss", "map", "mrr@10", "ndcg@10", "accuracy")),
    "fill": TaskMetrics("loss", ("loss", "perplexity", "accuracy")),
}


def greater_is_better(name: str) -> bool:
    """Direction of a metric; one that is not known here is better when greater, unless it is called a loss or an error."""
    metric = NAMES.get(name.removeprefix("eval_"))
    return metric.greater_is_better if metric is not None else not name.endswith(("loss", "error"))


def _sklearn() -> Any:
    try:
        import sklearn.metrics
    except ImportError as error:
        raise NotFoundError(_MISSING) from error
    return sklearn.metrics


def single_label(true: Array, predicted: Array, probabilities: Array | None = None) -> dict[str, float]:
    """Metrics of one label for each example.

    Accuracy is also the micro average of F1, precision and recall. The macro averages are over labels that occur, in ``true`` or ``predicted``.

    Args:
        true, predicted: indices of labels, ``(n,)``.
        probabilities: of each label, ``(n, C)``, for ROC AUC and the expected calibration error; None to leave them out. ROC AUC is the macro
            average of each label against the rest; it is left out where a label does not occur in ``true``, for which it has no value.
    """
    metrics = _sklearn()
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(true, predicted, average="macro", zero_division=0)
    found = {
        "accuracy": float(metrics.accuracy_score(true, predicted)),
        "f1_macro": float(f1),
        "f1_weighted": float(metrics.f1_score(true, predicted, average="weighted", zero_division=0)),
        "precision_macro": float(precision),
        "recall_macro": float(recall),
        "mcc": float(metrics.matthews_corrcoef(true, predicted)),
    }
    if probabilities is None:
        return found
    classes = probabilities.shape[1]
    if classes > 1 and len(np.unique(true)) == classes:
        hot = np.eye(classes, dtype=np.int64)[true]
        found["roc_auc"] = float(metrics.roc_auc_score(hot, probabilities, average="macro"))
    return found | {"ece": calibration(probabilities.max(1), probabilities.argmax(1) == true).error}


class Calibration(NamedTuple):
    """How often predictions are right, by their probability.

    Attributes:
        counts: predictions in each bin of equal width from 0 to 1.
        confidence: mean probability in each bin; NaN in an empty one.
        accuracy: share of them that is right; NaN likewise.
        error: expected calibration error: mean difference of the two over predictions (Guo et al. 2017, arXiv:1706.04599).
    """

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    error: float


def calibration(confidence: Array, correct: Array, bins: int = 10) -> Calibration:
    """Calibration of predictions.

    Args:
        confidence: probability of each prediction, ``(n,)``.
        correct: whether it is right, ``(n,)``.
        bins: how many.
    """
    place = np.minimum((np.asarray(confidence, np.float64) * bins).astype(np.int64), bins - 1)
    counts, sums, right = (np.bincount(place, weights, bins) for weights in (None, confidence, correct))
    filled = np.where(counts > 0, counts, np.nan)
    error = float(np.abs(sums - right).sum() / max(len(place), 1))
    return Calibration(counts, sums / filled, right / filled, error)


def multi_label(true: Array, predicted: Array, probabilities: Array | None = None) -> dict[str, float]:
    """F1 (micro and macro), the share of examples whose labels are all right, and with probabilities the average precision (micro), of
    arrays ``(n, C)``: zeros and ones, zeros and ones, probabilities."""
    metrics = _sklearn()
    found = {
        "f1_micro": float(metrics.f1_score(true, predicted, average="micro", zero_division=0)),
        "f1_macro": float(metrics.f1_score(true, predicted, average="macro", zero_division=0)),
        "accuracy": float(metrics.accuracy_score(true, predicted)),
    }
    if probabilities is not None and true.any():
        found["average_precision"] = float(metrics.average_precision_score(true, probabilities, average="micro"))
    return found


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
    return _pearson(ranks(a), ranks(b))


def ranks(values: Array) -> NDArray[np.float64]:
    """Rank of each number, from 1; ties have their mean rank."""
    try:
        from scipy.stats import rankdata  # comes with scikit-learn
    except ImportError as error:
        raise NotFoundError(_MISSING) from error
    return np.asarray(rankdata(values), np.float64)


def _pearson(a: Array, b: Array) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm else float("nan")


def similarity(true: Array, cosines: Array) -> dict[str, float]:
    """Correlations of the cosines of pairs with their scores, ``(n,)`` each."""
    return {"pearson_cosine": _pearson(true, cosines), "spearman_cosine": spearman(true, cosines)}


def ranking(true: Sequence[Array], scores: Sequence[Array]) -> dict[str, float]:
    """Mean average precision, MRR at 10, NDCG at 10, and how often the best document is relevant, over queries.

    Documents of equal score keep their order in the mean reciprocal rank, and share their gain in NDCG, as in scikit-learn. Queries without a
    relevant document count 0 in all; a query needs more than one document to be ranked.

    Args:
        true: relevance of each query's documents: 0 for none, more for more.
        scores: of the same documents.
    """
    metrics = _sklearn()
    average, reciprocal, gain, first = [], [], [], []
    for relevance, guess in zip(true, scores, strict=True):
        relevance, guess = np.asarray(relevance, np.float64), np.asarray(guess, np.float64)
        ordered = relevance[np.argsort(-guess, kind="stable")] > 0
        hits = np.flatnonzero(ordered)
        first.append(float(ordered[0]))
        reciprocal.append(1.0 / (hits[0] + 1) if len(hits) and hits[0] < 10 else 0.0)
        average.append(float(metrics.average_precision_score(relevance > 0, guess)) if len(hits) else 0.0)
        gain.append(
            float(metrics.ndcg_score(relevance[None], guess[None], k=10)) if len(relevance) > 1 else float(len(hits) > 0)
        )
    means = [float(np.mean(values)) if values else 0.0 for values in (average, reciprocal, gain, first)]
    return dict(zip(("map", "mrr@10", "ndcg@10", "accuracy"), means))


# ---- entities


def entities(labels: Sequence[str]) -> set[Entity]:
    """Entities of a sentence: first word, the one after the last, type.

    ``B-`` begins one, ``S-`` and ``U-`` are one, ``E-`` and ``L-`` end one (BIO, BIOES, BILOU); an ``I-`` or an end of another type, or without
    one before it, begins one too, as ``conlleval`` of CoNLL-2003 has it.
    """
    found, start, kind = set(), 0, ""
    for n, label in enumerate([*labels, "O"]):
        mark, _, name = label.partition("-")
        if kind and (mark not in _INSIDE or name != kind):
            found.add((start, n, kind))
            kind = ""
        if mark in _MARKS and name and not kind:
            start, kind = n, name
        if kind and mark in "SUEL":
            found.add((start, n + 1, kind))
            kind = ""
    return found


_INSIDE, _MARKS = ("I", "E", "L"), ("B", "I", "E", "L", "S", "U")


def are_entities(rows: Sequence[Sequence[str]]) -> bool:
    """Whether labels are those of entities, ``B-PER`` and the like, and not of words."""
    return any(label[:1] in _MARKS and label[1:2] == "-" for row in rows for label in row)


def tagging(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Precision, recall and F1 of whole entities, micro-averaged as ``conlleval`` has them, and the accuracy of words.

    Where no label has the form ``B-TYPE`` or the like, the words are what counts, and F1 is the macro average over their labels.
    """
    flat = [(a, b) for one, other in zip(true, predicted, strict=True) for a, b in zip(one, other, strict=True)]
    accuracy = sum(a == b for a, b in flat) / max(len(flat), 1)
    if not are_entities((*true, *predicted)):
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


def answer_scores(answers: Sequence[str], guess: str) -> tuple[float, float]:
    """Exact match and F1 of an answer, of 0 to 1, against the likest of those that count as right; none of them stands for no answer."""
    answers = [a for a in answers if normalized_answer(a)] or [""]
    return max(float(normalized_answer(a) == normalized_answer(guess)) for a in answers), max(
        _overlap(a, guess) for a in answers
    )


def answering(true: Sequence[Sequence[str]], predicted: Sequence[str]) -> dict[str, float]:
    """Exact match and F1 of answers, in percent, by the rules of SQuAD; an example without answers has the empty one.

    Where some examples have answers and some have none, both are told apart, by the names of SQuAD's script (without answers, F1 is exact match).
    """
    scores = np.array([answer_scores(answers, guess) for answers, guess in zip(true, predicted, strict=True)]).reshape(-1, 2)
    has = np.array([bool(answers) for answers in true], bool)
    exact, f1 = (100 * scores.mean(0)).tolist() if len(scores) else (0.0, 0.0)
    found = {"exact_match": exact, "f1": f1}
    if has.any() and not has.all():
        found |= dict(zip(("HasAns_exact", "HasAns_f1"), (100 * scores[has].mean(0)).tolist()))
        found["NoAns_exact"] = float(100 * scores[~has, 0].mean())
    return found


def _overlap(answer: str, guess: str) -> float:
    a, b = normalized_answer(answer).split(), normalized_answer(guess).split()
    if not a or not b:
        return float(a == b)
    same = sum((Counter(a) & Counter(b)).values())
    precision, recall = same / len(b), same / len(a)
    return 2 * precision * recall / (precision + recall) if same else 0.0
