"""The layer that BERT and its relatives repeat: attention, add and norm, feed-forward, add and norm."""

from __future__ import annotations

from torch import Tensor, nn

from nativebert.config import EncoderConfig, Layer
from nativebert.nn.activation import ACTIVATION
from nativebert.nn.attention import Attention
from nativebert.nn.packed import Packed


class FeedForward(nn.Module):
    """``(T, H)`` -> ``(T, F)`` -> activation -> ``(T, H)``."""

    def __init__(self, config: EncoderConfig, layer: Layer) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, layer.inner)
        self.down = nn.Linear(layer.inner, config.width)
        self.act = ACTIVATION[layer.activation]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(self.act(self.up(x)))
        return y


class PostNormBlock(nn.Module):
    """Norms come after the residual sums, as in the original transformer."""

    def __init__(self, config: EncoderConfig, layer: Layer) -> None:
        super().__init__()
        self.attn = Attention(config, layer)
        self.attn_norm = nn.LayerNorm(config.width, config.norm_eps)
        self.mlp = FeedForward(config, layer)
        self.mlp_norm = nn.LayerNorm(config.width, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, batch: Packed, weights: list[Tensor] | None = None) -> Tensor:
        x = self.attn_norm(self.dropout(self.attn(x, batch, weights)) + x)  # (T, H)
        x = self.mlp_norm(self.dropout(self.mlp(x)) + x)
        return x
