"""Multi-head self-attention over packed tokens (Vaswani et al. 2017, arXiv:1706.03762, section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nativebert.config import EncoderConfig, Layer
from nativebert.nn.layers import Linear
from nativebert.nn.packed import Packed
from nativebert.nn.positions import AttentionContext, apply_rotary, disentangled_scores


class Attention(nn.Module):
    """``(T, H)`` -> ``(T, H)``: softmax(q k^T / sqrt(D) + bias) v within each sequence, for each of ``A`` heads.

    With a table of relative positions (DeBERTa) the scores are those of contents, of contents against positions and of positions against contents,
    divided by sqrt(3 D). Sequences of equal length that stand beside each other are attended as one dense block, so nothing is masked and nothing padded.
    """

    def __init__(self, config: EncoderConfig, layer: Layer) -> None:
        super().__init__()
        H = config.width
        self.heads, self.dropout, self.relative_dropout = layer.heads, config.attention_dropout, config.dropout
        self.scale, self.masked_padding = attention_scale(config, layer), config.masked_padding
        shared = H // layer.heads * (layer.key_heads or layer.heads)  # width of keys and values
        self.q, self.o = (Linear(H, H, bias=config.attention_bias) for _ in range(2))
        self.k, self.v = (Linear(H, shared, bias=config.attention_bias) for _ in range(2))
        self.width = H // layer.heads  # D
        self.queries = layer.heads // (layer.key_heads or layer.heads)  # to a head of keys

    def forward(self, x: Tensor, batch: Packed, context: AttentionContext, attentions: list[Tensor] | None = None) -> Tensor:
        """Attend.

        Args:
            x: ``(T, H)``.
            batch: its sequences.
            context: rotary positions and bias of this layer.
            attentions: if given, the attention weights ``(n, A, l, l)`` of each of ``batch.equal_length_groups`` are appended to it.
        """
        q, k, v = (project(x).unflatten(-1, (-1, self.width)) for project in (self.q, self.k, self.v))  # (T, A, D)
        if context.rotary is not None:
            q, k = apply_rotary(q, context.rotary), apply_rotary(k, context.rotary)
        if self.queries > 1:
            k, v = (t.repeat_interleave(self.queries, dim=1) for t in (k, v))
        seen = batch.attention_mask[:, None, None] if self.masked_padding and batch.attention_mask is not None else None
        if seen is not None:
            q = q * seen  # scores of zero: padding attends to all alike
        if context.relative_table is not None:
            table = F.dropout(context.relative_table, self.relative_dropout, self.training)
            relative_q, relative_k = self.project_relative(table)
        dropout = self.dropout if self.training else 0.0
        outputs: list[Tensor] = []
        for group, (start, n, length) in enumerate(batch.equal_length_groups):
            # (T, A, D) -> (n, A, l, D)
            Q, K, V = (t[start : start + n * length].unflatten(0, (n, length)).transpose(1, 2) for t in (q, k, v))
            bias = None if context.bias is None else context.bias(group, Q, K)  # (n or 1, A or 1, l or 1, l)
            if bias is not None:
                bias = bias.to(Q.dtype)
            if context.relative_rows is not None:
                more = disentangled_scores(Q, K, relative_q, relative_k, context.relative_rows[group]) * self.scale
                if seen is not None:
                    more = more * seen[start : start + n * length].view(n, 1, length, 1)
                bias = more if bias is None else more + bias
            if attentions is None:
                y = F.scaled_dot_product_attention(Q, K, V, attn_mask=bias, dropout_p=dropout, scale=self.scale)  # (n, A, l, D)
            else:
                scores = Q @ K.transpose(-1, -2) * self.scale  # (n, A, l, l)
                if bias is not None:
                    scores = scores + bias.clamp(min=torch.finfo(bias.dtype).min)  # no NaN for a token that may see none
                weights = torch.softmax(scores, dim=-1)
                attentions.append(weights)
                y = F.dropout(weights, dropout) @ V
            outputs.append(y.transpose(1, 2).reshape(n * length, -1))  # (n * l, H)
        out: Tensor = self.o(torch.cat(outputs) if outputs else v.flatten(1))
        return out

    def for_each_head(self) -> list[nn.Linear]:
        """The layers of queries, keys and values, shared heads repeated: what an execution plan computes side by side, ``3 H`` wide."""
        return [self.q, *(self._repeated(layer) for layer in (self.k, self.v))]

    def _repeated(self, layer: nn.Linear) -> nn.Linear:
        if self.queries == 1:
            return layer
        wide = nn.Linear(layer.in_features, self.heads * self.width, bias=layer.bias is not None, device="meta")
        for name, values in layer.named_parameters():
            heads = values.detach().reshape(self.heads // self.queries, -1, *values.shape[1:])
            setattr(wide, name, nn.Parameter(heads.repeat_interleave(self.queries, dim=0).flatten(0, 1), requires_grad=False))
        return wide

    def project_relative(self, table: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys of a table of relative positions ``(R, H)``, each ``(A, D, R)``."""
        q, k = (project(table).unflatten(-1, (self.heads, -1)).permute(1, 2, 0) for project in (self.q, self.k))
        return q, k


def attention_scale(config: EncoderConfig, layer: Layer) -> float:
    """What attention scores are multiplied by: the three terms of disentangled attention share the variance of one."""
    return float((config.width // layer.heads * (3 if config.relative else 1)) ** -0.5)
