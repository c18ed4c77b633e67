"""Multi-head self-attention over packed tokens (Vaswani et al. 2017, arXiv:1706.03762, section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nativebert.config import EncoderConfig, Layer
from nativebert.nn.layers import Linear
from nativebert.nn.packed import Packed
from nativebert.nn.positions import AttentionContext, apply_rotary


class Attention(nn.Module):
    """``(T, H)`` -> ``(T, H)``: softmax(q k^T / sqrt(D) + bias) v within each sequence, for each of ``A`` heads.

    Sequences of equal length that stand beside each other are attended as one dense block, so nothing is masked and nothing padded.
    """

    def __init__(self, config: EncoderConfig, layer: Layer) -> None:
        super().__init__()
        H = config.width
        self.heads, self.dropout = layer.heads, config.attention_dropout
        self.q, self.k, self.v, self.o = (Linear(H, H, bias=config.attention_bias) for _ in range(4))

    def forward(self, x: Tensor, batch: Packed, context: AttentionContext, attentions: list[Tensor] | None = None) -> Tensor:
        """Attend.

        Args:
            x: ``(T, H)``.
            batch: its sequences.
            context: rotary positions and bias of this layer.
            attentions: if given, the attention weights ``(n, A, l, l)`` of each of ``batch.equal_length_groups`` are appended to it.
        """
        q, k, v = (project(x).unflatten(-1, (self.heads, -1)) for project in (self.q, self.k, self.v))  # (T, A, D)
        if context.rotary is not None:
            q, k = apply_rotary(q, context.rotary), apply_rotary(k, context.rotary)
        dropout = self.dropout if self.training else 0.0
        outputs: list[Tensor] = []
        for group, (start, n, length) in enumerate(batch.equal_length_groups):
            # (T, A, D) -> (n, A, l, D)
            Q, K, V = (t[start : start + n * length].unflatten(0, (n, length)).transpose(1, 2) for t in (q, k, v))
            bias = None if context.bias is None else context.bias(group, Q, K)  # (n or 1, A or 1, l or 1, l)
            if bias is not None:
                bias = bias.to(Q.dtype)
            if attentions is None:
                y = F.scaled_dot_product_attention(Q, K, V, attn_mask=bias, dropout_p=dropout)  # (n, A, l, D)
            else:
                scores = Q @ K.transpose(-1, -2) * Q.shape[-1] ** -0.5  # (n, A, l, l)
                if bias is not None:
                    scores = scores + bias.clamp(min=torch.finfo(bias.dtype).min)  # no NaN for a token that may see none
                weights = torch.softmax(scores, dim=-1)
                attentions.append(weights)
                y = F.dropout(weights, dropout) @ V
            outputs.append(y.transpose(1, 2).reshape(n * length, -1))  # (n * l, H)
        out: Tensor = self.o(torch.cat(outputs) if outputs else v.flatten(1))
        return out
