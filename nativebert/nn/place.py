"""How attention knows where a token stands, beside the position table: rotary positions, windows, a bias by distance.

All are made once for a batch and used by every layer that has them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nativebert.config import EncoderConfig, Layer
from nativebert.nn.packed import Packed

FAR = 128  # distances from here on share a bucket (MPNet)


@dataclass(frozen=True)
class Place:
    """What one layer's attention adds.

    Attributes:
        turn: cosines and sines of the rotary positions, each ``(T, D)``; None for none.
        bias: for each of the batch's runs what is added to its scores, ``(n or 1, A or 1, l, l)``, or None; None for none at all.
    """

    turn: tuple[Tensor, Tensor] | None = None
    bias: list[Tensor | None] | None = None


def places(config: EncoderConfig, batch: Packed, table: Tensor | None) -> list[Place]:
    """A place for each layer of the model.

    Args:
        config: the model's.
        batch: the tokens.
        table: the bias by distance, ``(buckets, A)``, for models that have one.
    """
    made: dict[tuple[float | None, int | None], Place] = {}
    hidden = None if batch.seen is None else list(_unseen(batch, batch.seen, table is None))

    def place(layer: Layer) -> Place:
        key = (layer.rope_theta, layer.window)
        if key not in made:
            turn = None if layer.rope_theta is None else rotary(batch.positions, layer.rope_theta, config.width // layer.heads)
            bias: list[Tensor | None] | None = None
            if table is not None:
                bias = [table[buckets(d, config.relative_buckets)].permute(0, 3, 1, 2) for d in _distances(batch)]
            elif layer.window is not None:
                bias = [_beyond(d, layer.window) for d in _distances(batch)]
            if hidden is not None:
                bias = [b if a is None else a + b for a, b in zip(bias or [None] * len(hidden), hidden, strict=True)]
            made[key] = Place(turn, bias)
        return made[key]

    return [place(layer) for layer in config.layers]


def rotary(positions: Tensor, theta: float, width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of ``position / theta^(2i/D)``, each ``(T, D)`` (Su et al. 2021, arXiv:2104.09864, section 3.2.2)."""
    steps = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device)
    angle = positions[:, None].float() * (1.0 / theta ** (steps / width))
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate queries or keys ``(T, A, D)``: the two halves of ``D`` are the coordinates of a plane each."""
    cos, sin = (t[:, None] for t in turn)
    a, b = x.float().chunk(2, dim=-1)
    return (x.float() * cos + torch.cat((-b, a), dim=-1) * sin).to(x.dtype)


def buckets(distance: Tensor, count: int) -> Tensor:
    """Bucket of a distance (column of the key minus column of the query): half of them for each direction, small distances one each,
    larger ones by logarithm up to :data:`FAR` (Raffel et al. 2019, arXiv:1910.10683, section 2.1; transformers ``MPNetEncoder``)."""
    half = count // 2
    exact = half // 2
    far = distance.abs()
    by_log = exact + (torch.log(far.float() / exact) / math.log(FAR / exact) * (half - exact)).to(torch.long)
    return torch.where(far < exact, far, by_log.clamp(max=half - 1)) + (distance > 0) * half


def _distances(batch: Packed) -> list[Tensor]:
    """For each run the distances between its tokens' columns, ``(n, l, l)``; ``(1, l, l)`` where all its sequences have the same."""
    found = []
    for start, n, length in batch.runs:
        columns = batch.columns[start : start + n * length].view(n, length)
        from_first = columns - columns[:, :1]
        if bool((from_first == from_first[:1]).all()):
            columns = columns[:1]
        found.append(columns[:, None, :] - columns[:, :, None])
    return found


def _unseen(batch: Packed, seen: Tensor, strict: bool) -> Iterator[Tensor]:
    """For each run ``(n, 1, 1, l)``: zero for tokens that may be attended to, minus infinity for others.

    A token that may see none at all gets zeros from strict attention, and the mean of all from the one that is not, which is how the
    reference computes models with a bias by distance.
    """
    lowest = -math.inf if strict else torch.finfo(torch.float32).min
    for start, n, length in batch.runs:
        yield torch.where(seen[start : start + n * length].view(n, 1, 1, length), 0.0, lowest)


def _beyond(distance: Tensor, window: int) -> Tensor | None:
    """Minus infinity beyond the window, zero within; None where nothing is beyond."""
    beyond = distance.abs() > window
    if not bool(beyond.any()):
        return None
    return torch.zeros(distance.shape, device=distance.device).masked_fill(beyond, -math.inf)[:, None]
