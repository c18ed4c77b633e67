"""The C kernels, each against torch, and the plan on them against the plan without."""

from __future__ import annotations

import copy
import dataclasses
import math
import platform
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from ctypes import addressof, byref, c_void_p
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from models import TINY, minilm, one_thread, texts, write_folder
from torch import Tensor

import nativebert as nb
from nativebert import kernels
from nativebert.config import Convolution, EncoderConfig, Layer
from nativebert.engine import prepare
from nativebert.engine.cpu import CpuPlan
from nativebert.engine.int8 import Int8Product, attend16, quantise_rows, quantise_weight
from nativebert.engine.native import HUGE_PAGE_BYTES, CKernelPlan, supports
from nativebert.engine.plan import ExecutionPlan
from nativebert.errors import BadInputError, TooLongError
from nativebert.nn.activation import ACTIVATION
from nativebert.nn.packed import Packed
from nativebert.nn.pool import POOLS, pool
from nativebert.parity.compare import compare

needs_kernels = pytest.mark.skipif(not kernels.available(), reason=f"no C kernels: {kernels.why_not()}")
LEVELS = kernels.levels() if kernels.available() else []
GUARD = 7.25  # what stands behind an array, and must still stand there afterwards


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(kernels.VARIABLE, request.param)
    return str(request.param)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def guarded(*shape: int) -> Tensor:
    """An array with something behind it."""
    return torch.full((math.prod(shape) + 64,), GUARD)[: math.prod(shape)].view(shape)


def untouched(y: Tensor) -> bool:
    behind = torch.empty(0).set_(y.untyped_storage(), y.numel(), (64,))  # type: ignore[call-overload]
    return bool((behind == GUARD).all())


class Matrix:
    """A linear layer, random unless its weights are given, in panels."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        (N, K), table = weight.shape, kernels.table().contents
        self.weight, self.bias = weight, bias
        fill = -N % table.panel
        self.count = (N + fill) // table.panel
        self.panels, self.filled, sizes = torch.zeros(N + fill, K), F.pad(bias, (0, fill)), torch.zeros(2, N + fill)
        pointers = [t.data_ptr() for t in (self.panels, *sizes)]
        table.pack_panels(weight.data_ptr(), N, K, 0, *pointers)
        self._kept = sizes
        self.linear = kernels.Linear(K, N, pointers[0], None, self.filled.data_ptr(), *pointers[1:])

    @staticmethod
    def random(K: int, N: int, g: torch.Generator) -> Matrix:
        return Matrix(torch.randn(N, K, generator=g), torch.randn(N, generator=g))

    def product(
        self, x: Tensor, y: Tensor, residual: Tensor | None = None, activation: int = 0, parts: Sequence[int] = (0,)
    ) -> None:
        """The panels from each of ``parts`` to the next, as threads share them."""
        table, (T, K), back = kernels.table().contents, x.shape, None if residual is None else residual.data_ptr()
        rows, balanced, sizes = kernels.Rows(x.data_ptr(), x.stride(0)), guarded(T, K), (guarded(T), guarded(T))
        outliers = (kernels.Outliers * T)()
        if table.normalize_rows:
            rows = kernels.Rows(balanced.data_ptr(), K, *(t.data_ptr() for t in sizes), addressof(outliers))
            table.normalize_rows(x.data_ptr(), x.stride(0), T, K, rows)
        for first, last in pairwise((*parts, self.count)):
            table.gemm(byref(self.linear), rows, T, y.data_ptr(), y.stride(0), back, activation, first, last)
        assert all(map(untouched, (balanced, *sizes)))


@needs_kernels
@pytest.mark.parametrize("seed", range(30))
def test_product(level: str, seed: int) -> None:
    r, g = random.Random(seed), torch.Generator().manual_seed(seed)
    T, K, N = r.randint(1, 300 if seed % 5 == 0 else 30), r.randint(1, 1300 if seed % 3 == 0 else 100), r.randint(1, 120)
    m, gap = Matrix.random(K, N, g), r.choice([0, 16])
    x, residual = torch.randn(T, K + gap, generator=g)[:, :K], torch.randn(T, N + gap, generator=g)[:, :N]
    room = guarded(T, N + gap)
    y = room[:, :N]
    m.product(x, y, residual, parts=(0, r.randint(0, m.count)))
    expected = F.linear(x.double(), m.weight.double(), m.bias.double())
    assert (y - (expected + residual)).abs().max() <= 2e-7 * (K + 10)
    assert untouched(room)
    assert (room[:, N:] == GUARD).all()
    for n in {0, T // 2, T - 1}:
        alone = guarded(1, N)
        m.product(x[n : n + 1], alone, residual[n : n + 1])
        assert torch.equal(alone[0], y[n])


@needs_kernels
def test_product_of_rows_and_weights_of_every_size(level: str) -> None:
    """Each row and each output as exact as if it were alone, however much larger others are; and nothing comes of nothing."""
    g = torch.Generator().manual_seed(0)
    K, sizes = 500, torch.tensor([0, 1e-30, 1e-12, 1e-3, 1, 50, 1e8, 1e15]).view(-1, 1)
    x, w = torch.randn(8, K, generator=g) * sizes, torch.randn(8, K, generator=g) * sizes
    x[4, 0] = x[4, 16] = x[5, 100] = 50 * x[4].norm()  # features that stand out, as checkpoints have them
    m, y = Matrix(w, torch.randn(8, generator=g)), guarded(8, 8)
    m.product(x, y)
    expected = F.linear(x.double(), w.double(), m.bias.double())
    lengths = x.double().norm(dim=1, keepdim=True) * w.double().norm(dim=1)
    assert ((y - expected).abs() <= 1e-6 * lengths + 1e-6).all()
    assert torch.equal(y[0], m.bias)
    assert torch.equal(y[:, 0], m.bias[0].expand(8))


@needs_kernels
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_product_of_what_is_no_number(level: str, value: float) -> None:
    """Stays in its row."""
    g = torch.Generator().manual_seed(0)
    m, x, y = Matrix.random(100, 40, g), torch.randn(30, 100, generator=g), guarded(30, 40)
    x[7, 20] = value
    m.product(x, y)
    assert not y[7].isfinite().any()
    assert y[:7].isfinite().all()
    assert y[8:].isfinite().all()


@needs_kernels
@pytest.mark.parametrize("seed", range(30))
def test_packing(level: str, seed: int) -> None:
    """Rows of several matrices side by side in panels, as numbers and quantised."""
    r, g = random.Random(seed), torch.Generator().manual_seed(seed)
    K, sizes = r.randint(1, 400), [r.randint(1, 60) for _ in range(3)]
    weights = [torch.randn(n, K, generator=g) * 10.0 ** r.randint(-3, 3) for n in sizes]
    weights[0][0] = r.choice([0.0, 1e-35, 3.0])
    whole = torch.cat(weights)
    table, N = kernels.table().contents, sum(sizes)
    fill, fill8, fours = -N % table.panel, -N % table.panel8, -K % 4
    floats, bytes_ = guarded(N + fill, K), guarded((N + fill8) * (K + fours) // 4 or 1).view(torch.int8)
    floats.zero_()
    bytes_.zero_()
    scale, total, scale8, total8 = (guarded(N) for _ in range(4))
    first = 0
    for w in weights:
        table.pack_panels(w.data_ptr(), len(w), K, first, floats.data_ptr(), scale.data_ptr(), total.data_ptr())
        table.pack_panels8(w.data_ptr(), len(w), K, first, bytes_.data_ptr(), scale8.data_ptr(), total8.data_ptr())
        first += len(w)
    expected = whole
    if table.normalize_rows:
        expected, pairs = in_pairs(whole / scale.where(scale > 0, torch.inf)[:, None])
        assert (total - pairs).abs().max() <= 1e-6
        assert (scale.frexp()[0][scale > 0] == 0.5).all()  # powers of two
        lengths = expected.norm(dim=1)[scale > 0]
        assert ((lengths - 1).abs() < 0.42).all()
    expected = F.pad(expected, (0, 0, 0, fill)).view(-1, table.panel, K).transpose(1, 2)
    assert torch.equal(floats.view(expected.shape), expected)
    units, worth = quantise_weight(whole)
    assert torch.equal(scale8, worth)
    assert torch.equal(total8, units.sum(1).float())
    in_fours = F.pad(units, (0, fours, 0, fill8)).view(-1, table.panel8, (K + 3) // 4, 4).transpose(1, 2)
    assert torch.equal(bytes_[: in_fours.numel()].view(in_fours.shape), in_fours)
    assert all(map(untouched, (floats, scale, total, scale8, total8)))


def in_pairs(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Columns in the order of kernels/winograd.c, and the sum of each row's pairs: of what stands 16 apart, where there are many."""
    K = rows.shape[1]
    whole = K // 48 * 48 if K >= 192 else 0
    groups = rows[:, :whole].view(len(rows), -1, 3, 16)
    pairs = (groups[:, :, 0].double() * groups[:, :, 1]).sum((1, 2))
    return torch.cat([groups.transpose(2, 3).reshape(len(rows), whole), rows[:, whole:]], 1), pairs


@needs_kernels
@pytest.mark.parametrize("K", [1, 15, 191, 192, 384, 1000])
def test_normalize_rows(level: str, K: int) -> None:
    table = kernels.table().contents
    if not table.normalize_rows:
        pytest.skip("this level takes rows as they are")
    g = torch.Generator().manual_seed(K)
    x = (torch.randn(9, K + 3, generator=g) * torch.logspace(-6, 6, 9)[:, None])[:, :K]
    x[3, 1 % K] = x[3, -1] = x[4, 17 % K] = 2e4  # two that are not a pair, and one of a pair
    x[5, 1 % K] = x[5, 17 % K] = 2e4
    y, scale, total, outliers = guarded(9, K + 16), guarded(9), guarded(9), (kernels.Outliers * 9)()
    sizes = scale.data_ptr(), total.data_ptr(), addressof(outliers)
    table.normalize_rows(x.data_ptr(), K + 3, 9, K, kernels.Rows(y.data_ptr(), K + 16, *sizes))
    whole = y[:, :K].clone()
    for n, row in enumerate(outliers):
        assert row.count == (n == 5 and K >= 192)
        for at in range(row.count):
            assert whole[n, row.input[at]] == 0
            whole[n, row.input[at]] = row.value[at]
    assert torch.equal(whole * scale[:, None], x)
    assert (y[:, K:] == GUARD).all()
    assert ((whole.norm(dim=1) - 1).abs() < 0.42).all()
    assert (total - in_pairs(y[:, :K])[1]).abs().max() <= 1e-6
    assert all(map(untouched, (y, scale, total)))
    expected, of = y[:, :K].clone(), scale.clone()
    table.normalize_rows(x.data_ptr(), K + 3, 9, K, kernels.Rows(x.data_ptr(), K + 3, *sizes))  # in place
    assert torch.equal(x, expected)
    assert torch.equal(scale, of)


@needs_kernels
@pytest.mark.parametrize("seed", range(30))
def test_product_in_int8(level: str, seed: int) -> None:
    """Quantised rows and their product, against the same in torch."""
    r, g = random.Random(seed), torch.Generator().manual_seed(seed)
    T, K, N = r.randint(1, 200 if seed % 5 == 0 else 20), r.randint(1, 1100 if seed % 4 == 0 else 100), r.randint(1, 120)
    torch.manual_seed(seed)
    layer, residual = torch.nn.Linear(K, N), torch.randn(T, N, generator=g)
    x = torch.randn(T, K, generator=g) * torch.rand(T, 1, generator=g) * 5 + r.choice([0, 3])
    x[0] = r.choice([0.0, -2.5, 1e-38])  # no step at all between its values
    with torch.no_grad():
        expected = Int8Product.of(layer).plus(x, residual)
        steps, _, least = quantise_rows(x)
        made = CKernelPlan.__new__(CKernelPlan)
        made._references, made._kernels = [], kernels.table().contents
        linear = made._linear8([layer], next(made._allocate_panels([[layer]], torch.int8)))
    table = kernels.table().contents
    filled = (K + 3) // 4 * 4
    q, sizes, y = torch.full((T, filled), 255, dtype=torch.uint8), (guarded(T), guarded(T)), guarded(T, N)
    rows = kernels.Quantised(q.data_ptr(), sizes[0].data_ptr(), sizes[1].data_ptr())
    table.quantise_rows(x.data_ptr(), K, T, K, rows)
    assert torch.equal(q[:, :K].float(), steps)
    assert not q[:, K:].any()
    assert torch.equal(sizes[1], least[:, 0])
    count = -(-N // made._kernels.panel8)
    first = r.randint(0, count)
    for part in ((0, first), (first, count)):
        table.gemm8(byref(linear), rows, T, y.data_ptr(), N, residual.data_ptr(), 0, *part)
    assert (y - expected).abs().max() <= 3e-6 * expected.abs().max().clamp(min=1)
    exact = layer(x).detach() + residual
    assert (y - exact).abs().max() <= 0.05 * exact.abs().max()
    assert all(map(untouched, (*sizes, y)))


@needs_kernels
@pytest.mark.parametrize("name", sorted(ACTIVATION))
def test_activations(level: str, name: str) -> None:
    """As the end of a product with one input and the weight 1."""
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([0.0, -0.0, 1e-30, -1e-30, 60.0, -60.0, 1000.0, -1000.0])])
    m, y = Matrix(torch.ones(5, 1), torch.zeros(5)), guarded(len(x), 5)
    m.product(x.view(-1, 1), y, activation=kernels.ACTIVATION[name])
    expected = ACTIVATION[name](x.double())
    assert torch.equal(y, y[:, :1].expand(-1, 5))
    most = 1.2e-6 if name in ("gelu", "gelu_python", "gelu_10") else 3e-7  # 1 + erf cancels at -5, in torch too
    assert ((y[:, 0] - expected).abs() <= most * expected.abs().clamp(min=1)).all()
    assert untouched(y)


@needs_kernels
def test_every_activation_has_a_number() -> None:
    assert kernels.ACTIVATION.keys() == ACTIVATION.keys()


@needs_kernels
@pytest.mark.parametrize("seed", range(10))
def test_attention_within_a_window(level: str, seed: int) -> None:
    """The bits of attention to all keys, with minus infinity added to the scores of those beyond."""
    r, g = random.Random(seed), torch.Generator().manual_seed(seed)
    L, D, reach = r.choice([20, 150, 300, 513]), r.choice([16, 20, 64]), r.choice([1, 2, 33, 65, 129])
    qkv = torch.randn(L, 3 * D, generator=g) * 2
    distance = torch.arange(1 - L, L + 64)
    bias = torch.zeros(len(distance)).masked_fill(distance.abs() >= reach, -torch.inf)
    table = kernels.table().contents
    scratch = guarded(table.attention_scratch(L, D, 0))
    first, last = sorted(r.sample(range(L + 1), 2))
    for attention in (table.attention, table.attention16):
        everything, near, some = guarded(L, D), guarded(L, D), guarded(last - first, D)
        for y, limit, rows in ((everything, 0, (0, L)), (near, reach, (0, L)), (some, reach, (first, last))):
            middle = bias.data_ptr() + 4 * (L - 1)
            attention(qkv.data_ptr(), L, D, D, *rows, middle, limit, None, y.data_ptr(), scratch.data_ptr())
        assert torch.equal(near, everything)
        assert torch.equal(some, everything[first:last])
        assert all(map(untouched, (near, some, scratch)))


@needs_kernels
@pytest.mark.parametrize("seed", range(20))
def test_attention_in_16_bits(level: str, seed: int) -> None:
    """Against the same in torch, and both against float64; in fp32 where a text is short or a head is wide."""
    r, g = random.Random(seed), torch.Generator().manual_seed(seed)
    L = r.choice([1, 63, 64, 65, 127, 200, 300])
    A, D = r.randint(1, 3), r.choice([1, 3, 16, 20, 32, 33, 64, 80, 128, 144])
    H = A * D
    qkv = torch.randn(L, 3 * H, generator=g) * torch.rand(3 * H, generator=g) * r.choice([0.3, 2.4])
    qkv[L // 2] = 0  # a token without a unit of its own
    bias = (torch.rand(2 * L - 1 + 64, generator=g) - 0.5).masked_fill(
        torch.rand(2 * L - 1 + 64, generator=g) < 0.1, -torch.inf
    )
    bias[L - 1] = 0.0  # every token sees itself
    table = kernels.table().contents
    y, scratch = guarded(L, H), guarded(table.attention_scratch(L, D, 0))
    first, last = sorted(r.sample(range(L + 1), 2))
    some = guarded(last - first, H)
    middle = bias.data_ptr() + 4 * (L - 1) if seed % 2 else None
    for head in range(A):
        at = 4 * head * D
        table.attention16(qkv.data_ptr() + at, L, H, D, 0, L, middle, 0, None, y.data_ptr() + at, scratch.data_ptr())
        table.attention16(qkv.data_ptr() + at, L, H, D, first, last, middle, 0, None, some.data_ptr() + at, scratch.data_ptr())
    assert torch.equal(some, y[first:last])
    q, k, v = qkv.view(1, L, 3, A, D).permute(2, 0, 3, 1, 4)
    place = torch.arange(L)
    by_distance = bias[place[:, None] - place + L - 1].expand(1, A, L, L) if seed % 2 else None
    alike = attend16(q, k, v, by_distance, D**-0.5)[0].transpose(0, 1).reshape(L, H)
    wide = None if by_distance is None else by_distance.double()
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), attn_mask=wide)[0].transpose(0, 1).reshape(L, H)
    size = v.abs().amax()
    whole = L >= 64 and D <= 128
    assert (y - alike).abs().max() <= (2e-4 if whole else 5e-6) * size  # a weight's rounding may differ by a unit
    assert (y - exact).abs().max() <= (2e-3 if whole else 5e-6) * size
    assert not whole or (y - exact).abs().max() > 1e-6 * size
    assert all(map(untouched, (y, some, scratch)))


@needs_kernels
@pytest.mark.parametrize("seed", range(30))
def test_attention(level: str, seed: int) -> None:
    r, g = random.Random(seed), torch.Generator().manual_seed(seed)
    L = [1, 2, 16, 17, 33, 129, 300][seed % 7] if seed % 2 else r.randint(1, 150)
    A, D = r.randint(1, 4), r.choice([1, 3, 8, 16, 20, 32, 33, 64, 80])
    H = A * D
    qkv = torch.randn(L, 3 * H, generator=g) * r.choice([0.3, 1.2])
    table = kernels.table().contents
    y, scratch = guarded(L, H), guarded(table.attention_scratch(L, D, 0))
    first, last = sorted(r.sample(range(L + 1), 2))
    some = guarded(last - first, H)
    for head in range(A):
        at = 4 * head * D
        table.attention(qkv.data_ptr() + at, L, H, D, 0, L, None, 0, None, y.data_ptr() + at, scratch.data_ptr())
        table.attention(qkv.data_ptr() + at, L, H, D, first, last, None, 0, None, some.data_ptr() + at, scratch.data_ptr())
    assert torch.equal(some, y[first:last])
    q, k, v = qkv.double().view(L, 3, A, D).permute(1, 2, 0, 3)
    expected = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).reshape(L, H)
    assert (y - expected).abs().max() <= 5e-6
    assert untouched(y)
    assert untouched(some)
    assert untouched(scratch)


@needs_kernels
@pytest.mark.parametrize("H", [1, 3, 4, 15, 16, 17, 32, 100, 384, 768])
def test_norm(level: str, H: int) -> None:
    g = torch.Generator().manual_seed(H)
    x, weight, bias = torch.randn(5, H, generator=g) * 3 + 1, torch.randn(H, generator=g), torch.randn(H, generator=g)
    y, again, scale = guarded(5, H), guarded(5, H), guarded(5)
    table, norm = kernels.table().contents, kernels.Norm(weight.data_ptr(), bias.data_ptr())
    table.layer_norm(x.data_ptr(), 5, H, norm, 1e-5, y.data_ptr(), scale.data_ptr())
    for n in range(5):  # alone, where they are several at a time above
        table.layer_norm(x[n].data_ptr(), 1, H, norm, 1e-5, again[n].data_ptr(), None)
    expected = F.layer_norm(x.double(), (H,), weight.double(), bias.double(), 1e-5)
    assert (y - expected).abs().max() <= 3e-6
    assert torch.equal(again, y)
    exact = (x.double().var(1, correction=0) + 1e-5).rsqrt()
    assert (scale / exact - 1).abs().max() <= 1e-6
    assert untouched(y)
    assert untouched(scale)


@needs_kernels
@pytest.mark.parametrize("H", [1, 3, 4, 15, 16, 17, 32, 100, 384, 768])
def test_center_and_combine_rows(level: str, H: int) -> None:
    g = torch.Generator().manual_seed(H)
    a, b, bias = torch.randn(3, H, generator=g) * 3 + 1
    table, y = kernels.table().contents, guarded(H)
    table.center_row(a.data_ptr(), H, b.data_ptr(), y.data_ptr())
    assert (y - (a.double() - a.double().mean()) * b).abs().max() <= 1e-5
    table.combine_rows(a.data_ptr(), b.data_ptr(), 1.5, bias.data_ptr(), H, y.data_ptr())
    assert (y - ((a.double() + b) * 1.5 + bias)).abs().max() <= 3e-6
    assert untouched(y)


@needs_kernels
@pytest.mark.parametrize("mode", sorted(POOLS))
def test_pool(level: str, mode: str) -> None:
    g = torch.Generator().manual_seed(len(mode))
    table = kernels.table().contents
    for length, H, skip in [
        (1, 32, 0),
        (1, 17, 3),
        (2, 3, 1),
        (5, 16, 0),
        (7, 100, 2),
        (40, 384, 0),
        (40, 33, 39),
        (300, 20, 9),
    ]:
        x, y = torch.randn(length, H, generator=g) * 2 - 0.5, guarded(1, H)
        table.pool(x.data_ptr(), length, H, kernels.POOLING[mode], skip, y.data_ptr())
        batch = Packed.of([[0] * length])
        assert (y - pool_in_float64(x, batch, (mode,), skip)).abs().max() <= 1e-5
        assert untouched(y)


def test_every_pooling_has_a_number() -> None:
    assert set(kernels.POOLING) == set(POOLS)


# of the tokens that are kept, and their places in the sequence counted from 1
PLAINLY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": lambda x, place: x[0],
    "max": lambda x, place: x.max(0).values,
    "mean": lambda x, place: x.mean(0),
    "mean_sqrt_len_tokens": lambda x, place: x.sum(0) / math.sqrt(len(x)),
    "weightedmean": lambda x, place: (x * place[:, None]).sum(0) / place.sum(),
    "lasttoken": lambda x, place: x[-1],
}


def pool_in_float64(hidden: Tensor, batch: Packed, modes: tuple[str, ...], skip: int) -> Tensor:
    rows = []
    for x in hidden.double().split(list(batch.lengths)):
        kept, place = (each[min(skip, len(x) - 1) :] for each in (x, torch.arange(1.0, len(x) + 1)))
        rows += [PLAINLY[mode](kept, place) if len(x) else hidden.new_zeros(hidden.shape[1]).double() for mode in modes]
    return torch.stack(rows).view(len(batch.lengths), -1)


# -- the plan


def batches(model: nb.Model, longest: int, seed: int) -> list[Packed]:
    """Few and many, equal and unequal, one token and as many as the model takes."""
    r, vocab = random.Random(seed), model.config.vocab_size
    shapes = [
        [1],
        [2],
        [16],
        [longest],
        [1, 1, 1],
        [longest] * 9,
        [5] * 40,
        [r.randint(1, longest) for _ in range(60)],
        [0, 3, 0],
    ]
    rows = [[[r.randrange(5, vocab) for _ in range(n)] for n in lengths] for lengths in shapes]
    return [Packed.of(some, position_pad_id=model.config.position_pad_id) for some in rows]


def check_plan(model: nb.Model, some: list[Packed]) -> None:
    """Values against the model in float64; bits against every sequence alone, one thread, and the states."""
    plan, other, exact = CKernelPlan(model), CpuPlan(model), copy.deepcopy(model).double()
    for batch in some:
        hidden, states = plan.hidden(batch), plan.states(batch)
        assert torch.equal(states[-1], hidden)
        truth = exact.encode(batch, states=True).states
        assert truth is not None
        found, theirs, right = (
            {str(n): state.detach() for n, state in enumerate(s)} for s in (states, other.states(batch), truth)
        )
        verdict = compare(found, right, theirs)
        assert verdict.passed, verdict
        assert len(verdict.steps) == len(model.config.layers) + 1
        with one_thread():
            assert torch.equal(plan.hidden(batch), hidden)
            alone = [
                plan.hidden(Packed.of([ids.tolist()], position_pad_id=model.config.position_pad_id))
                for ids in batch.ids.split(list(batch.lengths))
            ]
        assert torch.equal(torch.cat(alone), hidden)


@needs_kernels
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("family", sorted(TINY))
@pytest.mark.slow
def test_plan_of_every_family(family: str, level: str, tmp_path: Path) -> None:
    model = nb.load(write_folder(tmp_path / family, TINY[family]))
    assert isinstance(prepare(model, "cpu"), CKernelPlan)
    check_plan(model, batches(model, 37, 0))


@needs_kernels
@pytest.mark.usefixtures("two_threads")
@pytest.mark.slow
def test_plan_of_minilm(level: str) -> None:
    r = random.Random(0)
    batch = Packed.of([[r.randrange(999, 30000) for _ in range(n)] for n in (120, 70, 20, 20, 20, 16, 3, 1)])
    check_plan(nb.load(minilm(), head=None), [batch])


@needs_kernels
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("width", "heads", "inner"), [(33, 3, 50), (100, 4, 7), (66, 1, 130), (8, 8, 300), (80, 1, 1)])
@pytest.mark.slow
def test_plan_of_odd_sizes(width: int, heads: int, inner: int, level: str, tmp_path: Path) -> None:
    sizes = {"hidden_size": width, "num_attention_heads": heads, "intermediate_size": inner, "type_vocab_size": 3}
    model = nb.load(write_folder(tmp_path / "m", TINY["bert"] | sizes))
    check_plan(model, batches(model, 40, 0))


def cosines(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a, b, dim=-1)


@needs_kernels
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("family", ["albert", "bert", "electra", "roberta", "mpnet", "gte", "modernbert", "deberta-v2"])
@pytest.mark.slow
def test_int8_plan_of_every_family(family: str, level: str, tmp_path: Path) -> None:
    model = nb.load(write_folder(tmp_path / family, TINY[family]))
    plan, oracle = prepare(model, "cpu", "int8"), CpuPlan(model, Int8Product)
    assert isinstance(plan, CKernelPlan)
    for batch in batches(model, 37, 1):
        hidden = plan.hidden(batch)
        with one_thread():
            assert torch.equal(plan.hidden(batch), hidden)
            alone = [
                plan.hidden(Packed.of([ids.tolist()], position_pad_id=model.config.position_pad_id))
                for ids in batch.ids.split(list(batch.lengths))
            ]
        assert torch.equal(torch.cat(alone), hidden)
        # a difference of one rounding may become one of a whole step, which the next layers pass on: close, but not to 1e-5
        assert cosines(hidden, oracle.hidden(batch)).min() >= 0.995


@pytest.mark.parametrize("family", sorted(TINY))
def test_int8_without_the_kernels(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.VARIABLE, "0")
    model = nb.load(write_folder(tmp_path / family, TINY[family]))
    plan, exact = prepare(model, "cpu", "int8"), CpuPlan(model)
    for batch in batches(model, 37, 2)[3:]:
        hidden = plan.hidden(batch)
        alone = [
            plan.hidden(Packed.of([ids.tolist()], position_pad_id=model.config.position_pad_id))
            for ids in batch.ids.split(list(batch.lengths))
        ]
        assert torch.equal(torch.cat(alone), hidden)
        assert not torch.equal(hidden, exact.hidden(batch))
        assert cosines(hidden, exact.hidden(batch)).min() >= 0.97


def test_int8_vectors_of_minilm() -> None:
    """The promise for real texts: cosines to fp32 of .997 in the mean and .98 at least."""
    model = nb.load(minilm(), head=None)
    some = [text for text in texts(60, 25, seed=5) if text]
    found = cosines(*(nb.Embedder(model, device="cpu", precision=p)(some, as_tensor=True) for p in ("float32", "int8")))
    assert found.mean() >= 0.997
    assert found.min() >= 0.98
    assert found.mean() < 0.99999  # it is int8


def test_int8_is_for_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nativebert.engine.choose_device", torch.device)
    with pytest.raises(BadInputError, match="precision='int8' is for the CPU"):
        prepare(nb.load(write_folder(tmp_path / "m", TINY["bert"])), "cuda", "int8")


@needs_kernels
def test_weights_are_collapsed_into_huge_pages_after_some_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """To large pages, where the system can; the numbers stay, and so do the weights of the next plan."""
    monkeypatch.setattr("nativebert.engine.native.HUGEPAGE_AFTER_SECONDS", 0.0)
    model, batch = nb.load(minilm(), head=None), Packed.of([[101, 7592, 102]])
    before = large_pages()
    for precision in ("float32", "int8"):
        plan = CKernelPlan(model, precision)
        assert all(size > 2 * HUGE_PAGE_BYTES for _, size in plan._panels)
        assert plan._panels
        first = plan.hidden(batch)
        assert not plan._panels
        assert torch.equal(plan.hidden(batch), first)
        assert torch.equal(CKernelPlan(model, precision).hidden(batch), first)
    if tuple(map(int, platform.release().split(".")[:2])) >= (6, 1) and thp():
        assert large_pages() > before


def large_pages() -> int:
    """Kilobytes of this process in them, as far as the system tells."""
    file = Path("/proc/self/smaps_rollup")
    lines = file.read_text().splitlines() if file.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages"))


def thp() -> bool:
    """Whether the system has them at all."""
    file = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return file.exists() and "[never]" not in file.read_text()


@needs_kernels
@pytest.mark.usefixtures("two_threads")
def test_segments_and_long_texts(tmp_path: Path) -> None:
    model = nb.load(write_folder(tmp_path / "m", TINY["bert"] | {"max_position_embeddings": 8192, "num_hidden_layers": 1}))
    r = random.Random(0)
    rows = [[r.randrange(5, 60) for _ in range(n)] for n in (8192, 700, 3)]
    batch = Packed.of(rows, [[r.randrange(2) for _ in row] for row in rows])
    assert (
        CKernelPlan(model).hidden(batch) - CpuPlan(model).hidden(batch)
    ).abs().max() <= 5e-6  # 8e-6 where 8,192 terms are one sum


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    "make",
    [
        CpuPlan,
        pytest.param(CKernelPlan, marks=needs_kernels),
        pytest.param(partial(CKernelPlan, precision="int8"), marks=needs_kernels, id="int8"),
    ],
)
@pytest.mark.slow
def test_pooled(make: Callable[[nb.Model], ExecutionPlan], tmp_path: Path) -> None:
    """Of a whole batch, and the same bits of every sequence alone and on one thread."""
    model = nb.load(write_folder(tmp_path / "m", TINY["bert"]))
    plan = make(model)
    for batch in batches(model, 40, 8):
        for modes, skip in [(("mean",), 0), (tuple(sorted(POOLS)), 2), (("cls", "max"), 50), (("cls",), 0), (("cls",), 3)]:
            found = plan.pooled(batch, modes, skip)
            if modes == ("cls",):  # the last layer computes these tokens alone, and the same bits
                assert torch.equal(found, pool(plan.hidden(batch), batch, modes, skip))
            assert found.shape == (len(batch.lengths), 32 * len(modes))
            assert (found - pool_in_float64(plan.hidden(batch), batch, modes, skip)).abs().max() <= 1e-5
            with one_thread():
                alone = [plan.pooled(Packed.of([ids.tolist()]), modes, skip) for ids in batch.ids.split(list(batch.lengths))]
            assert torch.equal(torch.cat(alone), found)


@needs_kernels
def test_no_tokens_and_no_sequences(tmp_path: Path) -> None:
    plan = CKernelPlan(nb.load(write_folder(tmp_path / "m", TINY["bert"])))
    for batch in (Packed.of([]), Packed.of([[], []])):
        assert plan.hidden(batch).shape == (0, 32)
        assert [state.shape for state in plan.states(batch)] == [(0, 32)] * 3
        assert torch.equal(plan.pooled(batch, ("mean", "cls")), torch.zeros(len(batch.lengths), 64))


@needs_kernels
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_no_layers(precision: str, tmp_path: Path) -> None:
    model = nb.load(write_folder(tmp_path / "m", TINY["bert"] | {"num_hidden_layers": 0}))
    batch = Packed.of([[5, 6, 7], [8]])
    assert (CKernelPlan(model, precision).hidden(batch) - CpuPlan(model).hidden(batch)).abs().max() <= 1e-6


@needs_kernels
def test_ids_beyond_the_tables_are_named(tmp_path: Path) -> None:
    plan = CKernelPlan(nb.load(write_folder(tmp_path / "m", TINY["bert"])))
    with pytest.raises(BadInputError, match="token id 9999 "):
        plan.hidden(Packed.of([[5, 9999]]))
    with pytest.raises(BadInputError, match="token id -1 "):
        plan.hidden(Packed.of([[5, -1]]))
    with pytest.raises(BadInputError, match="token type id 2 "):
        plan.hidden(Packed.of([[5, 6]], [[0, 2]]))
    with pytest.raises(TooLongError, match="position 40 "):
        plan.hidden(Packed.of([[5] * 41]))


@needs_kernels
def test_several_python_threads(tmp_path: Path) -> None:
    model = nb.load(write_folder(tmp_path / "m", TINY["bert"]))
    plan, some = CKernelPlan(model), batches(model, 40, 3)
    expected = [plan.hidden(batch) for batch in some]
    wrong: list[int] = []

    def work() -> None:
        for _ in range(3):
            wrong.extend(n for n, batch in enumerate(some) if not torch.equal(plan.hidden(batch), expected[n]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@needs_kernels
@pytest.mark.usefixtures("two_threads")
def test_the_cache_of_the_first_layer(tmp_path: Path) -> None:
    """Between batches and threads, when there is too much of it, and for a batch that needs more by itself: always the same bits."""
    sizes = {"vocab_size": 9000, "max_position_embeddings": 300, "hidden_size": 16, "num_attention_heads": 2}
    model = nb.load(write_folder(tmp_path / "m", TINY["bert"] | sizes))
    r, plan = random.Random(3), CKernelPlan(model)
    for number, tokens in enumerate((10, 1500, 1500, 10, 1500, 6000, 100, 1500, 3)):
        lengths = [length for length in (250,) * (tokens // 250) + (tokens % 250,) if length]
        rows = [[r.randrange(9000) for _ in range(length)] for length in lengths]
        segments = [[r.randrange(2) for _ in row] for row in rows] if number % 2 else None
        batch = Packed.of(rows, segments)
        found = plan.hidden(batch)
        assert (found - CpuPlan(model).hidden(batch)).abs().max() <= 3e-6
        with one_thread():
            assert torch.equal(CKernelPlan(model).hidden(batch), found)
        cached = plan._workspaces._idle[-1].cache.pointer.contents
        assert cached.count > 4096 if number >= 5 else cached.count <= 4096
    plan.clear_cache()
    assert cached.count == 0
    assert torch.equal(plan.hidden(batch), found)
    assert cached.count == 2 * 3  # tokens and positions


@needs_kernels
def test_the_plan_takes_the_weights_as_they_are_now(tmp_path: Path) -> None:
    model = nb.load(write_folder(tmp_path / "m", TINY["bert"]))
    plan, batch = CKernelPlan(model), Packed.of([[5, 6, 7]])
    before = plan.hidden(batch)
    with torch.no_grad():
        for block in model.blocks():
            for p in block.parameters():
                p.zero_()
    assert torch.equal(plan.hidden(batch), before)


# -- the library and its Python side agree


@pytest.fixture
def loaded_anew() -> Iterator[None]:
    """The library is loaded again in a test, and again after it."""
    for cached in (kernels.library, kernels._tables):
        cached.cache_clear()
    yield
    for cached in (kernels.library, kernels._tables):
        cached.cache_clear()


def check_refused(reason: str, tmp_path: Path) -> None:
    """The kernels say why they are not used, in these words, and torch does the work."""
    assert not kernels.available()
    assert kernels.why_not().startswith(reason)
    assert "Rebuild them: pip install -e ." in kernels.why_not()
    assert kernels.levels() == []
    model = nb.load(write_folder(tmp_path / "m", TINY["bert"]))
    for precision in ("float32", "int8"):
        assert isinstance(prepare(model, "cpu", precision), CpuPlan)
    with pytest.raises(BadInputError, match=r"not available: they were built|not available: their C sources"):
        CKernelPlan(model)


def test_every_structure_is_compared() -> None:
    mirrored = {name for name, of in vars(kernels).items() if isinstance(of, type) and issubclass(of, kernels.ctypes.Structure)}
    assert {of.__name__ for of in kernels.STRUCTURES} == mirrored - {"AbiEntry"}


@needs_kernels
@pytest.mark.parametrize(
    ("name", "value"),
    [("MAX_OUTLIERS", 17), ("POOLING", {"cls": 0}), ("ACTIVATION_NAMES", ["linear"]), ("STRUCTURES", (kernels.Linear,))],
)
@pytest.mark.usefixtures("loaded_anew")
def test_other_constants_are_refused(name: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, name, value)
    check_refused("they were built from another version: ", tmp_path)


@needs_kernels
@pytest.mark.parametrize(
    "fields", [[("bias", c_void_p), ("weight", c_void_p)], [("weight", c_void_p)], [("scale", c_void_p)] * 2]
)
@pytest.mark.usefixtures("loaded_anew")
def test_other_structures_are_refused(
    fields: list[tuple[str, type[c_void_p]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another order, of another size, of other names."""
    other = type("Norm", (kernels.ctypes.Structure,), {"_fields_": fields})
    monkeypatch.setattr(kernels, "STRUCTURES", tuple(other if of is kernels.Norm else of for of in kernels.STRUCTURES))
    check_refused("they were built from another version: ", tmp_path)
    assert "Norm" in kernels.why_not()


@pytest.mark.skipif(sys.platform != "linux", reason="needs dlopen(NULL)")
def test_a_library_without_a_description_is_refused(tmp_path: Path) -> None:
    assert kernels.mismatch(kernels.ctypes.CDLL(None), tmp_path).startswith("they were built from an older version")


@needs_kernels
@pytest.mark.parametrize("changed", ["norm.c", "vec.h", "new.c", "setup.py"])
@pytest.mark.usefixtures("loaded_anew")
def test_changed_sources_are_refused(changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(kernels.__file__).parent
    if not kernels.fingerprint(here):
        pytest.skip("the C sources do not lie beside the library")
    folder = tmp_path / "nativebert" / "kernels"
    shutil.copytree(here, folder)
    shutil.copy(here.parents[1] / "setup.py", tmp_path)
    monkeypatch.setattr(kernels, "__file__", str(folder / "__init__.py"))
    assert kernels.available()
    kernels.library.cache_clear()
    with (tmp_path if changed == "setup.py" else folder).joinpath(changed).open("a") as file:
        file.write("\n")
    check_refused(f"their C sources in {folder} have changed since they were built", tmp_path)


@needs_kernels
@pytest.mark.usefixtures("loaded_anew")
def test_a_wheel_has_no_sources_to_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(kernels.__file__).parent
    for path in here.glob("library.*"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(kernels, "__file__", str(tmp_path / "__init__.py"))
    assert kernels.why_not() == ""


# -- what the kernels compute


def described(model: nb.Model, **changed: Any) -> nb.Model:
    """A model whose config says something else."""
    changed_model = copy.copy(model)
    changed_model.config = dataclasses.replace(model.config, **changed)
    return changed_model


@dataclasses.dataclass(frozen=True, slots=True)
class LayerOfTomorrow(Layer):
    sparse: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigOfTomorrow(EncoderConfig):
    sinks: int = 0


def of_tomorrow(kind: type[Any], today: Any, **more: object) -> Any:
    return kind(**{field.name: getattr(today, field.name) for field in dataclasses.fields(today)}, **more)


def test_what_the_kernels_do_not_compute_is_not_supported(tmp_path: Path) -> None:
    model = nb.load(write_folder(tmp_path / "m", TINY["bert"]))
    layer, *others = model.config.layers
    assert supports(model)
    assert not supports(described(model, layers=(*others, dataclasses.replace(layer, activation="unheard"))))
    for one in ({"convolution": Convolution(3, "tanh")}, {"block": "pre"}):
        assert not supports(described(model, **one)), one
    for one in ({"window": 4}, {"rope_theta": 1e4}):
        changed = tuple(dataclasses.replace(each, **one) for each in model.config.layers)
        assert supports(described(model, layers=changed))
        assert not supports(described(model, layers=changed, positions=2**17)), one  # whose tables would be large
    for one in ({"intermediate_size": 7}, {"heads": 1}, {"activation": "relu"}):  # of any value
        assert supports(described(model, layers=(dataclasses.replace(layer, **one), *others))), one
    batch = Packed.of([[5, 6]])
    if kernels.available():
        with pytest.raises(BadInputError, match="without padding"):
            CKernelPlan(model).hidden(dataclasses.replace(batch, attention_mask=torch.tensor([True, False])))


def test_a_feature_that_nobody_listed_is_not_supported(tmp_path: Path) -> None:
    """A field that the config gains is refused where it says anything, and does not hinder where it does not."""
    model = nb.load(write_folder(tmp_path / "m", TINY["bert"]))
    layer, *others = model.config.layers
    for sparse in (False, True):
        assert supports(described(model, layers=(of_tomorrow(LayerOfTomorrow, layer, sparse=sparse), *others))) is not sparse
    for sinks in (0, 4):
        changed = copy.copy(model)
        changed.config = of_tomorrow(ConfigOfTomorrow, model.config, sinks=sinks)
        assert supports(changed) is not bool(sinks)
        if sinks:
            assert isinstance(prepare(changed, "cpu"), CpuPlan)


# -- what is used


@pytest.mark.parametrize("value", ["0", "avx1024"])
def test_the_environment_decides(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nb.load(write_folder(tmp_path / "m", TINY["bert"]))
    monkeypatch.setenv(kernels.VARIABLE, value)
    if value == "0":
        assert not kernels.available()
        assert kernels.why_not() == "NATIVEBERT_KERNELS=0 is set"
        assert isinstance(prepare(model, "cpu"), CpuPlan)
        with pytest.raises(BadInputError, match="not available"):
            CKernelPlan(model)
    elif kernels.available():
        with pytest.raises(BadInputError, match="must be 0, or a level that this machine runs: "):
            prepare(model, "cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@needs_kernels
def test_one_openmp_for_torch_and_the_kernels(tmp_path: Path) -> None:
    """Two would each keep threads of their own."""
    folder = write_folder(tmp_path / "m", TINY["bert"])
    code = f"""
import nativebert as nb
from nativebert.engine import prepare
from nativebert.nn.packed import Packed
from nativebert.nn.pool import POOLS, pool
prepare(nb.load({str(folder)!r}), "cpu").hidden(Packed.of([[5, 6]]))
maps = open("/proc/self/maps").read()
print(len({{line.split()[-1] for line in maps.splitlines() if "omp" in line.rsplit("/", 1)[-1]}}))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "1"
