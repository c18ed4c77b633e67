"""The plan for CPUs in fp32: fused products on prepacked weights.

Against the reference model it fuses q, k and v into one product, lays the weights out once in the order that oneDNN reads them, and
lets oneDNN add the bias, the residual or the activation while a result is still in registers.

It is bitwise batch invariant: what a text gives does not depend on what is computed beside it. Every operation here computes a row
from that row alone, and in the same order of summation for any number of rows from :data:`MIN_ROWS` up; fewer are filled up.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nativebert.config import Convolution
from nativebert.engine.plan import BATCH_TOKENS, ExecutionPlan
from nativebert.nn.activation import ACTIVATION
from nativebert.nn.block import PostNormBlock, PreNormBlock
from nativebert.nn.encoder import ConvolutionBlock, check, neighbours
from nativebert.nn.heads import Head
from nativebert.nn.layers import RMSNorm
from nativebert.nn.model import Model
from nativebert.nn.packed import Packed
from nativebert.nn.positions import AttentionContext, apply_rotary, attention_contexts, disentangled_scores

Activation = Callable[[Tensor], Tensor]

# With fewer rows a matrix product takes another path, with another order of summation (measured: F.linear below 12 rows, oneDNN at 1).
MIN_ROWS = 16
ALIGNED = 16  # floats in 64 bytes: see attend()

# Activations that oneDNN computes at the end of a product: its name, and the algorithm it wants to hear; then what is left to do.
_ERF, _TANH = ("gelu", "none"), ("gelu", "tanh")
_FUSED = {
    **dict.fromkeys(("gelu", "gelu_python", "gelu_10"), _ERF),
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh"), _TANH),
    **dict.fromkeys(("relu", "relu2", "relu6"), ("relu", "")),
    **dict.fromkeys(("silu", "swish"), ("swish", "")),
    "tanh": ("tanh", ""),
    "sigmoid": ("sigmoid", ""),
}
_AFTER: dict[str, Activation] = {
    "gelu_10": lambda x: x.clamp_(-10, 10),
    "relu2": lambda x: x.square_(),
    "relu6": lambda x: x.clamp_(max=6),
}


def by_rows(act: Activation) -> Activation:
    """An activation whose value for an element does not depend on where the element lies.

    torch computes most elements in vectors and the last ones of each thread's share one by one, by functions that differ in the last
    bit. So rows are filled up to whole vectors and given to one thread at a time.
    """

    def apply(x: Tensor) -> Tensor:
        filled = F.pad(x, (0, -x.shape[1] % 64))
        share = max(1, 32768 // max(1, filled.shape[1]))  # elements below which torch uses one thread
        return torch.cat([act(part) for part in torch.split(filled, share)])[:, : x.shape[1]].contiguous()

    return apply


def company(*heads: Tensor) -> list[Tensor]:
    """Queries or keys ``(n, A, l, D)``, twice where they are of a single head of a single sequence: see :func:`attend`."""
    return [t.expand(2, -1, -1, -1) if t.shape[0] * t.shape[1] == 1 else t for t in heads]


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Attention within sequences of equal length, ``(n, A, l, D)``, each bitwise as if it were alone.

    Two cases need help to keep that promise (measured: torch 2.13, AVX-512). Where a head's width is not a multiple of 16, rows are not
    aligned in memory, and which path a product takes depends on how they happen to lie; such heads are filled up with zeros, which
    changes no sum. And a single head of a single sequence is not computed inside a parallel region, where products take another path;
    it is given company.
    """
    D, n = q.shape[-1], q.shape[0]
    if fill := -D % ALIGNED:
        q, k, v = (F.pad(t, (0, fill)) for t in (q, k, v))
    q, k, v = company(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)[:n, ..., :D]


class Product:
    """``x @ weight.T + bias``, then an activation or a sum with the residual."""

    precision = "float32"
    attend = staticmethod(attend)  # of layers that multiply so

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str | None = None) -> None:
        self.bias = None if bias is None else bias.detach().clone()
        self.packed = _has_onednn()
        weight = weight.detach()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous()) if self.packed else weight.clone()
        self.end, self.act = ("none", ""), None if activation is None else by_rows(ACTIVATION[activation])
        if self.packed and activation in _FUSED:
            self.end, self.act = _FUSED[activation], _AFTER.get(activation)

    @classmethod
    def of(cls, *layers: nn.Linear, activation: str | None = None) -> Product:
        """One product for one linear layer, or for several of the same input side by side."""
        if len(layers) == 1:
            return cls(layers[0].weight, layers[0].bias, activation)
        biases = [layer.bias for layer in layers]
        return cls(
            torch.cat([layer.weight for layer in layers]), None if biases[0] is None else torch.cat([*biases]), activation
        )

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed:
            y: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, self.weight, self.bias, self.end[0], [], self.end[1])
        else:
            y = F.linear(x, self.weight, self.bias)
        return y if self.act is None else self.act(y)

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        if self.packed:
            y: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")
            return y
        return F.linear(x, self.weight, self.bias).add_(residual)


class _Norm:
    """A norm with its parameters at hand."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        bias = None if norm.bias is None else norm.bias.detach().clone()
        self.args = (list(norm.normalized_shape), norm.weight.detach().clone(), bias, norm.eps)
        self.rms = isinstance(norm, RMSNorm)

    def __call__(self, x: Tensor) -> Tensor:
        shape, weight, bias, eps = self.args
        return torch.rms_norm(x, shape, weight, eps) if self.rms else torch.layer_norm(x, shape, weight, bias, eps)


class _Block:
    """A layer, norms after or before its parts."""

    def __init__(
        self, block: PostNormBlock | PreNormBlock, activation: str, product: type[Product], relative_table: Tensor | None
    ) -> None:
        attn, mlp = block.attn, block.mlp
        self.heads, self.scale = attn.heads, attn.scale
        self.relative = None if relative_table is None else attn.project_relative(relative_table)
        self.attend = attend if relative_table is not None else product.attend
        self.qkv = product.of(*attn.for_each_head())
        self.o = product.of(attn.o)
        self.up = product.of(mlp.up, activation=activation)
        self.gate = None if mlp.gate is None else product.of(mlp.gate)
        self.down = product.of(mlp.down)
        self.attn_norm = None if isinstance(block.attn_norm, nn.Identity) else _Norm(block.attn_norm)
        self.mlp_norm = _Norm(block.mlp_norm)
        self.norm_first = isinstance(block, PreNormBlock)

    def __call__(self, x: Tensor, batch: Packed, context: AttentionContext) -> Tensor:
        if self.norm_first:
            y = x if self.attn_norm is None else self.attn_norm(x)
            x = self.o.plus(self.attention(self.qkv(y), batch, context), x)  # (T, H)
            return self.down.plus(self.intermediate(self.mlp_norm(x)), x)
        assert self.attn_norm is not None
        x = self.attn_norm(self.o.plus(self.attention(self.qkv(x), batch, context), x))
        return self.mlp_norm(self.down.plus(self.intermediate(x), x))

    def intermediate(self, x: Tensor) -> Tensor:
        y = self.up(x)
        return y if self.gate is None else y.mul_(self.gate(x))

    def attention(self, qkv: Tensor, batch: Packed, context: AttentionContext) -> Tensor:
        """``(T, 3H)`` -> ``(T, H)``, each group of equal length as one dense block."""
        T, H = qkv.shape[0], qkv.shape[1] // 3
        if context.rotary is not None:
            qk = qkv[: len(batch.ids), : 2 * H].view(len(batch.ids), 2 * self.heads, H // self.heads)  # (T, 2A, D)
            qkv[: len(batch.ids), : 2 * H] = apply_rotary(qk, context.rotary).flatten(1)
        outputs = []
        for group, (start, n, length) in enumerate(batch.equal_length_groups):
            # (n*l, 3H) -> 3 x (n, A, l, D)
            q, k, v = qkv[start : start + n * length].view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
            bias = None if context.bias is None else context.bias(group, q, k)
            if self.relative is not None and context.relative_rows is not None:
                several_q, several_k = company(q, k)
                bias = disentangled_scores(several_q, several_k, *self.relative, context.relative_rows[group])[:n] * self.scale
            outputs.append(self.attend(q, k, v, bias, self.scale).transpose(1, 2).reshape(n * length, H))
        if (filled := T - len(batch.ids)) > 0:
            outputs.append(qkv.new_zeros(filled, H))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


class _Convolution:
    """The convolution beside the first layer, as one product over the tokens around each."""

    def __init__(self, block: ConvolutionBlock, convolution: Convolution | None) -> None:
        assert convolution is not None
        weight = block.conv.weight.detach().transpose(1, 2).flatten(1)  # (H, W * H)
        self.kernel, self.norm = convolution.kernel, _Norm(block.norm)
        self.product = Product(weight, block.conv.bias, convolution.activation)

    def __call__(self, embedded: Tensor, x: Tensor, batch: Packed) -> Tensor:
        rows = neighbours(embedded, batch, self.kernel)
        return self.norm(self.product(F.pad(rows, (0, 0, 0, len(x) - len(rows)))) + x)


class CpuPlan(ExecutionPlan):
    """A model prepared for the CPU. See the module's docstring.

    All is a copy, except the embedding tables of a model that nobody else has (``on_copied``): prepare again after training.

    Args:
        model: the model.
        product: how the layers multiply: in fp32, or :class:`~nativebert.engine.int8.Int8Product`.
        heads: the tasks of the heads to prepare.
        on_copied: called after each layer.
    """

    device = torch.device("cpu")
    backend = "oneDNN"
    min_rows = MIN_ROWS
    batch_tokens = BATCH_TOKENS["cpu"]

    def __init__(
        self,
        model: Model,
        product: type[Product] = Product,
        heads: Sequence[str] = (),
        on_copied: Callable[[], None] | None = None,
    ) -> None:
        self.precision = product.precision
        self.heads = {task: CpuHead(model, task) for task in heads}
        model = float32_on_cpu(model)
        self._config = model.config  # and not the model: its other weights are free to go
        self._tables = model.embed if on_copied is not None else copy.deepcopy(model.embed)
        self._distance = None if model.distance is None else model.distance.weight.detach().clone()
        self._convolution = None
        with torch.no_grad():
            relative = None if model.relative is None else model.relative()
            if model.convolution is not None:
                self._convolution = _Convolution(model.convolution, model.config.convolution)
            prepared: dict[int, _Block] = {}
            for block, layer in zip(model.blocks(), model.config.layers, strict=True):
                if id(block) not in prepared:
                    prepared[id(block)] = _Block(block, layer.activation, product, relative)
                    if on_copied is not None:
                        on_copied()
            self._blocks = [prepared[id(block)] for block in model.blocks()]
            self._project = None if model.embed.project is None else Product.of(model.embed.project)
        self._embedding_norm = model.embed.norm if isinstance(model.embed.norm, nn.Identity) else _Norm(model.embed.norm)
        self._last_norm = None if model.norm is None else _Norm(model.norm)

    @torch.inference_mode()
    def hidden(self, batch: Packed) -> Tensor:
        (last,) = deque(self._states(batch), maxlen=1)
        return last

    @torch.inference_mode()
    def states(self, batch: Packed) -> list[Tensor]:
        return list(self._states(batch))

    def _states(self, batch: Packed) -> Iterator[Tensor]:
        """``(T, H)`` after the embeddings and after each layer, the last norm applied to the last."""
        check(self._config, batch)
        T = batch.ids.numel()
        x = self._embed(batch)
        if T < MIN_ROWS:
            x = F.pad(x, (0, 0, 0, MIN_ROWS - T))
        if self._project is not None:
            x = self._project(x)
        embedded = x[:T]
        for number, (block, context) in enumerate(zip(self._blocks, attention_contexts(self._config, batch, self._distance))):
            yield x[:T]
            x = block(x, batch, context)
            if number == 0 and self._convolution is not None:
                x = self._convolution(embedded, x, batch)
        yield x[:T] if self._last_norm is None else self._last_norm(x[:T])

    def _embed(self, batch: Packed) -> Tensor:
        embed = self._tables
        x = F.embedding(batch.ids, embed.token.weight)
        if embed.segment is not None:
            x += embed.segment.weight[0] if batch.segments is None else F.embedding(batch.segments, embed.segment.weight)
        if embed.position is not None:
            x += F.embedding(batch.positions, embed.position.weight)
        if embed.task is not None:
            x += embed.task.weight[0]
        return self._embedding_norm(x)


class CpuHead:
    """A head of a model prepared for the CPU in fp32, bitwise batch invariant like :class:`CpuPlan`.

    Args:
        model: the model; it has the head.
        task: the head's task.
    """

    def __init__(self, model: Model, task: str) -> None:
        self.spec = spec = model.config.heads[task]
        head: Head = model.head[spec.name]  # type: ignore[assignment]
        pooler = model.pool if spec.on == "pooled" else None
        if model.dtype != torch.float32 or model.device.type != "cpu":
            head, pooler = copy.deepcopy(head).float().cpu(), None if pooler is None else copy.deepcopy(pooler).float().cpu()
        last: nn.Linear = head.get_submodule(spec.last)  # type: ignore[assignment]
        with torch.no_grad():
            self._pool = None if pooler is None else Product.of(pooler.dense, activation="tanh")
            self._dense = None if head.dense is None else Product.of(head.dense, activation=spec.activation)
            self._norm = None if head.norm is None else _Norm(head.norm)
            self._last = Product.of(last)

    def logits(self, x: Tensor) -> Tensor:
        """What the head reads, float32 ``(n, H)`` -> logits ``(n, C)``."""
        rows = len(x)
        if rows < MIN_ROWS:
            x = F.pad(x, (0, 0, 0, MIN_ROWS - rows))
        for part in (self._pool, self._dense, self._norm):
            x = x if part is None else part(x)
        return self._last(x)[:rows]


def float32_on_cpu(model: Model) -> Model:
    """The model itself if it is in float32 on the CPU, else such a copy of it."""
    if model.dtype == torch.float32 and model.device.type == "cpu":
        return model
    return copy.deepcopy(model.bare()).float().cpu()


def _has_onednn() -> bool:
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_linear_pointwise")
