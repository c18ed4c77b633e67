"""Which texts go together: batches cut by a token budget from the texts sorted by length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nativebert.errors import BadInputError


def plan(lengths: NDArray[np.int64], batch_tokens: int) -> list[NDArray[np.int64]]:
    """Group texts into batches.

    Sorted by length, equal lengths stand together and attention runs on dense blocks without padding. The longest come first, so
    that a batch too large for memory is met at once and not at the end.

    Args:
        lengths: tokens of each text.
        batch_tokens: most tokens in a batch; a longer text is a batch of its own.

    Returns:
        Indices of the texts of each batch. Every text is in exactly one.

    Raises:
        BadInputError: ``batch_tokens`` is less than 1.
    """
    if batch_tokens < 1:
        raise BadInputError(f"batch_tokens must be at least 1, not {batch_tokens}")
    order = np.argsort(-lengths, kind="stable")
    batches, start, used = [], 0, 0
    for at, length in enumerate(lengths[order].tolist()):
        if at > start and used + length > batch_tokens:
            batches.append(order[start:at])
            start, used = at, 0
        used += length
    if start < len(order):
        batches.append(order[start:])
    return batches
