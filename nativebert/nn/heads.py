"""What turns hidden states into logits. Which heads a family has is data, in its file in :mod:`nativebert.arch`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nativebert.config import EncoderConfig
from nativebert.config import Head as Spec
from nativebert.nn.activation import ACTIVATION
from nativebert.nn.layers import Linear
from nativebert.nn.packed import Packed


class Head(nn.Module):
    """``(n, H)`` -> ``(n, C)``: maybe a dense layer, its activation and a norm; then a linear layer."""

    def __init__(self, spec: Spec, config: EncoderConfig) -> None:
        super().__init__()
        self.spec = spec
        self.dense = Linear(config.width, spec.dense, bias=spec.dense_bias) if spec.dense else None
        self.norm = nn.LayerNorm(spec.dense or config.width, config.norm_eps, bias=config.norm_bias) if spec.norm else None
        self.add_module(spec.last, Linear(spec.dense or config.width, spec.classes))
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, hidden: Tensor, batch: Packed, pooled: Tensor | None) -> Tensor:
        """Logits.

        Args:
            hidden: ``(T, H)``.
            batch: its tokens.
            pooled: the pooler's output, ``(B, H)``, for heads that read it.

        Returns:
            ``(T, C)`` for a head on tokens, else ``(B, C)``.
        """
        x = hidden
        if self.spec.on == "pooled":
            assert pooled is not None
            x = pooled
        elif self.spec.on == "first":
            x = first_tokens(hidden, batch)
        elif self.spec.on == "mean":
            x = mean_tokens(hidden, batch)
        if self.dense is not None:
            x = ACTIVATION[self.spec.activation](self.dense(self.dropout(x) if self.spec.dropout_first else x))
        if self.norm is not None:
            x = self.norm(x)
        logits: Tensor = self.get_submodule(self.spec.last)(self.dropout(x))
        return logits


def first_tokens(hidden: Tensor, batch: Packed) -> Tensor:
    """The first token of each sequence, ``(B, H)``; zeros for a sequence without tokens."""
    lengths = torch.tensor(batch.lengths, dtype=torch.long, device=hidden.device)
    starts = lengths.cumsum(0) - lengths
    if not len(hidden):
        return hidden.new_zeros(len(lengths), hidden.shape[-1])
    return hidden[starts.clamp(max=len(hidden) - 1)] * (lengths > 0)[:, None]


def mean_tokens(hidden: Tensor, batch: Packed) -> Tensor:
    """The mean of each sequence's tokens that may be attended to, ``(B, H)``; zeros for a sequence without any."""
    lengths = torch.tensor(batch.lengths, dtype=torch.long, device=hidden.device)
    owner = torch.arange(len(lengths), device=hidden.device).repeat_interleave(lengths)
    if batch.seen is not None:
        hidden, owner = hidden[batch.seen], owner[batch.seen]
        lengths = torch.bincount(owner, minlength=len(lengths))
    sums = hidden.new_zeros(len(lengths), hidden.shape[-1]).index_add(0, owner, hidden)
    return sums / lengths.clamp(min=1)[:, None]
