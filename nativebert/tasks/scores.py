"""Softmax and sigmoid scores of logits, and the highest of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Scores = NDArray[np.float32]


def softmax(logits: Tensor) -> Scores:
    """Probabilities over the last axis, computed in float64, so that the float32 result does not depend on the batch.

    Args:
        logits: ``(..., C)``.

    Returns:
        float32 ``(..., C)``.
    """
    x = logits.double().numpy()
    x = np.exp(x - x.max(-1, keepdims=True, initial=-np.inf))
    probabilities: Scores = (x / x.sum(-1, keepdims=True)).astype(np.float32)
    return probabilities


def sigmoid(logits: Tensor) -> Scores:
    """A probability for each logit by itself, computed in float64; float32 ``(..., C)``."""
    probabilities: Scores = (0.5 * (1 + np.tanh(logits.double().numpy() / 2))).astype(np.float32)
    return probabilities


def highest(scores: NDArray[Any], k: int) -> NDArray[np.intp]:
    """Indices of the ``k`` highest of ``scores``, ``(n,)``, best first; of equal scores the first. All indices where ``k`` is larger."""
    indices = np.arange(len(scores))
    if k < len(scores):
        indices = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    return indices[np.argsort(-scores[indices], kind="stable")[:k]]
