"""A batch as the kernels read it: one int32 buffer, copied to the card at a stroke."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nativebert.engine.cuda.tiles import AttentionTile
from nativebert.nn.packed import Packed, ranges

ALIGNED = 4  # int32 in 16 bytes: kernels are compiled for addresses that are multiples of them
KEPT = 16  # sequences of a batch whose layout is kept, for the next one of these lengths
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

    Args:
        lengths: tokens of each sequence.
        attention: tiles of attention, for sequences by their length.
        has: whether there is a row of segments, of columns and of attended tokens, as in :class:`Shape`.

    Attributes:
        shape: of the batch.
        room: a shape that holds it: there are few of them, and little in them is computed for nothing.
        cu_seqlens: first row of each sequence, and the end, ``(B + 1,)``.
        tables: for each of attention's tiles ``(n, 4)``, see :func:`nativebert.engine.cuda.kernels.attend`.
    """

    def __init__(self, lengths: tuple[int, ...], attention: Attention, has: tuple[bool, bool, bool]) -> None:
        n = np.array(lengths, np.int64)
        self.cu_seqlens = np.append(0, n.cumsum())
        shorter = (0, *(tile.longest for tile in attention))
        self.tables = [_blocks(n, self.cu_seqlens, *limits) for limits in zip(shorter, attention)]
        self.shape = Shape(int(self.cu_seqlens[-1]), len(n), tuple(map(len, self.tables)), *has)
        self.room = self._room(attention, shorter)

    def _room(self, attention: Attention, shorter: tuple[int, ...]) -> Shape:
        tokens, sequences = max(self.shape.tokens, 16), 16
        power = 1 << (tokens - 1).bit_length()
        # whole batches are large, and there what is computed for nothing counts; single texts are small, and there every graph counts
        step = power // 16 if tokens > 4096 else max(power // 4, 8)
        tokens += -tokens % step
        while self.shape.sequences > sequences:
            sequences *= 4
        # whole blocks, and one in part for each sequence that may be of this length
        most = [tokens // tile.queries + min(sequences, tokens // (least + 1)) for tile, least in zip(attention, shorter)]
        return Shape(tokens, sequences, tuple(n if used else 0 for n, used in zip(most, self.shape.blocks)), *self.shape[3:])


def layout(batch: Packed, attention: Attention, *, columns: bool) -> Layout:
    """The layout of a batch; with ``columns`` for kernels that read a token's index in its sequence."""
    make = _kept if len(batch.lengths) <= KEPT else Layout
    return make(batch.lengths, attention, (batch.segments is not None, columns, batch.attention_mask is not None))


_kept = lru_cache(1024)(Layout)


def _blocks(n: NDArray[np.int64], starts: NDArray[np.int64], shorter: int, tile: AttentionTile) -> Ints:
    """First row, length, first query and 0 of each block of the sequences of more than ``shorter`` tokens that use ``tile``; the longest
    sequences first, so that what runs last is short."""
    fitting = np.flatnonzero((n > shorter) & (n <= tile.longest))
    fitting = fitting[np.argsort(-n[fitting], kind="stable")]
    counts = -(-n[fitting] // tile.queries)
    sequence = np.repeat(fitting, counts)
    first = ranges(np.zeros_like(counts), counts) * tile.queries
    return np.stack([starts[sequence], n[sequence], first, np.zeros_like(first)], 1).astype(np.int32)


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
        self.tensor = torch.zeros(sum(sizes), dtype=torch.int32, pin_memory=device.type == "cuda")
        whole: Ints = self.tensor.numpy()
        self._parts = [whole[end - size : end] for size, end in zip(sizes, accumulate(sizes))]
        self._layout: Layout | None = None  # of the batch that was written last

    def fill(self, batch: Packed, layout: Layout) -> None:
        """Write a batch. What is left over holds old tokens, empty sequences, and blocks of no sequence."""
        rows = (batch.ids, batch.positions, batch.segments, batch.columns, batch.attention_mask)
        for part, tensor in zip(self._parts, rows):
            if tensor is not None and len(part):
                part[: len(tensor)] = tensor.numpy()
        if self._layout is layout:
            return
        self._layout, (ends, *tables) = layout, self._parts[5:]
        ends[: len(layout.cu_seqlens)] = layout.cu_seqlens
        ends[len(layout.cu_seqlens) :] = layout.shape.tokens
        for part, table in zip(tables, layout.tables):
            part[: table.size] = table.ravel()
            part[table.size :] = 0


def stage(batch: Packed, layout: Layout, device: torch.device, attention: Attention) -> Inputs:
    """A batch on the device."""
    staging = Staging(layout.shape, device)
    staging.fill(batch, layout)
    return Inputs.of(staging.tensor.to(device, non_blocking=True), layout.shape, attention)
