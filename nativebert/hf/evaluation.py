"""Evaluators of sentence embeddings, by the names of sentence-transformers: called with a model, they give metrics by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nativebert.hf.util import SimilarityFunction
from nativebert.train import metrics

__all__ = [
    "BinaryClassificationEvaluator",
    "EmbeddingSimilarityEvaluator",
    "SentenceEvaluator",
    "SimilarityFunction",
    "TripletEvaluator",
]


class SentenceEvaluator:
    """Base of the evaluators.

    Attributes:
        name: goes before the names of the metrics.
        primary_metric: the one that a model is chosen by.
    """

    primary_metric: str = ""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def prefix_name_to_metrics(self, found: dict[str, float], name: str | None = None) -> dict[str, float]:
        """Metrics with the evaluator's name before theirs."""
        name = self.name if name is None else name
        self.primary_metric = (
            f"{name}_{self.primary_metric}" if name and not self.primary_metric.startswith(f"{name}_") else self.primary_metric
        )
        return {f"{name}_{key}" if name else key: value for key, value in found.items()}

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> dict[str, float]:
        """Metrics of a model."""
        raise NotImplementedError


class EmbeddingSimilarityEvaluator(SentenceEvaluator):
    """Correlation of the cosines of pairs with their scores.

    Args:
        sentences1, sentences2, scores: of each pair.
        batch_size, main_similarity, similarity_fn_names, show_progress_bar, write_csv: taken, and of no effect.
        name: see :class:`SentenceEvaluator`.
    """

    def __init__(
        self, sentences1: Sequence[str], sentences2: Sequence[str], scores: Sequence[float], batch_size: int = 16, main_similarity: Any = None,
        similarity_fn_names: Any = None, name: str = "", show_progress_bar: bool = False, write_csv: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(name)
        self.sentences1, self.sentences2, self.scores = list(sentences1), list(sentences2), list(scores)
        self.primary_metric = "spearman_cosine"

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> dict[str, float]:
        first, second = (model.encode(texts, normalize_embeddings=True) for texts in (self.sentences1, self.sentences2))
        return self.prefix_name_to_metrics(metrics.similarity(np.asarray(self.scores, np.float64), (first * second).sum(1)))


class TripletEvaluator(SentenceEvaluator):
    """How often an anchor is nearer to its positive than to its negative, by the cosine.

    Args:
        anchors, positives, negatives: of each triplet.
        name: see :class:`SentenceEvaluator`.
        **more: taken, and of no effect.
    """

    def __init__(
        self, anchors: Sequence[str], positives: Sequence[str], negatives: Sequence[str], name: str = "", **more: Any
    ) -> None:
        super().__init__(name)
        self.anchors, self.positives, self.negatives = list(anchors), list(positives), list(negatives)
        self.primary_metric = "cosine_accuracy"

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> dict[str, float]:
        a, p, n = (model.encode(texts, normalize_embeddings=True) for texts in (self.anchors, self.positives, self.negatives))
        return self.prefix_name_to_metrics({"cosine_accuracy": float(((a * p).sum(1) > (a * n).sum(1)).mean())})


class BinaryClassificationEvaluator(SentenceEvaluator):
    """Average precision of telling pairs that belong together by their cosine.

    Args:
        sentences1, sentences2: of each pair.
        labels: 1 for pairs that belong together, else 0.
        name: see :class:`SentenceEvaluator`.
        **more: taken, and of no effect.
    """

    def __init__(
        self, sentences1: Sequence[str], sentences2: Sequence[str], labels: Sequence[int], name: str = "", **more: Any
    ) -> None:
        super().__init__(name)
        self.sentences1, self.sentences2, self.labels = list(sentences1), list(sentences2), list(labels)
        self.primary_metric = "cosine_ap"

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> dict[str, float]:
        first, second = (model.encode(texts, normalize_embeddings=True) for texts in (self.sentences1, self.sentences2))
        found = metrics.ranking([np.asarray(self.labels, np.float64)], [(first * second).sum(1)])
        return self.prefix_name_to_metrics({"cosine_ap": found["map"]})
