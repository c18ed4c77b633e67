"""Token classification: a label for each word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nativebert.train import metrics
from nativebert.train.objective import NO_LABEL, Objective, Sequences


class Tagging(Objective):
    """Learn labels of words.

    Sequences have the target ``labels``: one for each token, :data:`~nativebert.train.objective.NO_LABEL` for none. The loss is the mean over
    labelled tokens.
    """

    task = "tag"
    default_metric = "f1"

    def targets(self, sequences: Sequences, indices: NDArray, epoch: int) -> tuple[dict[str, Tensor], float]:  # type: ignore[type-arg]
        rows = sequences.targets["labels"]
        labels = torch.tensor(list(chain.from_iterable(rows[n] for n in indices)))  # (T,)
        return {"labels": labels}, float((labels != NO_LABEL).sum())

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        smoothing = self.options.label_smoothing_factor
        return F.cross_entropy(logits, targets["labels"], ignore_index=NO_LABEL, label_smoothing=smoothing, reduction="sum")

    def predicted_labels(self, sequences: Sequences) -> tuple[list[list[int]], list[list[int]], float]:
        """Labels of each example's words in order, true and predicted, and the mean loss."""
        examples = sequences.examples or list(range(len(sequences)))
        true: list[dict[int, list[int]]] = [{} for _ in range(max(examples, default=-1) + 1)]
        predicted: list[dict[int, list[int]]] = [{} for _ in true]
        total, count = 0.0, 0.0
        for indices, packed, logits in self.predict(sequences):
            targets, labelled = self.targets(sequences, indices, 0)
            total, count = total + float(self.loss(logits, targets)), count + labelled
            best = logits.argmax(1)
            parts = (torch.split(x, list(packed.lengths)) for x in (targets["labels"], best))
            for n, labels, guesses in zip(indices.tolist(), *parts):
                kept = labels != NO_LABEL
                true[examples[n]][n], predicted[examples[n]][n] = labels[kept].tolist(), guesses[kept].tolist()
        return _joined(true), _joined(predicted), total / max(count, 1.0)

    def evaluate(self) -> dict[str, float]:
        if self.evaluation is None or not len(self.evaluation):
            return {}
        true, predicted, loss = self.predicted_labels(self.evaluation)
        names = self.model.config.labels
        named = ([[names[label] for label in row] for row in rows] for rows in (true, predicted))
        return {"loss": loss, **metrics.tagging(*named)}


def _joined(windows: Sequence[Mapping[int, list[int]]]) -> list[list[int]]:
    """Labels of each example, over its windows in order."""
    return [list(chain.from_iterable(of[n] for n in sorted(of))) for of in windows]
