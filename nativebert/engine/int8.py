"""Products in int8: the layers' weights by output, their inputs by token, without calibration data.

A weight is ``scale * units``, units from -127 to 127, one scale for each output, as :mod:`weights_map.eightbit` stores them in files. A
row of inputs is ``least + step * q``, q from 0 to 255, with the row's own smallest and largest value at the ends: what a token gives does
not depend on other tokens. The sum of ``q * units`` is an integer and exact, so results do not depend on its order either. Attention within
texts of 64 tokens and more is in whole numbers of 16 bits (:func:`attend16`). Embeddings, norms, attention in shorter texts, the pooler and heads
stay in fp32.

This is what int8 means, computed with torch; the C kernels compute the same.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nativebert.engine.cpu import Product, attend, by_rows
from nativebert.nn.activation import ACTIVATION

EXACT = 512  # products of q and units that float32 adds up exactly: 512 * 255 * 127 < 2^24

# Of nativebert/kernels/attention16.c, which says why.
SCORE_UNITS, WEIGHT_UNITS, VALUE_UNITS = 4095, 32767, 1023
FEWEST_TOKENS, MOST_HEAD, VALUE_TERMS = 64, 128, 64


def quantise_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix of weights as whole units.

    Args:
        weight: ``(N, K)``.

    Returns:
        units, int8 ``(N, K)``, and what one is worth, float32 ``(N,)``: to the last bit those of :func:`weights_map.eightbit.quantise`.
    """
    bits = (weight.abs().amax(1) / 127).view(torch.int32)
    rounded = ((bits + 128) // 256 * 256).view(torch.float32)  # 16 significant bits
    scale = torch.where(rounded < 2.0**-100, 1.0, rounded)
    return (weight / scale[:, None]).round_().to(torch.int8), scale


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of inputs as whole steps.

    Args:
        x: ``(T, K)``.

    Returns:
        steps from 0 to 255, float32 ``(T, K)``; what one is worth and where they begin, ``(T, 1)`` each.
    """
    least, most = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    span = most - least
    flat = span < 1e-30  # all values the same: 255 / span could be infinite
    inverse = torch.where(flat, 0.0, torch.full_like(span, 255).div_(span))  # 255 / span would multiply by 1 / span
    return ((x - least) * inverse).round_(), torch.where(flat, 0.0, span / 255), least


def _units(x: Tensor, dim: int, most: int) -> tuple[Tensor, Tensor]:
    """Numbers as whole units, float64, of which the largest magnitude along a dimension is so many; and what one is worth."""
    largest = x.abs().amax(dim, keepdim=True)
    inverse = torch.where(largest > 1e-30, most / largest, 0.0)
    return (x * inverse).round_().double(), largest / most


def attend16(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Attention in whole numbers of 16 bits within long texts, in fp32 (:func:`nativebert.engine.cpu.attend`) within others.

    A query or key is 4095 units long at its largest element, a text's values 1023 for each output, its largest weight 32767. Sums of
    units are exact; those of values are rounded to float32 every 64 tokens. Weights are divided by the sum of the rounded ones.

    Args:
        q, k, v: float32 ``(n, A, l, D)``, texts of equal length.
        bias: of scores, ``(n or 1, A, l, l)``.
        scale: of scores.

    Returns:
        float32 ``(n, A, l, D)``, each text's as if it were alone.
    """
    length, D = q.shape[-2:]
    if length < FEWEST_TOKENS or D > MOST_HEAD:
        return attend(q, k, v, bias, scale)
    (q, q_unit), (k, k_unit) = (_units(x, -1, SCORE_UNITS) for x in (q, k))
    v, v_unit = _units(v, -2, VALUE_UNITS)
    scores = (q @ k.transpose(-1, -2)).float() * (k_unit * (scale * math.log2(math.e))).transpose(-1, -2) * q_unit
    if bias is not None:
        scores += bias * math.log2(math.e)
    weights = (torch.exp2(scores - scores.amax(-1, keepdim=True)) * WEIGHT_UNITS).round_()
    total = torch.zeros_like(v, dtype=torch.float32)
    for some, terms in zip(torch.split(weights.double(), VALUE_TERMS, -1), torch.split(v, VALUE_TERMS, -2), strict=True):
        total += (some @ terms).float()
    return total / weights.double().sum(-1, keepdim=True).float() * v_unit


class Int8Product(Product):
    """``x @ weight.T + bias`` in int8, then an activation or a sum with the residual."""

    precision = "int8"
    attend = staticmethod(attend16)

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str | None = None) -> None:
        units, self.scale = quantise_weight(weight.detach())
        self.sum = units.sum(1).float()
        self.parts = [part.float().T.contiguous() for part in torch.split(units, EXACT, dim=1)]
        self.bias = None if bias is None else bias.detach().clone()
        self.act = None if activation is None else by_rows(ACTIVATION[activation])

    def __call__(self, x: Tensor) -> Tensor:
        y = self._product(x)
        return y if self.act is None else self.act(y)

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        return self._product(x).add_(residual)

    def _product(self, x: Tensor) -> Tensor:
        q, step, least = quantise_rows(x)
        total = torch.zeros(len(x), len(self.sum), dtype=torch.int32)
        for some, part in zip(torch.split(q, EXACT, dim=1), self.parts, strict=True):
            total += (some @ part).int()
        y = (total.float() * step + self.sum * least) * self.scale
        return y if self.bias is None else y.add_(self.bias)
