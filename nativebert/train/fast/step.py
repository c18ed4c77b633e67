"""The fast step: flat parameters, the layers' functions, and the token table by rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nativebert import kernels
from nativebert.config import Layer
from nativebert.errors import DivergedError
from nativebert.loading import LoadedModel
from nativebert.nn.block import PostNormBlock, PreNormBlock
from nativebert.nn.encoder import check
from nativebert.nn.model import Model
from nativebert.nn.packed import Packed
from nativebert.nn.positions import attention_contexts
from nativebert.train.fast.layer import DropFunction, FastLayer, LayerFunction, NormFunction, Product, Sequences, layer_keys
from nativebert.train.fast.native import Native, dropout_key
from nativebert.train.parameters import ParameterGroup


def why_not(model: Model, groups: Sequence[ParameterGroup]) -> str:
    """Why the fast step does not support a model, in a sentence; empty if it does."""
    if reason := kernels.why_not():
        return f"the C kernels are not available: {reason}"
    if model.device.type != "cpu" or model.dtype != torch.float32:
        return f"it is for float32 on the CPU, and the model is in {str(model.dtype).removeprefix('torch.')} on {model.device}"
    config = model.config
    rotary = any(layer.rope_theta is not None or layer.window is not None for layer in config.layers)
    if (
        config.block != "post"
        or config.rms_norm
        or config.causal
        or not config.embedding_norm
        or any(layer.key_heads not in (0, layer.heads) for layer in config.layers)
        or config.relative_buckets
        or config.alibi
        or config.relative
        or config.convolution
        or config.gated
        or rotary
    ):
        return f"it is for encoders like BERT's, and {config.family} has other layers"
    if not (config.attention_bias and config.mlp_bias and config.norm_bias):
        return "it is for layers with biases"
    if not all(isinstance(block, PostNormBlock) for block in model.blocks()):
        return "it is for layers of nativebert's own classes"
    trained = {id(p) for group in groups for p in group.params}
    encoder = [p for part in (model.embed, *model.blocks()) for p in part.parameters()]
    if any(id(p) not in trained for p in encoder):
        return "parts of the encoder are frozen, or have adapters"
    table = model.embed.token.weight
    if any(p is table for head in model.head.values() for p in head.parameters()):
        return "a head shares the token table"
    return ""


class _Flat:
    """A group's parameters, one after the other in one piece of memory, with their gradients and moments."""

    def __init__(self, params: Sequence[nn.Parameter], group: ParameterGroup) -> None:
        self.group, self.params = group, list(params)
        size = sum(p.numel() for p in params)
        self.weights = torch.empty(size)
        self.gradient, self.first, self.second = (torch.zeros(size) for _ in range(3))
        start = 0
        for p in params:
            end = start + p.numel()
            self.weights[start:end].copy_(p.detach().reshape(-1))
            p.data = self.weights[start:end].view(p.shape)
            p.grad = self.gradient[start:end].view(p.shape)
            start = end

    def forget(self) -> None:
        """Free gradient and moments."""
        for p in self.params:
            p.grad = None
        self.gradient = self.first = self.second = torch.empty(0)

    def release(self) -> None:
        """Give the parameters memory of their own again."""
        for p in self.params:
            p.data = p.data.clone()
        self.weights = torch.empty(0)


class FastStep:
    """A :class:`~nativebert.train.step.Step` on the C kernels.

    Args:
        model: a model that :func:`why_not` has nothing against. Its parameters are changed in place.
        groups: the trained parameters.
        betas, eps: of AdamW (arXiv:1711.05101).
        seed: of dropout in the encoder; heads draw from torch's generator.
        autocast: None: it is for float32.
        checkpointing: keep the input of each layer only, and compute it again on the way back.
    """

    def __init__(
        self,
        model: Model,
        groups: Sequence[ParameterGroup],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        seed: int = 0,
        autocast: torch.dtype | None = None,
        checkpointing: bool = False,
    ) -> None:
        if (reason := why_not(model, groups)) or autocast is not None:
            raise ValueError(reason or "the fast step is for float32")
        self.model, self._native, self._seed, self._checkpointing = model, Native(), seed, checkpointing
        self._betas, self._eps = betas, eps
        self._adam = kernels.Adam(*betas, 1 - betas[0], 1 - betas[1], eps)
        self._step = self._micro_batch = 0
        self._open = True
        # matrices of layers are written by the first product of a step, all others are added to and so begin at zero
        self._table = _Table(model.embed.token, next(g for g in groups if any(p is model.embed.token.weight for p in g.params)))
        blocks = list(dict.fromkeys(map(_post_norm, model.blocks())))
        inner = [p for block in blocks for p in _in_order(block)]
        order, matrices = {id(p): n for n, p in enumerate(inner)}, {id(p) for p in inner if p.dim() == 2}
        self._flats: list[_Flat] = []
        self._written: list[_Flat] = []
        for group in groups:
            params = [p for p in group.params if p is not model.embed.token.weight]
            of_layers = sorted((p for p in params if id(p) in matrices), key=lambda p: order[id(p)])
            others = sorted((p for p in params if id(p) not in matrices), key=lambda p: order.get(id(p), len(order)))
            self._written += [_Flat(of_layers, group)] if of_layers else []
            self._flats += [_Flat(others, group)] if others else []
        shapes = {id(block): layer for block, layer in zip(model.blocks(), model.config.layers)}
        self._layers = {id(block): _layer(block, shapes[id(block)]) for block in blocks}
        model.training_encoder = self.encode
        if isinstance(model, LoadedModel) and model.ledger is not None:
            model.ledger.checkpoint.release()  # its pages have been copied, and need not stay in memory

    # ---- a step

    def begin(self, step: int) -> None:
        self._step, self._micro_batch = step, 0
        for flat in self._flats:
            flat.gradient.zero_()
        for layer in self._layers.values():
            for product in (layer.qkv, layer.out, layer.up, layer.down):
                product.written = False
        self._table.begin()

    def micro_batch(self, index: int) -> None:
        self._micro_batch = index

    def encode(self, batch: Packed) -> Tensor:
        check(self.model.config, batch)
        embed, native = self.model.embed, self._native
        x: Tensor = self._table.lookup(native, batch.ids, self._step, self._adam)  # (T, E)
        if embed.segment is not None:
            x = x + (embed.segment.weight[0] if batch.segments is None else embed.segment(batch.segments))
        position = torch.zeros_like(x) if embed.position is None else embed.position(batch.positions)
        if embed.task is not None:
            position = position + embed.task.weight[0]
        x = NormFunction.apply(x, position, native, embed.norm)  # type: ignore[no-untyped-call]
        if embed.dropout.p:
            key = dropout_key(self._seed, self._step, self._micro_batch, 0)
            x = DropFunction.apply(x, native, embed.dropout.p, key)  # type: ignore[no-untyped-call]
        if embed.project is not None:
            x = embed.project(x)
        if batch.attention_mask is not None:
            return self._masked(x, batch)
        blocks, layers = self.model.blocks(), self.model.config.layers
        x = x.contiguous()
        sequences: dict[int, Sequences] = {}
        for n, (block, layer) in enumerate(zip(blocks, layers)):
            if layer.heads not in sequences:
                sequences[layer.heads] = Sequences.of(batch, layer.heads)
            keys = layer_keys(self._seed, self._step, self._micro_batch, n)
            x = LayerFunction.apply(  # type: ignore[no-untyped-call]
                x, self._layers[id(block)], native, sequences[layer.heads], keys, self._checkpointing
            )
        return x

    def _masked(self, x: Tensor, batch: Packed) -> Tensor:
        """The layers by torch, for a batch with tokens that may not be attended to: cells of padding that are computed, too."""
        self._begin_matrices()
        for block, context in zip(self.model.blocks(), attention_contexts(self.model.config, batch, None), strict=True):
            x = block(x, batch, context)
        return x

    def _begin_matrices(self) -> None:
        """Have gradients of the layers' matrices added to what is there, or to zeros."""
        for layer in self._layers.values():
            for product in (layer.qkv, layer.out, layer.up, layer.down):
                if not product.written:
                    product.d_weight.zero_()
                    product.written = True

    def update(self, rate: float, max_norm: float | None) -> float:
        native, table = self._native, self._table
        self._begin_matrices()  # of layers that had no batch
        gradient = table.gradient()
        flats = [*self._written, *self._flats]
        total = math.fsum(native.sum_squares(flat.gradient) for flat in flats) + native.sum_squares(gradient)
        norm = math.sqrt(total) if total >= 0 else math.nan
        if not math.isfinite(norm):
            raise DivergedError(f"the gradient's norm is {norm}")
        clip = 1.0 if max_norm is None else min(1.0, max_norm / (norm + 1e-6))
        for flat in flats:
            step = self._adam_step(rate, flat.group)
            native.adamw(flat.weights, flat.first, flat.second, flat.gradient, self._adam, step, clip)
        table.update(native, self._adam_step(rate, table.group), rate, self._step, self._adam, gradient, clip)
        return norm

    def _adam_step(self, rate: float, group: ParameterGroup) -> kernels.AdamStep:
        rate *= group.multiplier
        b1, b2 = self._betas
        size, root = rate / (1 - b1**self._step), 1 / math.sqrt(1 - b2**self._step)
        return kernels.AdamStep(size, root, 1 - rate * group.weight_decay)

    # ---- between steps

    @contextmanager
    def settled(self) -> Iterator[None]:
        with self._table.settled(self._native, self._step, self._adam):
            yield

    def state(self) -> dict[str, Tensor]:
        flats = enumerate([*self._written, *self._flats])
        state = {f"{n}.{name}": t for n, flat in flats for name, t in (("exp_avg", flat.first), ("exp_avg_sq", flat.second))}
        return state | {f"table.{name}": t for name, t in self._table.state().items()}

    def restore(self, step: int, rates: Sequence[float], state: Mapping[str, Tensor]) -> None:
        self._step = 0
        for rate in rates:
            self._step += 1
            self._table.note(self._adam_step(rate, self._table.group), rate)
        for n, flat in enumerate([*self._written, *self._flats]):
            flat.first.copy_(state[f"{n}.exp_avg"])
            flat.second.copy_(state[f"{n}.exp_avg_sq"])
        self._table.restore({name.removeprefix("table."): t for name, t in state.items() if name.startswith("table.")})

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._table.settle(self._native, self._step, self._adam)
        self._table.release()
        self._layers = {}
        for flat in [*self._written, *self._flats]:
            flat.forget()
        for flat in [*self._written, *self._flats]:
            flat.release()
        self._written, self._flats = [], []
        self.model.training_encoder = None


class _Table:
    """The token table: only rows that a batch has get a step; others get theirs when they are next needed, with the same result as if each
    had had its steps in time (a step without gradient decays a row, and moves it by what momentum it has)."""

    def __init__(self, table: nn.Embedding, group: ParameterGroup) -> None:
        self.group, self._table = group, table
        weight = table.weight
        weight.requires_grad_(False)
        weight.data = weight.data.clone(memory_format=torch.contiguous_format)  # of its own: a mapped file stays as it is
        self._w = weight.data
        self._m, self._v = torch.zeros_like(self._w), torch.zeros_like(self._w)
        self._last = torch.full((len(self._w),), -1, dtype=torch.int32)
        self._steps, self._kept = np.zeros((1024, 3), np.float32), np.ones(1024)
        self._count = 0  # steps that are noted
        self._leaves: list[tuple[Tensor, Tensor]] = []  # of each micro-batch: its rows, and their values

    def begin(self) -> None:
        self._leaves = []

    def note(self, step: kernels.AdamStep, rate: float) -> None:
        """Remember a step for rows that miss it."""
        self._count += 1
        if self._count == len(self._steps):
            self._steps = np.concatenate([self._steps, np.zeros_like(self._steps)])
            self._kept = np.concatenate([self._kept, np.ones_like(self._kept)])
        self._steps[self._count] = step.size, step.root, step.kept
        self._kept[self._count] = self._kept[self._count - 1] * (1 - rate * self.group.multiplier * self.group.weight_decay)

    def lookup(self, native: Native, ids: Tensor, step: int, adam: kernels.Adam) -> Tensor:
        """Rows of the table for each id ``(T,)``, up to date, with their graph: ``(T, E)``."""
        unique, inverse = np.unique(ids.numpy(), return_inverse=True)
        rows = torch.from_numpy(unique)
        self._walk(native, rows, None, step, adam, 1.0)
        leaf = self._w[rows].requires_grad_()
        self._leaves.append((rows, leaf))
        return F.embedding(torch.from_numpy(inverse), leaf)

    def gradient(self) -> Tensor:
        """The gradient of the rows of this step, ``(n, E)``; that of the padding row is zero, as torch's."""
        if len(self._leaves) == 1:
            rows, leaf = self._leaves[0]
            gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        else:
            parts = [rows for rows, _ in self._leaves]
            rows, inverse = torch.unique(torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long), return_inverse=True)
            gradient = torch.zeros(len(rows), self._w.shape[1])
            for (_, leaf), part in zip(self._leaves, torch.split(inverse, [len(p) for p in parts]) if parts else ()):
                if leaf.grad is not None:
                    gradient.index_add_(0, part, leaf.grad)
        self._rows = rows
        if self._table.padding_idx is not None:
            gradient = gradient.masked_fill_((rows == self._table.padding_idx)[:, None], 0.0)
        return gradient.contiguous()

    def update(
        self, native: Native, taken: kernels.AdamStep, rate: float, step: int, adam: kernels.Adam, gradient: Tensor, clip: float
    ) -> None:
        self.note(taken, rate)
        self._walk(native, self._rows, gradient, step, adam, clip)
        self._leaves = []

    def _walk(self, native: Native, rows: Tensor, gradient: Tensor | None, step: int, adam: kernels.Adam, clip: float) -> None:
        if len(rows):
            table = self._w, self._m, self._v, self._last
            steps, kept = torch.from_numpy(self._steps), torch.from_numpy(self._kept)
            native.adamw_rows(table, rows, gradient, adam, steps, kept, step, clip)

    def settle(self, native: Native, step: int, adam: kernels.Adam) -> None:
        """Bring all rows up to date."""
        self._walk(native, torch.arange(len(self._w)), None, step + 1, adam, 1.0)

    @contextmanager
    def settled(self, native: Native, step: int, adam: kernels.Adam) -> Iterator[None]:
        late = torch.nonzero(torch.where(self._last >= 0, self._last, -1 - self._last) < self._count)[:, 0]
        moved = late[self._last[late] >= 0]
        before = self._w[late], self._m[moved], self._v[moved], self._last.clone()
        self._walk(native, late, None, step + 1, adam, 1.0)
        try:
            yield
        finally:
            self._w[late], self._m[moved], self._v[moved] = before[:3]
            self._last.copy_(before[3])

    def state(self) -> dict[str, Tensor]:
        """Moments of the rows that have some, and the rows as they are."""
        touched = torch.nonzero(self._last >= 0)[:, 0]
        moments = {"exp_avg": self._m[touched], "exp_avg_sq": self._v[touched]}
        return {"rows": touched, **moments, "last": self._last.clone(), "weight": self._w.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._w.copy_(state["weight"])
        self._last.copy_(state["last"])
        self._m[state["rows"]], self._v[state["rows"]] = state["exp_avg"], state["exp_avg_sq"]

    def release(self) -> None:
        self._table.weight.requires_grad_(True)
        self._m = self._v = torch.empty(0)


def _in_order(block: PostNormBlock) -> Iterator[Tensor]:
    """A layer's parameters: those of queries, keys and values side by side, for one product."""
    attn, mlp = block.attn, block.mlp
    yield from (attn.q.weight, attn.k.weight, attn.v.weight, attn.o.weight, mlp.up.weight, mlp.down.weight)
    yield from (attn.q.bias, attn.k.bias, attn.v.bias, attn.o.bias, mlp.up.bias, mlp.down.bias)
    yield from (*block.attn_norm.parameters(), *block.mlp_norm.parameters())


def _layer(block: PostNormBlock, layer: Layer) -> FastLayer:
    attn, mlp = block.attn, block.mlp
    products = [_product([attn.q, attn.k, attn.v]), _product([attn.o]), _product([mlp.up]), _product([mlp.down])]
    return FastLayer(block, layer.heads, layer.activation, *products)


def _product(layers: Sequence[nn.Linear]) -> Product:
    weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
    return Product(_joined(weights), _joined(biases), _joined([_grad(p) for p in weights]), _joined([_grad(p) for p in biases]))


def _post_norm(block: PostNormBlock | PreNormBlock) -> PostNormBlock:
    assert isinstance(block, PostNormBlock)
    return block


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """A view of neighbours in flat memory."""
    first, size = parts[0].detach(), parts[0].numel()
    assert all(part.data_ptr() == first.data_ptr() + 4 * size * n for n, part in enumerate(parts)), (
        "parameters are not neighbours"
    )
    shape = (len(parts) * first.shape[0], *first.shape[1:])
    return first.as_strided(shape, (first.shape[1], 1) if first.dim() == 2 else (1,))
