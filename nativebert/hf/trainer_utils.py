"""What a Trainer gives and takes: results, and names of strategies."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from nativebert.hf import set_seed as set_seed
from nativebert.train.checkpoint import last_checkpoint

PREFIX_CHECKPOINT_DIR = "checkpoint"


class IntervalStrategy(StrEnum):
    """When something is done."""

    NO = "no"
    STEPS = "steps"
    EPOCH = "epoch"


class SaveStrategy(StrEnum):
    """When a checkpoint is written."""

    NO = "no"
    STEPS = "steps"
    EPOCH = "epoch"
    BEST = "best"


class EvalPrediction:
    """What ``compute_metrics`` is given: arrays over all examples. It unpacks into predictions and labels.

    Attributes:
        predictions: logits, or a tuple of them.
        label_ids: labels, or a tuple of them.
        inputs, losses: token ids, and the loss of each batch, repeated for its examples; None unless ``include_for_metrics`` asks for them.
    """

    def __init__(self, predictions: Any, label_ids: Any, inputs: Any = None, losses: Any = None) -> None:
        self.predictions, self.label_ids, self.inputs, self.losses = predictions, label_ids, inputs, losses

    def _elements(self) -> tuple[Any, ...]:
        return (self.predictions, self.label_ids, *(value for value in (self.inputs, self.losses) if value is not None))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._elements())

    def __getitem__(self, index: int) -> Any:
        return self._elements()[index]


class PredictionOutput(NamedTuple):
    """The result of :meth:`Trainer.predict`."""

    predictions: Any
    label_ids: Any
    metrics: dict[str, float] | None


class EvalLoopOutput(NamedTuple):
    """The result of :meth:`Trainer.evaluation_loop`."""

    predictions: Any
    label_ids: Any
    metrics: dict[str, float] | None
    num_samples: int | None


class TrainOutput(NamedTuple):
    """The result of :meth:`Trainer.train`."""

    global_step: int
    training_loss: float
    metrics: dict[str, float]


def get_last_checkpoint(folder: Any) -> str | None:
    """The newest checkpoint in a run's folder; None where there is none."""
    newest = last_checkpoint(Path(folder))
    return None if newest is None else str(newest)
