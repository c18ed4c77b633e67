"""Labels by nearness: of the vectors of some labelled texts, or of the labels' own names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nativebert.checks import at_least
from nativebert.errors import BadInputError
from nativebert.tasks.call import as_list
from nativebert.tasks.embed import Embedder, Vectors

METHODS = ("centroid", "neighbors")


class NearestLabel:
    """A classifier on the vectors of an Embedder, by cosine similarity, without training.

    Args:
        embedder: makes the vectors.
        examples: texts with a label each; or, for no examples at all, the labels' own names (see :meth:`of_names`).
        labels: their labels, one for each.
        method: ``"centroid"``: similarity to the mean vector of each label's examples, good with few examples; ``"neighbors"``: the share of each label among the
            ``neighbors`` nearest examples, weighted by similarity, good with many.
        neighbors: how many.

    Attributes:
        labels: each once, in alphabetical order.

    Raises:
        BadInputError: no examples, lists of unequal lengths, or another method.
    """

    def __init__(
        self,
        embedder: Embedder,
        examples: Iterable[str],
        labels: Iterable[str],
        *,
        method: str = "centroid",
        neighbors: int = 10,
    ) -> None:
        texts, given = as_list(examples), as_list(labels, "labels")
        if not texts or len(texts) != len(given):
            raise BadInputError(
                f"there are {len(texts)} examples and {len(given)} labels: give each example its label, and at least one"
            )
        if method not in METHODS:
            raise BadInputError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
        self.embedder, self.method, self.neighbors = embedder, method, min(at_least(1, "neighbors", neighbors), len(texts))
        self.labels, of = _numbered(given)
        vectors = _unit(embedder(texts, progress=False))
        self._of = of
        if method == "centroid":
            means = [vectors[of == n].mean(axis=0) for n in range(len(self.labels))]
            vectors, self._of = _unit(np.array(means, np.float32)), np.arange(len(self.labels))
        self._vectors = vectors

    @classmethod
    def of_names(cls, embedder: Embedder, names: Sequence[str], template: str = "{}") -> NearestLabel:
        """Labels by the vectors of their names, without any example.

        Args:
            embedder: makes the vectors.
            names: of the labels; words that say what they mean work best.
            template: what is embedded for a name, with ``{}`` where the name goes: ``"This text is about {}."``

        Raises:
            BadInputError: no names, or a template without ``{}``.
        """
        if "{}" not in template:
            raise BadInputError(f"template must contain {{}} where the label goes, not {template!r}")
        return cls(embedder, [template.replace("{}", name) for name in names], names)

    def __call__(self, texts: Iterable[str], *, top_k: int | None = 1) -> list[Any]:
        """Labels of texts: ``{"label", "score"}`` for each where ``top_k`` is 1, else a list of them, best first.

        Args:
            texts: as of a call of the Embedder.
            top_k: labels of each text; None for all.
        """
        scores = self.scores(texts)
        order = np.argsort(-scores, axis=1, kind="stable")[:, : None if top_k is None else at_least(1, "top_k", top_k)]
        best = [[{"label": self.labels[n], "score": float(row[n])} for n in own] for own, row in zip(order.tolist(), scores)]
        return [one[0] for one in best] if top_k == 1 else best

    def scores(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Score of every label, float32 ``(n, labels)``: cosine similarity to its centroid, or its share among the neighbors."""
        similarity = _unit(self.embedder(texts, progress=False)) @ self._vectors.T
        if self.method == "centroid":
            return similarity
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, : self.neighbors]
        weights = np.maximum(np.take_along_axis(similarity, nearest, 1), 0)
        shares = np.zeros((len(similarity), len(self.labels)), np.float32)
        for n in range(len(self.labels)):
            shares[:, n] = (weights * (self._of[nearest] == n)).sum(axis=1)
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)
        return shares


def _numbered(labels: Sequence[Any]) -> tuple[list[str], NDArray[np.int64]]:
    names = sorted({str(label) for label in labels})
    at = {name: n for n, name in enumerate(names)}
    return names, np.array([at[str(label)] for label in labels], np.int64)


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
