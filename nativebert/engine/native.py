"""The plan for CPUs on the C kernels of :mod:`nativebert.kernels`: one call for a batch, from token ids to hidden states.

It computes what :class:`~nativebert.engine.cpu.CpuPlan` does, which is its fallback and its oracle, and like it is bitwise batch
invariant: the kernels sum each row and each head of a sequence in an order that nothing else has a say in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from ctypes import byref

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nativebert import kernels
from nativebert.engine.int8 import quantise_weight
from nativebert.engine.reference import copied
from nativebert.errors import BadInput
from nativebert.nn.block import PostNormBlock
from nativebert.nn.encoder import check
from nativebert.nn.model import Model
from nativebert.nn.packed import Packed


def fits(model: Model) -> bool:
    """Whether the kernels compute this model: norms after the parts, and nothing in attention but the tokens."""
    plain = all(layer.window is None and layer.rope_theta is None for layer in model.config.layers)
    return plain and model.distance is None and not model.config.gated and not model.config.norm_first


def _biases(layers: Sequence[nn.Linear]) -> Tensor:
    """The biases of linear layers one after the other, zeros for one that has none."""
    return torch.cat([layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias for layer in layers])


class NativePlan:
    """A model prepared for the CPU. See the module's docstring.

    The embedding tables are shared with the model, everything else is a copy: prepare again after training. The model itself is not
    kept, so its other weights are free to go. Several Python threads may run one plan at a time.

    Args:
        model: the model; it :func:`fits`.
        precision: ``"float32"``, or ``"int8"`` for the layers' products as :mod:`nativebert.engine.int8` defines them.
        after: called after each layer.

    Raises:
        BadInput: the kernels are not available.
    """

    _room: Tensor = torch.empty(0)  # for weights on their way to the plan

    def __init__(self, model: Model, precision: str = "float32", after: Callable[[], None] | None = None) -> None:
        self.device = torch.device("cpu")
        if model.dtype != torch.float32 or model.device.type != "cpu":
            model = copied(model).float().cpu()
        self.config = model.config
        self._int8 = precision == "int8"
        self._kept: list[object] = []  # what the structures point to
        self._scratch = threading.local()
        table = kernels.table()
        library = kernels.library()
        assert not isinstance(library, str)  # or there would be no table
        self._library = library
        self.level = table.contents.name.decode()
        self._panel = table.contents.panel
        with torch.no_grad():
            made: dict[int, kernels.Layer] = {}
            for block, layer in zip(model.blocks(), model.config.layers, strict=True):
                if id(block) not in made:
                    assert isinstance(block, PostNormBlock)
                    made[id(block)] = self._layer(block, layer.heads, layer.activation)
                    if after is not None:
                        after()
            layers = (kernels.Layer * len(model.config.layers))(*(made[id(block)] for block in model.blocks()))
            embedding = self._embedding(model)
        self.__dict__.pop("_room", None)
        self._encoder = kernels.Encoder(table, embedding, layers, len(layers), self.config.width, self.config.norm_eps)

    def run(self, batch: Packed) -> Tensor:
        hidden = torch.empty(batch.ids.numel(), self.config.width)
        self._encode(batch, hidden, None)
        return hidden

    def states(self, batch: Packed) -> list[Tensor]:
        T, H = batch.ids.numel(), self.config.width
        states = torch.empty(len(self.config.layers) + 1, T, H)
        self._encode(batch, torch.empty(T, H), states)
        return list(states)

    def _encode(self, batch: Packed, hidden: Tensor, states: Tensor | None) -> None:
        if batch.seen is not None:
            raise BadInput(
                "tokens that nobody attends to are for the reference model; a prepared one takes batches without padding"
            )
        starts = np.zeros(len(batch.lengths) + 1, np.int32)
        np.cumsum(batch.lengths, out=starts[1:])
        segments = None if batch.segments is None else batch.segments.data_ptr()
        packed = kernels.Batch(
            batch.ids.data_ptr(), batch.positions.data_ptr(), segments, starts.ctypes.data, len(batch.lengths)
        )
        threads = torch.get_num_threads()
        size = self._library.encode_scratch(byref(self._encoder), byref(packed), threads)
        scratch = getattr(self._scratch, "bytes", None)
        if scratch is None or len(scratch) < size:
            self._scratch.bytes = scratch = torch.empty(size, dtype=torch.uint8)
        to = None if states is None else states.data_ptr()
        if self._library.encode(byref(self._encoder), byref(packed), hidden.data_ptr(), to, threads, scratch.data_ptr()):
            check(self.config, batch)  # says which id it is

    # -- weights to structures

    def _pointer(self, tensor: Tensor) -> int:
        """Where a contiguous tensor lies; it stays there as long as the plan."""
        tensor = tensor.detach().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _layer(self, block: PostNormBlock, heads: int, activation: str) -> kernels.Layer:
        attn, mlp = block.attn, block.mlp
        make = self._linear8 if self._int8 else self._linear
        products = [make(*of) for of in ((attn.q, attn.k, attn.v), (attn.o,), (mlp.up,), (mlp.down,))]
        norms = self._norm(block.attn_norm), self._norm(block.mlp_norm)
        return kernels.Layer(*products, *norms, heads, kernels.ACTIVATION[activation])

    def _linear(self, *layers: nn.Linear) -> kernels.Linear:
        """One product in fp32 for linear layers of the same input, side by side."""
        weight, N = self._joined([layer.weight for layer in layers])
        K = weight.shape[1]
        panels = torch.empty(len(weight) // self._panel, K, self._panel)
        panels.copy_(weight.view(-1, self._panel, K).transpose(1, 2))
        bias = F.pad(_biases(layers), (0, len(weight) - N))
        return kernels.Linear(K, N, self._pointer(panels), None, self._pointer(bias), None, None)

    def _linear8(self, *layers: nn.Linear) -> kernels.Linear:
        """The same in int8."""
        weight, N = self._joined([layer.weight for layer in layers])
        K = weight.shape[1]
        units, scale = quantise_weight(weight)
        # (rows, K) -> (panels, K/4, panel, 4)
        panels = F.pad(units, (0, -K % 4)).view(-1, self._panel, (K + 3) // 4, 4).transpose(1, 2)
        bias = F.pad(_biases(layers), (0, len(weight) - N))
        by_output = [self._pointer(values) for values in (bias, scale, units.sum(1).float())]
        return kernels.Linear(K, N, None, self._pointer(panels), *by_output)

    def _joined(self, weights: list[Tensor]) -> tuple[Tensor, int]:
        """Weights of the same input side by side, filled up with rows of zeros to whole panels; and how many rows they are.

        The tensor is valid until the next call: one piece of memory serves them all, and the heap is left in one piece too.
        """
        K, N = weights[0].shape[1], sum(map(len, weights))
        rows = N + -N % self._panel
        if self._room.numel() < rows * K:
            self._room = torch.empty(rows * K)
        joined = self._room[: rows * K].view(rows, K)
        torch.cat(weights, out=joined[:N])
        joined[N:] = 0
        return joined, N

    def _norm(self, norm: nn.LayerNorm) -> kernels.Norm:
        bias = torch.zeros_like(norm.weight) if norm.bias is None else norm.bias.clone()
        return kernels.Norm(self._pointer(norm.weight.clone()), self._pointer(bias))

    def _embedding(self, model: Model) -> kernels.Embedding:
        embed, config = model.embed, self.config
        tables = [None if t is None else self._pointer(t.weight) for t in (embed.token, embed.segment, embed.position)]
        project = kernels.Linear() if embed.project is None else self._linear(embed.project)
        sizes = config.vocab_size, config.segments, config.positions, config.embedding_width or config.width
        return kernels.Embedding(*tables, *sizes, self._norm(embed.norm), project)
