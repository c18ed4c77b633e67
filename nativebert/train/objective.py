"""What is learnt: the base of the objectives, one for each task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nativebert.engine import prepare
from nativebert.engine.plan import ExecutionPlan
from nativebert.loading import LoadedModel, load
from nativebert.nn.heads import first_tokens
from nativebert.nn.model import Model
from nativebert.nn.packed import Packed
from nativebert.text.batching import batches_by_length
from nativebert.train.batches import epoch_batches
from nativebert.train.distributed import Processes
from nativebert.train.evaluation import Evaluation
from nativebert.train.lora import Adapters
from nativebert.train.options import TrainingOptions
from nativebert.train.step import Step


@dataclass(frozen=True)
class Sequences:
    """Tokenised examples.

    Attributes:
        ids: token ids of each sequence, special tokens included.
        segments: token type ids, as long each; None for all zeros.
        targets: by name, the labels of each sequence: a number, a row of numbers, or one for each of its tokens.
        examples: for each sequence, the number of the example that it is of; None where they are the same.
        cut_tokens: tokens that were cut off, for each example.
    """

    ids: list[list[int]]
    segments: list[list[int]] | None
    targets: Mapping[str, Sequence[Any]]
    examples: list[int] | None = None
    cut_tokens: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence, ``(n,)``."""
        return np.fromiter(map(len, self.ids), np.int64, len(self.ids))

    def pack(self, indices: NDArray[np.int64], model: LoadedModel) -> tuple[Packed, NDArray[np.int64]]:
        """Some sequences as a batch, shortest first so that equal lengths are neighbours, and their indices in that order."""
        ordered = indices[np.argsort([len(self.ids[n]) for n in indices], kind="stable")]
        segments = None if self.segments is None else [self.segments[n] for n in ordered]
        packed = Packed.of([self.ids[n] for n in ordered], segments, position_pad_id=model.config.position_pad_id)
        return packed, ordered


@dataclass(frozen=True)
class Batch:
    """A batch of training examples.

    Attributes:
        packed: its tokens.
        targets: labels, by name.
        count: what the loss is a mean over: examples, or labelled tokens.
        weight: of its loss: 0 for one that stands in for none.
    """

    packed: Packed
    targets: Mapping[str, Tensor]
    count: float
    weight: float = 1.0


class Objective(ABC):
    """A model with what it learns from: a :class:`~nativebert.train.loop.Work` for one task.

    Args:
        model: the model, with its head if the task has one.
        train: the training examples, as tokens.
        evaluation: what it is judged by; None for nothing.
        options: of the run.
    """

    task: ClassVar[str]
    default_metric: str = "loss"

    adapters: Adapters | None = None
    """LoRA, if that is what is trained."""
    device: str = "cpu"
    """Where the evaluation is computed."""
    extra_fingerprint: Mapping[str, Any] = MappingProxyType({})
    """What the run depends on besides: the data's fingerprint."""

    def __init__(self, model: LoadedModel, train: Sequences, evaluation: Any, options: TrainingOptions) -> None:
        self.model, self.train, self.evaluation, self.options = model, train, evaluation, options
        self.device = str(model.device)

    @abstractmethod
    def epoch_batches(self, epoch: int, processes: Processes) -> Sequence[Any]: ...

    @abstractmethod
    def batch(self, item: Any, epoch: int) -> Any: ...

    @abstractmethod
    def backward(self, step: Step, batches: Sequence[Any], processes: Processes) -> float: ...

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Metrics of the model as it is."""

    def evaluation_details(self) -> Evaluation | None:
        """Predictions of the model as it is for the evaluation examples, for a report; None where there are none to show."""
        return None

    def fingerprint(self) -> dict[str, Any]:
        return {"task": self.task, "examples": len(self.train), "model": self.model.reference, **self.extra_fingerprint}

    @contextmanager
    def evaluating(self) -> Iterator[LoadedModel]:
        """The model as a plain one in evaluation mode: adapters are merged."""
        training = self.model.training
        try:
            with self.merged():
                yield self.model.eval()
        finally:
            self.model.train(training)

    def merged(self) -> AbstractContextManager[None]:
        """Within it adapters are merged."""
        return nullcontext() if self.adapters is None else self.adapters.merged()

    def save(self, folder: Path) -> None:
        with self.merged():
            self.model.save(folder)

    def parameters_to_keep(self) -> dict[str, Tensor]:
        return {} if self.adapters is None else self.adapters.parameters()

    def restore(self, folder: Path, kept: Mapping[str, Tensor]) -> None:
        head = self.task if self.task in self.model.tasks else None
        saved = dict(load(folder, head=head).named_parameters()) | dict(kept)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(saved[name])


class HeadObjective(Objective):
    """An objective whose loss is of a head's logits: :attr:`task` is that of the head.

    Args:
        model: the model, with its head.
        train, evaluation: examples as tokens, with their labels.
        options: of the run.
    """

    evaluation: Sequences | None

    texts: Sequence[Any] = ()
    """Of the evaluation examples, for a report."""

    # ---- what a task says

    @abstractmethod
    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """The sum of the losses of a batch: divided by its ``count`` it is the mean."""

    def targets(self, sequences: Sequences, indices: NDArray[np.int64], epoch: int) -> tuple[dict[str, Tensor], float]:
        """Labels of some sequences, and how many of them count."""
        rows = {name: [values[n] for n in indices] for name, values in sequences.targets.items()}
        return {name: torch.as_tensor(np.asarray(values)) for name, values in rows.items()}, len(indices)

    # ---- what the loop asks

    def epoch_batches(self, epoch: int, processes: Processes) -> list[NDArray[np.int64]]:
        options, size = self.options, self.options.batch_size * processes.count
        lengths = self.train.lengths
        batches = epoch_batches(lengths, size, options.seed, epoch, group_by_length=options.group_by_length)
        return [batch[processes.rank :: processes.count] for batch in batches]

    def batch(self, item: NDArray[np.int64], epoch: int) -> Batch:
        if not len(item):  # of a process that got no example of the last batch, and computes with the others all the same
            return replace(self._batch(np.zeros(1, np.int64), epoch), count=0.0, weight=0.0)
        return self._batch(item, epoch)

    def _batch(self, item: NDArray[np.int64], epoch: int) -> Batch:
        packed, indices = self.train.pack(item, self.model)
        targets, count = self.targets(self.train, indices, epoch)
        return Batch(packed, targets, count)

    def backward(self, step: Step, batches: Sequence[Batch], processes: Processes) -> float:
        count = processes.total(sum(batch.count for batch in batches))
        total = 0.0
        for n, batch in enumerate(batches):
            step.micro_batch(n)
            loss = self.batch_loss(step.model, step.encode(batch.packed), batch) * (batch.weight / max(count, 1e-12))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        return processes.total(total)

    def batch_loss(self, model: Model, hidden: Tensor, batch: Batch) -> Tensor:
        """The sum of a batch's losses, from its hidden states."""
        logits = self.logits(model, hidden, batch.packed)
        return self.loss(logits, {name: t.to(logits.device) for name, t in batch.targets.items()})

    def logits(self, model: Model, hidden: Tensor, packed: Packed) -> Tensor:
        """Logits of the task's head, with their graph."""
        return head_logits(model, self.task, hidden, packed)

    # ---- predictions

    def prepare(self) -> ExecutionPlan:
        """The model as it is, prepared for its device."""
        with self.evaluating() as model:
            return prepare(model, self.device, heads=[self.task])

    def predict(self, sequences: Sequences) -> Iterator[tuple[NDArray[np.int64], Packed, Tensor]]:
        """Logits of sequences, computed by the device's execution plan, in batches of similar length: their indices, tokens, and logits."""
        plan = self.prepare()
        for indices in batches_by_length(sequences.lengths, plan.batch_tokens):
            packed, ordered = sequences.pack(indices, self.model)
            yield ordered, packed, plan.logits(packed, self.task).cpu()

    def predicted_rows(self, sequences: Sequences) -> Tensor:
        """Logits of a head on sequences, ``(n, C)``."""
        out = torch.empty(len(sequences), self.model.config.heads[self.task].classes)
        for indices, _, logits in self.predict(sequences):
            out[torch.from_numpy(indices)] = logits
        return out


def head_logits(model: Model, task: str, hidden: Tensor, packed: Packed) -> Tensor:
    """Logits of a head, with their graph: ``(T, C)`` for one on tokens, else ``(B, C)``."""
    spec = model.config.heads[task]
    packed = packed.to(hidden.device)
    pooled = None
    if spec.on == "pooled":
        assert model.pool is not None
        pooled = model.pool(first_tokens(hidden, packed))
    logits: Tensor = model.head[spec.name](hidden, packed, pooled)
    return logits
