"""Training with torch's autograd on the reference model, and torch's AdamW: on every device, for every family. The fast step is tested against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from nativebert.errors import DivergedError
from nativebert.nn.model import Model
from nativebert.nn.packed import Packed
from nativebert.train.parameters import ParameterGroup

MOMENTS = ("exp_avg", "exp_avg_sq")


class ReferenceStep:
    """A :class:`~nativebert.train.step.Step` of plain torch.

    Args:
        model: the model. Its parameters are changed in place.
        groups: the trained parameters.
        betas, eps: of AdamW (arXiv:1711.05101).
        seed: not used: dropout draws from torch's generator.
        autocast: number type of the products (``torch.bfloat16``); None for the parameters' own.
    """

    def __init__(
        self,
        model: Model,
        groups: Sequence[ParameterGroup],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        seed: int = 0,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.model, self.groups, self._autocast = model, groups, autocast
        self._params = [p for group in groups for p in group.params]
        settings = [{"params": g.params, "weight_decay": g.weight_decay} for g in groups]
        self.optimizer = torch.optim.AdamW(settings, lr=1.0, betas=betas, eps=eps)

    def begin(self, step: int) -> None:
        self.optimizer.zero_grad()

    def micro_batch(self, index: int) -> None:
        pass

    def autocast(self) -> torch.autocast | nullcontext[None]:
        """What the forward pass runs in."""
        if self._autocast is None:
            return nullcontext()
        return torch.autocast(self.model.device.type, self._autocast)

    def encode(self, batch: Packed) -> Tensor:
        with self.autocast():
            return self.model.encode(batch.to(self.model.device)).hidden

    def update(self, rate: float, max_norm: float | None) -> float:
        gradients = [p.grad for p in self._params if p.grad is not None]
        total = self._norm(gradients)
        norm = float(total)
        if not total.isfinite():
            raise DivergedError(f"the gradient's norm is {norm}")
        if max_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self._params, max_norm, total)
        for settings, group in zip(self.optimizer.param_groups, self.groups, strict=True):
            settings["lr"] = rate * group.multiplier
        self.optimizer.step()
        return norm

    def _norm(self, gradients: list[Tensor]) -> Tensor:
        """The norm of the whole gradient."""
        return torch.nn.utils.get_total_norm(gradients)

    @contextmanager
    def settled(self) -> Iterator[None]:
        yield

    def state(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for n, parameter in enumerate(self._params):
            if moments := self.optimizer.state.get(parameter):
                state |= {f"{n}.{name}": moments[name] for name in MOMENTS}
                state[f"{n}.step"] = torch.as_tensor(moments["step"]).reshape(1).cpu()
        return state

    def restore(self, step: int, rates: Sequence[float], state: Mapping[str, Tensor]) -> None:
        for n, parameter in enumerate(self._params):
            if f"{n}.step" in state:
                moments = {name: state[f"{n}.{name}"].to(parameter.device).clone() for name in MOMENTS}
                self.optimizer.state[parameter] = {"step": state[f"{n}.step"].reshape(()).clone(), **moments}

    def close(self) -> None:
        self.optimizer.zero_grad()
