"""The layers of the encoder: attention and feed-forward with residual sums, normed after each (BERT) or before (ModernBERT)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nativebert.config import EncoderConfig, Layer
from nativebert.nn.activation import ACTIVATION
from nativebert.nn.attention import Attention
from nativebert.nn.layers import Linear, make_norm
from nativebert.nn.packed import Packed
from nativebert.nn.positions import AttentionContext


class FeedForward(nn.Module):
    """``(T, H)`` -> ``(T, F)`` -> activation, times a gate if there is one -> ``(T, H)``."""

    def __init__(self, config: EncoderConfig, layer: Layer) -> None:
        super().__init__()
        H, F, bias = config.width, layer.intermediate_size, config.mlp_bias
        self.up = Linear(H, F, bias=bias)
        self.gate = Linear(H, F, bias=bias) if config.gated else None
        self.down = Linear(F, H, bias=bias if config.down_bias is None else config.down_bias)
        self.act = ACTIVATION[layer.activation]
        self.dropout = nn.Dropout(config.mlp_dropout) if config.mlp_dropout else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.up(x))
        if self.gate is not None:
            y = y * self.gate(x)
        if self.dropout is not None:
            y = self.dropout(y)
        z: Tensor = self.down(y)
        return z


class PostNormBlock(nn.Module):
    """Layer norms after the residual sums, as in the original transformer (BERT and its relatives)."""

    def __init__(self, config: EncoderConfig, layer: Layer) -> None:
        super().__init__()
        self.attn = Attention(config, layer)
        self.attn_norm = make_norm(config, config.width)
        self.mlp = FeedForward(config, layer)
        self.mlp_norm = make_norm(config, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, batch: Packed, context: AttentionContext, attentions: list[Tensor] | None = None) -> Tensor:
        x = self.attn_norm(self.dropout(self.attn(x, batch, context, attentions)) + x)  # (T, H)
        x = self.mlp_norm(self.dropout(self.mlp(x)) + x)
        return x


class PreNormBlock(nn.Module):
    """Layer norms before attention and feed-forward; the residual sum itself is not normed (ModernBERT, GPT-2, EuroBERT)."""

    def __init__(self, config: EncoderConfig, layer: Layer) -> None:
        super().__init__()
        self.attn_norm = make_norm(config, config.width) if layer.attn_norm else nn.Identity()
        self.attn = Attention(config, layer)
        self.mlp_norm = make_norm(config, config.width)
        self.mlp = FeedForward(config, layer)
        self.attn_dropout, self.mlp_dropout = map(nn.Dropout, config.residual_dropout)

    def forward(self, x: Tensor, batch: Packed, context: AttentionContext, attentions: list[Tensor] | None = None) -> Tensor:
        x = x + self.attn_dropout(self.attn(self.attn_norm(x), batch, context, attentions))  # (T, H)
        return torch.add(x, self.mlp_dropout(self.mlp(self.mlp_norm(x))))


BLOCKS: dict[str, type[PostNormBlock | PreNormBlock]] = {"post": PostNormBlock, "pre": PreNormBlock}
"""By :attr:`nativebert.config.EncoderConfig.block`."""
