"""Extractive question answering: the first and the last token of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nativebert.nn.model import Model
from nativebert.nn.packed import Packed
from nativebert.tasks.answer import Answerer
from nativebert.train import metrics
from nativebert.train.objective import Objective


class Answering(Objective):
    """Learn where answers stand.

    Sequences have the targets ``start_positions`` and ``end_positions``: tokens of the sequence, 0 where it holds no answer. The loss of a
    sequence is the mean of the two cross-entropies over its tokens, as in the reference, which sees padding as tokens without probability.
    """

    task = "answer"
    default_metric = "f1"
    questions: Questions | None = None
    limit, stride = 384, 128

    def logits(self, model: Model, hidden: Tensor, packed: Packed) -> Tensor:
        """Start and end logits of each sequence, ``(B, 2, L)``, minus infinity where it has no token."""
        return padded_logits(super().logits(model, hidden, packed), packed)

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        both = [
            F.cross_entropy(logits[:, n], targets[name], reduction="sum")
            for n, name in enumerate(("start_positions", "end_positions"))
        ]
        return (both[0] + both[1]) / 2

    def mean_loss(self) -> float:
        """The loss over the evaluation examples."""
        assert self.evaluation is not None
        total = 0.0
        for indices, packed, logits in self.predict(self.evaluation):
            targets, _ = self.targets(self.evaluation, indices, 0)
            total += float(self.loss(padded_logits(logits, packed), targets))
        return total / max(len(self.evaluation), 1)

    def evaluate(self) -> dict[str, float]:
        if self.evaluation is None or not len(self.evaluation):
            return {}
        found = {"loss": self.mean_loss()}
        if self.questions is not None:
            with self.merged():
                answerer = Answerer(
                    self.model, device=self.device, too_long="window", max_tokens=self.limit, stride=self.stride
                )
            no_answer = any(not answers for answers in self.questions.answers)
            results = answerer(self.questions.questions, self.questions.contexts, no_answer=no_answer, progress=False)
            found |= metrics.answering(self.questions.answers, [result["answer"] for result in results])
        return found


@dataclass(frozen=True)
class Questions:
    """Questions to evaluate with: each with its context and the answers that count as right, none for a question without answer."""

    questions: list[str]
    contexts: list[str]
    answers: list[list[str]]


def padded_logits(logits: Tensor, packed: Packed) -> Tensor:
    """Logits of tokens ``(T, C)`` by sequence, ``(B, C, L)``, minus infinity where there is no token."""
    rows = torch.arange(len(packed.lengths), device=logits.device).repeat_interleave(packed.cu_seqlens.diff().to(logits.device))
    out = logits.new_full((len(packed.lengths), packed.max_length, logits.shape[1]), -torch.inf)
    return out.index_put((rows, packed.columns.to(logits.device)), logits).transpose(1, 2)
