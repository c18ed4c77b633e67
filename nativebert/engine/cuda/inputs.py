"""A batch as the kernels read it: one int32 buffer, copied to the card at a stroke."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nativebert.engine.cuda.tiles import AttentionTile
from nativebert.nn.packed import Packed

ALIGNED = 4  # int32 in 16 bytes: kernels are compiled for addresses that are multiples of them
FEW = 16  # sequences whose tables are made faster by Python than by numpy
Ints = NDArray[np.int32]
Attention = tuple[AttentionTile, ...]


class Shape(NamedTuple):
    """How much of everything a batch has, or a buffer has room for.

    Attributes:
        tokens, sequences: ``T`` and ``B``.
        blocks: of queries, for each of attention's tiles.
        segments, columns, attended: whether there is a row of them.
    """

    tokens: int
    sequences: int
    blocks: tuple[int, ...]
    segments: bool
    columns: bool
    attended: bool

    def sizes(self) -> list[int]:
        """Numbers of each part of the buffer, filled up to :data:`ALIGNED`."""
        T = self.tokens
        parts = [
            T,
            T,
            T * self.segments,
            T * self.columns,
            T * self.attended,
            self.sequences + 1,
            *(4 * n for n in self.blocks),
        ]
        return [n + -n % ALIGNED for n in parts]


class Layout:
    """Where the sequences of a batch begin, and how their queries are cut into blocks.

    Attributes:
        batch: the tokens.
        shape: of the batch.
        cu_seqlens: first row of each sequence, and the end, ``(B + 1,)``.
        tables: for each of attention's tiles ``(n, 4)``, see :func:`nativebert.engine.cuda.kernels.attend`.
    """

    def __init__(self, batch: Packed, attention: Attention, *, columns: bool) -> None:
        self.batch, lengths = batch, batch.lengths
        self.cu_seqlens = [0, *accumulate(lengths)]
        make = _few_blocks if len(lengths) <= FEW else _many_blocks
        shorter = (0, *(tile.longest for tile in attention))
        self.tables = [make(lengths, self.cu_seqlens, *limits) for limits in zip(shorter, attention)]
        blocks = tuple(map(len, self.tables))
        self.shape = Shape(
            len(batch.ids), len(lengths), blocks, batch.segments is not None, columns, batch.attention_mask is not None
        )


def _few_blocks(lengths: tuple[int, ...], starts: list[int], shorter: int, tile: AttentionTile) -> Ints:
    """First row, length, first query and 0 of each block of the sequences of more than ``shorter`` tokens that use ``tile``; the longest
    sequences first, so that what runs last is short."""
    fitting = sorted((-n, start) for n, start in zip(lengths, starts) if shorter < n <= tile.longest)
    rows = [(start, -n, first, 0) for n, start in fitting for first in range(0, -n, tile.queries)]
    return np.array(rows, np.int32).reshape(-1, 4)


def _many_blocks(lengths: tuple[int, ...], starts: list[int], shorter: int, tile: AttentionTile) -> Ints:
    """The same, for many sequences."""
    n = np.array(lengths, np.int64)
    fitting = np.flatnonzero((n > shorter) & (n <= tile.longest))
    fitting = fitting[np.argsort(-n[fitting], kind="stable")]
    counts = -(-n[fitting] // tile.queries)
    sequence = np.repeat(fitting, counts)
    first = (np.arange(len(sequence)) - np.repeat(np.cumsum(counts) - counts, counts)) * tile.queries
    return np.stack([np.array(starts)[sequence], n[sequence], first, np.zeros_like(first)], 1).astype(np.int32)


@dataclass(frozen=True)
class Inputs:
    """A batch on the device, all int32.

    Attributes:
        ids, positions: ``(T,)``.
        segments, columns, attended: ``(T,)``, or None.
        cu_seqlens: first row of each sequence, and the end, ``(B + 1,)``.
        blocks: for each of attention's tiles its table.
    """

    ids: Tensor
    positions: Tensor
    segments: Tensor | None
    columns: Tensor | None
    attended: Tensor | None
    cu_seqlens: Tensor
    blocks: list[tuple[Tensor, AttentionTile]]

    @classmethod
    def of(cls, buffer: Tensor, shape: Shape, attention: Attention) -> Inputs:
        """Views of a buffer."""
        T = shape.tokens
        ids, positions, segments, columns, attended, cu_seqlens, *tables = torch.split(buffer, shape.sizes())
        blocks = [(table[: 4 * n].view(n, 4), tile) for table, n, tile in zip(tables, shape.blocks, attention, strict=True)]
        segments_, columns_, attended_ = (
            part[:T] if has else None for part, has in zip((segments, columns, attended), shape[3:])
        )
        return cls(ids[:T], positions[:T], segments_, columns_, attended_, cu_seqlens[: shape.sequences + 1], blocks)


class Staging:
    """A buffer on the host, pinned where the batch goes to a card.

    Args:
        shape: of the largest batch that it has room for.
        device: where batches go.
    """

    def __init__(self, shape: Shape, device: torch.device) -> None:
        sizes = shape.sizes()
        self.tensor = torch.empty(sum(sizes), dtype=torch.int32, pin_memory=device.type == "cuda")
        whole: Ints = self.tensor.numpy()
        self._parts = [whole[end - size : end] for size, end in zip(sizes, accumulate(sizes))]

    def fill(self, layout: Layout) -> None:
        """Write a batch. What is left over holds old tokens, empty sequences, and blocks of no sequence."""
        batch, parts = layout.batch, self._parts
        for part, tensor in zip(parts, (batch.ids, batch.positions, batch.segments, batch.columns, batch.attention_mask)):
            if tensor is not None and len(part):
                part[: len(tensor)] = tensor.cpu().numpy()
        ends = parts[5]
        count = len(layout.cu_seqlens)
        ends[:count] = layout.cu_seqlens
        ends[count:] = layout.cu_seqlens[-1]
        for part, table in zip(parts[6:], layout.tables):
            part[: table.size] = table.ravel()
            part[table.size :] = 0


def stage(layout: Layout, device: torch.device, attention: Attention) -> Inputs:
    """A batch on the device."""
    staging = Staging(layout.shape, device)
    staging.fill(layout)
    return Inputs.of(staging.tensor.to(device, non_blocking=True), layout.shape, attention)
