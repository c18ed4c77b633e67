"""How good a model is on a table of yours: accuracy against labels, correlation with scores of pairs, retrieval of what belongs to a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nativebert.errors import BadInputError
from nativebert.search import pairwise_similarity, semantic_search
from nativebert.tasks.classify import Classifier
from nativebert.tasks.embed import Embedder
from nativebert.tasks.rank import Ranker
from nativebert.train import metrics

_CUTOFFS = (1, 5, 10)


def evaluate_labels(task: Classifier, texts: Sequence[Any], labels: Sequence[str]) -> dict[str, float]:
    """Accuracy and F1 of a Classifier (or any function from texts to ``{"label", ...}``) against labels; metrics of scikit-learn.

    Args:
        task: a Classifier, or a :class:`~nativebert.analysis.labels.NearestLabel`.
        texts: texts, or pairs.
        labels: what they are.

    Raises:
        BadInputError: lists of unequal lengths; a label that the model does not have.
    """
    _equal(texts, labels)
    known = list(task.labels)
    if unknown := sorted({label for label in labels if label not in known}):
        raise BadInputError(
            f"the labels {', '.join(map(repr, unknown[:5]))} are none of the model's: {', '.join(map(repr, known[:8]))}"
        )
    at = {label: n for n, label in enumerate(known)}
    predicted = [at[one["label"]] for one in task(texts)]
    return metrics.single_label(np.array([at[label] for label in labels]), np.array(predicted))


def evaluate_pairs(task: Embedder | Ranker, pairs: Sequence[tuple[str, str]], scores: Sequence[float]) -> dict[str, float]:
    """Correlation (Spearman, Pearson) of a model's similarity of pairs with given scores, as of STS.

    Args:
        task: an Embedder, by its own measure; or a Ranker.
        pairs: of texts.
        scores: of people; larger is more similar.

    Raises:
        BadInputError: lists of unequal lengths, or fewer than two pairs.
    """
    _equal(pairs, scores)
    if len(pairs) < 2:
        raise BadInputError("a correlation needs at least two pairs")
    if isinstance(task, Embedder):
        vectors = task([text for pair in pairs for text in pair])
        ours = pairwise_similarity(vectors[::2], vectors[1::2], measure=task.config.similarity or "cosine")
    else:
        ours = task(pairs)
    found = metrics.similarity(np.asarray(scores, np.float64), np.asarray(ours, np.float64))
    return {name.removesuffix("_cosine"): value for name, value in found.items()}


def evaluate_retrieval(
    embedder: Embedder,
    queries: Sequence[str],
    documents: Sequence[str],
    relevant: Sequence[Sequence[int]],
    *,
    prompts: tuple[str | None, str | None] = (None, None),
) -> dict[str, float]:
    """How well an Embedder finds the documents that belong to queries, among all documents.

    Args:
        embedder: makes the vectors.
        queries: texts.
        documents: all texts that are searched.
        relevant: for each query the rows of its documents, at least one.
        prompts: names of the model's prompts for queries, and for documents.

    Returns:
        ``recall@1``, ``@5``, ``@10`` (share of a query's documents among the first), ``mrr@10`` and ``ndcg@10``, the means over the queries.

    Raises:
        BadInputError: lists of unequal lengths, a query without a document, or a row that is none.
    """
    _equal(queries, relevant)
    for n, rows in enumerate(relevant):
        if not rows or not all(0 <= row < len(documents) for row in rows):
            raise BadInputError(
                f"query {n} has the documents {list(rows)!r}: name at least one row, from 0 to {len(documents) - 1}"
            )
    ask, search = (embedder(texts, prompt_name=name) for texts, name in zip((queries, documents), prompts))
    hits = semantic_search(ask, search, top_k=max(_CUTOFFS), measure=embedder.config.similarity or "cosine")
    found: dict[str, list[float]] = {}
    for own, rows in zip(hits, relevant, strict=True):
        right = np.array([hit["index"] in set(rows) for hit in own], np.float64)
        gains = right / np.log2(np.arange(2, len(right) + 2))
        best = (1 / np.log2(np.arange(2, min(len(set(rows)), max(_CUTOFFS)) + 2))).sum()
        values = {f"recall@{k}": right[:k].sum() / len(set(rows)) for k in _CUTOFFS}
        values |= {"mrr@10": 1 / (1 + int(right.argmax())) if right.any() else 0.0, "ndcg@10": gains.sum() / best}
        for name, value in values.items():
            found.setdefault(name, []).append(float(value))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _equal(a: Sequence[Any], b: Sequence[Any]) -> None:
    if len(a) != len(b) or not len(a):
        raise BadInputError(
            f"there are {len(a):,} and {len(b):,} of what belongs together: the numbers must be equal, and not 0"
        )
