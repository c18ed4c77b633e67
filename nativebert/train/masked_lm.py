"""Masked-LM training: tokens to be told from their surroundings (Devlin et al. 2018, arXiv:1810.04805, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from os import PathLike
from typing import Any, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nativebert.config import NewHead
from nativebert.errors import BadInputError
from nativebert.loading import LoadedModel
from nativebert.nn.heads import Head
from nativebert.nn.model import Model
from nativebert.nn.packed import Packed
from nativebert.text.batching import batches_by_length
from nativebert.train import data as tables
from nativebert.train.encode import encode_windows, max_tokens
from nativebert.train.objective import Batch, HeadObjective, Sequences
from nativebert.train.options import TrainingOptions
from nativebert.train.run import FineTuned, Plan, RunSettings, Source, describe, load_model, options_of, run, split

MASKED, RANDOM = 0.8, 0.1  # of the chosen tokens: shares that become the mask token, or a random one; the rest stays

EVALUATION = 2**31  # where training has the number of the epoch


class MaskedLM(HeadObjective):
    """Learn to tell masked tokens.

    Which tokens are chosen depends on the seed, the epoch and the sequence alone: not on the batch.

    Args:
        model: a model with a head for ``"lm"``.
        train, evaluation: sequences; the evaluation's tokens are chosen once.
        options: of the run.
        mlm_probability: share of the tokens that are chosen.
    """

    task = "lm"

    def __init__(
        self,
        model: LoadedModel,
        train: Sequences,
        evaluation: Sequences | None,
        options: TrainingOptions,
        *,
        mlm_probability: float = 0.15,
    ) -> None:
        super().__init__(model, train, evaluation, options)
        if not 0.0 < mlm_probability < 1.0:
            raise BadInputError(f"mlm_probability must be between 0 and 1, not {mlm_probability}")
        self.mlm_probability = mlm_probability
        self._mask_id = model.tokenizer.mask_id
        self._special = np.array(sorted(model.tokenizer.special_ids), np.int64)

    def fingerprint(self) -> dict[str, Any]:
        return super().fingerprint() | {"mlm_probability": self.mlm_probability}

    def _batch(self, item: NDArray[np.int64], epoch: int) -> Batch:
        return self._masked(self.train, item, epoch)

    def _masked(self, sequences: Sequences, item: NDArray[np.int64], epoch: int) -> Batch:
        packed, indices = sequences.pack(item, self.model)
        parts = [self._choose(np.asarray(sequences.ids[n]), n, epoch) for n in indices.tolist()]
        ids = torch.from_numpy(np.concatenate([changed for changed, _ in parts]))
        chosen = torch.from_numpy(np.concatenate([c for _, c in parts]))
        where = torch.nonzero(chosen)[:, 0]
        masked = Packed(ids, packed.positions, packed.columns, packed.segments, packed.cu_seqlens, packed.lengths)
        return Batch(masked, {"where": where, "labels": packed.ids[where]}, float(len(where)))

    def _choose(self, ids: NDArray[np.int64], n: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """A sequence with its chosen tokens changed, and which they are."""
        random = np.random.default_rng([self.options.seed, epoch, n])
        chosen = (random.random(len(ids)) < self.mlm_probability) & ~np.isin(ids, self._special)
        how = random.random(len(ids))
        other = random.integers(0, self.model.config.vocab_size, len(ids))
        changed = np.where(how < MASKED, self._mask_id, np.where(how < MASKED + RANDOM, other, ids))
        return np.where(chosen, changed, ids), chosen

    def batch_loss(self, model: Model, hidden: Tensor, batch: Batch) -> Tensor:
        head = model.head[model.config.heads[self.task].name]
        assert isinstance(head, Head)
        logits = head.logits(hidden[batch.targets["where"].to(hidden.device)])  # (chosen, V): of no other token
        return self.loss(logits, {"labels": batch.targets["labels"].to(hidden.device)})

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        return F.cross_entropy(logits, targets["labels"], reduction="sum")

    def evaluate(self) -> dict[str, float]:
        if self.evaluation is None or not len(self.evaluation):
            return {}
        plan = self.prepare()
        total, count, right = 0.0, 0.0, 0.0
        for item in batches_by_length(self.evaluation.lengths, plan.batch_tokens):
            batch = self._masked(self.evaluation, item, EVALUATION)
            if not batch.count:
                continue
            logits = plan.head_logits("lm", plan.hidden(batch.packed)[batch.targets["where"].to(plan.device)]).cpu()
            total += float(F.cross_entropy(logits, batch.targets["labels"], reduction="sum"))
            right += float((logits.argmax(1) == batch.targets["labels"]).sum())
            count += batch.count
        loss = total / max(count, 1.0)
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "accuracy": right / max(count, 1.0)}


def continue_pretraining(
    data: Source,
    model: str | PathLike[str],
    output: str | PathLike[str] | None = None,
    *,
    evaluation: Source | None = None,
    text: str | None = None,
    mlm_probability: float = 0.15,
    max_length: int | None = None,
    too_long: str = "window",
    validation_split: float = 0.05,
    **settings: Unpack[RunSettings],
) -> FineTuned:
    """Train a model further on texts from your own field, by masked-LM.

    Args:
        data: a table with a column of texts, as for :func:`nativebert.train.classify`; or a txt file, one text a line.
        model: a folder, or a model on the Hub.
        output: a folder for checkpoints, and at the end for the model; None to save nothing.
        evaluation: a table to evaluate with; None to hold out a share of the data.
        text: the column; None for the usual names.
        mlm_probability: share of the tokens that are to be told.
        max_length: most tokens of a sequence; None for the model's own limit.
        too_long: ``"window"`` splits longer texts, ``"truncate"`` cuts them, ``"error"`` refuses them.
        validation_split: share that is held out for evaluation; 0 for none.
        **settings: see :class:`~nativebert.train.options.TrainingOptions` and :class:`~nativebert.train.run.ModelOptions`.

    Raises:
        BadInputError: no such column, or empty texts.
        NativeBertError: the model cannot be loaded, or the run ends: see :meth:`nativebert.train.loop.TrainingLoop.run`.
    """
    options, how, extra = options_of(settings)
    table = tables.read_table(data)
    column = table.column("text", ("text", "sentence", "content"), text)
    train, held = split(
        table, evaluation, validation_split, options, [column], required=[], missing=extra.get("missing", "error")
    )
    loaded = load_model(model, NewHead("lm"), options, how)
    limit = max_tokens(loaded, max_length)
    training = encode_windows(loaded, train.texts(column), limit=limit, too_long=too_long)
    evaluated = None if held is None else encode_windows(loaded, held.texts(column), limit=limit, too_long=too_long)
    objective = MaskedLM(loaded, training, evaluated, options, mlm_probability=mlm_probability)
    report = describe(train, train.texts(column), None, {}, training, limit, None if held is None else held.texts(column))
    plan = Plan(loaded, objective, report, {"data": table.fingerprint, "max_length": limit, "too_long": too_long}, card="fill")
    return run(plan, output, options, how, extra)
