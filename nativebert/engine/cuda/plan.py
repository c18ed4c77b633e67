"""A model prepared for an NVIDIA card: weights fused and laid out once, then a handful of kernels for each layer.

Bitwise batch invariant in every precision: see :mod:`nativebert.engine.cuda.kernels`. Small batches run as CUDA graphs
(:mod:`nativebert.engine.cuda.graphs`), large ones launch kernel by kernel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nativebert.config import EncoderConfig, Layer
from nativebert.engine.cuda import kernels, tiles
from nativebert.engine.cuda.graphs import Graphs
from nativebert.engine.cuda.inputs import Inputs, Layout, layout, stage
from nativebert.engine.cuda.tuning import Kind, Tiles
from nativebert.engine.plan import BATCH_TOKENS, ExecutionPlan, NonFiniteStates, is_finite
from nativebert.nn.block import PostNormBlock, PreNormBlock
from nativebert.nn.encoder import check
from nativebert.nn.heads import Head
from nativebert.nn.model import Model
from nativebert.nn.packed import Packed
from nativebert.nn.positions import MAX_DISTANCE, alibi_slopes, cos_sin, relative_position_bucket

PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Product:
    """``act(x @ weight.T + bias)`` of one linear layer, or of several side by side.

    Args:
        layers: of the same input.
        target: device and type of the weights.
        act: activation, by its name in config.json.
        gated: the two layers are a feed-forward part's first and its gate: the result is ``act(first) * gate``.
    """

    def __init__(self, layers: list[nn.Linear], target: Target, act: str = "linear", *, gated: bool = False) -> None:
        weights = [layer.weight.detach().to(target.device, target.dtype) for layer in layers]
        biases = [torch.zeros(layer.out_features) if layer.bias is None else layer.bias.detach() for layer in layers]
        biases = [b.to(target.device, torch.float32) for b in biases]
        # the rows of a gate stand between those of its layer: the kernel finds both in one thread, whatever the tile
        join = (lambda parts: torch.stack(parts, 1).flatten(0, 1)) if gated else torch.cat
        self.weight, self.bias = join(weights), join(biases)
        self.act, self.gated, self._target = kernels.activation(act, target.dtype), gated, target
        self._kind = Kind(len(self.weight), self.weight.shape[1], target.dtype, act != "linear" or gated)

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return self._compute(x, residual, self._target.tiles.tile(len(x), self._kind))

    def _compute(self, x: Tensor, residual: Tensor | None, tile: tiles.ProductTile) -> Tensor:
        numbers, products = (self.weight, self.bias, self.act), self._target.products
        return kernels.product(x, *numbers, tile, residual=residual, gated=self.gated, precision=products)

    def measure(self) -> None:
        """Choose tiles by their time on the device."""
        rows = torch.randn(tiles.ROWS[-1], self._kind.depth, device=self.weight.device, dtype=self.weight.dtype)
        self._target.tiles.measure(self._kind, lambda count, tile: self._compute(rows[:count], None, tile))


@dataclass(frozen=True)
class Target:
    """Device and type of weights, the precision of float32 products on tensor cores, and the tiles of products."""

    device: torch.device
    dtype: torch.dtype
    products: str
    tiles: Tiles

    def norm(self, norm: nn.LayerNorm) -> kernels.Norm:
        """Parameters in float32: they are few, and rounding them would cost accuracy for nothing."""
        weight = norm.weight.detach().to(self.device, torch.float32, copy=True)
        bias = torch.zeros_like(weight) if norm.bias is None else norm.bias.detach().to(self.device, torch.float32, copy=True)
        return weight, bias, norm.eps


class Block:
    """The products and norms of one layer."""

    def __init__(self, block: PostNormBlock | PreNormBlock, layer: Layer, target: Target) -> None:
        attn, mlp = block.attn, block.mlp
        self.qkv = Product([attn.q, attn.k, attn.v], target)
        self.o = Product([attn.o], target)
        self.intermediate = Product(
            [mlp.up, *([] if mlp.gate is None else [mlp.gate])], target, layer.activation, gated=mlp.gate is not None
        )
        self.down = Product([mlp.down], target)
        self.attn_norm = target.norm(block.attn_norm) if isinstance(block.attn_norm, nn.LayerNorm) else None
        self.mlp_norm = target.norm(block.mlp_norm)


class CudaHead:
    """A head, and the pooler if it reads one, in float32."""

    def __init__(self, model: Model, task: str, device: torch.device, measured: Tiles) -> None:
        self.spec, target = model.config.heads[task], Target(device, torch.float32, "tf32x3", measured)
        head: Head = model.head[self.spec.name]  # type: ignore[assignment]
        last: nn.Linear = head.get_submodule(self.spec.last)  # type: ignore[assignment]
        pooler = model.pool if self.spec.on == "pooled" else None
        self._pooler = None if pooler is None else Product([pooler.dense], target, "tanh")
        self._dense = None if head.dense is None else Product([head.dense], target, self.spec.activation)
        self._norm = None if head.norm is None else target.norm(head.norm)
        self._last, self._device = Product([last], target), device

    def logits(self, x: Tensor) -> Tensor:
        with current(self._device):
            for part in (self._pooler, self._dense):
                x = x if part is None else part(x)
            if self._norm is not None:
                x = kernels.norm(x, self._norm)
            return self._last(x)


def current(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on torch's current device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


class CudaPlan(ExecutionPlan):
    """A model prepared for one card. All its weights are copies: prepare again after training.

    Args:
        model: the model.
        device: the card; ``cpu`` in Triton's interpreter.
        precision: ``float32`` (three products of TF32 for each: float32's accuracy on tensor cores), ``tf32`` (one: products are rounded
            to 10 bits), ``float16`` or ``bfloat16``.
        heads: the tasks of the heads to prepare.
        on_copied: called after each layer, for a caller that wants the model's own weights gone.
    """

    backend = "Triton"
    batch_tokens = BATCH_TOKENS["cuda"]

    def __init__(
        self,
        model: Model,
        device: torch.device,
        precision: str = "float32",
        heads: Sequence[str] = (),
        on_copied: Callable[[], None] | None = None,
    ) -> None:
        if device == torch.device("cuda"):
            device = torch.device("cuda", torch.cuda.current_device())
        self.device, self.precision, self._config = device, precision, model.config
        products, self._tiles = "tf32" if precision == "tf32" else "tf32x3", Tiles(device)
        self._target = target = Target(device, PRECISIONS[precision], products, self._tiles)
        config, embeddings = model.config, model.embed

        def table(of: Tensor | None) -> Tensor | None:
            return None if of is None else of.detach().to(device, target.dtype, copy=True)

        token, segment = table(embeddings.token.weight), None if embeddings.segment is None else embeddings.segment.weight
        assert token is not None
        with torch.inference_mode():
            self._tables = token, table(embeddings.rows()), table(segment)
            assert isinstance(embeddings.norm, nn.LayerNorm)
            self._embed_norm = target.norm(embeddings.norm)
            self._project = None if embeddings.project is None else Product([embeddings.project], target)
            prepared: dict[int, Block] = {}
            for block, layer in zip(model.blocks(), config.layers, strict=True):
                if id(block) not in prepared:
                    prepared[id(block)] = Block(block, layer, target)
                    if on_copied is not None:
                        on_copied()
            self._blocks = [prepared[id(block)] for block in model.blocks()]
            self._last_norm = None if model.norm is None else target.norm(model.norm)
            self.heads: dict[str, CudaHead] = {task: CudaHead(model, task, device, self._tiles) for task in heads}
            self._bias = _by_distance(model, device)
            self._rotary = {
                (layer.rope_theta, layer.rope_scale): _cos_sin(config, layer, device)
                for layer in config.layers
                if layer.rope_theta is not None
            }
        widest = max((config.width // layer.heads for layer in config.layers), default=16)
        self._attention = tiles.attention_tiles(widest, target.dtype)
        self._columns = self._bias is not None or any(layer.window is not None for layer in config.layers)
        work = max((config.width * (4 * config.width + 2 * layer.intermediate_size) for layer in config.layers), default=1)
        self._graphs = Graphs(device, work if target.dtype.itemsize == 2 else 4 * work)  # float32 takes several times as long

    @torch.inference_mode()
    def hidden(self, batch: Packed) -> Tensor:
        """Hidden states of the last layer, ``(T, H)``."""
        return self._compute(batch, ("hidden",), self._last, by_token=True)

    @torch.inference_mode()
    def states(self, batch: Packed) -> list[Tensor]:
        """Hidden states after the embeddings and after each layer, ``(T, H)`` each."""
        with current(self.device):
            return list(self._states(stage(batch, self._layout(batch), self.device, self._attention)))

    @torch.inference_mode()
    def pooled(self, batch: Packed, modes: tuple[str, ...], skip: int = 0) -> Tensor:
        """A vector for each sequence, float32 ``(B, H * len(modes))``."""

        def compute(inputs: Inputs) -> Tensor:
            return kernels.pool(self._last(inputs), inputs.cu_seqlens, modes, skip)

        return self._compute(batch, ("pooled", modes, skip), compute, by_token=False)

    @torch.inference_mode()
    def logits(self, batch: Packed, task: str, *, reduce: str | None = None) -> Tensor:
        if reduce is not None:
            return super().logits(batch, task, reduce=reduce)
        head = self.heads[task]

        def compute(inputs: Inputs) -> Tensor:
            x = self._read(head, inputs)
            # an activation makes a finite number of an infinite one
            return head.logits(x).masked_fill(~x.isfinite().all(1, keepdim=True), torch.nan)

        logits = self._compute(batch, ("logits", task), compute, by_token=head.spec.on == "tokens")
        if not is_finite(logits):
            if not is_finite(states := self.hidden(batch)):
                raise NonFiniteStates(states)
            raise self.not_finite(task)
        return logits

    def warm_up(self) -> None:
        """Time a handful of tiles for each kind of product of the layers, and keep the fastest for this and all later plans on this card."""
        with current(self.device), torch.inference_mode():
            for block in self._blocks:
                for product in (block.qkv, block.o, block.intermediate, block.down):
                    product.measure()
        self._tiles.save()
        self._graphs.clear()

    def clear_cache(self) -> None:
        """Give back the memory of the CUDA graphs."""
        self._graphs.clear()

    # -- one batch

    def _layout(self, batch: Packed) -> Layout:
        check(self._config, batch)
        return layout(batch, self._attention, columns=self._columns)

    def _compute(
        self, batch: Packed, kind: tuple[object, ...], compute: Callable[[Inputs], Tensor], *, by_token: bool
    ) -> Tensor:
        """What ``compute`` makes of the batch, a row for each token or for each sequence; as a graph, if one of its ``kind`` is there."""
        of = self._layout(batch)
        if self._graphs.worth(of.shape):
            rows = of.shape.tokens if by_token else of.shape.sequences
            result = self._graphs.run(kind, batch, of, self._attention, compute, rows)
            if result is not None:
                return result
        with current(self.device):
            return compute(stage(batch, of, self.device, self._attention))

    def _last(self, inputs: Inputs) -> Tensor:
        (last,) = deque(self._states(inputs), maxlen=1)
        return last

    def _states(self, inputs: Inputs) -> Iterator[Tensor]:
        """``(T, H)`` after the embeddings and after each layer."""
        x = kernels.embed(inputs.ids, inputs.positions, inputs.segments, self._tables, self._embed_norm)
        if self._project is not None:
            x = self._project(x)
        yield from self._pre_norm(x, inputs) if self._config.block == "pre" else self._post_norm(x, inputs)

    def _post_norm(self, x: Tensor, inputs: Inputs) -> Iterator[Tensor]:
        yield x
        for block, layer in zip(self._blocks, self._config.layers):
            assert block.attn_norm is not None
            x = kernels.norm(block.o(self._attend(block.qkv(x), layer, inputs), x), block.attn_norm)
            x = kernels.norm(block.down(block.intermediate(x), x), block.mlp_norm)
            yield x

    def _pre_norm(self, x: Tensor, inputs: Inputs) -> Iterator[Tensor]:
        assert self._last_norm is not None
        for block, layer in zip(self._blocks, self._config.layers):
            yield x
            y = x if block.attn_norm is None else kernels.norm(x, block.attn_norm)
            x = block.o(self._attend(block.qkv(y), layer, inputs), x)
            x = block.down(block.intermediate(kernels.norm(x, block.mlp_norm)), x)
        yield kernels.norm(x, self._last_norm)

    def _attend(self, qkv: Tensor, layer: Layer, inputs: Inputs) -> Tensor:
        if layer.rope_theta is not None:
            kernels.rotate(qkv, inputs.positions, *self._rotary[layer.rope_theta, layer.rope_scale], layer.heads)
        where = {"columns": inputs.columns, "attended": inputs.attended, "bias": self._bias}
        return kernels.attend(qkv, inputs.blocks, layer.heads, **where, window=layer.window, precision=self._target.products)

    def _read(self, head: CudaHead, inputs: Inputs) -> Tensor:
        """What a head reads, in float32."""
        hidden = self._last(inputs)
        if head.spec.on == "tokens":
            return hidden.float()
        if head.spec.on == "mean":
            return kernels.pool(hidden, inputs.cu_seqlens, ("mean",), attended=inputs.attended)
        return kernels.pool(hidden, inputs.cu_seqlens, ("cls",))


def _cos_sin(config: EncoderConfig, layer: Layer, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of every position, ``(P, D / 2)``: prepared on the CPU, so that they are the reference's."""
    assert layer.rope_theta is not None
    width = config.width // layer.heads
    cos, sin = cos_sin(torch.arange(config.positions), layer.rope_theta, width, layer.rope_scale)
    return cos[:, : width // 2].contiguous().to(device), sin[:, : width // 2].contiguous().to(device)


def _by_distance(model: Model, device: torch.device) -> Tensor | None:
    """What is added to scores by the distance between two tokens, times log2(e): ``(A, 2S - 1)``; None for nothing. Of a table by bucket,
    distances of ``S`` and more share one."""
    config = model.config
    span = max(config.positions, MAX_DISTANCE + 1)
    distance = torch.arange(1 - span, span)
    if model.distance is not None:
        table = model.distance.weight.detach().cpu().float()
        bias = table[relative_position_bucket(distance, config.relative_buckets)].T
    elif config.alibi:
        bias = distance.abs() * -torch.tensor(alibi_slopes(config.layers[0].heads))[:, None]
    else:
        return None
    return (bias * kernels.LOG2_E).contiguous().to(device)
