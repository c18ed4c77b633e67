"""A layer as one autograd function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nativebert.nn.activation import ACTIVATION
from nativebert.nn.block import PostNormBlock
from nativebert.nn.packed import Packed
from nativebert.train.fast.native import Native, dropout_key

GELU = {"gelu": "none", "gelu_python": "none", "gelu_new": "tanh", "gelu_fast": "tanh", "gelu_pytorch_tanh": "tanh"}
"""Activations whose derivative torch has as an operation -> its ``approximate``."""


@dataclass(frozen=True)
class Sequences:
    """What attention knows of a batch.

    Attributes:
        starts: first token of each sequence, and ``T``: int32.
        longest: tokens of the longest.
        where: for each sequence, where its attention weights begin: int64.
        size: of all attention weights.
    """

    starts: Tensor
    longest: int
    where: Tensor
    size: int

    @classmethod
    def of(cls, batch: Packed, heads: int) -> Sequences:
        lengths = np.asarray(batch.lengths, np.int64)
        sizes = lengths * lengths * heads
        ends = np.cumsum(sizes)
        return cls(batch.cu_seqlens, batch.max_length, torch.from_numpy(ends - sizes), int(ends[-1]) if len(ends) else 0)


@dataclass
class Product:
    """A linear layer, or several of the same input side by side, with its gradients: views of flat memory.

    Attributes:
        weight, bias: of the product.
        d_weight, d_bias: where their gradients go.
        written: whether ``d_weight`` holds something of this step: it is written first, and then added to.
    """

    weight: Tensor
    bias: Tensor
    d_weight: Tensor
    d_bias: Tensor
    written: bool = False

    def __call__(self, native: Native, x: Tensor) -> Tensor:
        """``(T, K)`` -> ``(T, N)``."""
        return native.product(x, self.weight, bias=self.bias)

    def back(self, native: Native, dy: Tensor, x: Tensor, add_to: Tensor | None = None) -> Tensor:
        """The gradient of ``x``, added to ``add_to`` if that is there; those of weight and bias go where they belong."""
        gradient = self.d_weight if self.written else None
        native.product(dy, x, a_transposed=True, b_transposed=True, residual=gradient, out=self.d_weight)
        self.written = True
        native.add_column_sums(dy, self.d_bias)
        return native.product(dy, self.weight, b_transposed=True, residual=add_to, out=add_to)


class _Kept(NamedTuple):
    """What the way back needs of a layer."""

    qkv: Tensor
    weights: Tensor
    context: Tensor
    normed1: Tensor
    rstd1: Tensor
    y: Tensor
    u: Tensor
    a: Tensor
    normed2: Tensor
    rstd2: Tensor


@dataclass
class FastLayer:
    """A post-norm layer on the kernels.

    Attributes:
        block: its modules: norms and dropout are read from them.
        heads: attention heads.
        activation: of the feed-forward part.
        qkv, out, up, down: its products.
    """

    block: PostNormBlock
    heads: int
    activation: str
    qkv: Product
    out: Product
    up: Product
    down: Product

    def forward(self, native: Native, x: Tensor, sequences: Sequences, keys: tuple[int, int, int]) -> tuple[Tensor, _Kept]:
        """``(T, H)`` -> ``(T, H)``, and what the way back needs."""
        block = self.block
        p = block.dropout.p
        qkv = self.qkv(native, x)
        context, weights = native.attend(
            qkv, sequences.starts, sequences.longest, sequences.where, sequences.size, self.heads, block.attn.dropout, keys[0]
        )
        y, normed1, rstd1 = native.residual_norm(self.out(native, context), x, block.attn_norm, p, keys[1])
        u = self.up(native, y)
        a = self._activate(u)
        z, normed2, rstd2 = native.residual_norm(self.down(native, a), y, block.mlp_norm, p, keys[2])
        return z, _Kept(qkv, weights, context, normed1, rstd1, y, u, a, normed2, rstd2)

    def backward(
        self, native: Native, dz: Tensor, x: Tensor, kept: _Kept, sequences: Sequences, keys: tuple[int, int, int]
    ) -> Tensor:
        """The gradient of ``x``; those of the parameters go where they belong."""
        block = self.block
        p = block.dropout.p
        dt, dy = native.residual_norm_back(dz, kept.normed2, kept.rstd2, block.mlp_norm, p, keys[2])
        du = self._activate_back(self.down.back(native, dt, kept.a), kept.u)
        self.up.back(native, du, kept.y, add_to=dy)
        dt, dx = native.residual_norm_back(dy, kept.normed1, kept.rstd1, block.attn_norm, p, keys[1])
        d_context = self.out.back(native, dt, kept.context)
        d_qkv = native.attend_back(
            kept.qkv, sequences.starts, sequences.longest, sequences.where, kept.weights, d_context, self.heads,
            block.attn.dropout, keys[0],
        )  # fmt: skip
        return self.qkv.back(native, d_qkv, x, add_to=dx)

    def _activate(self, u: Tensor) -> Tensor:
        return F.gelu(u, approximate=GELU[self.activation]) if self.activation in GELU else ACTIVATION[self.activation](u)

    def _activate_back(self, da: Tensor, u: Tensor) -> Tensor:
        if self.activation in GELU:
            du: Tensor = torch.ops.aten.gelu_backward(da, u, approximate=GELU[self.activation])
            return du
        with torch.enable_grad():
            leaf = u.detach().requires_grad_()
            (du,) = torch.autograd.grad(ACTIVATION[self.activation](leaf), leaf, da)
        return du.contiguous()


class LayerFunction(torch.autograd.Function):
    """A layer's place in torch's graph. With ``checkpoint`` only its input is kept, and it is computed again on the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        layer: FastLayer,
        native: Native,
        sequences: Sequences,
        keys: tuple[int, int, int],
        checkpoint: bool,
    ) -> Tensor:
        z, kept = layer.forward(native, x, sequences, keys)
        ctx.of = (layer, native, sequences, keys)
        ctx.x, ctx.kept = x, None if checkpoint else kept
        return z

    @staticmethod
    def backward(ctx: Any, dz: Tensor) -> Any:
        layer, native, sequences, keys = ctx.of
        kept = ctx.kept if ctx.kept is not None else layer.forward(native, ctx.x, sequences, keys)[1]
        dx = layer.backward(native, dz.contiguous(), ctx.x, kept, sequences, keys)
        ctx.x = ctx.kept = None
        return dx, None, None, None, None, None


class NormFunction(torch.autograd.Function):
    """The norm of a sum. Gradients of its weight and bias are added to ``.grad``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor, native: Native, norm: torch.nn.LayerNorm) -> Tensor:
        y, normed, rstd = native.residual_norm(x.contiguous(), residual.contiguous(), norm, 0.0, 0)
        ctx.of = (native, norm, normed, rstd)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        native, norm, normed, rstd = ctx.of
        dx, d_residual = native.residual_norm_back(dy.contiguous(), normed, rstd, norm, 0.0, 0)
        return dx, d_residual, None, None


class DropFunction(torch.autograd.Function):
    """Dropout by counter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, native: Native, p: float, key: int) -> Tensor:
        ctx.of = (native, p, key)
        return native.drop(x.contiguous(), p, key)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        native, p, key = ctx.of
        return native.drop(dy.contiguous(), p, key), None, None, None


def layer_keys(seed: int, step: int, micro_batch: int, layer: int) -> tuple[int, int, int]:
    """The keys of a layer's three places of dropout."""
    first, second, third = (dropout_key(seed, step, micro_batch, 1 + 3 * layer + n) for n in range(3))
    return first, second, third
