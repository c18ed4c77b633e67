"""Sequence classification: one label, several labels, or numbers, for each text or pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nativebert.errors import BadInputError
from nativebert.loading import LoadedModel
from nativebert.train.objective import Objective, Sequences
from nativebert.train.options import TrainingOptions

Problem = Literal["single_label_classification", "multi_label_classification", "regression"]


class Classification(Objective):
    """Learn labels of texts.

    Args:
        model: a model with a head for ``"classify"``.
        train, evaluation: sequences with the target ``labels``: an index each, a row of zeros and ones, or numbers.
        options: of the run.
        problem: what the labels are.
        class_weights: how much an example of each label counts in the loss, ``(C,)``; None for all the same.
    """

    task = "classify"

    def __init__(
        self,
        model: LoadedModel,
        train: Sequences,
        evaluation: Sequences | None,
        options: TrainingOptions,
        *,
        problem: Problem = "single_label_classification",
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(model, train, evaluation, options)
        self.problem = problem
        self.class_weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        classes = model.config.heads[self.task].classes
        if self.class_weights is not None and (problem == "regression" or len(self.class_weights) != classes):
            raise BadInputError(f"class_weights must be {classes} numbers, one for each label, and are not for regression")
        self.default_metric = {"single_label_classification": "accuracy", "regression": "spearman"}.get(problem, "f1_micro")

    def targets(self, sequences: Sequences, indices: NDArray[np.int64], epoch: int) -> tuple[dict[str, Tensor], float]:
        labels = torch.as_tensor(np.asarray([sequences.targets["labels"][n] for n in indices]))
        if self.problem != "single_label_classification":
            labels = labels.float()
            return {"labels": labels}, float(labels.numel())
        if self.class_weights is None:
            return {"labels": labels}, float(len(labels))
        return {"labels": labels}, float(self.class_weights[labels].sum())  # the reference's mean is weighted, too

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        labels = targets["labels"]
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        if self.problem == "regression":
            return F.mse_loss(logits.view(labels.shape), labels, reduction="sum")
        if self.problem == "multi_label_classification":
            return F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights, reduction="sum")
        smoothing = self.options.label_smoothing_factor
        return F.cross_entropy(logits, labels, weights, label_smoothing=smoothing, reduction="sum")

    def fingerprint(self) -> dict[str, Any]:
        weights = None if self.class_weights is None else self.class_weights.tolist()
        return super().fingerprint() | {"problem": self.problem, "class_weights": weights}

    def evaluate(self) -> dict[str, float]:
        if self.evaluation is None or not len(self.evaluation):
            return {}
        logits = self.predicted_rows(self.evaluation)
        targets, count = self.targets(self.evaluation, np.arange(len(self.evaluation)), 0)
        metrics = {"loss": float(self.loss(logits, targets)) / count}
        if self.problem == "single_label_classification":
            metrics["accuracy"] = float((logits.argmax(1) == targets["labels"]).float().mean())
        return metrics
