"""Clusters of vectors, described by the texts nearest to their centers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nativebert.checks import at_least
from nativebert.errors import BadInputError, NativeBertError
from nativebert.tasks.embed import Vectors


class Clusters(NamedTuple):
    """Clusters, the largest first.

    Attributes:
        of: the cluster of each vector, int64 ``(n,)``.
        about: for each cluster ``{"cluster", "size", "texts"}``: its key texts, those nearest its middle, the nearest first.
    """

    of: NDArray[np.int64]
    about: list[dict[str, Any]]


def clusters(vectors: Vectors, texts: Sequence[str], count: int, *, key_texts: int = 3, seed: int = 0) -> Clusters:
    """Clusters by k-means on unit vectors (scikit-learn's, extra ``train``).

    Args:
        vectors: float32 ``(n, dimension)``.
        texts: the ``n`` texts.
        count: how many clusters, at most ``n``.
        key_texts: texts that stand for a cluster.
        seed: of the random start.

    Raises:
        BadInputError: another number of texts, or fewer vectors than clusters.
        NativeBertError: scikit-learn is not installed.
    """
    try:
        from sklearn.cluster import KMeans
    except ImportError:
        raise NativeBertError("clusters come from scikit-learn: pip install 'nativebert[train]'") from None
    count = at_least(1, "count", count)
    if len(texts) != len(vectors) or len(vectors) < count:
        raise BadInputError(
            f"{count} clusters need as many texts as vectors, and at least {count}: there are {len(texts):,} and {len(vectors):,}"
        )
    unit = np.asarray(vectors, np.float32)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    fitted = KMeans(count, n_init=3, random_state=seed).fit(unit)
    sizes = np.bincount(fitted.labels_, minlength=count)
    order = np.argsort(-sizes, kind="stable")
    of = np.argsort(order, kind="stable")[fitted.labels_].astype(np.int64)
    about = []
    for cluster, own in enumerate(order.tolist()):
        rows = np.flatnonzero(of == cluster)
        near = rows[
            np.argsort(-(unit[rows] @ fitted.cluster_centers_[own]), kind="stable")[: at_least(1, "key_texts", key_texts)]
        ]
        about.append({"cluster": cluster, "size": len(rows), "texts": [texts[n] for n in near.tolist()]})
    return Clusters(of, about)
