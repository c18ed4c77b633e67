"""Losses of sentence embeddings. Reference: sentence-transformers ``losses``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nativebert.train.losses import Loss

PairLoss = Callable[[Sequence[Tensor], Tensor | None], Loss]
"""Vectors of each column, ``(B, n)`` each, and scores ``(B,)`` -> loss."""


def multiple_negatives(columns: Sequence[Tensor], scores: Tensor | None = None, *, scale: float = 20.0) -> Loss:
    """Each anchor's own text among all of the batch (Henderson et al. 2017, arXiv:1705.00652, section 4.4; InfoNCE).

    Args:
        columns: anchors, their positives, and maybe further negatives, ``(B, n)`` each. Positives and negatives of other rows are negatives.
        scores: not used.
        scale: what the cosines are multiplied by.
    """
    anchors, candidates = columns[0], torch.cat(list(columns[1:]))
    cosines = F.normalize(anchors, dim=-1) @ F.normalize(candidates, dim=-1).t() * scale  # (B, B * negatives)
    total = F.cross_entropy(cosines, torch.arange(len(anchors), device=anchors.device), reduction="sum")
    return Loss(total, torch.tensor(len(anchors)))


def cosine_similarity(columns: Sequence[Tensor], scores: Tensor | None) -> Loss:
    """Squared difference of each pair's cosine and its score (Reimers and Gurevych 2019, arXiv:1908.10084, section 3)."""
    first, second = columns
    assert scores is not None
    return Loss(F.mse_loss(F.cosine_similarity(first, second), scores, reduction="sum"), torch.tensor(len(scores)))


def cosent(columns: Sequence[Tensor], scores: Tensor | None, *, scale: float = 20.0) -> Loss:
    """The order of the pairs' cosines should be that of their scores: ``log(1 + sum exp(scale (cos_j - cos_i)))`` over all pairs ``i`` with a
    higher score than ``j`` (CoSENT, https://kexue.fm/archives/8847). One number for the batch."""
    first, second = columns
    assert scores is not None
    cosines = F.cosine_similarity(first, second) * scale
    differences = cosines[:, None] - cosines[None, :]  # of column j and row i where i < j should hold
    differences = differences - (scores[:, None] >= scores[None, :]).float() * 1e12
    return Loss(torch.logsumexp(torch.cat([differences.new_zeros(1), differences.flatten()]), 0), torch.tensor(1))


def triplet(columns: Sequence[Tensor], scores: Tensor | None = None, *, margin: float = 5.0) -> Loss:
    """An anchor should be nearer to its positive than to its negative, by a margin, in Euclidean distance (arXiv:1908.10084, section 3)."""
    anchors, positives, negatives = columns
    distances = F.pairwise_distance(anchors, positives) - F.pairwise_distance(anchors, negatives)
    return Loss(F.relu(distances + margin).sum(), torch.tensor(len(anchors)))


LOSSES: dict[str, PairLoss] = {
    "multiple_negatives": multiple_negatives,
    "cosine_similarity": cosine_similarity,
    "cosent": cosent,
    "triplet": triplet,
}


def matryoshka(loss: PairLoss, dims: Sequence[int]) -> PairLoss:
    """The sum of a loss over vectors cut to several widths (Kusupati et al. 2022, arXiv:2205.13147, section 3).

    Args:
        loss: of vectors.
        dims: the widths.
    """

    def nested(columns: Sequence[Tensor], scores: Tensor | None) -> Loss:
        parts = [loss([F.normalize(column[:, :dim], dim=-1) for column in columns], scores) for dim in dims]
        return Loss(torch.stack([part.total for part in parts]).sum(), parts[0].items)

    return nested
