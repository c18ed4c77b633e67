"""Relative positions in attention: rotary embeddings, sliding windows, bias by distance and disentangled scores, beside the mask of padding tokens.

All are made once for a batch and used by every layer that has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from nativebert.config import EncoderConfig, Layer, RelativePositions
from nativebert.nn.packed import Packed

MAX_DISTANCE = 128  # tokens; distances from here on share a bucket (MPNet)


class AttentionBias(Protocol):
    """What is added to the attention scores of each of a batch's groups of equal length."""

    def __call__(self, group: int, q: Tensor, k: Tensor) -> Tensor | None:
        """The bias of a group.

        Args:
            group: number in ``batch.equal_length_groups``.
            q, k: its queries and keys, ``(n, A, l, D)`` each.

        Returns:
            ``(n or 1, A or 1, l or 1, l)``, or None for zero.
        """


@dataclass(frozen=True)
class FixedBias:
    """A bias that does not depend on queries and keys: one tensor, or None, for each group."""

    groups: Sequence[Tensor | None]

    def __call__(self, group: int, q: Tensor, k: Tensor) -> Tensor | None:
        return self.groups[group]


@dataclass(frozen=True)
class AttentionContext:
    """Rotary cos/sin and attention bias of one layer.

    Attributes:
        rotary: cosines and sines of the rotary positions, each ``(T, D)``; None for none.
        bias: of the attention scores; None for none.
        relative_rows: for each group of equal length the row of the table of relative positions for each query and key, int64
            ``(n or 1, 1, l, l)``; None for models that have no such table.
        relative_table: that table, ``(R, H)``; None where its queries and keys are at hand.
    """

    rotary: tuple[Tensor, Tensor] | None = None
    bias: AttentionBias | None = None
    relative_rows: Sequence[Tensor] | None = None
    relative_table: Tensor | None = None


def attention_contexts(
    config: EncoderConfig, batch: Packed, distance_table: Tensor | None, relative_table: Tensor | None = None
) -> list[AttentionContext]:
    """The context of each layer of the model.

    Args:
        config: the model's.
        batch: the tokens.
        distance_table: learned bias by distance, ``(buckets, A)``, for models that have one.
        relative_table: the normed table of relative positions, ``(R, H)``, for models that have one and a caller that has not projected it.
    """
    contexts: dict[tuple[float | None, int | None], AttentionContext] = {}
    padding, rows = None, None
    if batch.attention_mask is not None:
        padding = _padding_bias(batch, batch.attention_mask, distance_table is None, config.masked_padding)
    if config.relative is not None:
        rows = [relative_row(-d, config.relative)[:, None] for d in _distances(batch)]

    def context(layer: Layer) -> AttentionContext:
        rotary = None
        if layer.rope_theta is not None:
            rotary = cos_sin(batch.positions, layer.rope_theta, config.width // layer.heads, layer.rope_scale)
        groups: list[Tensor | None] | None = None
        if distance_table is not None:
            groups = [
                distance_table[relative_position_bucket(d, config.relative_buckets)].permute(0, 3, 1, 2)
                for d in _distances(batch)
            ]
        elif config.alibi:
            slopes = torch.tensor(alibi_slopes(layer.heads), device=batch.ids.device)[:, None, None]
            groups = [d.abs()[:, None] * -slopes for d in _distances(batch)]
        elif layer.window is not None:
            groups = _window_bias(batch, layer.window)
        elif config.causal:
            groups = [_minus_infinity(d > 0) for d in _distances(batch)]
        if padding is not None:
            groups = [b if a is None else a + b for a, b in zip(groups or [None] * len(padding), padding, strict=True)]
        return AttentionContext(rotary, None if groups is None else FixedBias(groups), rows, relative_table)

    for layer in config.layers:
        if (layer.rope_theta, layer.window) not in contexts:
            contexts[layer.rope_theta, layer.window] = context(layer)
    return [contexts[layer.rope_theta, layer.window] for layer in config.layers]


def cos_sin(positions: Tensor, theta: float, width: int, scale: float | tuple[float, ...] = 1.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines of ``position * scale / theta^(2i/D)``, each ``(T, D)`` (Su et al. 2021, arXiv:2104.09864, section 3.2.2)."""
    steps = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device)  # (D/2,)
    factor = torch.tensor(scale, device=positions.device) if isinstance(scale, tuple) else scale  # (D/2,)
    angle = positions[:, None].float() * (factor / theta ** (steps / width))
    angle = torch.cat((angle, angle), dim=-1)  # (T, D)
    return angle.cos(), angle.sin()


def apply_rotary(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate queries or keys ``(T, A, D)``: element ``i`` of the first half of ``D`` and of the second are the coordinates of a plane."""
    cos, sin = (t[:, None] for t in rotary)  # (T, 1, D)
    a, b = x.float().chunk(2, dim=-1)
    return (x.float() * cos + torch.cat((-b, a), dim=-1) * sin).to(x.dtype)


def alibi_slopes(heads: int) -> list[float]:
    """What each head's scores fall by with each token of distance: a geometric sequence; for other numbers of heads than powers of two, filled up with
    every second one of the next power's (Press et al. 2021, arXiv:2108.12409, section 3)."""
    power = 2 ** math.floor(math.log2(heads))
    first = 2.0 ** (-8.0 / power)
    return [first ** (n + 1) for n in range(power)] + (alibi_slopes(2 * power)[0::2][: heads - power] if heads > power else [])


def relative_position_bucket(distance: Tensor, count: int) -> Tensor:
    """Bucket of a distance (column of the key minus column of the query): half of them for each direction, small distances one each,
    larger ones by logarithm up to :data:`MAX_DISTANCE` (Raffel et al. 2019, arXiv:1910.10683, section 2.1; transformers ``MPNetEncoder``)."""
    half = count // 2
    exact = half // 2
    far = distance.abs()
    by_log = exact + (torch.log(far.float() / exact) / math.log(MAX_DISTANCE / exact) * (half - exact)).to(torch.long)
    return torch.where(far < exact, far, by_log.clamp(max=half - 1)) + (distance > 0) * half


def relative_row(distance: Tensor, relative: RelativePositions) -> Tensor:
    """Row of the table of relative positions for a distance (column of the query minus column of the key): one each for small distances,
    larger ones by logarithm (He et al. 2021, arXiv:2111.09543; transformers ``make_log_bucket_position``)."""
    half, far = relative.span // 2, distance.abs()
    if relative.max_distance:
        steps = torch.log(far.clamp(min=1) / half) / torch.log(torch.tensor((relative.max_distance - 1) / half))
        by_log = (torch.ceil(steps * (half - 1)) + half) * distance.sign()
        distance = torch.where(far <= half, distance, by_log.to(torch.long))
    return (distance + relative.span).clamp(0, 2 * relative.span - 1)


def disentangled_scores(q: Tensor, k: Tensor, relative_q: Tensor, relative_k: Tensor, rows: Tensor) -> Tensor:
    """Scores of contents against relative positions, ``(n, A, l, l)``: query to position and position to key (He et al. 2020,
    arXiv:2006.03654, equation 4), not yet scaled.

    Args:
        q, k: queries and keys of a group, ``(n, A, l, D)``.
        relative_q, relative_k: those of the table of relative positions, ``(A, D, R)``.
        rows: rows of that table for each query and key, ``(n or 1, 1, l, l)``.
    """
    rows = rows.expand(q.shape[0], q.shape[1], -1, -1)
    to_position = torch.gather(q @ relative_k, -1, rows)
    return to_position + torch.gather(k @ relative_q, -1, rows.transpose(-1, -2)).transpose(-1, -2)


def _distances(batch: Packed) -> list[Tensor]:
    """For each group the distances between its tokens' columns, ``(n, l, l)``; ``(1, l, l)`` where columns have no holes."""
    distances = []
    for start, n, length in batch.equal_length_groups:
        n = n if batch.spans else 1  # without holes, one stands for all
        columns = batch.columns[start : start + n * length].view(n, length)
        distances.append(columns[:, None, :] - columns[:, :, None])
    return distances


def _padding_bias(batch: Packed, attention_mask: Tensor, strict: bool, padding_sees_all: bool) -> list[Tensor]:
    """For each group ``(n, 1, l or 1, l)``: zero for tokens that may be attended to, minus infinity for others.

    A token that may see none at all gets zeros from strict attention, and the mean of all from the one that is not, which is how the
    reference computes models with a bias by distance.
    """
    lowest = -math.inf if strict else torch.finfo(torch.float32).min
    seen = [attention_mask[start : start + n * length].view(n, 1, 1, length) for start, n, length in batch.equal_length_groups]
    return [torch.where(s | ~s.transpose(-1, -2) if padding_sees_all else s, 0.0, lowest) for s in seen]


def _window_bias(batch: Packed, window: int) -> list[Tensor | None]:
    """For each group minus infinity beyond the window, zero within, ``(n or 1, 1, l, l)``; None where the window reaches all tokens."""
    spans = batch.spans or [length - 1 for length in batch.lengths]
    spans_left = iter([span for span, length in zip(spans, batch.lengths, strict=True) if length])
    biases: list[Tensor | None] = []
    for (_, n, _), distance in zip(batch.equal_length_groups, _distances(batch), strict=True):
        bias = None
        if max(islice(spans_left, n)) > window:
            bias = _minus_infinity(distance.abs() > window)
        biases.append(bias)
    return biases


def _minus_infinity(hidden: Tensor) -> Tensor:
    """Minus infinity where a key is hidden from a query, ``(n, l, l)``, else zero, ``(n, 1, l, l)``."""
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill(hidden, -math.inf)[:, None]
