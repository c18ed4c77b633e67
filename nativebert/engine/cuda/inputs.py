"""A batch as the kernels read it: one int32 buffer, copied to the card at a stroke."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nativebert.engine.cuda.tiles import AttentionTile
from nativebert.nn.packed import Packed

ALIGNED = 4  # int32 in 16 bytes: kernels are compiled for addresses that are multiples of them
Ints = NDArray[np.int32]


class Shape(NamedTuple):
    """How much of everything a batch has, or a buffer has room for.

    Attributes:
        tokens, sequences: ``T`` and ``B``.
        blocks: of queries, for each of attention's tiles.
        segments, columns, seen: whether there is a row of them.
    """

    tokens: int
    sequences: int
    blocks: tuple[int, ...]
    segments: bool
    columns: bool
    seen: bool

    @classmethod
    def of(cls, batch: Packed, attention: tuple[AttentionTile, ...], *, columns: bool) -> Shape:
        """Of a batch."""
        lengths = np.array(batch.lengths, np.int64)
        counts = [int((-(-own // tile.queries)).sum()) for own, tile in zip(_classes(lengths, attention), attention)]
        return cls(len(batch.ids), len(lengths), tuple(counts), batch.segments is not None, columns, batch.seen is not None)

    def sizes(self) -> list[int]:
        """Numbers of each part of the buffer, filled up to :data:`ALIGNED`."""
        T = self.tokens
        parts = [T, T, T * self.segments, T * self.columns, T * self.seen, self.sequences + 1, *(4 * n for n in self.blocks)]
        return [n + -n % ALIGNED for n in parts]


@dataclass(frozen=True)
class Inputs:
    """A batch on the device, all int32.

    Attributes:
        ids, positions: ``(T,)``.
        segments, columns, seen: ``(T,)``, or None.
        cu_seqlens: first row of each sequence, and the end, ``(B + 1,)``.
        blocks: for each of attention's tiles its table, see :func:`nativebert.engine.cuda.kernels.attend`.
    """

    ids: Tensor
    positions: Tensor
    segments: Tensor | None
    columns: Tensor | None
    seen: Tensor | None
    cu_seqlens: Tensor
    blocks: list[tuple[Tensor, AttentionTile]]

    @classmethod
    def of(cls, buffer: Tensor, shape: Shape, attention: tuple[AttentionTile, ...]) -> Inputs:
        """Views of a buffer."""
        T = shape.tokens
        ids, positions, segments, columns, seen, cu_seqlens, *tables = torch.split(buffer, shape.sizes())
        blocks = [(table[: 4 * n].view(n, 4), tile) for table, n, tile in zip(tables, shape.blocks, attention, strict=True)]
        optional = [part[:T] if has else None for part, has in zip((segments, columns, seen), shape[3:])]
        return cls(ids[:T], positions[:T], *optional, cu_seqlens[: shape.sequences + 1], blocks)


def fill(buffer: Tensor, batch: Packed, shape: Shape, attention: tuple[AttentionTile, ...]) -> None:
    """Write a batch to a buffer on the CPU that has room for ``shape`` or more of it; blocks that are left over are of no sequence."""
    parts: list[Ints] = np.split(buffer.numpy(), np.cumsum(shape.sizes())[:-1])
    lengths = np.array(batch.lengths, np.int64)
    for part, tensor in zip(parts, (batch.ids, batch.positions, batch.segments, batch.columns, batch.seen)):
        if tensor is not None and len(part):
            part[: len(tensor)] = tensor.cpu().numpy()
    ends = np.cumsum(lengths)
    cu_seqlens = parts[5]
    cu_seqlens[0] = 0
    cu_seqlens[1 : len(ends) + 1] = ends
    cu_seqlens[len(ends) + 1 :] = ends[-1] if len(ends) else 0
    for part, own, tile in zip(parts[6:], _classes(lengths, attention), attention):
        table = _block_table(own, ends - lengths, tile.queries)
        part[: table.size] = table.ravel()
        part[table.size :] = 0


def stage(batch: Packed, shape: Shape, device: torch.device, attention: tuple[AttentionTile, ...]) -> Inputs:
    """A batch on the device."""
    buffer = torch.empty(sum(shape.sizes()), dtype=torch.int32, pin_memory=device.type == "cuda")
    fill(buffer, batch, shape, attention)
    return Inputs.of(buffer.to(device, non_blocking=True), shape, attention)


def _classes(lengths: NDArray[np.int64], attention: tuple[AttentionTile, ...]) -> list[NDArray[np.int64]]:
    """For each tile the lengths of the sequences that use it, and 0 for the others."""
    shorter, found = 0, []
    for tile in attention:
        found.append(np.where((lengths > shorter) & (lengths <= tile.longest), lengths, 0))
        shorter = tile.longest
    return found


def _block_table(lengths: NDArray[np.int64], starts: NDArray[np.int64], queries: int) -> Ints:
    """First row, length, first query and 0 of each block of queries; the longest sequences first, so that what runs last is short."""
    order = np.argsort(-lengths, kind="stable")
    lengths, starts = lengths[order], starts[order]
    counts = -(-lengths // queries)
    sequence = np.repeat(np.arange(len(lengths)), counts)
    first = (np.arange(len(sequence)) - np.repeat(np.cumsum(counts) - counts, counts)) * queries
    return np.stack([starts[sequence], lengths[sequence], first, np.zeros_like(first)], 1).astype(np.int32)
