"""Multi-head self-attention over packed tokens (Vaswani et al. 2017, arXiv:1706.03762, section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nativebert.config import EncoderConfig, Layer
from nativebert.nn.layers import Linear
from nativebert.nn.packed import Packed
from nativebert.nn.place import Place, turned


class Attention(nn.Module):
    """``(T, H)`` -> ``(T, H)``: softmax(q k^T / sqrt(D) + bias) v within each sequence, for each of ``A`` heads.

    Sequences of equal length that stand beside each other are attended as one dense block, so nothing is masked and nothing padded.
    """

    def __init__(self, config: EncoderConfig, layer: Layer) -> None:
        super().__init__()
        H = config.width
        self.heads, self.dropout = layer.heads, config.attention_dropout
        self.q, self.k, self.v, self.o = (Linear(H, H, bias=config.attention_bias) for _ in range(4))

    def forward(self, x: Tensor, batch: Packed, place: Place, weights: list[Tensor] | None = None) -> Tensor:
        """Attend.

        Args:
            x: ``(T, H)``.
            batch: where its sequences begin and end.
            place: rotary positions and bias of this layer.
            weights: if given, the attention weights ``(n, A, l, l)`` of each of ``batch.runs`` are appended to it.
        """
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)) for part in (self.q, self.k, self.v))  # (T, A, D)
        if place.turn is not None:
            q, k = turned(q, place.turn), turned(k, place.turn)
        drop = self.dropout if self.training else 0.0
        mixed: list[Tensor] = []
        for number, (start, n, length) in enumerate(batch.runs):
            # (T, A, D) -> (n, A, l, D)
            Q, K, V = (t[start : start + n * length].unflatten(0, (n, length)).transpose(1, 2) for t in (q, k, v))
            bias = None if place.bias is None else place.bias[number]
            if bias is not None:
                bias = bias.to(Q.dtype)
            if weights is None:
                y = F.scaled_dot_product_attention(Q, K, V, attn_mask=bias, dropout_p=drop)
            else:
                scores = Q @ K.transpose(-1, -2) * Q.shape[-1] ** -0.5
                if bias is not None:
                    scores = scores + bias.clamp(min=torch.finfo(bias.dtype).min)  # no NaN for a token that may see none
                probs = torch.softmax(scores, dim=-1)
                weights.append(probs)
                y = F.dropout(probs, drop) @ V
            mixed.append(y.transpose(1, 2).reshape(n * length, -1))
        out: Tensor = self.o(torch.cat(mixed) if mixed else v.flatten(1))
        return out
