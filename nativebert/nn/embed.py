"""Token, segment and position tables, their sum and its norm."""

from __future__ import annotations

from torch import Tensor, nn

from nativebert.config import EncoderConfig
from nativebert.nn.packed import Packed


class Embeddings(nn.Module):
    """``(T,)`` ids -> ``(T, H)``.

    The order of summation is the reference's (token + segment, then + position): in floating point it is part of the result.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(config.vocab_size, config.width)
        self.position = nn.Embedding(config.positions, config.width)
        self.segment = nn.Embedding(config.segments, config.width) if config.segments else None
        self.norm = nn.LayerNorm(config.width, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, batch: Packed) -> Tensor:
        x = self.token(batch.ids)  # (T, H)
        if self.segment is not None:
            x = x + (self.segment.weight[0] if batch.segments is None else self.segment(batch.segments))
        x = x + self.position(batch.positions)
        dropped: Tensor = self.dropout(self.norm(x))
        return dropped
