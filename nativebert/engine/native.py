"""The plan for CPUs on the C kernels of :mod:`nativebert.kernels`: one call for a batch, from token ids to hidden states.

It computes what :class:`~nativebert.engine.cpu.CpuPlan` does, which is its fallback and its oracle, and like it is bitwise batch
invariant: the kernels sum each row and each head of a sequence in an order that nothing else has a say in.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from ctypes import Array, addressof, byref, c_int32
from dataclasses import fields
from functools import cache
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nativebert import kernels
from nativebert.config import EncoderConfig, Layer, RelativePositions
from nativebert.engine.cpu import CpuHead, float32_on_cpu
from nativebert.engine.plan import BATCH_TOKENS, ExecutionPlan
from nativebert.engine.workspace import QkvCache, Workspace, Workspaces
from nativebert.errors import BadInputError
from nativebert.nn.block import PostNormBlock, PreNormBlock
from nativebert.nn.encoder import check
from nativebert.nn.layers import RMSNorm
from nativebert.nn.model import Model
from nativebert.nn.packed import Packed
from nativebert.nn.positions import alibi_slopes, cos_sin, relative_position_bucket, relative_row

HUGE_PAGE_BYTES = 2 << 20
HUGEPAGE_AFTER_SECONDS = 5.0  # of work, until a plan's weights are collapsed into huge pages
MADV_COLLAPSE = 25  # of Linux 6.1; Python's mmap has no name for it


# C hears no Ctrl-C and moves no progress bar, so a batch is at most these multiplications, some two seconds of two cores, and these tokens.
MAX_PRODUCTS, MAX_BATCH_TOKENS = 1.8e11, 2**14

# The fields that the kernels compute, or that change no hidden state. Any other must have its default, which stands for its absence: a
# field that config.py gains is refused until somebody lists it here.
_LAYER_FIELDS = frozenset(
    {"heads", "intermediate_size", "activation", "weight_index", "window", "rope_theta", "rope_scale", "attn_norm", "key_heads"}
)
_CONFIG_FIELDS = frozenset(
    """family vocab_size width layers positions segments norm_eps pad_id padding_learns embedding_width project task_types embedding_norm causal position_table positions_after_pad
    relative_buckets alibi relative masked_padding block gated down_bias attention_bias mlp_bias norm_bias rms_norm dropout attention_dropout mlp_dropout residual_dropout pooler heads pretraining tied labels problem_type architecture faults
    unread source""".split()
)


MOST_POSITIONS = 2**16  # of rotary positions, and of biases by distance, which have tables


def supports(model: Model) -> bool:
    """Whether the kernels compute this model: all but a convolution beside the first layer (DeBERTa v2)."""
    config = model.config
    by_position = any(layer.rope_theta is not None or layer.window is not None for layer in config.layers)
    return (
        _neutral(config, _CONFIG_FIELDS)
        and all(_neutral(layer, _LAYER_FIELDS) and layer.activation in kernels.ACTIVATION for layer in config.layers)
        and all(type(block) is (PreNormBlock if config.block == "pre" else PostNormBlock) for block in model.blocks())
        and (config.block == "post" or (len(config.layers) > 0 and not config.project))
        and (
            config.positions <= MOST_POSITIONS
            or not (by_position or config.causal or config.alibi or config.relative_buckets or config.relative)
        )
    )


def _neutral(description: EncoderConfig | Layer, listed: frozenset[str]) -> bool:
    """Whether all fields but the listed ones have their defaults; a field without a default has none to have."""
    others = [field for field in fields(description) if field.name not in listed]
    return all(getattr(description, field.name) == field.default for field in others)


class CKernelPlan(ExecutionPlan):
    """A model packed for the C kernels. See the module's docstring.

    All is a copy, except the embedding tables of a model that nobody else has (``on_copied``): prepare again after training. The model itself is not
    kept, so its other weights are free to go. Several Python threads may run one plan at a time.

    Args:
        model: the model, one that the kernels compute (:func:`supports`).
        heads: the tasks of the heads to prepare.
        precision: ``"float32"``, or ``"int8"`` for the layers' products as :mod:`nativebert.engine.int8` defines them.
        on_copied: called after each product of each layer.

    Raises:
        BadInputError: the kernels are not available.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        model: Model,
        precision: str = "float32",
        heads: Sequence[str] = (),
        on_copied: Callable[[], None] | None = None,
    ) -> None:
        self.precision = precision
        self.heads = {task: CpuHead(model, task) for task in heads}
        model = float32_on_cpu(model)
        self.config = model.config
        self.batch_tokens = _batch_tokens(model.config)
        self._int8 = precision == "int8"
        self._references: list[object] = []  # what the structures point to
        self._panels: list[tuple[mmap.mmap, int]] = []  # the weights among it, and their bytes, where they are many
        self._worked_seconds = 0.0  # seconds, until they have moved
        self._workspaces = Workspaces()
        table = kernels.table()
        library = kernels.library()
        assert not isinstance(library, str)  # or there would be no table
        self._library = library
        self.level = table.contents.name.decode()
        self.backend = f"C kernels ({self.level})"
        self._kernels = table.contents
        blocks = model.blocks()
        by_distance = _by_distance(model)
        rotary: dict[tuple[float, float | tuple[float, ...]], Tensor] = {}
        relative = None if model.relative is None else model.relative().detach()
        row = None if self.config.relative is None else self._pointer(_relative_rows(self.config, self.config.relative))
        distinct = {id(block): block for block in blocks}.values()  # ALBERT's layers share one
        panels = self._allocate_panels(
            [of for block in distinct for of in _products(block)], torch.int8 if self._int8 else torch.float32
        )
        with torch.no_grad():
            structures: dict[int, kernels.Layer] = {}
            for block, layer in zip(blocks, model.config.layers, strict=True):
                if id(block) not in structures:
                    made = structures[id(block)] = self._layer(block, layer.heads, layer.activation, panels, on_copied)
                    if layer.rope_theta is not None:
                        key = layer.rope_theta, layer.rope_scale
                        if key not in rotary:
                            rotary[key] = _rotary_table(self.config, layer)
                        made.rotary = self._pointer(rotary[key])
                    if relative is not None and row is not None:
                        q, k = (
                            F.pad(part, (0, LONGEST_VECTOR)) for part in block.attn.project_relative(relative)
                        )  # (A, D, R + room)
                        middle = row + 4 * (self.config.positions + LONGEST_VECTOR)
                        made.relative = kernels.Relative(self._pointer(q), self._pointer(k), middle, len(relative), q.shape[-1])
                    made.reach = 0 if layer.window is None else layer.window + 1
                    if (bias := by_distance(layer)) is not None:
                        middle = bias.shape[-1] // 2  # distance 0 of the first head
                        made.bias = self._pointer(bias) + middle * bias.element_size()
                        made.bias_stride = bias.shape[-1] if len(bias) > 1 else 0
            layers = (kernels.Layer * len(model.config.layers))(*(structures[id(block)] for block in blocks))
            embedding = self._embedding(model, own=on_copied is not None)
            first = kernels.FirstQkv()
            cached = self.config.block == "post" or not self.config.layers[0].attn_norm
            if len(layers) and not self._int8 and not embedding.project.inward and cached:
                first = self._first_qkv(embedding, layers[0].qkv)
        last_norm = kernels.Norm() if model.norm is None else self._norm(model.norm)
        self._encoder = kernels.Encoder(
            table,
            embedding,
            first,
            layers,
            len(layers),
            self.config.width,
            self.config.norm_eps,
            self.config.block == "pre",
            last_norm,
        )

    def hidden(self, batch: Packed) -> Tensor:
        hidden = torch.empty(batch.ids.numel(), self.config.width)
        self._encode(batch, kernels.Output(hidden.data_ptr()))
        return hidden

    def states(self, batch: Packed) -> list[Tensor]:
        states = torch.empty(len(self.config.layers) + 1, batch.ids.numel(), self.config.width)
        self._encode(batch, kernels.Output(None, states.data_ptr()))
        return list(states)

    def pooled(self, batch: Packed, modes: tuple[str, ...], skip: int = 0) -> Tensor:
        vectors = torch.empty(len(batch.lengths), len(modes) * self.config.width)
        mode = _pooling_numbers(modes)
        self._encode(batch, kernels.Output(None, None, vectors.data_ptr(), addressof(mode), len(modes), skip))
        return vectors

    def clear_cache(self) -> None:
        self._workspaces.clear_caches()

    def _encode(self, batch: Packed, out: kernels.Output) -> None:
        if batch.attention_mask is not None:
            raise BadInputError(
                "tokens that nobody attends to are for the reference model; a prepared one takes batches without padding"
            )
        count = len(batch.lengths)
        segments = None if batch.segments is None else batch.segments.data_ptr()
        threads = torch.get_num_threads()
        workspace = self._workspaces.acquire()
        completed = False
        try:
            cache = self._cache(workspace, batch.ids.numel())
            packed = kernels.Batch(
                batch.ids.data_ptr(), batch.positions.data_ptr(), segments, batch.cu_seqlens.data_ptr(), count, cache
            )
            size = self._library.encode_scratch(byref(self._encoder), byref(packed), byref(out), threads)
            scratch = workspace.scratch(size)
            began = perf_counter()
            out_of_range = self._library.encode(byref(self._encoder), byref(packed), byref(out), threads, scratch)
            completed = True
        finally:
            self._workspaces.release(workspace if completed else None)
        if out_of_range:
            check(self.config, batch)  # says which id it is
        if self._panels:
            self._worked_seconds += perf_counter() - began
            if self._worked_seconds > HUGEPAGE_AFTER_SECONDS:
                self._collapse_pages()

    def _cache(self, workspace: Workspace, tokens: int) -> ctypes._Pointer[kernels.QkvCache] | None:
        """The workspace's cache of the first layer's queries, keys and values, large enough for a batch of so many tokens."""
        if not self._encoder.first_qkv.product.inward:
            return None
        rows = self._library.qkv_cache_rows(byref(self._encoder), tokens)
        if workspace.cache is None or workspace.cache.capacity < rows:
            workspace.cache = QkvCache(self._encoder, rows)
        return workspace.cache.pointer

    def _collapse_pages(self) -> None:
        """Have the system collapse the weights' pages into huge ones, where it can. With pages of four kilobytes the processor looks up more of
        them, while it streams a model's weights, than it can remember. Not when the plan is made: to find large pages may take a second
        on virtual machines, more than many a plan has to do."""
        panels, self._panels = self._panels, []  # once, whichever thread comes first
        for memory, size in panels:
            first = _huge_page_offset(memory)
            for start in range(first, first + size // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES, HUGE_PAGE_BYTES):
                with suppress(OSError):  # no such page left, or no such call: an older kernel
                    memory.madvise(MADV_COLLAPSE, start, HUGE_PAGE_BYTES)

    # -- weights to structures

    def _pointer(self, tensor: Tensor) -> int:
        """Where a contiguous tensor lies; it stays there as long as the plan."""
        tensor = tensor.detach().contiguous()
        self._references.append(tensor)
        return tensor.data_ptr()

    def _layer(
        self,
        block: PostNormBlock | PreNormBlock,
        heads: int,
        activation: str,
        panels: Iterator[Tensor],
        on_copied: Callable[[], None] | None,
    ) -> kernels.Layer:
        make = self._linear8 if self._int8 else self._linear
        products = []
        for of in _products(block):
            products.append(make(of, next(panels)))
            if on_copied is not None:
                on_copied()
        qkv, out, up, *gate, down = products
        return kernels.Layer(
            qkv,
            out,
            up,
            down,
            gate[0] if gate else kernels.Linear(),
            self._norm(block.attn_norm),
            self._norm(block.mlp_norm),
            heads,
            kernels.ACTIVATION[activation],
        )

    def _linear(self, layers: Sequence[nn.Linear], panels: Tensor) -> kernels.Linear:
        """One product in fp32 for linear layers of the same input, side by side."""
        K, N = _shape(layers)
        panel = self._kernels.panel
        scale, total = torch.zeros(2, N + -N % panel)
        for first, weight in self._weights(layers):
            self._kernels.pack_panels(
                weight.data_ptr(), len(weight), K, first, panels.data_ptr(), scale.data_ptr(), total.data_ptr()
            )
        by_output = [self._pointer(values) for values in (_biases(layers, panel), scale, total)]
        return kernels.Linear(K, N, self._pointer(panels), None, *by_output)

    def _linear8(self, layers: Sequence[nn.Linear], panels: Tensor) -> kernels.Linear:
        """The same in int8."""
        K, N = _shape(layers)
        panel = self._kernels.panel8
        scale, total = torch.zeros(2, N + -N % panel)
        for first, weight in self._weights(layers):
            self._kernels.pack_panels8(
                weight.data_ptr(), len(weight), K, first, panels.data_ptr(), scale.data_ptr(), total.data_ptr()
            )
        by_output = [self._pointer(values) for values in (_biases(layers, panel), scale, total)]
        return kernels.Linear(K, N, None, self._pointer(panels), *by_output)

    def _allocate_panels(self, products: Iterable[Sequence[nn.Linear]], dtype: torch.dtype) -> Iterator[Tensor]:
        """Memory for the panels of each product, one behind the other in the order in which they are read: while a product's last panel is
        used, the kernels fetch what stands behind it, which is the first of the next product. Zeros, where not all is written."""
        shapes = [_shape(of) for of in products]
        panel = self._kernels.panel8 if dtype == torch.int8 else self._kernels.panel
        whole = [(N + -N % panel) * (K + -K % 4) for K, N in shapes]  # of panels, K filled up to fours
        panels = torch.split(self._allocate(sum(whole), dtype), whole)
        for (K, N), memory in zip(shapes, panels, strict=True):
            yield memory.zero_() if N % panel or K % 4 else memory

    def _allocate(self, count: int, dtype: torch.dtype) -> Tensor:
        """An uninitialized vector of ``count`` numbers; a large one begins at a huge page, for :meth:`_collapse_pages`."""
        size = count * dtype.itemsize
        if size < 2 * HUGE_PAGE_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
            return torch.empty(count, dtype=dtype)
        memory = mmap.mmap(-1, size + HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._panels.append((memory, size))
        return torch.frombuffer(memory, dtype=dtype, count=count, offset=_huge_page_offset(memory))

    def _weights(self, layers: Sequence[nn.Linear]) -> Iterator[tuple[int, Tensor]]:
        """The weights of linear layers, each with its first row in all of them one below the other."""
        first = 0
        for layer in layers:
            yield first, layer.weight.detach().contiguous()
            first += layer.out_features

    def _first_qkv(self, embedding: kernels.Embedding, qkv: kernels.Linear) -> kernels.FirstQkv:
        """The first layer's product for rows of the embedding tables: see kernels/qkv_cache.c. Not for int8, where a row is rounded as
        a whole, nor behind a projection."""
        K, N, panel = qkv.inward, qkv.outward, self._kernels.panel
        panels = -(-N // panel)
        bias, none, row, (scale, total) = torch.empty(N), torch.zeros(panels * panel), torch.empty(K), torch.empty(2, 1)
        rows = kernels.Rows(embedding.norm.bias, K)
        if self._kernels.normalize_rows:
            outliers = kernels.Outliers()
            normalized = kernels.Rows(row.data_ptr(), K, scale.data_ptr(), total.data_ptr(), addressof(outliers))
            self._kernels.normalize_rows(rows.x, K, 1, K, normalized)
            rows = normalized
        self._kernels.gemm(byref(qkv), rows, 1, bias.data_ptr(), N, None, kernels.ACTIVATION["linear"], 0, panels)
        product = kernels.Linear(K, N, qkv.panels, None, self._pointer(none), qkv.scale, qkv.sum)
        return kernels.FirstQkv(product, self._pointer(bias))

    def _norm(self, norm: nn.LayerNorm | nn.Identity) -> kernels.Norm:
        if isinstance(norm, nn.Identity):
            return kernels.Norm()
        if isinstance(norm, RMSNorm):
            return kernels.Norm(self._pointer(norm.weight.clone()), None)
        bias = torch.zeros_like(norm.weight) if norm.bias is None else norm.bias.clone()
        return kernels.Norm(self._pointer(norm.weight.clone()), self._pointer(bias))

    def _embedding(self, model: Model, own: bool) -> kernels.Embedding:
        """The tables are shared with a model that nobody else has (``own``), and copied from one that somebody may go on to train."""
        embed, config = model.embed, self.config
        weights = embed.token.weight, None if embed.segment is None else embed.segment.weight, embed.rows()
        tables = [None if w is None else self._pointer(w if own else w.detach().clone()) for w in weights]
        project = kernels.Linear()
        if embed.project is not None:
            project = self._linear([embed.project], next(self._allocate_panels([[embed.project]], torch.float32)))
        sizes = config.vocab_size, config.segments, config.positions, config.embedding_width or config.width
        return kernels.Embedding(*tables, *sizes, self._norm(embed.norm), project)


def _batch_tokens(config: EncoderConfig) -> int:
    """The kernels take a batch through the cache in chunks, and threads wait for each other at its end only: the larger the better."""
    products = sum(4 * config.width**2 + 2 * config.width * layer.intermediate_size for layer in config.layers)
    return max(BATCH_TOKENS["cpu"], min(MAX_BATCH_TOKENS, int(MAX_PRODUCTS / max(products, 1))))


def _products(block: PostNormBlock | PreNormBlock) -> list[list[nn.Linear]]:
    """The products of a layer, in the order in which they are computed; the first is three linear layers side by side."""
    attn, mlp = block.attn, block.mlp
    gate: list[list[nn.Linear]] = [] if mlp.gate is None else [[mlp.gate]]
    return [attn.for_each_head(), [attn.o], [mlp.up], *gate, [mlp.down]]


LONGEST_VECTOR = 64  # floats that the kernels may read beyond a table


def _rotary_table(config: EncoderConfig, layer: Layer) -> Tensor:
    """Cosines, then sines, of the first half of each position's angles, ``(P, D)``: the second half is the same."""
    assert layer.rope_theta is not None
    width = config.width // layer.heads
    cos, sin = cos_sin(torch.arange(config.positions), layer.rope_theta, width, layer.rope_scale)
    return torch.cat((cos[:, : width // 2], sin[:, : width // 2]), dim=1)


def _relative_rows(config: EncoderConfig, relative: RelativePositions) -> Tensor:
    """The row of the table of relative positions for each distance, int32 ``(2 P + room,)``, that of 0 in the middle."""
    reach = config.positions + LONGEST_VECTOR
    return relative_row(torch.arange(-reach, reach + 1), relative).int()


def _by_distance(model: Model) -> Callable[[Layer], Tensor | None]:
    """For a layer what is added to scores by the distance from the key to the query, ``(A or 1, 2 P + room)``, that of 0 in the middle; None for
    nothing."""
    config, reach = model.config, model.config.positions + LONGEST_VECTOR
    distance = torch.arange(-reach, reach + 1)  # column of the query minus column of the key
    made: dict[tuple[int, int | None], Tensor | None] = {}

    def of(layer: Layer) -> Tensor | None:
        key = layer.heads, layer.window
        if key not in made:
            made[key] = None
            if model.distance is not None:
                made[key] = model.distance.weight.detach()[
                    relative_position_bucket(-distance, config.relative_buckets)
                ].T.contiguous()
            elif config.alibi:
                made[key] = distance.abs() * -torch.tensor(alibi_slopes(layer.heads))[:, None]
            elif layer.window is not None:
                made[key] = torch.zeros(1, len(distance)).masked_fill(distance.abs() > layer.window, -torch.inf)
            elif config.causal:
                made[key] = torch.zeros(1, len(distance)).masked_fill(distance < 0, -torch.inf)
        return made[key]

    return of


def _shape(layers: Sequence[nn.Linear]) -> tuple[int, int]:
    """Inward and outward width of a product."""
    return layers[0].in_features, sum(layer.out_features for layer in layers)


def _biases(layers: Sequence[nn.Linear], panel: int) -> Tensor:
    """The biases of linear layers one after the other, zeros for one that has none, filled up to whole panels."""
    each: list[Tensor] = [layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias for layer in layers]
    return F.pad(torch.cat(each), (0, -sum(map(len, each)) % panel))


def _huge_page_offset(memory: mmap.mmap) -> int:
    """Bytes before the first huge page boundary in it."""
    return -torch.frombuffer(memory, dtype=torch.uint8).data_ptr() % HUGE_PAGE_BYTES


NativePlan = CKernelPlan  # its name until version 0.2; to go with the next one


@cache
def _pooling_numbers(modes: tuple[str, ...]) -> Array[c_int32]:
    """The kinds of pooling, as the kernels know them."""
    return (c_int32 * len(modes))(*(kernels.POOLING[name] for name in modes))
