"""Batches of texts of similar length, cut by a token budget."""

from __future__ import annotations

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
    order = np.argsort(-lengths, kind="stable")
    batches, start, tokens = [], 0, 0
    for position, length in enumerate(lengths[order].tolist()):
        if position > start and tokens + length > batch_tokens:
            batches.append(order[start:position])
            start, tokens = position, 0
        tokens += length
    if start < len(order):
        batches.append(order[start:])
    return batches
