"""Batches of texts of similar length, cut by a token budget."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from nativebert.errors import BadInputError


def batches_by_length(lengths: NDArray[np.int64], batch_tokens: int) -> list[NDArray[np.int64]]:
    """Group texts into batches, sorted by length.

    Texts of equal length are neighbours, so that attention runs on dense blocks without padding. The longest come first, so that a batch
    too large for memory fails at once and not at the end.

    Args:
        lengths: tokens of each text, ``(n,)``.
        batch_tokens: most tokens in a batch; a longer text is a batch of its own.

    Returns:
        Indices of the texts of each batch. Every text is in exactly one.

    Raises:
        BadInputError: ``batch_tokens`` is less than 1.
    """
    if batch_tokens < 1:
        raise BadInputError(f"batch_tokens must be at least 1, not {batch_tokens}")
    if len(lengths) == 1:
        return [np.zeros(1, np.int64)]
    order = (-lengths).argsort(kind="stable")
    ends = group_ends(lengths[order], batch_tokens)
    return [order[start:end] for start, end in pairwise([0, *ends])]


def group_ends(sizes: NDArray[np.int64], budget: int, most: int | None = None) -> list[int]:
    """The ends of groups of neighbours, as large as they may be.

    Args:
        sizes: of each member, ``(n,)``.
        budget: most that the sizes of a group add up to; a larger member is a group of its own.
        most: members of a group; None for any number.

    Returns:
        For each group the index after its last member.
    """
    totals, ends, end, total = sizes.cumsum(), [], 0, 0
    while end < len(sizes):
        start, end = end, max(end + 1, int(totals.searchsorted(total + budget, side="right")))
        end = end if most is None else min(end, start + most)
        total = int(totals[end - 1])
        ends.append(end)
    return ends
