"""The one layout inside the model: the real tokens of several sequences, one after another, and no padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nativebert.errors import BadInputError


@dataclass(eq=False)
class Ragged:
    """Rows of integers of different lengths, one after another in one array.

    Attributes:
        values: of all rows, int64 ``(T,)``.
        lengths: of each row, int64 ``(n,)``.
    """

    values: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        """Rows given as lists."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return cls(np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum())), lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Index of the first value of each row, ``(n,)``."""
        starts: NDArray[np.int64] = self.lengths.cumsum() - self.lengths
        return starts

    def tolist(self) -> list[list[int]]:
        """The rows as lists."""
        values, ends = self.values.tolist(), self.lengths.cumsum().tolist()
        return [values[start:end] for start, end in zip([0, *ends], ends)]

    def take(self, indices: NDArray[np.int64]) -> Ragged:
        """These rows, in their order."""
        if len(indices) == len(self.lengths) == 1:
            return self
        lengths = self.lengths[indices]
        return Ragged(self.values[ranges(self.starts[indices], lengths)], lengths)


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """``start, start + 1, ...`` for each start, as many as its length, one after another."""
    ends = lengths.cumsum()
    offsets = np.repeat(starts - ends + lengths, lengths)
    offsets += np.arange(len(offsets))
    return offsets


@dataclass(frozen=True)
class Packed:
    """A batch of ``B`` sequences with ``T`` tokens in all. Only attention and pooling need to know where a sequence begins and ends.

    Made on the CPU, by :meth:`of` or :func:`pack`. What a model has to know on the host (lengths, largest indices) is measured there, so
    that nothing inside the model waits for a device.

    Attributes:
        ids: token ids, int64 ``(T,)``.
        positions: row of the position table for each token, int64 ``(T,)``.
        columns: index of each token in its sequence, int64 ``(T,)``; mostly the same as ``positions``.
        segments: token type ids, int64 ``(T,)``, or None for all zeros.
        cu_seqlens: first token of each sequence, and ``T``, int32 ``(B + 1,)``.
        lengths: tokens of each sequence, on the host; they add up to ``T``.
        attention_mask: which tokens may be attended to, bool ``(T,)``; None for all, as it is wherever padding is dropped.
        spans: for each sequence its last column minus its first, on the host; None where columns have no holes.
    """

    ids: Tensor
    positions: Tensor
    columns: Tensor
    segments: Tensor | None
    cu_seqlens: Tensor
    lengths: tuple[int, ...]
    attention_mask: Tensor | None = None
    spans: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls,
        sequences: Ragged | Sequence[Sequence[int]],
        segments: Ragged | Sequence[Sequence[int]] | None = None,
        *,
        position_pad_id: int | None = None,
    ) -> Packed:
        """Pack token ids (and segment ids, as long) on the CPU, in the given order.

        Args:
            sequences: token ids.
            segments: segment ids.
            position_pad_id: the padding id, for families that count positions from the one after it (:func:`position_ids_after_padding`).
        """
        sequences = sequences if isinstance(sequences, Ragged) else Ragged.of(sequences)
        segments = segments if segments is None or isinstance(segments, Ragged) else Ragged.of(segments)
        ids, lengths = sequences.values, sequences.lengths
        cu_seqlens = np.zeros(len(lengths) + 1, np.int32)
        lengths.cumsum(out=cu_seqlens[1:])
        columns = positions = np.arange(len(ids)) if len(lengths) == 1 else ranges(np.zeros_like(lengths), lengths)
        if position_pad_id is not None:
            real = ids != position_pad_id
            counts = np.cumsum(real)
            starts = cu_seqlens[:-1][lengths > 0]
            before = counts[starts] - real[starts]  # real tokens of the sequences that come earlier
            positions = (counts - np.repeat(before, lengths[lengths > 0])) * real + position_pad_id
        columns_tensor = torch.from_numpy(columns)
        return cls(
            torch.from_numpy(ids),
            columns_tensor if position_pad_id is None else torch.from_numpy(positions),
            columns_tensor,
            None if segments is None else torch.from_numpy(segments.values),
            torch.from_numpy(cu_seqlens),
            tuple(lengths.tolist()),
        )

    @cached_property
    def max_length(self) -> int:
        """Tokens of the longest sequence."""
        return max(self.lengths, default=0)

    @cached_property
    def largest(self) -> tuple[int, int, int]:
        """Largest token id, position and token type id, measured before a batch leaves the CPU; a negative one counts as beyond any other."""
        return _largest(self.ids), _largest(self.positions), 0 if self.segments is None else _largest(self.segments)

    @cached_property
    def equal_length_groups(self) -> list[tuple[int, int, int]]:
        """Neighbouring sequences of equal length, as ``(first token, sequences, length)``: torch attends to each as one dense block."""
        groups, start = [], 0
        for length, same in groupby(self.lengths):
            n = sum(1 for _ in same)
            if length:
                groups.append((start, n, length))
            start += n * length
        return groups

    def to(self, device: torch.device | str) -> Packed:
        """The same batch on ``device``."""
        if self.ids.device == torch.device(device):
            return self
        names = ("ids", "positions", "columns", "segments", "cu_seqlens", "attention_mask")
        tensors = {name: t.to(device) for name in names if (t := getattr(self, name)) is not None}
        moved = replace(self, **tensors)
        vars(moved)["largest"] = self.largest
        return moved


def _largest(values: Tensor) -> int:
    """The largest; a negative one, read as an unsigned number, is larger than any other. -1 for none."""
    return int(np.maximum.reduce(values.numpy().view(np.uint64))) if len(values) else -1


@dataclass(frozen=True)
class Padding:
    """Indices that map a packed batch to a padded ``(B, L)`` one and back.

    Sequences are packed from the shortest to the longest, so that equal lengths are neighbours.

    Attributes:
        indices: of each packed token in the flattened ``(B * L)``, int64 ``(T,)``.
        order: row of the padded batch for each packed sequence.
        shape: ``(B, L)``.
    """

    indices: Tensor
    order: tuple[int, ...]
    shape: tuple[int, int]

    def pad(self, packed: Tensor) -> Tensor:
        """``(T, ...)`` -> ``(B, L, ...)``, zeros where there is no token."""
        out = packed.new_zeros((self.shape[0] * self.shape[1], *packed.shape[1:]))
        return out.index_copy(0, self.indices, packed).view(*self.shape, *packed.shape[1:])

    def restore_order(self, per_sequence: Tensor) -> Tensor:
        """``(B, ...)`` in packed order -> in row order."""
        return per_sequence.new_empty(per_sequence.shape).index_copy(
            0, torch.tensor(self.order, dtype=torch.long, device=per_sequence.device), per_sequence
        )

    def to(self, device: torch.device | str) -> Padding:
        """The same with its indices on ``device``."""
        return replace(self, indices=self.indices.to(device))


def position_ids_after_padding(ids: Tensor, pad_id: int) -> Tensor:
    """Positions of RoBERTa and MPNet, ``(B, L)``: tokens count from ``pad_id + 1``, padding tokens are all at ``pad_id``.

    Reference: transformers ``create_position_ids_from_input_ids``.
    """
    real = ids != pad_id
    return real.cumsum(1) * real + pad_id


def pack(
    input_ids: Tensor,
    attention_mask: Tensor | None,
    token_type_ids: Tensor | None,
    position_ids: Tensor | None = None,
    *,
    position_pad_id: int | None = None,
    keep_padding: bool = False,
) -> tuple[Packed, Padding]:
    """Drop the padding of a batch, or keep it as tokens that nobody attends to. The result is on the CPU.

    A token's position is its column, as in the reference, so left padding and holes in the mask mean there what they mean here.

    Args:
        input_ids: ``(B, L)``, integers.
        attention_mask: ``(B, L)``, 1 or True for real tokens; None for all real.
        token_type_ids: ``(B, L)`` segment ids; None for all zeros.
        position_ids: ``(B, L)`` or ``(1, L)`` rows of the position table, in place of the family's own rule.
        position_pad_id: the padding id, for families that count positions from the one after it.
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
    input_ids = input_ids.cpu()
    real = torch.ones((B, L), dtype=torch.bool) if attention_mask is None else attention_mask.cpu() > 0  # (B, L)
    attended = None
    if keep_padding:
        real, attended = torch.ones_like(real), real
    lengths = real.sum(1)  # (B,)
    order = torch.argsort(lengths, stable=True)
    rows, columns = torch.nonzero(real[order], as_tuple=True)  # (T,) each
    indices = order[rows] * L + columns

    def packed(padded: Tensor) -> Tensor:
        return padded.cpu().reshape(-1)[indices].long()

    positions = columns
    if position_ids is not None:
        positions = packed(position_ids)
    elif position_pad_id is not None:
        positions = packed(position_ids_after_padding(input_ids, position_pad_id))
    ids, segments = packed(input_ids), None if token_type_ids is None else packed(token_type_ids)
    cu_seqlens = torch.zeros(B + 1, dtype=torch.int32)
    torch.cumsum(lengths[order], 0, out=cu_seqlens[1:])
    batch = Packed(
        ids,
        positions,
        columns,
        segments,
        cu_seqlens,
        tuple(lengths[order].tolist()),
        None if attended is None else attended[order].flatten(),
        _spans(real[order]),
    )
    return batch, Padding(indices, tuple(order.tolist()), (B, L))


def _spans(real: Tensor) -> tuple[int, ...] | None:
    """For each row of ``(B, L)`` its last real column minus its first; None where no row has holes."""
    first = real.int().argmax(1) if real.shape[1] else real.new_zeros(len(real))
    last = real.shape[1] - 1 - real.flip(1).int().argmax(1) if real.shape[1] else first
    lengths = real.sum(1)
    if bool((last - first + 1 == lengths)[lengths > 0].all()):
        return None
    return tuple((last - first).tolist())
