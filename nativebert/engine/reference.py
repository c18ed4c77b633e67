"""The plan for any device: the reference model itself, in the precision that was asked for."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from nativebert.engine.cpu import CpuHead
from nativebert.engine.plan import BATCH_TOKENS, ExecutionPlan
from nativebert.nn.heads import Head
from nativebert.nn.model import Model
from nativebert.nn.packed import Packed


class ReferencePlan(ExecutionPlan):
    """A copy of the model on ``device`` in ``precision``."""

    backend = "torch"

    def __init__(self, model: Model, device: torch.device, precision: str, heads: Sequence[str] = ()) -> None:
        self.device, self.precision = device, precision
        self.batch_tokens = BATCH_TOKENS.get(device.type, 8192)
        self._model = copy.deepcopy(model.bare()).to(device, getattr(torch, precision)).eval()
        on_cpu = device.type == "cpu"
        self.heads = {task: CpuHead(model, task) if on_cpu else ReferenceHead(model, task, device) for task in heads}

    @torch.inference_mode()
    def hidden(self, batch: Packed) -> Tensor:
        return self._model.encode(batch.to(self.device)).hidden

    @torch.inference_mode()
    def states(self, batch: Packed) -> list[Tensor]:
        return list(self._model.encode(batch.to(self.device), states=True).states or ())


class ReferenceHead:
    """A copy of a head, and of the pooler if it reads one, on ``device`` in float32."""

    def __init__(self, model: Model, task: str, device: torch.device) -> None:
        self.spec = model.config.heads[task]
        head: Head = copy.deepcopy(model.head[self.spec.name])  # type: ignore[assignment]
        self._head = head.to(device, torch.float32).eval()
        self._pooler = copy.deepcopy(model.pool).to(device, torch.float32) if model.pool and self.spec.on == "pooled" else None

    def logits(self, x: Tensor) -> Tensor:
        return self._head.logits(x if self._pooler is None else self._pooler(x))
