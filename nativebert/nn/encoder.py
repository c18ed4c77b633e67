"""Embeddings and layers: packed tokens in, hidden states out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nativebert.config import EncoderConfig
from nativebert.errors import BadInput, TooLong
from nativebert.nn.block import PostNormBlock
from nativebert.nn.embed import Embeddings
from nativebert.nn.packed import Packed


@dataclass(frozen=True)
class Trace:
    """What the encoder went through.

    Attributes:
        hidden: the result, ``(T, H)``.
        states: ``(T, H)`` after the embeddings and after each layer, if asked for; the last one is ``hidden``.
        weights: for each layer, the attention weights ``(n, A, l, l)`` of each of the batch's runs, if asked for.
    """

    hidden: Tensor
    states: tuple[Tensor, ...] | None
    weights: tuple[list[Tensor], ...] | None


class Encoder(nn.Module):
    """The stack that every family shares: what differs between families is in its :class:`EncoderConfig`."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embeddings(config)
        self.layers = nn.ModuleList(PostNormBlock(config, layer) for layer in config.layers)

    def encode(self, batch: Packed, *, states: bool = False, weights: bool = False) -> Trace:
        """Run the encoder on packed tokens.

        Args:
            batch: the tokens.
            states: keep the hidden state after the embeddings and after every layer.
            weights: keep every layer's attention weights.

        Raises:
            TooLong: a sequence has more tokens than the model has positions.
            BadInput: an id is not in the vocabulary, or a segment not in its table.
        """
        self._check(batch)
        x = self.embed(batch)
        kept, seen = [x], []
        for block in self.layers:
            layer_weights: list[Tensor] | None = [] if weights else None
            x = block(x, batch, layer_weights)
            if states:
                kept.append(x)
            if layer_weights is not None:
                seen.append(layer_weights)
        return Trace(x, tuple(kept) if states else None, tuple(seen) if weights else None)

    def _check(self, batch: Packed) -> None:
        """An index beyond a table is a crash on CUDA and a bare IndexError on the CPU: say which one it is before it happens."""
        if not batch.ids.numel():
            return
        checks = [("token id", batch.ids, self.config.vocab_size, BadInput), ("position", batch.positions, self.config.positions, TooLong)]
        if batch.segments is not None:
            checks.append(("token type id", batch.segments, self.config.segments or 1, BadInput))
        for name, values, size, error in checks:
            low, high = (int(v) for v in torch.aminmax(values))
            if low < 0 or high >= size:
                found = low if low < 0 else high
                raise error(f"{name} {found} is outside this model's table of {size} ({self.config.family}: 0 to {size - 1})")
