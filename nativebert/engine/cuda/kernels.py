"""Triton kernels of a packed encoder, and the functions that launch them on whatever device the tensors are.

No kernel splits a sum over programs, and none uses atomics: a row of a product depends on that row and the weights, a token's attention
on its own sequence. Tiles that decide the order of a sum (keys in attention, depth in float32 products) never follow the batch, so a
text's result has the same bits whatever is computed beside it. In Triton's interpreter (``TRITON_INTERPRET=1``) all of this runs on the
CPU.

Letters: ``T`` or ``M`` rows, ``N`` columns, ``K`` depth of a product, ``H`` width, ``D`` head width; ``BM``, ``BN``, ``BK``, ``BH``, ``BD``
the sizes of a tile along them, powers of two.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from nativebert.engine.cuda.tiles import AttentionTile, ProductTile, norm_rows

# A kernel has many parameters: one a line would hide what it does.
# fmt: off

LOG2_E = 1.4426950408889634
GROUP = 4  # row blocks whose tiles follow each other, so that the weights they share stay in the L2 cache


# ---------------------------------------------------------------- activations


@triton.jit
def _inverse(x):
    """1 / x of a number of at least 1: one operation of the special function unit, where a division is that and three more."""
    r = tl.math.rsqrt(x)
    return r * r


@triton.jit
def _sigmoid(x):
    return _inverse(1.0 + tl.math.exp2(-1.4426950408889634 * x))


@triton.jit
def _tanh(x):
    return 2.0 * _sigmoid(2.0 * x) - 1.0


@triton.jit
def _inverses(x):
    """1 / x of numbers from 1 to 2^61, those of two neighbouring columns from the inverse of their product: the special function unit is
    what an activation waits for."""
    a, b = tl.split(tl.reshape(x, (x.shape[0], x.shape[1] // 2, 2)))
    r = _inverse(a * b)
    return tl.reshape(tl.join(r * b, r * a), x.shape)


@triton.jit
def activate(x, ACT: tl.constexpr, PAIRS: tl.constexpr):
    """An activation of :mod:`nativebert.nn.activation`, in float32, by its name in :data:`ACTIVATION`; PAIRS says that each thread has
    neighbouring columns."""
    if ACT == "erf" or ACT == "erf_10":
        x = 0.5 * x * (1.0 + tl.math.erf(x * 0.7071067811865476))
    elif ACT == "erf_fit" or ACT == "erf_fit_10":
        # x Phi(x) with Phi(x) = 1 / (1 + 2^(x q(x^2))), q fitted to the error function: within 4e-6 of x Phi(x) everywhere, in a dozen
        # instructions, where erf takes some thirty (decisions/0009)
        s = x * x
        q = -3.2104214579490005e-06 * s + 8.791048931947154e-05
        q = q * s + 0.0003620443613157152
        q = q * s - 0.10522997205383534
        q = q * s - 2.302043776875368
        e = tl.math.exp2(tl.minimum(x * q, 60.0))
        if PAIRS:
            x = x * _inverses(1.0 + e)
        else:
            x = x * _inverse(1.0 + e)
    elif ACT == "gelu_tanh":
        x = x * _sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    elif ACT == "quick_gelu":
        x = x * _sigmoid(1.702 * x)
    elif ACT == "relu":
        x = tl.maximum(x, 0.0)
    elif ACT == "relu2":
        x = tl.maximum(x, 0.0)
        x = x * x
    elif ACT == "relu6":
        x = tl.minimum(tl.maximum(x, 0.0), 6.0)
    elif ACT == "leaky_relu":
        x = tl.where(x > 0.0, x, 0.01 * x)
    elif ACT == "silu":
        x = x * _sigmoid(x)
    elif ACT == "mish":  # x tanh(log(1 + e^x)) = x n / (n + 2), n = e^x (e^x + 2)
        e = tl.math.exp2(1.4426950408889634 * tl.minimum(x, 20.0))
        n = e * (e + 2.0)
        x = x * (n / (n + 2.0))
    elif ACT == "tanh":
        x = _tanh(x)
    elif ACT == "sigmoid":
        x = _sigmoid(x)
    if ACT == "erf_10" or ACT == "erf_fit_10":
        x = tl.minimum(tl.maximum(x, -10.0), 10.0)
    return x


# Name in a config.json -> name in activate(). GELU by erf is fitted where the result is rounded to 16 bits: see activation().
ACTIVATION = {
    "gelu": "erf",
    "gelu_python": "erf",
    "gelu_10": "erf_10",
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh"), "gelu_tanh"),
    **dict.fromkeys(("silu", "swish"), "silu"),
    **{name: name for name in ("quick_gelu", "relu", "relu2", "relu6", "leaky_relu", "mish", "tanh", "sigmoid", "linear")},
}
_FITTED = {"erf": "erf_fit", "erf_10": "erf_fit_10"}


def activation(name: str, dtype: torch.dtype) -> str:
    """How :func:`activate` calls an activation whose result is stored as ``dtype``."""
    exact = ACTIVATION[name]
    return exact if dtype == torch.float32 else _FITTED.get(exact, exact)


# ---------------------------------------------------------------- products: y = act(x @ w.T + b) + residual


@triton.jit
def _tile_at(pid, rows, cols, GROUP: tl.constexpr):
    """Row block and column block of the tile with this number."""
    group = pid // (GROUP * cols)
    first = group * GROUP
    size = min(rows - first, GROUP)
    return first + (pid % (GROUP * cols)) % size, (pid % (GROUP * cols)) // size


@triton.jit
def _finish(acc, bias, first, N, BM: tl.constexpr, BN: tl.constexpr, ACT: tl.constexpr, GATED: tl.constexpr):
    """Add the bias of columns from ``first`` on and apply the activation; a gated product has a gate's column beside each of its own."""
    n = first + tl.arange(0, BN)
    acc += tl.load(bias + n, mask=n < N, other=0.0)[None, :]
    if GATED:
        up, gate = tl.split(tl.reshape(acc, (BM, BN // 2, 2)))
        y = activate(up, ACT, False) * gate
    else:
        y = activate(acc, ACT, True)
    return y


@triton.jit(do_not_specialize=["M"])
def _product(x, w, bias, residual, y, M, N, K, sx, sy, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
             ACT: tl.constexpr, GATED: tl.constexpr, ADD: tl.constexpr, EVEN_K: tl.constexpr, PRECISION: tl.constexpr):
    """One tile of y for each program, read through pointers: any shape, any card."""
    pm, pn = _tile_at(tl.program_id(0), tl.cdiv(M, BM), tl.cdiv(N, BN), GROUP)
    rm = pm * BM + tl.arange(0, BM)
    rn = pn * BN + tl.arange(0, BN)
    rk = tl.arange(0, BK)
    px = x + (rm % M).to(tl.int64)[:, None] * sx + rk[None, :]
    pw = w + (rn % N)[None, :] * K + rk[:, None]
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        if EVEN_K:
            a, b = tl.load(px), tl.load(pw)
        else:
            a = tl.load(px, mask=rk[None, :] < K - k, other=0.0)
            b = tl.load(pw, mask=rk[:, None] < K - k, other=0.0)
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
        px += BK
        pw += BK
    out = _finish(acc, bias, pn * BN, N, BM, BN, ACT, GATED)
    WIDE: tl.constexpr = BN // 2 if GATED else BN
    wide = N // 2 if GATED else N
    n = pn * WIDE + tl.arange(0, WIDE)
    at = rm.to(tl.int64)[:, None] * sy + n[None, :]
    ok = (rm[:, None] < M) & (n[None, :] < wide)
    if ADD:
        out += tl.load(residual + at, mask=ok, other=0.0).to(tl.float32)
    tl.store(y + at, out.to(y.dtype.element_ty), mask=ok)


@triton.jit(do_not_specialize=["M"])
def _product_described(dx, dw, bias, dr, dy, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
                       ACT: tl.constexpr, GATED: tl.constexpr, ADD: tl.constexpr, PRECISION: tl.constexpr, PARTS: tl.constexpr,
                       PROGRAMS: tl.constexpr):
    """The same with tiles copied by the tensor memory accelerator (Hopper and later), one program for each multiprocessor."""
    rows, cols = tl.cdiv(M, BM), tl.cdiv(N, BN)
    for pid in tl.range(tl.program_id(0), rows * cols, PROGRAMS, flatten=True):
        pm, pn = _tile_at(pid, rows, cols, GROUP)
        acc = tl.zeros((BM, BN), tl.float32)
        for k in range(0, K, BK):
            acc = tl.dot(dx.load([pm * BM, k]), dw.load([pn * BN, k]).T, acc, input_precision=PRECISION)
        _store(dr, dy, acc, bias, pm * BM, pn * BN, N, BM, BN, ACT, GATED, ADD, PARTS)


@triton.jit
def _store(dr, dy, acc, bias, row, column, N, BM: tl.constexpr, BN: tl.constexpr, ACT: tl.constexpr, GATED: tl.constexpr,
           ADD: tl.constexpr, PARTS: tl.constexpr):
    """Finish a tile and store it, so many parts of its columns one after another: what takes less shared memory on the way out leaves more
    for the inputs on their way in."""
    if PARTS > 1:
        left, right = tl.split(tl.permute(tl.reshape(acc, (BM, 2, BN // 2)), (0, 2, 1)))
        _store(dr, dy, left, bias, row, column, N, BM, BN // 2, ACT, GATED, ADD, PARTS // 2)
        _store(dr, dy, right, bias, row, column + BN // 2, N, BM, BN // 2, ACT, GATED, ADD, PARTS // 2)
    else:
        out = _finish(acc, bias, column, N, BM, BN, ACT, GATED)
        if GATED:
            column = column // 2
        if ADD:
            out += dr.load([row, column]).to(tl.float32)
        dy.store([row, column], out.to(dy.dtype))


def product(x: Tensor, weight: Tensor, bias: Tensor, act: str, tile: ProductTile, *, residual: Tensor | None = None,
            gated: bool = False, precision: str = "tf32x3") -> Tensor:
    """``act(x @ weight.T + bias) + residual``.

    Args:
        x: ``(M, K)``, rows contiguous.
        weight: ``(N, K)``; in a gated product the gate's row stands after each row of its own.
        bias: float32 ``(N,)``.
        act: an activation as :func:`activation` names it.
        tile: sizes; they change the speed alone.
        residual: of the result's shape and type, contiguous.
        gated: return ``act(even columns) * odd columns``.
        precision: of float32 products on tensor cores: ``tf32x3`` (float32's accuracy) or ``tf32``.

    Returns:
        ``(M, N)``, or ``(M, N / 2)`` if gated, in the type of ``x``.
    """
    (M, K), N = x.shape, len(weight)
    wide = N // 2 if gated else N
    y = torch.empty((M, wide), dtype=x.dtype, device=x.device)
    tiles = triton.cdiv(M, tile.rows) * triton.cdiv(N, tile.columns)
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    sizes = (tile.rows, tile.columns, tile.depth, GROUP, act, gated, residual is not None)
    aligned = all(side * x.element_size() % 16 == 0 for side in (K, wide, x.stride(0)))
    if tile.programs and aligned:
        parts = (1 + tile.halves) * (1 + (residual is not None))
        block = [tile.rows, tile.columns // parts // (1 + gated)]
        dx = TensorDescriptor(x, [M, K], [x.stride(0), 1], [tile.rows, tile.depth])
        dw = TensorDescriptor(weight, [N, K], [K, 1], [tile.columns, tile.depth])
        dy = TensorDescriptor(y, [M, wide], [wide, 1], block)
        dr = dy if residual is None else TensorDescriptor(residual, [M, wide], [wide, 1], block)
        grid = (min(tile.programs, tiles),)
        _product_described[grid](dx, dw, bias, dr, dy, M, N, K, *sizes, precision, parts, tile.programs, **options)
    else:
        even = K % tile.depth == 0
        side = y if residual is None else residual
        _product[(tiles,)](x, weight, bias, side, y, M, N, K, x.stride(0), wide, *sizes, even, precision, **options)
    return y


# ---------------------------------------------------------------- embeddings, norms, rotary positions


@triton.jit
def _normalize(x, weight, bias, h, eps, H: tl.constexpr):
    """Layer norm of rows ``(rows, BH)``, of which the first ``H`` columns are real."""
    mean = tl.sum(x, 1) / H
    d = tl.where(h[None, :] < H, x - mean[:, None], 0.0)
    var = tl.sum(d * d, 1) / H
    w = tl.load(weight + h, mask=h < H, other=0.0)
    b = tl.load(bias + h, mask=h < H, other=0.0)
    return d * (1.0 / tl.sqrt_rn(var + eps))[:, None] * w[None, :] + b[None, :]


@triton.jit(do_not_specialize=["T"])
def _norm(x, weight, bias, y, T, eps, H: tl.constexpr, BH: tl.constexpr, ROWS: tl.constexpr):
    t = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    h = tl.arange(0, BH)
    at = t.to(tl.int64)[:, None] * H + h[None, :]
    ok = (t[:, None] < T) & (h[None, :] < H)
    v = tl.load(x + at, mask=ok, other=0.0).to(tl.float32)
    tl.store(y + at, _normalize(v, weight, bias, h, eps, H).to(y.dtype.element_ty), mask=ok)


Norm = tuple[Tensor, Tensor, float]
"""Weight and bias in float32, epsilon."""


def norm(x: Tensor, of: Norm) -> Tensor:
    """Layer norm of ``(T, H)``."""
    T, H = x.shape
    y = torch.empty_like(x)
    rows, warps = norm_rows(H)
    sizes = (H, triton.next_power_of_2(H), rows)
    _norm[(triton.cdiv(T, rows),)](x, of[0], of[1], y, T, of[2], *sizes, num_warps=warps)
    return y


@triton.jit(do_not_specialize=["T"])
def _embed(ids, positions, segments, token, position, segment, weight, bias, y, T, eps, H: tl.constexpr, BH: tl.constexpr,
           ROWS: tl.constexpr, POSITIONS: tl.constexpr, SEGMENTS: tl.constexpr, KINDS: tl.constexpr):
    t = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    h = tl.arange(0, BH)
    real = t < T
    ok = real[:, None] & (h[None, :] < H)
    i = tl.load(ids + t, mask=real, other=0).to(tl.int64)
    v = tl.load(token + i[:, None] * H + h[None, :], mask=ok, other=0.0).to(tl.float32)
    if SEGMENTS:
        if KINDS:
            s = tl.load(segments + t, mask=real, other=0).to(tl.int64)
            v += tl.load(segment + s[:, None] * H + h[None, :], mask=ok, other=0.0).to(tl.float32)
        else:
            v += tl.load(segment + h, mask=h < H, other=0.0).to(tl.float32)[None, :]
    if POSITIONS:
        p = tl.load(positions + t, mask=real, other=0).to(tl.int64)
        v += tl.load(position + p[:, None] * H + h[None, :], mask=ok, other=0.0).to(tl.float32)
    at = y + t.to(tl.int64)[:, None] * H + h[None, :]
    tl.store(at, _normalize(v, weight, bias, h, eps, H).to(y.dtype.element_ty), mask=ok)


def embed(ids: Tensor, positions: Tensor, segments: Tensor | None, tables: tuple[Tensor, Tensor | None, Tensor | None],
          of: Norm) -> Tensor:
    """Norm of the sum of the token, segment and position rows, in this order.

    Args:
        ids, positions, segments: int32 ``(T,)``; no segments for all zeros.
        tables: token ``(V, E)``; position and segment table, or None.
        of: the norm.

    Returns:
        ``(T, E)``.
    """
    token, position, segment = tables
    T, E = len(ids), token.shape[1]
    y = torch.empty((T, E), dtype=token.dtype, device=token.device)
    rows, warps = norm_rows(E)
    has = (position is not None, segment is not None, segments is not None)
    inputs = [token if t is None else t for t in (ids, positions, segments, token, position, segment)]
    sizes = (E, triton.next_power_of_2(E), rows)
    _embed[(triton.cdiv(T, rows),)](*inputs, of[0], of[1], y, T, of[2], *sizes, *has, num_warps=warps)
    return y


@triton.jit(do_not_specialize=["T"])
def _rotate(qkv, positions, cos, sin, T, stride, HALF: tl.constexpr, BH: tl.constexpr, ROWS: tl.constexpr):
    t = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    h = tl.arange(0, BH)
    ok = (t[:, None] < T) & (h[None, :] < HALF)
    p = tl.load(positions + t, mask=t < T, other=0).to(tl.int64)
    c = tl.load(cos + p[:, None] * HALF + h[None, :], mask=ok, other=0.0)
    s = tl.load(sin + p[:, None] * HALF + h[None, :], mask=ok, other=0.0)
    at = qkv + t.to(tl.int64)[:, None] * stride + tl.program_id(1) * 2 * HALF + h[None, :]
    a = tl.load(at, mask=ok, other=0.0).to(tl.float32)
    b = tl.load(at + HALF, mask=ok, other=0.0).to(tl.float32)
    tl.store(at, (a * c - b * s).to(qkv.dtype.element_ty), mask=ok)
    tl.store(at + HALF, (b * c + a * s).to(qkv.dtype.element_ty), mask=ok)


def rotate(qkv: Tensor, positions: Tensor, cos: Tensor, sin: Tensor, heads: int) -> None:
    """Apply rotary positions to the queries and keys of ``qkv``, ``(T, 3H)``, in place; ``cos`` and ``sin`` are ``(P, D / 2)``."""
    T, half = len(qkv), cos.shape[1]
    sizes = (half, triton.next_power_of_2(half), 32)
    _rotate[(triton.cdiv(T, 32), 2 * heads)](qkv, positions, cos, sin, T, qkv.stride(0), *sizes, num_warps=2)


# ---------------------------------------------------------------- attention


@triton.jit
def _attend_keys(start, q, top, total, acc, pk, pv, r, n, scale, lo, head, stride, columns, attended, bias, span, D: tl.constexpr,
                 BD: tl.constexpr, BN: tl.constexpr, WINDOW: tl.constexpr, BIAS: tl.constexpr, MASKED: tl.constexpr, PART: tl.constexpr,
                 PRECISION: tl.constexpr):
    """Take the keys from ``start`` on into the running maximum, sum and mean (online softmax, Dao et al. 2022, arXiv:2205.14135)."""
    c = start + tl.arange(0, BN)
    d = tl.arange(0, BD)
    real = c < n
    if PART or D < BD:
        k = tl.load(pk + start * stride, mask=real[None, :] & (d[:, None] < D), other=0.0)
        v = tl.load(pv + start * stride, mask=real[:, None] & (d[None, :] < D), other=0.0)
    else:
        k = tl.load(pk + start * stride)
        v = tl.load(pv + start * stride)
    s = tl.dot(q, k, input_precision=PRECISION)
    if BIAS or WINDOW >= 0:
        of_queries = tl.load(columns + lo + r, mask=r < n, other=0)
        distance = tl.load(columns + lo + c, mask=real, other=0)[None, :] - of_queries[:, None]
    if BIAS:
        near = tl.minimum(tl.maximum(distance, 1 - span), span - 1)  # farther ones have the same bias
        s = s * scale + tl.load(bias + head * (2 * span - 1) + near + span - 1)
    if MASKED:  # a bias by distance keeps unseen keys finite: a token that may see none gets the mean of all, as in the reference
        visible = tl.load(attended + lo + c, mask=real, other=0)[None, :] != 0
        s = tl.where(visible, s, -3.0e38 if BIAS else -float("inf"))
    if WINDOW >= 0:
        s = tl.where((distance <= WINDOW) & (distance >= -WINDOW), s, -float("inf"))
    if PART:
        s = tl.where(real[None, :], s, -float("inf"))
    if BIAS:
        new = tl.maximum(top, tl.max(s, 1))
        p = tl.math.exp2(s - new[:, None])
    else:  # scaled where it is subtracted from, in one multiply-add
        new = tl.maximum(top, tl.max(s, 1) * scale)
        p = tl.math.exp2(s * scale - new[:, None])
    shrink = tl.math.exp2(top - new)
    total = total * shrink + tl.sum(p, 1)
    acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None], input_precision=PRECISION)
    return new, total, acc


@triton.jit
def _attend(qkv, out, blocks, columns, attended, bias, span, scale, stride, H, D: tl.constexpr, BD: tl.constexpr, BM: tl.constexpr,
            BN: tl.constexpr, WINDOW: tl.constexpr, BIAS: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr):
    """BM queries of one sequence and one head for each program."""
    block, head = tl.program_id(0), tl.program_id(1)
    lo = tl.load(blocks + 4 * block).to(tl.int64)
    n = tl.load(blocks + 4 * block + 1)
    first = tl.load(blocks + 4 * block + 2)
    if n > 0:  # a table is filled up with blocks of no sequence
        r = first + tl.arange(0, BM)
        d = tl.arange(0, BD)
        c = tl.arange(0, BN)
        base = qkv + lo * stride + head * D
        q = tl.load(base + r[:, None] * stride + d[None, :], mask=(r[:, None] < n) & (d[None, :] < D), other=0.0)
        pk = base + H + c[None, :] * stride + d[:, None]
        pv = base + 2 * H + c[:, None] * stride + d[None, :]
        top = tl.full((BM,), -3.0e38, tl.float32)
        total = tl.zeros((BM,), tl.float32)
        acc = tl.zeros((BM, BD), tl.float32)
        begin, whole, end = 0, n // BN * BN, n
        if WINDOW >= 0:  # blocks of keys begin at multiples of BN, wherever the queries stand
            begin = max(0, first - WINDOW) // BN * BN
            end = min(n, first + BM + WINDOW)
        if WINDOW >= 0 or MASKED:
            whole = begin
        for start in range(begin, whole, BN):
            top, total, acc = _attend_keys(start, q, top, total, acc, pk, pv, r, n, scale, lo, head, stride, columns, attended, bias, span,
                                           D, BD, BN, WINDOW, BIAS, MASKED, False, PRECISION)
        for start in range(whole, end, BN):
            top, total, acc = _attend_keys(start, q, top, total, acc, pk, pv, r, n, scale, lo, head, stride, columns, attended, bias, span,
                                           D, BD, BN, WINDOW, BIAS, MASKED, True, PRECISION)
        y = acc / tl.where(total == 0.0, 1.0, total)[:, None]
        at = out + (lo + r)[:, None] * H + head * D + d[None, :]
        tl.store(at, y.to(out.dtype.element_ty), mask=(r[:, None] < n) & (d[None, :] < D))


def attend(qkv: Tensor, blocks: list[tuple[Tensor, AttentionTile]], heads: int, *, columns: Tensor | None = None,
           attended: Tensor | None = None, bias: Tensor | None = None, window: int | None = None, precision: str = "tf32x3") -> Tensor:
    """Multi-head self-attention within each sequence.

    Args:
        qkv: ``(T, 3H)``, queries, keys and values side by side.
        blocks: int32 ``(n, 4)`` tables, each with its tile: first row, length, first query and 0 for each block of queries.
        heads: how many.
        columns: index of each token in its sequence, int32 ``(T,)``; for a bias or a window.
        attended: which tokens may be attended to, int32 ``(T,)``; None for all.
        bias: by distance (key minus query), times log2(e), float32 ``(heads, 2S - 1)``; farther ones have that of ``S - 1``.
        window: a token sees those at most this far away; None for all.
        precision: of float32 products, as in :func:`product`.

    Returns:
        ``(T, H)``.
    """
    T, H = len(qkv), qkv.shape[1] // 3
    D = H // heads
    out = torch.empty((T, H), dtype=qkv.dtype, device=qkv.device)
    span = 1 if bias is None else (bias.shape[1] + 1) // 2
    numbers = (span, D**-0.5 * LOG2_E, qkv.stride(0), H, D, max(16, triton.next_power_of_2(D)))
    what = (-1 if window is None else window, bias is not None, attended is not None, precision)
    for table, tile in blocks:
        if len(table):
            optional = [table if t is None else t for t in (columns, attended)]
            _attend[(len(table), heads)](qkv, out, table, *optional, qkv if bias is None else bias, *numbers, tile.queries, tile.keys,
                                         *what, num_warps=tile.warps, num_stages=tile.stages)
    return out


# ---------------------------------------------------------------- pooling


@triton.jit
def _pool(x, cu_seqlens, attended, y, skip, stride, H: tl.constexpr, BH: tl.constexpr, ROWS: tl.constexpr, MODE: tl.constexpr,
          MASKED: tl.constexpr):
    """BH columns of one sequence for each program."""
    row = tl.program_id(0)
    lo = tl.load(cu_seqlens + row).to(tl.int64)
    n = (tl.load(cu_seqlens + row + 1) - lo).to(tl.int32)
    h = tl.program_id(1) * BH + tl.arange(0, BH)
    wide = h < H
    at = x + lo * H + h
    result = tl.zeros((BH,), tl.float32)
    if n > 0:
        begin = min(skip, n - 1)
        if MODE == "cls":
            result = tl.load(at + begin * H, mask=wide, other=0.0).to(tl.float32)
        elif MODE == "lasttoken":
            result = tl.load(at + (n - 1) * H, mask=wide, other=0.0).to(tl.float32)
        elif MODE == "max":
            most = tl.full((BH,), -float("inf"), tl.float32)
            for start in range(begin, n, ROWS):
                r = start + tl.arange(0, ROWS)
                mask = (r[:, None] < n) & wide[None, :]
                v = tl.load(at[None, :] + r[:, None] * H, mask=mask, other=-float("inf")).to(tl.float32)
                v = tl.where(v == v, v, float("inf"))  # a maximum passes NaN over, and nobody would know
                most = tl.maximum(most, tl.max(v, 0))
            result = most
        else:
            count = 0.0
            for start in range(begin, n, ROWS):
                r = start + tl.arange(0, ROWS)
                v = tl.load(at[None, :] + r[:, None] * H, mask=(r[:, None] < n) & wide[None, :], other=0.0).to(tl.float32)
                weight = tl.where(r < n, 1.0, 0.0)
                if MODE == "weightedmean":
                    weight = weight * (r + 1).to(tl.float32)
                if MASKED:
                    weight = tl.where(tl.load(attended + lo + r, mask=r < n, other=0) != 0, weight, 0.0)
                result += tl.sum(v * weight[:, None], 0)
                count += tl.sum(weight, 0)
            count = tl.maximum(count, 1.0)
            result = result / (tl.sqrt_rn(count) if MODE == "mean_sqrt_len_tokens" else count)
    tl.store(y + row.to(tl.int64) * stride + h, result, mask=wide)


def pool(x: Tensor, cu_seqlens: Tensor, modes: tuple[str, ...], skip: int = 0, attended: Tensor | None = None) -> Tensor:
    """What :func:`nativebert.nn.pool.pool` makes of rows ``(T, H)``, float32 ``(B, H * len(modes))``; of the ``attended`` tokens only, where
    that is given and the mode is a mean."""
    B, H = len(cu_seqlens) - 1, x.shape[1]
    y = torch.empty((B, H * len(modes)), dtype=torch.float32, device=x.device)
    wide = 128
    for number, mode in enumerate(modes if B else ()):
        part, of = y[:, number * H :], cu_seqlens if attended is None else attended
        _pool[(B, triton.cdiv(H, wide))](x, cu_seqlens, of, part, skip, y.stride(0), H, wide, 32, mode, attended is not None)
    return y
