"""The one layout inside the model: the real tokens of several sequences, one after another, and no padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby

import numpy as np
import torch
from torch import Tensor

from nativebert.errors import BadInputError


@dataclass(frozen=True)
class Packed:
    """``B`` sequences of ``T`` tokens in all. Only attention and pooling need to know where a sequence begins and ends.

    Attributes:
        ids: token ids, int64 ``(T,)``.
        positions: row of the position table for each token, int64 ``(T,)``.
        columns: index of each token in its sequence, int64 ``(T,)``; mostly the same as ``positions``.
        segments: token type ids, int64 ``(T,)``, or None for all zeros.
        lengths: tokens of each sequence; they add up to ``T``.
        seen: which tokens may be attended to, bool ``(T,)``; None for all, as it is wherever padding is dropped.
    """

    ids: Tensor
    positions: Tensor
    columns: Tensor
    segments: Tensor | None
    lengths: tuple[int, ...]
    seen: Tensor | None = None

    @classmethod
    def of(
        cls, sequences: Sequence[Sequence[int]], segments: Sequence[Sequence[int]] | None = None, *, after: int | None = None
    ) -> Packed:
        """Pack lists of token ids (and of segment ids, as long) on the CPU, in the given order.

        Args:
            sequences: token ids.
            segments: segment ids.
            after: the padding id, for families that count positions from the one after it (:func:`after_pad`).
        """
        lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
        total = int(lengths.sum())

        def flat(rows: Sequence[Sequence[int]]) -> Tensor:
            return torch.from_numpy(np.fromiter(chain.from_iterable(rows), np.int64, total))

        ids, starts = flat(sequences), np.cumsum(lengths) - lengths
        places = np.arange(total)
        columns = positions = torch.from_numpy(places if len(lengths) == 1 else places - np.repeat(starts, lengths))
        if after is not None:
            real = ids != after
            seen = real.cumsum(0)
            before = (seen - real.long())[torch.from_numpy(starts[lengths > 0])]  # counted before each sequence begins
            positions = (seen - before.repeat_interleave(torch.from_numpy(lengths[lengths > 0]))) * real + after
        return cls(ids, positions, columns, None if segments is None else flat(segments), tuple(lengths.tolist()))

    @cached_property
    def runs(self) -> list[tuple[int, int, int]]:
        """Neighbouring sequences of equal length, as ``(first token, sequences, length)``: each run is one dense block."""
        found, start = [], 0
        for length, same in groupby(self.lengths):
            n = sum(1 for _ in same)
            if length:
                found.append((start, n, length))
            start += n * length
        return found

    def to(self, device: torch.device | str) -> Packed:
        """The same batch on ``device``."""
        ids, positions, columns = (t.to(device) for t in (self.ids, self.positions, self.columns))
        segments, seen = (None if t is None else t.to(device) for t in (self.segments, self.seen))
        return Packed(ids, positions, columns, segments, self.lengths, seen)


@dataclass(frozen=True)
class Padding:
    """How a packed batch stands in a padded ``(B, L)`` one: which cells are real, in packed order.

    Sequences are packed from the shortest to the longest, so that equal lengths are neighbours.
    """

    cells: Tensor  # (T,) index into the flattened (B*L)
    order: tuple[int, ...]  # packed sequence -> row of the padded batch
    shape: tuple[int, int]  # B, L

    def pad(self, packed: Tensor) -> Tensor:
        """``(T, ...)`` -> ``(B, L, ...)``, zeros where there is no token."""
        out = packed.new_zeros((self.shape[0] * self.shape[1], *packed.shape[1:]))
        return out.index_copy(0, self.cells, packed).view(*self.shape, *packed.shape[1:])

    def by_row(self, per_sequence: Tensor) -> Tensor:
        """``(B, ...)`` in packed order -> in row order."""
        return per_sequence.new_empty(per_sequence.shape).index_copy(
            0, torch.tensor(self.order, dtype=torch.long, device=per_sequence.device), per_sequence
        )


def after_pad(ids: Tensor, pad: int) -> Tensor:
    """Positions of RoBERTa and MPNet, ``(B, L)``: tokens count from ``pad + 1``, padding tokens are all at ``pad``.

    Reference: transformers ``create_position_ids_from_input_ids``.
    """
    real = ids != pad
    return real.cumsum(1) * real + pad


def pack(
    input_ids: Tensor,
    attention_mask: Tensor | None,
    token_type_ids: Tensor | None,
    position_ids: Tensor | None = None,
    *,
    after: int | None = None,
    keep_padding: bool = False,
) -> tuple[Packed, Padding]:
    """Drop the padding of a batch, or keep it as tokens that nobody attends to.

    A token's position is its column, as in the reference, so left padding and holes in the mask mean there what they mean here.

    Args:
        input_ids: ``(B, L)``, integers.
        attention_mask: ``(B, L)``, 1 or True for real tokens; None for all real.
        token_type_ids: ``(B, L)`` segment ids; None for all zeros.
        position_ids: ``(B, L)`` or ``(1, L)`` rows of the position table, in place of the family's own rule.
        after: the padding id, for families that count positions from the one after it.
        keep_padding: keep the cells that hold no token.

    Raises:
        BadInputError: a wrong shape or dtype.
    """
    if input_ids.dim() != 2:
        raise BadInputError(
            f"input_ids must be (sequences, tokens), not {tuple(input_ids.shape)}. For one sequence, pass input_ids[None]."
        )
    if position_ids is not None and position_ids.shape[:1] == (1,):
        position_ids = position_ids.expand(len(input_ids), -1)
    others = {"attention_mask": attention_mask, "token_type_ids": token_type_ids, "position_ids": position_ids}
    for name, other in others.items():
        if other is not None and other.shape != input_ids.shape:
            raise BadInputError(f"{name} must have the shape of input_ids, {tuple(input_ids.shape)}, not {tuple(other.shape)}")
    if input_ids.is_floating_point() or input_ids.dtype == torch.bool:
        raise BadInputError(f"input_ids must be integers, not {input_ids.dtype}")
    B, L = input_ids.shape
    if attention_mask is None:
        real = torch.ones((B, L), dtype=torch.bool, device=input_ids.device)
    else:
        real = attention_mask.to(device=input_ids.device) > 0
    seen = None
    if keep_padding:
        real, seen = torch.ones_like(real), real.flatten()
    lengths = real.sum(1)
    order = torch.argsort(lengths, stable=True)
    rows, columns = torch.nonzero(real[order], as_tuple=True)
    cells = order[rows] * L + columns

    def at_cells(padded: Tensor) -> Tensor:
        return padded.to(cells.device).reshape(-1)[cells].long()

    positions = columns
    if position_ids is not None:
        positions = at_cells(position_ids)
    elif after is not None:
        positions = at_cells(after_pad(input_ids, after))
    segments = None if token_type_ids is None else at_cells(token_type_ids)
    packed = Packed(at_cells(input_ids), positions, columns, segments, tuple(lengths[order].tolist()), seen)
    return packed, Padding(cells, tuple(order.tolist()), (B, L))
