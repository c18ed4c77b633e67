"""Heads: hidden states to logits. Which heads a family has is data, in its file in :mod:`nativebert.arch`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nativebert.config import EncoderConfig
from nativebert.config import Head as Spec
from nativebert.nn.activation import ACTIVATION
from nativebert.nn.layers import Linear, make_norm
from nativebert.nn.packed import Packed


class Head(nn.Module):
    """``(n, H)`` -> ``(n, C)``: maybe a dense layer, its activation and a norm; then a linear layer."""

    def __init__(self, spec: Spec, config: EncoderConfig) -> None:
        super().__init__()
        self.spec = spec
        self.dense = Linear(config.width, spec.dense, bias=spec.dense_bias) if spec.dense else None
        self.norm = make_norm(config, spec.dense or config.width) if spec.norm else None
        self.add_module(spec.last, Linear(spec.dense or config.width, spec.classes, bias=spec.last_bias))
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, hidden: Tensor, batch: Packed, pooled: Tensor | None) -> Tensor:
        """Logits of a batch.

        Args:
            hidden: ``(T, H)``.
            batch: its tokens.
            pooled: the pooler's output, ``(B, H)``, for heads that read it.

        Returns:
            ``(T, C)`` for a head on tokens, else ``(B, C)``.
        """
        if self.spec.on == "pooled":
            assert pooled is not None
            return self.logits(pooled)
        logits = self.logits(READS[self.spec.on](hidden, batch))
        return mean_tokens(logits, batch) if self.spec.on == "late" else logits

    def logits(self, x: Tensor) -> Tensor:
        """Logits of the head's input, ``(n, H)`` -> ``(n, C)``."""
        if self.dense is not None:
            x = ACTIVATION[self.spec.activation](self.dense(self.dropout(x) if self.spec.dropout_first else x))
        if self.norm is not None:
            x = self.norm(x)
        logits: Tensor = self.last(self.dropout(x))
        return logits

    @property
    def last(self) -> nn.Linear:
        """The output layer."""
        return self.get_submodule(self.spec.last)  # type: ignore[return-value]


def first_tokens(hidden: Tensor, batch: Packed) -> Tensor:
    """The first token of each sequence, ``(B, H)``; zeros for a sequence without tokens."""
    starts, lengths = batch.cu_seqlens[:-1].long(), batch.cu_seqlens.diff()
    if not len(hidden):
        return hidden.new_zeros(len(lengths), hidden.shape[-1])
    return hidden[starts.clamp(max=len(hidden) - 1)] * (lengths > 0)[:, None]


def mean_tokens(hidden: Tensor, batch: Packed) -> Tensor:
    """The mean of each sequence's tokens that may be attended to, ``(B, H)``; zeros for a sequence without any."""
    lengths = batch.cu_seqlens.diff().long()
    owner = torch.arange(len(lengths), device=hidden.device).repeat_interleave(lengths, output_size=len(hidden))  # (T,)
    if batch.attention_mask is not None:
        hidden = hidden.masked_fill(~batch.attention_mask[:, None], 0.0)
        lengths = torch.zeros_like(lengths).index_add(0, owner, batch.attention_mask.long())
    sums = hidden.new_zeros(len(lengths), hidden.shape[-1]).index_add(0, owner, hidden)
    return sums / lengths.clamp(min=1)[:, None]


READS: dict[str, Callable[[Tensor, Packed], Tensor]] = {
    **dict.fromkeys(("tokens", "late"), lambda hidden, batch: hidden),
    "first": first_tokens,
    "pooled": first_tokens,  # the pooler reads them, and the head what it makes of them
    "mean": mean_tokens,
}
"""Input of a head, or of the pooler before it, by :attr:`nativebert.config.Head.on`."""
