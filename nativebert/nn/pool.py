"""Pooling of token vectors to one vector per text. Reference: sentence-transformers ``Pooling``."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import torch
from torch import Tensor

from nativebert.nn.packed import Packed

Pool = Callable[[Tensor, int], Tensor]  # (n, l, H), leading tokens left out -> (n, H)

POOLS: dict[str, Pool] = {
    "cls": lambda x, skip: x[:, skip],
    "max": lambda x, skip: x[:, skip:].amax(1),
    "mean": lambda x, skip: x[:, skip:].sum(1) / (x.shape[1] - skip),
    "mean_sqrt_len_tokens": lambda x, skip: x[:, skip:].sum(1) / (x.shape[1] - skip) ** 0.5,
    # weights 1, 2, 3, ... by position (arXiv:2202.08904, section 3.1)
    "weightedmean": lambda x, skip: (x * _ramp(x))[:, skip:].sum(1) / _ramp(x)[skip:].sum(),
    "lasttoken": lambda x, skip: x[:, -1],
}


def _ramp(x: Tensor) -> Tensor:
    return torch.arange(1, x.shape[1] + 1, dtype=x.dtype, device=x.device)[:, None]


def pool(hidden: Tensor, batch: Packed, modes: tuple[str, ...], skip: int = 0) -> Tensor:
    """Pool each sequence by itself: the result of one never depends on the others.

    Args:
        hidden: token vectors, ``(T, H)``.
        batch: where the sequences begin and end.
        modes: names in :data:`POOLS`; several are concatenated.
        skip: leading tokens to leave out (the tokens of a prompt that is not to be pooled).

    Returns:
        ``(B, H * len(modes))`` in float32; zeros for a sequence without tokens.
    """
    hidden, start = hidden.float(), 0
    rows = [hidden.new_zeros(0, hidden.shape[-1] * len(modes))]
    for length, same in groupby(batch.lengths):
        n = sum(1 for _ in same)
        x = hidden[start : start + n * length].view(n, length, -1) if length else hidden.new_zeros(n, 1, hidden.shape[-1])
        rows.append(torch.cat([POOLS[mode](x, min(skip, x.shape[1] - 1)) for mode in modes], dim=1))
        start += n * length
    return torch.cat(rows)
