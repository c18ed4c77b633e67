"""Near-duplicates: texts of nearly equal vectors, in groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nativebert.errors import BadInputError
from nativebert.search import connected_groups, pairwise_similarity
from nativebert.tasks.embed import Vectors


def near_duplicates(
    vectors: Vectors, texts: Sequence[str] | None = None, *, threshold: float = 0.9, measure: str = "cosine"
) -> list[dict[str, Any]]:
    """Groups of near-duplicates. Two texts are in one group if a chain of pairs links them, each pair at least as similar as the threshold.

    Args:
        vectors: float32 ``(n, dimension)``.
        texts: the ``n`` texts, for the result; None for none.
        threshold: the least similarity of a pair.
        measure: as of :func:`nativebert.search.semantic_search`.

    Returns:
        ``{"group", "index", "score"}``, and ``"text"``, for each row that has a near-duplicate; ``score`` is the similarity to the first of its group, which has 1 in cosine.
        The largest groups come first, of equally large ones the earliest.

    Raises:
        BadInputError: texts of another number, or as of ``semantic_search``.
    """
    if texts is not None and len(texts) != len(vectors):
        raise BadInputError(f"there are {len(texts):,} texts and {len(vectors):,} vectors: the numbers must be equal")
    firsts = connected_groups(vectors, threshold, measure=measure)
    order, sizes = np.unique(firsts, return_counts=True)
    ranked = sorted((-size, first) for first, size in zip(order.tolist(), sizes.tolist()) if size > 1)
    members = [(group, index) for group, (_, first) in enumerate(ranked) for index in np.flatnonzero(firsts == first).tolist()]
    rows = np.array([index for _, index in members], np.int64)
    x = np.asarray(vectors)
    scores = pairwise_similarity(x[rows], x[firsts[rows]], measure=measure).tolist() if members else []
    found = [{"group": group, "index": index, "score": score} for (group, index), score in zip(members, scores)]
    return found if texts is None else [row | {"text": texts[int(row["index"])]} for row in found]
