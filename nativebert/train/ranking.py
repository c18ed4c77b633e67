"""Cross-encoders: how well a document answers a query, from both read together (Nogueira and Cho 2019, arXiv:1901.04085)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from nativebert.config import NewHead
from nativebert.errors import BadInputError
from nativebert.train import data as tables
from nativebert.train import losses, metrics
from nativebert.train.data import Table
from nativebert.train.encode import encode_texts, max_tokens
from nativebert.train.evaluation import Evaluation, NumberEvaluation
from nativebert.train.objective import HeadObjective, Sequences
from nativebert.train.run import FineTuned, Plan, RunSettings, Source, describe, load_model, options_of, run, split


class Ranking(HeadObjective):
    """Learn the relevance of pairs, from 0 to 1, by the binary cross-entropy of one logit. Reference: sentence-transformers' CrossEncoder.

    Sequences are pairs with the target ``labels``; :attr:`texts` are the evaluation's pairs, which are ranked within each query.
    """

    task = "classify"
    default_metric = "ndcg@10"

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        return losses.multi_label(logits, targets["labels"].float()[:, None]).total

    def _labels(self, sequences: Sequences) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.asarray(sequences.targets["labels"], np.float32)

    def evaluate(self) -> dict[str, float]:
        if self.evaluation is None or not len(self.evaluation):
            return {}
        logits, labels = self.predicted_rows(self.evaluation), self._labels(self.evaluation)
        loss = float(self.loss(logits, {"labels": torch.from_numpy(labels)})) / len(labels)
        rows_of: dict[str, list[int]] = {}
        for n, (query, _) in enumerate(self.texts):
            rows_of.setdefault(query, []).append(n)
        groups = [rows for rows in rows_of.values() if len(rows) > 1 and labels[rows].max() > 0]
        scores = logits[:, 0].numpy()
        if not groups:  # every query has one document: nothing can be ranked, but all pairs together
            return {"loss": loss, **metrics.ranking([labels], [scores])}
        return {"loss": loss, **metrics.ranking([labels[rows] for rows in groups], [scores[rows] for rows in groups])}

    def evaluation_details(self) -> Evaluation | None:
        if self.evaluation is None:
            return None
        scores = torch.sigmoid(self.predicted_rows(self.evaluation))[:, 0].numpy()
        return NumberEvaluation(
            texts=self.texts, gold=self._labels(self.evaluation), predicted=scores, names=("label", "score")
        )


QUERY = ("query", "question", "anchor", "sentence1", "text1")
DOCUMENT = ("document", "passage", "answer", "positive", "sentence2", "text2", "text")
LABEL = ("label", "relevance", "score")


def rank(
    data: Source,
    model: str | PathLike[str],
    output: str | PathLike[str] | None = None,
    *,
    evaluation: Source | None = None,
    query: str | None = None,
    document: str | None = None,
    label: str | None = None,
    max_length: int | None = None,
    validation_split: float = 0.1,
    **settings: Unpack[RunSettings],
) -> FineTuned:
    """Fine-tune a cross-encoder: a score for each pair of query and document.

    Args:
        data: a table, as for :func:`nativebert.train.classify`, with a query, a document and its relevance in each row: 0 or 1, or any range of
            numbers, which is brought to between 0 and 1.
        model: a folder, or a model on the Hub.
        output: a folder for checkpoints, and at the end for the model, which :class:`nativebert.Ranker` and sentence-transformers load; None to
            save nothing.
        evaluation: a table to evaluate with; None to hold out a share of the queries.
        query, document, label: the columns; None for the usual names.
        max_length: most tokens of a pair; None for the model's own limit.
        validation_split: share of the queries that is held out for evaluation; 0 for none.
        **settings: see :class:`~nativebert.train.options.TrainingOptions` and :class:`~nativebert.train.run.ModelOptions`.

    Raises:
        BadInputError: no such column, or labels that are not numbers, or all the same.
        NativeBertError: the model cannot be loaded, or the run ends: see :meth:`nativebert.train.loop.TrainingLoop.run`.
    """
    options, how, extra = options_of(settings)
    table = tables.read_table(data)
    columns = [table.column("query", QUERY, query), table.column("document", DOCUMENT, document)]
    scored = table.column("label", LABEL, label)
    missing = extra.get("missing", "error")
    train, held = split(
        table, evaluation, validation_split, options, columns[:1], required=[columns[1], scored], missing=missing
    )
    low, high = _range(train.number_column(scored), train.name)
    loaded = load_model(model, NewHead("classify", 1, replace=True), options, how)
    limit = max_tokens(loaded, max_length)

    def pairs(rows: Table) -> list[tuple[str, str]]:
        return list(zip(*(rows.texts(name) for name in columns)))

    def sequences(rows: Table) -> Sequences:
        values = [min(1.0, max(0.0, (value - low) / (high - low))) for value in rows.number_column(scored)]
        return replace(encode_texts(loaded, pairs(rows), limit=limit), targets={"labels": values})

    training = sequences(train)
    objective = Ranking(loaded, training, None if held is None else sequences(held), options)
    objective.texts = () if held is None else pairs(held)
    values = training.targets["labels"]
    counts = {"relevant": sum(value > 0.5 for value in values), "others": sum(value <= 0.5 for value in values)}
    held_pairs = None if held is None else pairs(held)
    report = describe(train, pairs(train), list(values), counts, training, limit, held_pairs)
    plan = Plan(loaded, objective, report, {"data": table.fingerprint, "max_length": limit}, card="rank")
    return run(plan, output, options, how, extra)


def _range(values: list[float], name: str) -> tuple[float, float]:
    """What labels are brought to between 0 and 1 from."""
    low, high = min(values), max(values)
    if low == high:
        raise BadInputError(f"{name}: every label is {low:g}, so there is nothing to learn")
    return (0.0, 1.0) if low >= 0 and high <= 1 else (min(low, 0.0), high)
