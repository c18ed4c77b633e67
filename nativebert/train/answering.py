"""Extractive question answering: the first and the last token of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Unpack

import torch
from torch import Tensor

from nativebert.checks import whole
from nativebert.config import NewHead
from nativebert.errors import BadInputError
from nativebert.nn.model import Model
from nativebert.nn.packed import Packed
from nativebert.tasks.answer import Answerer
from nativebert.train import data as tables
from nativebert.train import losses, metrics
from nativebert.train.data import Table
from nativebert.train.encode import encode_questions, max_tokens
from nativebert.train.evaluation import AnswerEvaluation, Evaluation
from nativebert.train.objective import HeadObjective, Sequences
from nativebert.train.run import FineTuned, Plan, RunSettings, Source, describe, load_model, options_of, run, split


class Answering(HeadObjective):
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
        first, last = losses.spans(logits[:, 0], logits[:, 1], targets["start_positions"], targets["end_positions"])
        return (first.total + last.total) / 2

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
            found |= metrics.answering(self.questions.answers, self.predicted_answers())
        return found

    def predicted_answers(self) -> list[str]:
        """The answers to the evaluation's questions, empty for none."""
        assert self.questions is not None
        with self.evaluating() as model:
            answerer = Answerer(model, device=self.device, too_long="window", max_tokens=self.limit, stride=self.stride)
        no_answer = any(not answers for answers in self.questions.answers)
        results = answerer(self.questions.questions, self.questions.contexts, no_answer=no_answer, progress=False)
        return [result["answer"] for result in results]

    def evaluation_details(self) -> Evaluation | None:
        if self.questions is None:
            return None
        pairs = list(zip(self.questions.questions, self.questions.contexts))
        return AnswerEvaluation(texts=pairs, answers=self.questions.answers, predicted=self.predicted_answers())


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


def answer(
    data: Source,
    model: str | PathLike[str],
    output: str | PathLike[str] | None = None,
    *,
    evaluation: Source | None = None,
    question: str | None = None,
    context: str | None = None,
    answers: str | None = None,
    max_length: int = 384,
    stride: int = 128,
    validation_split: float = 0.1,
    **settings: Unpack[RunSettings],
) -> FineTuned:
    """Fine-tune a model to find answers in texts.

    Args:
        data: a table, as for :func:`nativebert.train.classify`, with questions, contexts and answers as SQuAD has them: ``{"text": [...],
            "answer_start": [...]}``, with empty lists where there is no answer; or a text, with the column ``answer_start`` beside it.
        model: a folder, or a model on the Hub.
        output: a folder for checkpoints, and at the end for the model; None to save nothing.
        evaluation: a table to evaluate with; None to hold out a share of the data.
        question, context, answers: the columns; None for the usual names.
        max_length: most tokens of a sequence; longer contexts are split into windows.
        stride: tokens that neighbouring windows share.
        validation_split: share that is held out for evaluation, by the hash of the context; 0 for none.
        **settings: see :class:`~nativebert.train.options.TrainingOptions` and :class:`~nativebert.train.run.ModelOptions`.

    Raises:
        BadInputError: no such column, or an answer that does not stand where it is said to.
        NativeBertError: the model cannot be loaded, or the run ends: see :meth:`nativebert.train.loop.TrainingLoop.run`.
    """
    options, how, extra = options_of(settings)
    table = tables.read_table(data)
    columns = (
        table.column("question", ("question", "query"), question),
        table.column("context", ("context", "passage", "text"), context),
        table.column("answers", ("answers", "answer"), answers),
    )
    train, held = split(
        table, evaluation, validation_split, options, columns[1:2], required=columns[:1], missing=extra.get("missing", "error")
    )
    loaded = load_model(model, NewHead("answer", replace=True), options, how)
    limit = min(max_length, max_tokens(loaded))

    def sequences(rows: Table) -> tuple[Sequences, Questions]:
        asked = _questions(rows, columns)
        spans = [found[0][1] if found else None for found in asked]
        texts, contexts = rows.texts(columns[0]), rows.texts(columns[1])
        encoded = encode_questions(loaded, texts, contexts, spans, limit=limit, stride=stride)
        return encoded, Questions(texts, contexts, [[text for text, _ in found] for found in asked])

    training, questions = sequences(train)
    objective = Answering(loaded, training, None, options)
    objective.limit, objective.stride = limit, stride
    if held is not None:
        objective.evaluation, objective.questions = sequences(held)
    pairs = list(zip(questions.questions, questions.contexts))
    counts = {"with an answer": sum(map(bool, questions.answers)), "without": sum(not found for found in questions.answers)}
    labels = [tuple(found[:1]) for found in questions.answers]
    held_pairs = None if objective.questions is None else list(zip(objective.questions.questions, objective.questions.contexts))
    report = describe(train, pairs, labels, counts, training, limit, held_pairs)
    plan = Plan(loaded, objective, report, {"data": table.fingerprint, "max_length": limit, "stride": stride})
    return run(plan, output, options, how, extra)


Answer = tuple[str, tuple[int, int]]  # its text, and where it stands in the context


def _questions(table: Table, columns: tuple[str, str, str]) -> list[list[Answer]]:
    """The answers to each question."""
    starts = table.columns.get("answer_start")
    rows = []
    for n, (context, given) in enumerate(zip(table.columns[columns[1]], table.columns[columns[2]])):
        if isinstance(given, Mapping):
            texts, places = given.get("text"), given.get("answer_start")
        else:
            texts, places = given, starts[n] if starts is not None else None
        texts = [] if tables.is_missing(texts) else [texts] if isinstance(texts, str) else list(texts or ())
        places = [] if places is None else list(places) if isinstance(places, list | tuple) else [places]
        found: list[Answer] = []
        for k, text in enumerate(texts):
            start = whole(places[k]) if k < len(places) else None
            if start is None or context[start : start + len(text)] != text:
                there = "no answer_start" if start is None else f"{context[start : start + len(text)]!r} at {start}"
                raise BadInputError(f"{table.name}, row {table.row(n)}: the answer {text!r} has {there} in its context")
            found.append((text, (start, start + len(text))))
        rows.append(found)
    return rows
