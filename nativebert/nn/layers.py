"""Linear layers and tables that are made the way BERT's are, and cost nothing to make where a file will fill them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nativebert.config import EncoderConfig

INITIAL_STD = 0.02  # standard deviation of fresh weights (arXiv:1810.04805; transformers `initializer_range`)


class RMSNorm(nn.LayerNorm):
    """A norm by the root mean square of the values themselves, without a bias (Zhang and Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__(width, eps, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)


def make_norm(config: EncoderConfig, width: int) -> nn.LayerNorm:
    """A norm of the model's kind."""
    return RMSNorm(width, config.norm_eps) if config.rms_norm else nn.LayerNorm(width, config.norm_eps, bias=config.norm_bias)


class Linear(nn.Linear):
    """``nn.Linear`` with BERT's initialisation."""

    def reset_parameters(self) -> None:
        # On the meta device there is nothing to fill, and torch would import its compiler to find that out (1.5 s).
        if not self.weight.is_meta:
            nn.init.normal_(self.weight, std=INITIAL_STD)
            if self.bias is not None:
                nn.init.zeros_(self.bias)


class Table(nn.Embedding):
    """``nn.Embedding`` with BERT's initialisation."""

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            nn.init.normal_(self.weight, std=INITIAL_STD)
