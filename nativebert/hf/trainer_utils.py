"""What a Trainer gives and takes: results, arrays of batches, and names of strategies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nativebert.hf import set_seed as set_seed
from nativebert.train import losses
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


def size_of(batch: Mapping[str, Any]) -> int:
    """Examples of a batch."""
    return next(
        (len(value) for value in batch.values() if (isinstance(value, Tensor) and value.dim()) or isinstance(value, list)), 0
    )


def arrays(value: Any) -> Any:
    """Tensors as arrays, also within tuples and dicts."""
    if isinstance(value, tuple | list):
        return tuple(map(arrays, value))
    if isinstance(value, Mapping):
        return {name: arrays(one) for name, one in value.items()}
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
    return np.asarray(value)


def joined(parts: list[Any]) -> Any:
    """The arrays of batches as one, filled up with -100 where tokens differ in number; None for no parts."""
    if not parts:
        return None
    if isinstance(parts[0], tuple):
        return tuple(joined([part[n] for part in parts]) for n in range(len(parts[0])))
    if isinstance(parts[0], dict):
        return {name: joined([part[name] for part in parts]) for name in parts[0]}
    if parts[0].ndim < 2:
        return np.concatenate([np.atleast_1d(array) for array in parts])
    width = max(array.shape[1] for array in parts)
    filled = [
        np.pad(array, [(0, 0), (0, width - array.shape[1]), *[(0, 0)] * (array.ndim - 2)], constant_values=losses.IGNORED)
        for array in parts
    ]
    return np.concatenate(filled)


def number(value: Any) -> Any:
    """What JSON can write of a metric."""
    if isinstance(value, Tensor | np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item() if value.ndim == 0 else value.tolist()
    return value
