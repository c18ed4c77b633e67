"""The plan for every device that has none of its own: the reference model itself."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from nativebert.nn.model import Model
from nativebert.nn.packed import Packed
from nativebert.nn.pool import pool


class ReferencePlan:
    """A copy of the model on ``device`` in ``precision``."""

    def __init__(self, model: Model, device: torch.device, precision: str) -> None:
        self.device = device
        self._model = copied(model).to(device, getattr(torch, precision)).eval()

    @torch.inference_mode()
    def run(self, batch: Packed) -> Tensor:
        return self._model.encode(batch.to(self.device)).hidden

    @torch.inference_mode()
    def states(self, batch: Packed) -> list[Tensor]:
        return list(self._model.encode(batch.to(self.device), states=True).states or ())

    @torch.inference_mode()
    def pooled(self, batch: Packed, modes: tuple[str, ...], skip: int = 0) -> Tensor:
        return pool(self.run(batch), batch, modes, skip)


def copied(model: Model) -> Model:
    """A copy of the modules and their weights, without the files behind them."""
    twin = copy.deepcopy(model)
    twin.ledger = twin.snapshot = None
    return twin
