"""Compare what two models computed, step by step in the order of execution."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

TOLERANCE = 1e-5  # fp32 on the CPU, maximum absolute difference on full tensors
SLACK = 1.5  # or this many times the reference's own fp32 error, where that is larger

Steps = Mapping[str, Tensor]
"""The steps of one run, in order: ``embeddings``, ``layers.0.attention``, ``layers.0``, ..., ``pooler``."""


@dataclass(frozen=True)
class Difference:
    """One step: how far it is from the reference, and how far it may be."""

    name: str
    max_abs: float
    allowed: float

    @property
    def passed(self) -> bool:
        return self.max_abs <= self.allowed  # False for NaN


@dataclass(frozen=True)
class Verdict:
    """All steps of a comparison."""

    steps: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        return bool(self.steps) and all(step.passed for step in self.steps)

    @property
    def first(self) -> Difference | None:
        """The first step that is too far off: where to look for the cause."""
        return next((step for step in self.steps if not step.passed), None)

    @property
    def worst(self) -> Difference:
        """The step with the largest difference."""
        return max(self.steps, key=lambda step: step.max_abs if step.max_abs == step.max_abs else float("inf"))

    def __str__(self) -> str:
        lines = [f"{s.name:24} {s.max_abs:.2e} of {s.allowed:.2e}{'' if s.passed else '  <-- too far'}" for s in self.steps]
        return "\n".join(lines)


def steps(output: object, mask: Tensor | None = None) -> dict[str, Tensor]:
    """The steps of a model's output, ours or that of transformers, cells without a token set to zero.

    Args:
        output: has ``hidden_states``, ``attentions`` and maybe ``pooler_output``, as padded batches.
        mask: ``(B, L)``, 1 for real tokens; None where all are real.
    """
    states: tuple[Tensor, ...] = output.hidden_states or ()  # type: ignore[attr-defined]
    weights: tuple[Tensor, ...] = output.attentions or ()  # type: ignore[attr-defined]
    pooled: Tensor | None = getattr(output, "pooler_output", None)

    def at_tokens(x: Tensor) -> Tensor:
        return x if mask is None else x.masked_fill(mask[..., None] == 0, 0.0)

    tensors: dict[str, Tensor] = {}
    for n, state in enumerate(states):
        if n and n <= len(weights):
            w = weights[n - 1]
            tensors[f"layers.{n - 1}.attention"] = w if mask is None else w.masked_fill(mask[:, None, :, None] == 0, 0.0)
        tensors["embeddings" if n == 0 else f"layers.{n - 1}"] = at_tokens(state)
    if pooled is not None:
        tensors["pooler"] = pooled
    return tensors


def compare(ours: Steps, exact: Steps, reference: Steps | None = None, tolerance: float = TOLERANCE) -> Verdict:
    """Compare full tensors. A step that only one of the two has is infinitely far off: nothing passes by being left out.

    Args:
        ours: the steps to judge.
        exact: the reference's steps in float64.
        reference: the reference's steps in the precision of ``ours``: its own error is allowed too, times :data:`SLACK`.
        tolerance: allowed maximum absolute difference.
    """
    rows = []
    for name in [*exact, *(name for name in ours if name not in exact)]:
        own = _distance(reference.get(name), exact.get(name)) if reference is not None else 0.0
        allowed = max(tolerance, SLACK * own) if math.isfinite(own) else tolerance
        rows.append(Difference(name, _distance(ours.get(name), exact.get(name)), allowed))
    return Verdict(tuple(rows))


def _distance(a: Tensor | None, b: Tensor | None) -> float:
    if a is None or b is None or a.shape != b.shape:
        return float("inf")
    return float((a.double() - b.double()).abs().max()) if a.numel() else 0.0


def pad_rows(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Rows of token ids padded to the longest: ids and mask, each ``(B, L)``."""
    tensors = [torch.tensor(row) for row in rows]
    ids = pad_sequence(tensors, batch_first=True, padding_value=pad_id)
    return ids, pad_sequence([torch.ones_like(row) for row in tensors], batch_first=True)


def model_inputs(ids: Tensor, mask: Tensor | None, segments: Tensor | None) -> dict[str, Tensor]:
    """Keyword arguments of a forward call, without those that are None."""
    named = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def run(model: torch.nn.Module, ids: Tensor, mask: Tensor | None = None, segments: Tensor | None = None) -> dict[str, Tensor]:
    """The steps of one forward pass of a model, ours or of transformers."""
    with torch.no_grad():
        output = model(**model_inputs(ids, mask, segments), output_hidden_states=True, output_attentions=True)
    return steps(output, mask)
