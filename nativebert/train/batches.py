"""Which examples share a batch, in each epoch: a function of the seed and the epoch, so that a resumed run needs nothing else to go on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MEGABATCH = 50  # batches that are sorted by length together, as transformers' LengthGroupedSampler does


def epoch_batches(
    lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int, *, shuffle: bool = True, group_by_length: bool = True
) -> list[NDArray[np.int64]]:
    """Indices of the examples of each batch.

    Args:
        lengths: tokens of each example, ``(n,)``.
        batch_size: examples in a batch; the last of an epoch may have fewer.
        seed, epoch: what the order depends on.
        shuffle: False for the order of the data.
        group_by_length: put examples of similar length together: of :data:`MEGABATCH` batches that were drawn at random. The batches
            themselves come in random order, the largest first, so that too little memory is noticed at once.
    """
    if not shuffle:
        return [np.arange(start, min(start + batch_size, len(lengths))) for start in range(0, len(lengths), batch_size)]
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    if group_by_length:
        size = MEGABATCH * batch_size
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        order = np.concatenate([part[np.argsort(-lengths[part], kind="stable")] for part in parts]) if parts else order
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if group_by_length and len(batches) > 1:
        largest = int(np.argmax([lengths[batch].sum() for batch in batches]))
        others = [batch for n, batch in enumerate(batches) if n != largest]
        batches = [batches[largest], *(others[n] for n in random.permutation(len(others)))]
    return batches
