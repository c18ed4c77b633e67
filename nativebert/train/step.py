"""What both ways to train have in common: forward, backward and update, one optimizer step at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor

from nativebert.nn.model import Model
from nativebert.nn.packed import Packed


class Step(Protocol):
    """Forward, backward and update of a model's parameters.

    A run calls, for each optimizer step: :meth:`begin`; for each micro-batch :meth:`micro_batch`, :meth:`encode`, and ``backward()`` of a loss;
    then :meth:`update`. In between, the model's parameters are the step's own: others look at them within :meth:`settled`.

    Attributes:
        model: the model that is computed, with its heads: mostly the one that the step was made with.
    """

    model: Model

    def begin(self, step: int) -> None:
        """Begin optimizer step ``step``, counted from 1: gradients are zero."""

    def micro_batch(self, index: int) -> None:
        """Say which micro-batch of the step comes next, counted from 0: dropout depends on it."""

    def encode(self, batch: Packed) -> Tensor:
        """Hidden states of the last layer, ``(T, H)``, with their autograd graph."""

    def update(self, rate: float, max_norm: float | None) -> float:
        """Clip the gradient, then one step of AdamW.

        Args:
            rate: learning rate, before each group's multiplier.
            max_norm: largest norm of the whole gradient; None to leave it as it is.

        Returns:
            The norm before clipping.

        Raises:
            DivergedError: the gradient is infinite or NaN. Nothing was changed.
        """

    def settled(self) -> AbstractContextManager[None]:
        """Within it the model's parameters are those that a dense optimizer would have left, to be evaluated or saved. Leaving it gives back
        the bits of before, so that neither changes the run."""

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs besides the model's parameters to go on with the same bits."""

    def restore(self, step: int, rates: Sequence[float], state: Mapping[str, Tensor]) -> None:
        """Go on after ``step`` steps.

        Args:
            step: the steps that were done.
            rates: their learning rates.
            state: what :meth:`state` gave then. The model's parameters have been loaded from what was saved within :meth:`settled`.
        """

    def close(self) -> None:
        """Give the model back, its parameters settled."""
