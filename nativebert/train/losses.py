"""Losses, as plain functions of logits and labels.

Each returns a :class:`Loss`, a sum and a count and not a mean, so that the parts of an accumulated batch are averaged over all of its items:
``sum of totals / sum of items``. The mean of one batch is :attr:`Loss.mean`, as torch and transformers compute it. 16-bit logits are added
up in float32: float16 ends at 65504.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100
"""Label of a token or row that is left out of the loss."""


class Loss(NamedTuple):
    """Sum of the losses of a batch's items, and their number.

    Attributes:
        total: the sum, a scalar with its autograd graph.
        items: how many were added up; with class weights, the sum of the weights of their classes.
    """

    total: Tensor
    items: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean over the batch's own items; NaN where it has none."""
        return self.total / self.items

    def over(self, items: int | float | Tensor) -> Tensor:
        """The batch's share of a mean over more items than its own: those of the whole accumulated batch."""
        return self.total / (items.to(self.total.device) if isinstance(items, Tensor) else items)


def cross_entropy(
    logits: Tensor, labels: Tensor, *, weight: Tensor | None = None, smoothing: float = 0.0, ignored: int = IGNORED
) -> Loss:
    """Cross-entropy of rows, tokens or choices.

    Args:
        logits: ``(..., C)``.
        labels: class numbers, ``(...)``.
        weight: of each class, ``(C,)``; the mean is over the weights then, as torch's.
        smoothing: share of the target that is spread evenly over all classes (arXiv:1512.00567, section 7), as transformers' LabelSmoother.
        ignored: label of what is left out.
    """
    logits, labels = _wide(logits).flatten(0, -2), labels.flatten()  # (n, C), (n,)
    total = F.cross_entropy(logits, labels, weight, reduction="sum", ignore_index=ignored, label_smoothing=smoothing)
    kept = labels != ignored
    return Loss(total, kept.sum() if weight is None else weight.to(logits.device)[labels[kept]].sum())


def multi_label(logits: Tensor, labels: Tensor, *, positive_weight: Tensor | None = None) -> Loss:
    """Binary cross-entropy of every class by itself; the items are the cells.

    Args:
        logits: ``(n, C)``.
        labels: 0 or 1, or a share between them, of each class, ``(n, C)``, floating-point.
        positive_weight: factor of each class's positive part, ``(C,)``.
    """
    logits = _wide(logits)
    total = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), pos_weight=positive_weight, reduction="sum")
    return Loss(total, _count(logits))


def regression(logits: Tensor, labels: Tensor) -> Loss:
    """Squared error; the items are the numbers.

    Args:
        logits: ``(n, C)``, or ``(n, 1)`` for one number a row.
        labels: as large; for one number a row also ``(n,)``.
    """
    logits = _wide(logits)
    if logits.shape[-1] == 1:
        logits, labels = logits.squeeze(), labels.squeeze()
    return Loss(F.mse_loss(logits, labels, reduction="sum"), _count(logits))


def problem_type_of(labels: Tensor, classes: int) -> str:
    """The problem type that labels are of, where a config does not say it: as transformers decides."""
    if classes == 1:
        return "regression"
    return "single_label_classification" if labels.dtype in (torch.long, torch.int) else "multi_label_classification"


def classification(
    logits: Tensor, labels: Tensor, problem_type: str, *, weight: Tensor | None = None, smoothing: float = 0.0
) -> Loss:
    """The loss of sequence classification.

    Args:
        logits: ``(n, C)``.
        labels: class numbers ``(n,)``; for regression and multi-label classification numbers, ``(n, C)``.
        problem_type: as in config.json.
        weight: of each class; for multi-label classification, of its positive part; of no use to regression.
        smoothing: as of :func:`cross_entropy`, for single-label classification.
    """
    if problem_type == "regression":
        return regression(logits, labels)
    if problem_type == "multi_label_classification":
        return multi_label(logits, labels, positive_weight=weight)
    return cross_entropy(logits, labels, weight=weight, smoothing=smoothing)


def spans(start_logits: Tensor, end_logits: Tensor, starts: Tensor, ends: Tensor) -> tuple[Loss, Loss]:
    """Cross-entropies of the first and of the last token of answers. The loss of question answering is half of both together.

    Args:
        start_logits, end_logits: ``(n, L)``.
        starts, ends: positions, ``(n,)``; those that are not in the sequence are left out.
    """
    length = start_logits.shape[1]
    positions = [(end.squeeze(-1) if end.dim() > 1 else end).clamp(0, length) for end in (starts, ends)]
    first, last = (cross_entropy(x, y, ignored=length) for x, y in zip((start_logits, end_logits), positions))
    return first, last


def replaced_tokens(logits: Tensor, labels: Tensor, mask: Tensor | None = None) -> Loss:
    """Binary cross-entropy of each real token having been replaced (ELECTRA's discriminator, arXiv:2003.10555).

    Args:
        logits: ``(n, L)``.
        labels: 1 for a token that was replaced, ``(n, L)``.
        mask: 1 for a real token, ``(n, L)``; None where all are.
    """
    real = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask.to(labels.device) == 1
    kept = _wide(logits)[real]
    return Loss(F.binary_cross_entropy_with_logits(kept, labels[real].to(kept.dtype), reduction="sum"), _count(kept))


def _wide(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype.itemsize < 4 else logits


def _count(cells: Tensor) -> Tensor:
    return torch.tensor(cells.numel(), device=cells.device)
