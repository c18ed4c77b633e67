"""Losses of embeddings against sentence-transformers, and batches beyond memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from models import minilm

import nativebert as nb
from nativebert.train.contrastive import LOSSES, matryoshka
from nativebert.train.distributed import Processes
from nativebert.train.embedding import Embedding, Examples
from nativebert.train.fast import FastStep
from nativebert.train.options import TrainingOptions
from nativebert.train.parameters import parameter_groups, set_dropout
from nativebert.train.reference import ReferenceStep


def vectors(columns: int, rows: int = 7) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(rows, 12, generator=g).requires_grad_() for _ in range(columns)]


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "kind", "columns"),
    [
        ("multiple_negatives", "MultipleNegativesRankingLoss", 2), ("multiple_negatives", "MultipleNegativesRankingLoss", 3),
        ("cosine_similarity", "CosineSimilarityLoss", 2), ("cosent", "CoSENTLoss", 2), ("triplet", "TripletLoss", 3),
    ],
)  # fmt: skip
def test_losses(name: str, kind: str, columns: int) -> None:
    from sentence_transformers import losses as theirs

    ours, other = vectors(columns), vectors(columns)
    scores = torch.linspace(0, 1, 7)

    class Given(torch.nn.Module):
        def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"sentence_embedding": features["x"]}

    loss: Any = getattr(theirs, kind)(Given())
    expected = loss([{"x": x} for x in other], scores)
    expected.backward()
    found = LOSSES[name](ours, scores).mean
    found.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    for mine, its in zip(ours, other):
        torch.testing.assert_close(mine.grad, its.grad, atol=1e-6, rtol=1e-5)


def test_matryoshka() -> None:
    ours = vectors(2)
    nested = matryoshka(LOSSES["multiple_negatives"], [12, 4])(ours, None)
    parts = [LOSSES["multiple_negatives"]([x[:, :dim] for x in ours]).total for dim in (12, 4)]
    torch.testing.assert_close(nested.total, parts[0] + parts[1])


@pytest.mark.parametrize("step", [ReferenceStep, FastStep])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(step: Any) -> None:
    """Without dropout to the last digits; with dropout both passes draw the same, or the loss would not go down."""
    texts = Examples([[f"number {n} and {n * n}" for n in range(12)], [f"{n} squared is {n * n}" for n in range(12)]])
    gradients = []
    for size in (None, 5):
        model = nb.load(minilm(), head=None).train()
        set_dropout(model, 0.0)
        options = TrainingOptions(batch_size=12)
        work = Embedding(model, texts, None, options, loss=LOSSES["multiple_negatives"], limit=64, mini_batch_size=size)
        run = step(model, parameter_groups(model, 0.0), seed=1)
        run.begin(1)
        batches = [work.batch(item, 0) for item in work.epoch_batches(0, Processes())]
        loss = work.backward(run, batches, Processes())
        gradients.append((loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}))
        run.close()
    assert gradients[0][0] == pytest.approx(gradients[1][0], abs=1e-5)
    for name, gradient in gradients[0][1].items():
        torch.testing.assert_close(gradients[1][1][name], gradient, atol=2e-5 * max(1.0, float(gradient.abs().max())), rtol=0)
    assert np.isfinite(gradients[0][0])
