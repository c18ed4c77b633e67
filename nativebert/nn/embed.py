"""Token, segment and position tables, their sum and its norm."""

from __future__ import annotations

from torch import Tensor, nn

from nativebert.config import EncoderConfig
from nativebert.nn.layers import Linear, Table, make_norm
from nativebert.nn.packed import Packed


class Embeddings(nn.Module):
    """``(T,)`` ids -> ``(T, H)``.

    The order of summation is the reference's (token + segment, then + position, + task): in floating point it is part of the result.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        E = config.embedding_width or config.width
        # the rows of padding get no gradient, as in the reference
        pad = config.pad_id if config.pad_id < config.vocab_size and not config.padding_learns else None
        self.token = Table(config.vocab_size, E, padding_idx=pad)
        pad = config.pad_id if config.positions_after_pad and config.pad_id < config.positions else None
        self.position = Table(config.positions, E, padding_idx=pad) if config.position_table else None
        self.segment = Table(config.segments, E) if config.segments else None
        self.task = Table(config.task_types, E) if config.task_types else None
        self.norm = make_norm(config, E) if config.embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.project = Linear(E, config.width) if config.project else None
        self.masked_padding = config.masked_padding

    def forward(self, batch: Packed) -> Tensor:
        x: Tensor = self.token(batch.ids)  # (T, E)
        if self.segment is not None:
            x = x + (self.segment.weight[0] if batch.segments is None else self.segment(batch.segments))
        if self.position is not None:
            x = x + self.position(batch.positions)
        if self.task is not None:
            x = x + self.task.weight[0]
        x = self.norm(x)
        if self.masked_padding and batch.attention_mask is not None:
            x = x * batch.attention_mask[:, None]
        x = self.dropout(x)
        return x if self.project is None else self.project(x)

    def rows(self) -> Tensor | None:
        """What is added to a token by its position, ``(P, E)``, the same for every task; None for models without such a table."""
        if self.position is None or self.task is None:
            return None if self.position is None else self.position.weight
        return self.position.weight + self.task.weight[0]
