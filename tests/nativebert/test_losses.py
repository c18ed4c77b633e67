"""Losses as sums and counts: their means are torch's and transformers', and an accumulated batch's is that of the whole."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nativebert.train import losses
from nativebert.train.losses import Loss

G = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 7, 5, generator=G)
LABELS = torch.randint(0, 5, (6, 7), generator=G).masked_fill(torch.rand(6, 7, generator=G) < 0.4, losses.IGNORED)
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 4.0, 0.0])


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(weight: torch.Tensor | None, smoothing: float) -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = losses.cross_entropy(logits, LABELS, weight=weight, smoothing=smoothing)
    expected = F.cross_entropy(logits.flatten(0, 1), LABELS.flatten(), weight, label_smoothing=smoothing)
    torch.testing.assert_close(loss.mean, expected)
    (mine,) = torch.autograd.grad(loss.mean, logits, retain_graph=True)
    (theirs,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_parts_of_an_accumulated_batch_make_the_whole(weight: torch.Tensor | None) -> None:
    parts = [
        losses.cross_entropy(LOGITS[rows], LABELS[rows], weight=weight) for rows in (slice(0, 1), slice(1, 4), slice(4, 6))
    ]
    items = sum((part.items for part in parts), torch.tensor(0))
    whole = losses.cross_entropy(LOGITS, LABELS, weight=weight)
    torch.testing.assert_close(items, whole.items)
    torch.testing.assert_close(sum((part.over(items) for part in parts), torch.tensor(0.0)), whole.mean)
    assert not torch.allclose(torch.stack([part.mean for part in parts]).mean(), whole.mean)  # what a mean of means would give


@pytest.mark.reference
def test_label_smoothing_is_transformers() -> None:
    from transformers.trainer_pt_utils import LabelSmoother

    expected = LabelSmoother(epsilon=0.1)({"logits": LOGITS}, LABELS)
    torch.testing.assert_close(losses.cross_entropy(LOGITS, LABELS, smoothing=0.1).mean, expected)
    over = LabelSmoother(epsilon=0.1)({"logits": LOGITS}, LABELS, num_items_in_batch=torch.tensor(100))
    torch.testing.assert_close(losses.cross_entropy(LOGITS, LABELS, smoothing=0.1).over(torch.tensor(100)), over)


def test_classification_by_problem_type() -> None:
    logits, classes, shares = LOGITS[:, 0], LABELS[:, 0].clamp(min=0), torch.rand(6, 5, generator=G)
    one = logits[:, :1]
    cases: list[tuple[Loss, torch.Tensor]] = [
        (losses.classification(logits, classes, "single_label_classification"), F.cross_entropy(logits, classes)),
        (
            losses.classification(logits, shares, "multi_label_classification"),
            F.binary_cross_entropy_with_logits(logits, shares),
        ),
        (
            losses.classification(logits, shares, "multi_label_classification", weight=WEIGHT),
            F.binary_cross_entropy_with_logits(logits, shares, pos_weight=WEIGHT),
        ),
        (losses.classification(logits, shares, "regression"), F.mse_loss(logits, shares)),
        (losses.classification(one, shares[:, 0], "regression"), F.mse_loss(one[:, 0], shares[:, 0])),
        (losses.classification(one, shares[:, :1], "regression"), F.mse_loss(one, shares[:, :1])),
    ]
    for loss, expected in cases:
        torch.testing.assert_close(loss.mean, expected)
    assert losses.problem_type_of(shares[:, 0], 1) == "regression"
    assert losses.problem_type_of(classes, 5) == "single_label_classification"
    assert losses.problem_type_of(shares, 5) == "multi_label_classification"


def test_spans_and_replaced_tokens() -> None:
    starts, ends = torch.tensor([0, 3, 6, 99, 2, 1]), torch.tensor([[1], [4], [-5], [2], [7], [1]])
    first, last = losses.spans(LOGITS[..., 0], LOGITS[..., 1], starts, ends)
    torch.testing.assert_close(first.mean, F.cross_entropy(LOGITS[..., 0], starts.clamp(0, 7), ignore_index=7))
    torch.testing.assert_close(last.mean, F.cross_entropy(LOGITS[..., 1], ends[:, 0].clamp(0, 7), ignore_index=7))
    assert (int(first.items), int(last.items)) == (5, 5)
    mask = (LABELS >= 0).long()
    replaced = (LABELS > 2).long()
    loss = losses.replaced_tokens(LOGITS[..., 0], replaced, mask)
    kept = mask == 1
    torch.testing.assert_close(loss.mean, F.binary_cross_entropy_with_logits(LOGITS[..., 0][kept], replaced[kept].float()))
    assert int(losses.replaced_tokens(LOGITS[..., 0], replaced).items) == 42


def test_16_bits_do_not_overflow_and_nothing_is_nan_by_itself() -> None:
    logits = torch.full((70_000, 2), 0.0, dtype=torch.float16)
    loss = losses.cross_entropy(logits, torch.zeros(70_000, dtype=torch.long))
    assert float(loss.mean) == pytest.approx(0.6931, abs=1e-3)
    assert losses.regression(logits + 2, torch.zeros(70_000, 2)).mean == 4.0
    nothing = losses.cross_entropy(LOGITS[0], torch.full((7,), losses.IGNORED))
    assert (float(nothing.total), int(nothing.items)) == (0.0, 0)
    assert bool(nothing.mean.isnan())
