"""A model prepared for an NVIDIA card: weights fused and laid out once, then a handful of kernels for each layer.

Bitwise batch invariant in every precision: see :mod:`nativebert.engine.cuda.kernels`. Small batches run as CUDA graphs
(:mod:`nativebert.engine.cuda.graphs`), large ones launch kernel by kernel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from nativebert.config import EncoderConfig, Layer
from nativebert.config import Head as HeadSpec
from nativebert.engine.cuda import kernels, tiles
from nativebert.engine.cuda.graphs import Graphs
from nativebert.engine.cuda.inputs import Inputs, Layout, stage
from nativebert.errors import BadInput
from nativebert.nn.block import PostNormBlock, PreNormBlock
from nativebert.nn.encoder import check
from nativebert.nn.heads import Head
from nativebert.nn.model import Model
from nativebert.nn.packed import Packed
from nativebert.nn.place import FAR, buckets, rotary

BATCH_TOKENS = 65536
MOST_LOGITS = 2**28  # numbers of (T, C) logits that exist at a time where only their maximum is asked for: one gigabyte
PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Product:
    """``act(x @ weight.T + bias)`` of one linear layer, or of several side by side.

    Args:
        layers: of the same input.
        place: device and type of the weights.
        act: activation, by its name in config.json.
        gated: the two layers are a feed-forward part's first and its gate: the result is ``act(first) * gate``.
    """

    def __init__(self, layers: list[nn.Linear], place: Place, act: str = "linear", *, gated: bool = False) -> None:
        weights = [layer.weight.detach().to(place.device, place.dtype) for layer in layers]
        biases = [torch.zeros(layer.out_features) if layer.bias is None else layer.bias.detach() for layer in layers]
        biases = [b.to(place.device, torch.float32) for b in biases]
        # the rows of a gate stand between those of its layer: the kernel finds both in one thread, whatever the tile
        join = (lambda parts: torch.stack(parts, 1).flatten(0, 1)) if gated else torch.cat
        self.weight, self.bias = join(weights), join(biases)
        self.act, self.gated, self._place = kernels.activation(act, place.dtype), gated, place

    def __call__(self, x: Tensor) -> Tensor:
        columns, depth = self.weight.shape
        tile = self._place.tile(len(x), columns, depth, self.act != "linear" or self.gated)
        return kernels.product(x, self.weight, self.bias, self.act, tile, gated=self.gated, precision=self._place.products)


@dataclass(frozen=True)
class Place:
    """Where weights are, their type, and how float32 is multiplied on tensor cores."""

    device: torch.device
    dtype: torch.dtype
    products: str

    def tile(self, rows: int, columns: int, depth: int, costly: bool) -> tiles.ProductTile:
        capability, processors = _card(self.device)
        return tiles.product_tile(rows, columns, depth, self.dtype, capability, processors, costly=costly)

    def norm(self, norm: nn.LayerNorm) -> kernels.Norm:
        """Parameters in float32: they are few, and rounding them would cost accuracy for nothing."""
        weight = norm.weight.detach().to(self.device, torch.float32, copy=True)
        bias = torch.zeros_like(weight) if norm.bias is None else norm.bias.detach().to(self.device, torch.float32, copy=True)
        return weight, bias, norm.eps


@cache
def _card(device: torch.device) -> tuple[tuple[int, int], int]:
    """Compute capability and multiprocessors; in the interpreter, those of an H100."""
    if device.type != "cuda":
        return (9, 0), 132
    return torch.cuda.get_device_capability(device), torch.cuda.get_device_properties(device).multi_processor_count


class Block:
    """The products and norms of one layer."""

    def __init__(self, block: PostNormBlock | PreNormBlock, layer: Layer, place: Place) -> None:
        attn, mlp = block.attn, block.mlp
        self.qkv = Product([attn.q, attn.k, attn.v], place)
        self.o = Product([attn.o], place)
        self.inner = Product(
            [mlp.up, *([] if mlp.gate is None else [mlp.gate])], place, layer.activation, gated=mlp.gate is not None
        )
        self.down = Product([mlp.down], place)
        self.attn_norm = place.norm(block.attn_norm) if isinstance(block.attn_norm, nn.LayerNorm) else None
        self.mlp_norm = place.norm(block.mlp_norm)


class HeadProducts:
    """A head in float32: what it reads ``(n, H)`` -> logits ``(n, C)``."""

    def __init__(self, model: Model, spec: HeadSpec, device: torch.device) -> None:
        place = Place(device, torch.float32, "tf32x3")
        head: Head = model.head[spec.name]  # type: ignore[assignment]
        last: nn.Linear = head.get_submodule(spec.last)  # type: ignore[assignment]
        pooled = model.pool is not None and spec.on == "pooled"
        self.on = spec.on
        self._pooler = Product([model.pool.dense], place, "tanh") if pooled and model.pool is not None else None
        self._dense = None if head.dense is None else Product([head.dense], place, spec.activation)
        self._norm = None if head.norm is None else place.norm(head.norm)
        self._last = Product([last], place)
        self.classes = last.out_features

    def __call__(self, x: Tensor) -> Tensor:
        for part in (self._pooler, self._dense):
            x = x if part is None else part(x)
        if self._norm is not None:
            x, _ = kernels.norm(x, None, self._norm)
        return self._last(x)


class CudaPlan:
    """A model prepared for one card. All its weights are copies: prepare again after training.

    Args:
        model: the model.
        device: the card; ``cpu`` in Triton's interpreter.
        precision: ``float32`` (three products of TF32 for each: float32's accuracy on tensor cores), ``tf32`` (one: products are rounded
            to 10 bits), ``float16`` or ``bfloat16``.
        after: called after each layer, for a caller that wants the model's own weights gone.
    """

    min_rows = 1
    batch_tokens = BATCH_TOKENS

    def __init__(
        self, model: Model, device: torch.device, precision: str = "float32", after: Callable[[], None] | None = None
    ) -> None:
        if device == torch.device("cuda"):
            device = torch.device("cuda", torch.cuda.current_device())
        self.device, self.precision, self._config = device, precision, model.config
        self._place = place = Place(device, PRECISIONS[precision], "tf32" if precision == "tf32" else "tf32x3")
        config, embeddings = model.config, model.embed

        def table(of: nn.Embedding | None) -> Tensor | None:
            return None if of is None else of.weight.detach().to(device, place.dtype, copy=True)

        token = table(embeddings.token)
        assert token is not None
        with torch.inference_mode():
            self._tables = token, table(embeddings.position), table(embeddings.segment)
            self._embed_norm = place.norm(embeddings.norm)
            self._project = None if embeddings.project is None else Product([embeddings.project], place)
            made: dict[int, Block] = {}
            for block, layer in zip(model.blocks(), config.layers, strict=True):
                if id(block) not in made:
                    made[id(block)] = Block(block, layer, place)
                    if after is not None:
                        after()
            self._blocks = [made[id(block)] for block in model.blocks()]
            self._last_norm = None if model.norm is None else place.norm(model.norm)
            self._heads = {task: HeadProducts(model, config.heads[task], device) for task in model.tasks}
            self._bias = None if model.distance is None else _by_distance(model.distance.weight.detach(), config, device)
            heads = {layer.rope_theta: config.width // layer.heads for layer in config.layers}
            self._rotary = {
                theta: _cos_sin(config, theta, width, device) for theta, width in heads.items() if theta is not None
            }
        self._attention = tiles.attention_tiles(max(heads.values(), default=16), place.dtype)
        self._columns = model.distance is not None or any(layer.window is not None for layer in config.layers)
        work = max((config.width * (4 * config.width + 2 * layer.inner) for layer in config.layers), default=1)
        self._graphs = Graphs(device, work if place.dtype.itemsize == 2 else 4 * work)  # float32 takes several times as long

    # -- the interface of a plan

    @torch.inference_mode()
    def hidden(self, batch: Packed) -> Tensor:
        """Hidden states of the last layer, ``(T, H)``."""
        return self._compute(batch, ("hidden",), self._last, by_token=True)

    run = hidden

    @torch.inference_mode()
    def states(self, batch: Packed) -> list[Tensor]:
        """Hidden states after the embeddings and after each layer, ``(T, H)`` each."""
        with self._current():
            return list(self._states(self._stage(batch)))

    @torch.inference_mode()
    def pooled(self, batch: Packed, modes: tuple[str, ...], skip: int = 0) -> Tensor:
        """A vector for each sequence, float32 ``(B, H * len(modes))``."""

        def compute(inputs: Inputs) -> Tensor:
            return kernels.pool(self._last(inputs), inputs.cu_seqlens, modes, skip)

        return self._compute(batch, ("pooled", modes, skip), compute, by_token=False)

    @torch.inference_mode()
    def logits(self, batch: Packed, task: str, reduce: str | None = None) -> Tensor:
        """What a head makes of the batch, float32: ``(T, C)`` for heads on tokens, ``(B, C)`` for heads on sequences.

        Args:
            batch: the tokens.
            task: the head's.
            reduce: ``"max"`` for the maximum over each sequence's tokens, ``(B, C)``, of a head on tokens.

        Raises:
            BadInput: ``reduce`` is neither, or the head is not on tokens.
        """
        head = self._heads[task]
        if reduce is None:
            return self._compute(
                batch, ("logits", task), lambda inputs: head(self._read(head, inputs)), by_token=head.on == "tokens"
            )
        if reduce != "max" or head.on != "tokens":
            raise BadInput(f"reduce must be None, or 'max' for a head on tokens, not {reduce!r} for one on {head.on}")
        with self._current():
            return self._most_logits(head, batch)

    def _most_logits(self, head: HeadProducts, batch: Packed) -> Tensor:
        hidden = self._last(self._stage(batch))
        most = max(1, MOST_LOGITS // head.classes)
        parts, start = [hidden.new_empty((0, head.classes), dtype=torch.float32)], 0
        for lengths in _groups(batch.lengths, most):
            inputs = torch.tensor([0, *lengths]).cumsum(0).to(self.device, torch.int32)
            x = hidden[start : start + sum(lengths)]
            parts.append(kernels.pool(head(x.float()), inputs, ("max",)))
            start += sum(lengths)
        return torch.cat(parts)

    def clear_cache(self) -> None:
        """Give back the memory of the CUDA graphs."""
        self._graphs.clear()

    # -- one batch

    def _layout(self, batch: Packed) -> Layout:
        check(self._config, batch)
        return Layout(batch, self._attention, columns=self._columns)

    def _stage(self, batch: Packed) -> Inputs:
        return stage(self._layout(batch), self.device, self._attention)

    def _compute(
        self, batch: Packed, kind: tuple[object, ...], compute: Callable[[Inputs], Tensor], *, by_token: bool
    ) -> Tensor:
        """What ``compute`` makes of the batch, a row for each token or for each sequence; as a graph, if one of its ``kind`` is there."""
        layout = self._layout(batch)
        if self._graphs.worth(layout.shape):
            rows = layout.shape.tokens if by_token else layout.shape.sequences
            result = self._graphs.run(kind, layout, self._attention, compute, rows)
            if result is not None:
                return result
        with self._current():
            return compute(stage(layout, self.device, self._attention))

    def _current(self) -> AbstractContextManager[object]:
        """Triton launches on torch's current device."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _last(self, inputs: Inputs) -> Tensor:
        (last,) = deque(self._states(inputs), maxlen=1)
        return last

    def _states(self, inputs: Inputs) -> Iterator[Tensor]:
        """``(T, H)`` after the embeddings and after each layer."""
        x = kernels.embed(inputs.ids, inputs.positions, inputs.segments, self._tables, self._embed_norm)
        if self._project is not None:
            x = self._project(x)
        yield from self._pre_norm(x, inputs) if self._config.norm_first else self._post_norm(x, inputs)

    def _post_norm(self, x: Tensor, inputs: Inputs) -> Iterator[Tensor]:
        yield x
        for block, layer in zip(self._blocks, self._config.layers):
            assert block.attn_norm is not None
            x, _ = kernels.norm(block.o(self._attend(block.qkv(x), layer, inputs)), x, block.attn_norm)
            x, _ = kernels.norm(block.down(block.inner(x)), x, block.mlp_norm)
            yield x

    def _pre_norm(self, x: Tensor, inputs: Inputs) -> Iterator[Tensor]:
        """Each residual sum is normalised where it is made: for the next part, or at the end for the result."""
        assert self._last_norm is not None
        after = [*(block.attn_norm for block in self._blocks[1:]), self._last_norm]
        first = self._blocks[0].attn_norm if self._blocks else self._last_norm
        y = x if first is None else kernels.norm(x, None, first)[0]
        for block, layer, following in zip(self._blocks, self._config.layers, after):
            yield x
            y, x = kernels.norm(block.o(self._attend(block.qkv(y), layer, inputs)), x, block.mlp_norm, keep=True)
            assert following is not None
            y, x = kernels.norm(block.down(block.inner(y)), x, following, keep=True)
        yield y

    def _attend(self, qkv: Tensor, layer: Layer, inputs: Inputs) -> Tensor:
        if layer.rope_theta is not None:
            kernels.rotate(qkv, inputs.positions, *self._rotary[layer.rope_theta], layer.heads)
        where = {"columns": inputs.columns, "seen": inputs.seen, "bias": self._bias}
        return kernels.attend(qkv, inputs.blocks, layer.heads, **where, window=layer.window, precision=self._place.products)

    def _read(self, head: HeadProducts, inputs: Inputs) -> Tensor:
        """What a head reads, in float32."""
        hidden = self._last(inputs)
        if head.on == "tokens":
            return hidden.float()
        if head.on == "mean":
            return kernels.pool(hidden, inputs.cu_seqlens, ("mean",), seen=inputs.seen)
        return kernels.pool(hidden, inputs.cu_seqlens, ("cls",))


def _cos_sin(config: EncoderConfig, theta: float, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of every position, ``(P, D / 2)``: made on the CPU, so that they are the reference's."""
    cos, sin = rotary(torch.arange(config.positions), theta, width)
    return cos[:, : width // 2].contiguous().to(device), sin[:, : width // 2].contiguous().to(device)


def _by_distance(table: Tensor, config: EncoderConfig, device: torch.device) -> Tensor:
    """The bias by bucket ``(buckets, A)`` as one by distance, times log2(e): ``(A, 2S - 1)``. Distances of ``S`` and more share a bucket."""
    span = max(config.positions, FAR + 1)
    distance = torch.arange(1 - span, span)
    return (table.cpu().float()[buckets(distance, config.buckets)].T * kernels.LOG2_E).contiguous().to(device)


def _groups(lengths: tuple[int, ...], most: int) -> Iterator[list[int]]:
    """Neighbouring sequences of at most so many tokens in all; a longer one by itself."""
    group: list[int] = []
    for length in lengths:
        if group and sum(group) + length > most:
            yield group
            group = []
        group.append(length)
    if group:
        yield group
