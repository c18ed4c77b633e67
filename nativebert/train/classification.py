"""Sequence classification: one label, several labels, or numbers, for each text or pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace as dataclass_replace
from os import PathLike
from typing import Any, Literal, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nativebert.config import NewHead
from nativebert.errors import BadInputError
from nativebert.loading import LoadedModel
from nativebert.train import data as tables
from nativebert.train import losses, metrics
from nativebert.train.data import Table
from nativebert.train.encode import encode_texts, max_tokens
from nativebert.train.evaluation import Evaluation, LabelEvaluation, MultiLabelEvaluation, NumberEvaluation
from nativebert.train.objective import HeadObjective, Sequences
from nativebert.train.options import TrainingOptions
from nativebert.train.run import FineTuned, Plan, RunSettings, Source, describe, load_model, options_of, run, split

Problem = Literal["single_label_classification", "multi_label_classification", "regression"]


class Classification(HeadObjective):
    """Learn labels of texts.

    Args:
        model: a model with a head for ``"classify"``.
        train, evaluation: sequences with the target ``labels``: an index each, a row of zeros and ones, or numbers.
        options: of the run.
        problem: what the labels are.
        class_weights: how much an example of each label counts in the loss, ``(C,)``; None for all the same.
    """

    task = "classify"

    def __init__(
        self,
        model: LoadedModel,
        train: Sequences,
        evaluation: Sequences | None,
        options: TrainingOptions,
        *,
        problem: Problem = "single_label_classification",
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(model, train, evaluation, options)
        self.problem = problem
        self.class_weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        classes = model.config.heads[self.task].classes
        if self.class_weights is not None and (problem == "regression" or len(self.class_weights) != classes):
            raise BadInputError(f"class_weights must be {classes} numbers, one for each label, and are not for regression")
        self.default_metric = {"single_label_classification": "accuracy", "regression": "spearman"}.get(problem, "f1_micro")

    def targets(self, sequences: Sequences, indices: NDArray[np.int64], epoch: int) -> tuple[dict[str, Tensor], float]:
        labels = torch.as_tensor(np.asarray([sequences.targets["labels"][n] for n in indices]))
        if self.problem != "single_label_classification":
            labels = labels.float()
            return {"labels": labels}, float(labels.numel())
        if self.class_weights is None:
            return {"labels": labels}, float(len(labels))
        return {"labels": labels}, float(self.class_weights[labels].sum())  # the reference's mean is weighted, too

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        weight = None if self.class_weights is None else self.class_weights.to(logits)
        smoothing = self.options.label_smoothing_factor
        return losses.classification(logits, targets["labels"], self.problem, weight=weight, smoothing=smoothing).total

    def fingerprint(self) -> dict[str, Any]:
        weights = None if self.class_weights is None else self.class_weights.tolist()
        return super().fingerprint() | {"problem": self.problem, "class_weights": weights}

    def evaluate(self) -> dict[str, float]:
        if self.evaluation is None or not len(self.evaluation):
            return {}
        logits = self.predicted_rows(self.evaluation)
        targets, count = self.targets(self.evaluation, np.arange(len(self.evaluation)), 0)
        loss = float(self.loss(logits, targets)) / count
        return {"loss": loss} | self.metrics(targets["labels"].numpy(), logits)

    def evaluation_details(self) -> Evaluation | None:
        if self.evaluation is None or not len(self.texts):
            return None
        logits = self.predicted_rows(self.evaluation)
        gold = self.targets(self.evaluation, np.arange(len(self.evaluation)), 0)[0]["labels"]
        labels = self.model.config.labels
        if self.problem == "single_label_classification":
            own = F.cross_entropy(logits, gold, reduction="none").numpy()
            shares = torch.softmax(logits, 1).numpy()
            return LabelEvaluation(texts=self.texts, losses=own, labels=labels, gold=gold.numpy(), probabilities=shares)
        if self.problem == "multi_label_classification":
            each = F.binary_cross_entropy_with_logits(logits, gold, reduction="none").mean(1).numpy()
            chances = torch.sigmoid(logits).numpy()
            return MultiLabelEvaluation(texts=self.texts, losses=each, labels=labels, gold=gold.numpy(), probabilities=chances)
        if gold.dim() > 1:
            return None
        return NumberEvaluation(texts=self.texts, gold=gold.numpy(), predicted=logits[:, 0].numpy())

    def metrics(self, labels: NDArray[Any], logits: Tensor) -> dict[str, float]:
        """Metrics of logits ``(n, C)``."""
        if self.problem == "regression":
            return metrics.regression(labels, logits.view(labels.shape).numpy())
        if self.problem == "multi_label_classification":
            chances = torch.sigmoid(logits).numpy()
            return metrics.multi_label(labels.astype(np.int64), (logits > 0).long().numpy(), chances)
        return metrics.single_label(labels, logits.argmax(1).numpy(), torch.softmax(logits, 1).numpy())


def classify(
    data: Source,
    model: str | PathLike[str],
    output: str | PathLike[str] | None = None,
    *,
    evaluation: Source | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    problem_type: Problem | None = None,
    class_weights: Sequence[float] | Mapping[str, float] | Literal["balanced"] | None = None,
    max_length: int | None = None,
    too_long: str = "truncate",
    validation_split: float = 0.1,
    **settings: Unpack[RunSettings],
) -> FineTuned:
    """Fine-tune a model to classify texts, or pairs of texts.

    Args:
        data: a table with texts and labels: a path (csv, tsv, jsonl, json, parquet), a ``datasets.Dataset``, a data frame, columns by name, or
            a list of rows.
        model: a folder, or a model on the Hub. Its head is kept if it has one with these labels; else a new one is made.
        output: a folder for checkpoints, and at the end for the model; None to save nothing.
        evaluation: a table to evaluate with; None to hold out a share of the data.
        text, text_pair, label: the columns; None for those with a usual name (``text``, ``sentence``, ``sentence1`` with ``sentence2``, ...;
            ``label``, ``labels``, ``category``, ...). Several columns of labels, each of numbers or of 0 and 1, are several labels.
        labels: the names of the labels, in order; None for those of the data, sorted.
        problem_type: what the labels are; None for what the data shows: lists are several labels, numbers with a fraction regression.
        class_weights: how much an example of each label counts in the loss; ``"balanced"`` for the inverse of its frequency.
        max_length: most tokens of a text; None for the model's own limit.
        too_long: ``"truncate"`` or ``"error"``, for longer texts.
        validation_split: share that is held out for evaluation, by the hash of the text; 0 for none.
        **settings: see :class:`~nativebert.train.options.TrainingOptions` and :class:`~nativebert.train.run.ModelOptions`; ``resume``,
            ``callbacks``, ``progress``.

    Raises:
        BadInputError: no such column, missing labels, empty texts, a single label, or a label of the evaluation that was not trained.
        NativeBertError: the model cannot be loaded, or the run ends: see :meth:`nativebert.train.loop.TrainingLoop.run`.
    """
    options, how, extra = options_of(settings)
    table = tables.read_table(data)
    columns = _text_columns(table, text, text_pair)
    names = [label] if isinstance(label, str) else list(label or [table.column("label", LABEL)])
    for name in names:
        table.column("label", (), name)
    train, held = split(
        table, evaluation, validation_split, options, columns, required=names, missing=extra.get("missing", "error")
    )
    problem = problem_type or _problem(train, names)
    known = _labels(train, names, problem, labels)
    loaded = load_model(model, NewHead("classify", known, problem, replace=True), options, how)
    limit = max_tokens(loaded, max_length)

    def sequences(rows: Table) -> Sequences:
        encoded = encode_texts(loaded, _texts(rows, columns), limit=limit, too_long=too_long)
        return dataclass_replace(encoded, targets={"labels": _targets(rows, names, problem, known)})

    training = sequences(train)
    counts = _counts(training.targets["labels"], problem, known)
    weights = _weights(class_weights, known, counts)
    objective = Classification(
        loaded, training, None if held is None else sequences(held), options, problem=problem, class_weights=weights
    )
    objective.texts = () if held is None else _texts(held, columns)
    shown = _texts(train, columns)
    as_labels = [tuple(row) if isinstance(row, list) else row for row in training.targets["labels"]]
    report = describe(train, shown, as_labels, counts, training, limit, objective.texts if held is not None else None)
    plan = Plan(loaded, objective, report, {"data": table.fingerprint, "labels": list(known), "max_length": limit})
    return run(plan, output, options, how, extra)


TEXT = ("text", "sentence", "review", "content", "title", "question")
PAIR = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text", "text_pair"),
)
LABEL = ("label", "labels", "category", "class", "target", "sentiment", "score")


def _text_columns(table: Table, text: str | None, pair: str | None) -> list[str]:
    """The column of texts, or the two of pairs."""
    if text is None and pair is None:
        both = next((names for names in PAIR if all(name in table.columns for name in names)), None)
        return list(both) if both else [table.column("text", TEXT)]
    first = [table.column("text", TEXT, text)]
    return first if pair is None else [*first, table.column("text_pair", (), pair)]


def _texts(table: Table, columns: Sequence[str]) -> list[Any]:
    texts = [table.texts(name) for name in columns]
    return texts[0] if len(texts) == 1 else list(zip(*texts))


def _problem(table: Table, names: Sequence[str]) -> Problem:
    """What the labels are."""
    if len(names) > 1:
        numbers = {tables.as_number(value) for name in names for value in table.present(name)}
        return "multi_label_classification" if numbers <= {0.0, 1.0} else "regression"
    values = table.present(names[0])
    if any(isinstance(value, list | tuple | set) for value in values):
        return "multi_label_classification"
    if all(tables.as_number(value) is not None for value in values) and not all(float(value).is_integer() for value in values):
        return "regression"
    return "single_label_classification"


def _labels(table: Table, names: Sequence[str], problem: Problem, wanted: Sequence[str] | None) -> list[str]:
    """The names of the classes, in order."""
    if problem == "regression" or len(names) > 1:
        return list(names)
    if wanted is not None:
        return list(map(str, wanted))
    if names[0] in table.classes:
        return list(table.classes[names[0]])
    values = table.present(names[0])
    if problem == "multi_label_classification":
        values = [one for value in values for one in _several(value)]
    found = {_name(value) for value in values}
    numbers = [int(name) for name in found if name.isdecimal()]
    known = sorted(found, key=int) if len(numbers) == len(found) else sorted(found)
    if len(known) < 2 and problem == "single_label_classification":
        raise BadInputError(
            f"{table.name}: every training example has the label {known[0]!r}, so there is nothing to learn; add examples of other labels, or name "
            "all labels with labels=[...]"
        )
    if len(numbers) == len(found) and max(numbers) != len(found) - 1 and max(numbers) < 2 * len(found):
        known = [str(n) for n in range(max(numbers) + 1)]  # a class that no example here has
    return known


def _several(value: Any) -> list[Any]:
    """The labels of an example that may have several; as text, they are separated by ``|`` or ``;``."""
    if isinstance(value, str):
        return [part.strip() for part in value.replace(";", "|").split("|") if part.strip()]
    return list(value) if isinstance(value, list | tuple | set) else [value]


def _name(value: Any) -> str:
    """A label as text: 1.0 of a table with gaps is the label 1."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _targets(table: Table, names: Sequence[str], problem: Problem, known: Sequence[str]) -> list[Any]:
    """What the loss compares with: an index, a row of zeros and ones, or numbers."""
    if problem == "regression" or len(names) > 1:
        columns = [table.number_column(name) for name in names]
        return [list(row) for row in zip(*columns)] if len(names) > 1 else columns[0]
    indices = {name: n for n, name in enumerate(known)}
    as_index = names[0] in table.classes  # datasets' ClassLabel: the column holds indices

    def index(value: Any, row: int) -> int:
        if as_index and not isinstance(value, str):
            value = table.classes[names[0]][int(value)]  # whose order may be another one than the training data's
        if (name := _name(value)) not in indices:
            raise BadInputError(
                f"{table.name}, row {table.row(row)}: the label {name!r} was not trained; the labels are {', '.join(map(repr, known[:10]))}"
                f"{' ...' if len(known) > 10 else ''}. Add training examples of it, or leave the row out."
            )
        return indices[name]

    values = table.present(names[0]) if problem == "single_label_classification" else list(table.columns[names[0]])
    if problem == "single_label_classification":
        return [index(value, n) for n, value in enumerate(values)]
    rows = []
    for n, value in enumerate(values):
        row = [0.0] * len(known)
        for one in _several(value) if value is not None else ():
            row[index(one, n)] = 1.0
        rows.append(row)
    return rows


def _counts(targets: Sequence[Any], problem: Problem, known: Sequence[str]) -> dict[str, int]:
    """Examples of each label."""
    if problem == "regression":
        return {}
    if problem == "multi_label_classification":
        return {name: int(sum(row[n] for row in targets)) for n, name in enumerate(known)}
    return {name: sum(target == n for target in targets) for n, name in enumerate(known)}


def _weights(wanted: Any, known: Sequence[str], counts: Mapping[str, int]) -> list[float] | None:
    """The weight of each label."""
    if wanted is None:
        return None
    if isinstance(wanted, Mapping):
        if unknown := [name for name in wanted if name not in known]:
            raise BadInputError(f"class_weights names {unknown[0]!r}; the labels are {', '.join(map(repr, known))}")
        return [float(wanted.get(name, 1.0)) for name in known]
    if isinstance(wanted, str):
        if wanted != "balanced":
            raise BadInputError(f"class_weights must be 'balanced', numbers, or numbers by label, not {wanted!r}")
        total = sum(counts.values())
        return [total / (len(known) * counts[name]) if counts[name] else 0.0 for name in known]
    return list(map(float, wanted))
