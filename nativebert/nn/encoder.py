"""Embeddings and layers: packed tokens in, hidden states out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nativebert.config import Convolution, EncoderConfig, RelativePositions
from nativebert.errors import BadInputError, TooLongError
from nativebert.nn.activation import ACTIVATION
from nativebert.nn.block import BLOCKS, PostNormBlock, PreNormBlock
from nativebert.nn.embed import Embeddings
from nativebert.nn.layers import Table, make_norm
from nativebert.nn.packed import Packed
from nativebert.nn.positions import attention_contexts


@dataclass(frozen=True)
class Trace:
    """Hidden states and attention weights of one pass through the encoder.

    Attributes:
        hidden: the result, ``(T, H)``.
        states: ``(T, H)`` after the embeddings and after each layer, if asked for; the last one is ``hidden``.
        attentions: for each layer, the attention weights ``(n, A, l, l)`` of each of the batch's groups of equal length, if asked for.
    """

    hidden: Tensor
    states: tuple[Tensor, ...] | None
    attentions: tuple[list[Tensor], ...] | None


class RelativeTable(nn.Module):
    """Embeddings of relative positions, ``(R, H)``, and their norm (DeBERTa); one for all layers."""

    def __init__(self, config: EncoderConfig, relative: RelativePositions) -> None:
        super().__init__()
        self.table = Table(2 * relative.span, config.width)
        self.norm = nn.LayerNorm(config.width, config.norm_eps) if relative.norm else nn.Identity()

    def forward(self) -> Tensor:
        rows: Tensor = self.norm(self.table.weight)
        return rows


class ConvolutionBlock(nn.Module):
    """Convolution over the embeddings, added to the result of the first layer and normed (DeBERTa v2)."""

    def __init__(self, config: EncoderConfig, convolution: Convolution) -> None:
        super().__init__()
        self.conv = nn.Conv1d(config.width, config.width, convolution.kernel, padding=convolution.kernel // 2)
        self.norm = nn.LayerNorm(config.width, config.norm_eps)
        self.act, self.dropout = ACTIVATION[convolution.activation], nn.Dropout(config.dropout)

    def forward(self, embedded: Tensor, x: Tensor, batch: Packed) -> Tensor:
        """``embedded`` and ``x``, the result of the first layer, ``(T, H)`` each -> ``(T, H)``."""
        rows = neighbours(embedded, batch, self.conv.kernel_size[0])
        out = torch.nn.functional.linear(rows, self.conv.weight.transpose(1, 2).flatten(1), self.conv.bias)
        seen = None if batch.attention_mask is None else batch.attention_mask[:, None]
        out = self.act(self.dropout(out if seen is None else out * seen))
        x = self.norm(x + out)
        return x if seen is None else x * seen


def neighbours(x: Tensor, batch: Packed, count: int) -> Tensor:
    """For each token the vectors of the ``count`` columns around its own, zeros where its sequence has no token: ``(T, H)`` -> ``(T, count * H)``."""
    owner = torch.arange(len(batch.lengths), device=x.device).repeat_interleave(
        batch.cu_seqlens.diff().long(), output_size=len(x)
    )
    longest = int(batch.columns.max()) + count + 1 if len(x) else 1
    at = owner * longest + batch.columns  # increasing
    padded = torch.cat([x, x.new_zeros(1, x.shape[-1])])
    rows = []
    for step in range(-(count // 2), count // 2 + 1):
        index = torch.searchsorted(at, at + step).clamp(max=max(len(at) - 1, 0))
        rows.append(padded[torch.where(at[index] == at + step, index, len(at))])
    return torch.cat(rows, dim=-1)


class Encoder(nn.Module):
    """The stack that every family shares: what differs between families is in its :class:`EncoderConfig`.

    Attributes:
        activation_checkpointing: in training, keep only the inputs of the layers for the backward pass, and compute the rest again
            (arXiv:1604.06174): less memory, about a third more time, the same gradients.
    """

    training_encoder: Callable[[Packed], Tensor] | None = None
    """What computes the hidden states ``(T, H)`` in training mode, with their graph, in place of torch: set by a training run while it lasts."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embeddings(config)
        self.distance = (
            Table(config.relative_buckets, config.layers[0].heads) if config.relative_buckets and config.layers else None
        )
        self.relative = RelativeTable(config, config.relative) if config.relative and config.layers else None
        self.convolution = ConvolutionBlock(config, config.convolution) if config.convolution else None
        self.layers = nn.ModuleList()
        for index, layer in sorted(config.blocks.items()):
            *groups, _ = index
            modules = self.layers
            for group in groups:
                if group == len(modules):
                    modules.append(nn.ModuleList())
                modules = modules[group]  # type: ignore[assignment]
            modules.append(BLOCKS[config.block](config, layer))
        self.norm = make_norm(config, config.width) if config.block == "pre" else None
        self.activation_checkpointing = False

    def blocks(self) -> list[PostNormBlock | PreNormBlock]:
        """The layers as they are run: the same one several times where weights are shared."""
        paths = (".".join(map(str, layer.weight_index or (n,))) for n, layer in enumerate(self.config.layers))
        return [self.get_submodule(f"layers.{path}") for path in paths]  # type: ignore[misc]

    def encode(self, batch: Packed, *, states: bool = False, attentions: bool = False) -> Trace:
        """Run the encoder on packed tokens.

        Args:
            batch: the tokens, on the model's device.
            states: keep the hidden state after the embeddings and after every layer.
            attentions: keep every layer's attention weights.

        Raises:
            TooLongError: a sequence has more tokens than the model has positions.
            BadInputError: an id is not in the vocabulary, or a segment not in its table.
        """
        check(self.config, batch)
        if self.training_encoder is not None and self.training:
            if states or attentions:
                raise BadInputError(
                    "the fast training step computes no hidden states of single layers and no attention weights: train with fast=False"
                )
            return Trace(self.training_encoder(batch), None, None)
        embedded = x = self.embed(batch)  # (T, H)
        hidden_states, all_attentions = [x], []
        distance, relative = (
            None if self.distance is None else self.distance.weight,
            None if self.relative is None else self.relative(),
        )
        contexts = attention_contexts(self.config, batch, distance, relative)
        for number, (block, context) in enumerate(zip(self.blocks(), contexts, strict=True)):
            layer_attentions: list[Tensor] | None = [] if attentions else None
            if self.activation_checkpointing and self.training and torch.is_grad_enabled() and layer_attentions is None:
                x = checkpoint(block, x, batch, context, use_reentrant=False)  # (T, H); computed again in the backward pass
            else:
                x = block(x, batch, context, layer_attentions)
            if number == 0 and self.convolution is not None:
                x = self.convolution(embedded, x, batch)
            if states:
                hidden_states.append(x)
            if layer_attentions is not None:
                all_attentions.append(layer_attentions)
        if self.norm is not None:
            hidden_states[-1] = x = self.norm(x)  # the last state is the result, as in the reference
        return Trace(x, tuple(hidden_states) if states else None, tuple(all_attentions) if attentions else None)


def check(config: EncoderConfig, batch: Packed) -> None:
    """Refuse an index beyond a table by its name: it would be a crash on CUDA and a bare IndexError on the CPU.

    Compares numbers that the batch measured on the host where it was made: nothing waits for a device.

    Raises:
        TooLongError: a position is beyond the table.
        BadInputError: a token or segment id is.
    """
    tables = (
        ("token id", config.vocab_size, BadInputError),
        ("position", config.positions, TooLongError),
        ("token type id", config.segments or 1, BadInputError),
    )
    for (name, size, error), largest in zip(tables, batch.largest, strict=True):
        if largest >= size:
            index = largest - 2**64 if largest >= 2**63 else largest
            raise error(f"{name} {index} is outside this model's table of {size} ({config.family}: 0 to {size - 1})")
