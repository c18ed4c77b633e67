"""LoRA: a product of two narrow matrices beside each chosen linear layer, trained in its place (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nativebert.checks import at_least
from nativebert.errors import BadInputError
from nativebert.nn.model import Model


@dataclass(frozen=True)
class LoraOptions:
    """What is trained.

    Attributes:
        rank: width of the two matrices.
        alpha: their product is multiplied by ``alpha / rank``.
        dropout: probability for their input, when training.
        targets: ends of the names of the linear layers: ``"attn.q"``, ``"attn.k"``, ``"attn.v"``, ``"attn.o"``, ``"mlp.up"``, ``"mlp.down"``.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: Sequence[str] = ("attn.q", "attn.v")


class LoraLinear(nn.Module):
    """A linear layer with a product of low rank beside it: ``x W^T + b + alpha / rank (x A^T) B^T``."""

    def __init__(self, base: nn.Linear, options: LoraOptions) -> None:
        super().__init__()
        self.base, self.scale = base, options.alpha / options.rank
        self.dropout = nn.Dropout(options.dropout)
        self.lora_A = nn.Parameter(base.weight.new_empty(options.rank, base.in_features))
        self.lora_B = nn.Parameter(base.weight.new_zeros(base.out_features, options.rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))  # as in the authors' code, loralib

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x) + self.dropout(x) @ self.lora_A.t() @ self.lora_B.t() * self.scale
        return y

    @torch.no_grad()
    def merged_weight(self) -> Tensor:
        """The weight that gives the same alone."""
        return self.base.weight + self.lora_B @ self.lora_A * self.scale


class Adapters:
    """The adapters of a model.

    Making them freezes the encoder; heads, and the pooler before them, are trained as usual.

    Args:
        model: the model, whose chosen linear layers are replaced.
        options: which, and how.

    Raises:
        BadInputError: no layer has such a name, or a size makes no sense.
    """

    def __init__(self, model: Model, options: LoraOptions) -> None:
        at_least(1, "rank", options.rank)
        self._model = model
        for name, parameter in model.named_parameters():
            if not name.startswith(("head.", "pool.")):
                parameter.requires_grad_(False)
        linear = {
            name: part for name, part in model.named_modules() if isinstance(part, nn.Linear) and name.startswith("layers.")
        }
        ends = tuple(f".{target}" for target in options.targets)
        self._layers = {name: LoraLinear(part, options) for name, part in linear.items() if name.endswith(ends)}
        if not self._layers:
            known = dict.fromkeys(".".join(name.split(".")[-2:]) for name in linear)
            raise BadInputError(f"targets={list(options.targets)} names no layer; this model has {', '.join(known)}")
        for name, layer in self._layers.items():
            self._put(name, layer)

    def parameters(self) -> dict[str, Tensor]:
        """The trained matrices, by name."""
        return {
            f"{name}.{leaf}": getattr(layer, leaf).data for name, layer in self._layers.items() for leaf in ("lora_A", "lora_B")
        }

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Within it the model is a plain one of the same results: to be evaluated or saved."""
        before = {name: layer.base.weight.data for name, layer in self._layers.items()}
        for name, layer in self._layers.items():
            layer.base.weight.data = layer.merged_weight()
            self._put(name, layer.base)
        try:
            yield
        finally:
            for name, layer in self._layers.items():
                layer.base.weight.data = before[name]
                self._put(name, layer)

    def merge(self) -> None:
        """Make the model a plain one for good."""
        for name, layer in self._layers.items():
            layer.base.weight.data = layer.merged_weight()
            self._put(name, layer.base)
        self._layers = {}

    def _put(self, name: str, part: nn.Module) -> None:
        parent, _, leaf = name.rpartition(".")
        setattr(self._model.get_submodule(parent), leaf, part)
