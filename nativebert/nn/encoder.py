"""Embeddings and layers: packed tokens in, hidden states out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nativebert.config import EncoderConfig
from nativebert.errors import BadInputError, TooLongError
from nativebert.nn.block import BLOCKS, PostNormBlock, PreNormBlock
from nativebert.nn.embed import Embeddings
from nativebert.nn.layers import Table
from nativebert.nn.packed import Packed
from nativebert.nn.place import places


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
        self.distance = (
            Table(config.relative_buckets, config.layers[0].heads) if config.relative_buckets and config.layers else None
        )
        self.layers = nn.ModuleList()
        for block, layer in sorted(config.blocks.items()):
            *groups, _ = block
            home = self.layers
            for group in groups:
                if group == len(home):
                    home.append(nn.ModuleList())
                home = home[group]  # type: ignore[assignment]
            home.append(BLOCKS[config.block](config, layer))
        self.norm = nn.LayerNorm(config.width, config.norm_eps, bias=config.norm_bias) if config.block == "pre" else None

    def blocks(self) -> list[PostNormBlock | PreNormBlock]:
        """The layers as they are run: the same one several times where weights are shared."""
        found: list[PostNormBlock | PreNormBlock] = []
        for n, layer in enumerate(self.config.layers):
            path = ".".join(map(str, layer.weight_index or (n,)))
            found.append(self.get_submodule(f"layers.{path}"))  # type: ignore[arg-type]
        return found

    def encode(self, batch: Packed, *, states: bool = False, weights: bool = False) -> Trace:
        """Run the encoder on packed tokens.

        Args:
            batch: the tokens.
            states: keep the hidden state after the embeddings and after every layer.
            weights: keep every layer's attention weights.

        Raises:
            TooLongError: a sequence has more tokens than the model has positions.
            BadInputError: an id is not in the vocabulary, or a segment not in its table.
        """
        check(self.config, batch)
        x = self.embed(batch)
        kept, seen = [x], []
        where = places(self.config, batch, None if self.distance is None else self.distance.weight)
        for block, place in zip(self.blocks(), where, strict=True):
            layer_weights: list[Tensor] | None = [] if weights else None
            x = block(x, batch, place, layer_weights)
            if states:
                kept.append(x)
            if layer_weights is not None:
                seen.append(layer_weights)
        if self.norm is not None:
            kept[-1] = x = self.norm(x)  # the last state is the result, as in the reference
        return Trace(x, tuple(kept) if states else None, tuple(seen) if weights else None)


def check(config: EncoderConfig, batch: Packed) -> None:
    """An index beyond a table is a crash on CUDA and a bare IndexError on the CPU: say which one it is before it happens.

    Raises:
        TooLongError: a position is beyond the table.
        BadInputError: a token or segment id is.
    """
    if not batch.ids.numel():
        return
    checks = [
        ("token id", batch.ids, config.vocab_size, BadInputError),
        ("position", batch.positions, config.positions, TooLongError),
    ]
    if batch.segments is not None:
        checks.append(("token type id", batch.segments, config.segments or 1, BadInputError))
    for name, values, size, error in checks:
        low, high = (int(v) for v in torch.aminmax(values))
        if low < 0 or high >= size:
            found = low if low < 0 else high
            raise error(f"{name} {found} is outside this model's table of {size} ({config.family}: 0 to {size - 1})")
