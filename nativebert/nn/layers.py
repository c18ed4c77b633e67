"""Linear layers and tables that are made the way BERT's are, and cost nothing to make where a file will fill them."""

from __future__ import annotations

from torch import nn

INITIAL_STD = 0.02  # standard deviation of fresh weights (arXiv:1810.04805; transformers `initializer_range`)


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
