"""Predictions on the evaluation examples, one class for each kind of task, and what a report shows of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nativebert.errors import BadInputError
from nativebert.train import metrics
from nativebert.train.metrics import Calibration

WORST = 30  # errors that are shown
Text = str | tuple[str, ...]
Numbers = Sequence[float] | NDArray[Any]


class Columns(NamedTuple):
    """A table: names of the columns, and cells."""

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | float]]


class Confusion(NamedTuple):
    """Counts of examples, ``(C, C)``: labels down, predictions across."""

    title: str
    note: str
    labels: Sequence[str]
    counts: NDArray[np.int64]


class Reliability(NamedTuple):
    """How often predictions are right, by their probability."""

    title: str
    note: str
    calibration: Calibration


class Scatter(NamedTuple):
    """Points: labels across, predictions up."""

    title: str
    note: str
    x: tuple[str, NDArray[np.float64]]
    y: tuple[str, NDArray[np.float64]]


class Example(NamedTuple):
    """An example that went wrong: its texts, and what there is to say of it."""

    texts: tuple[str, ...]
    facts: Sequence[tuple[str, str]]


class Examples(NamedTuple):
    """The worst examples, the worst first."""

    title: str
    note: str
    examples: Sequence[Example]


Section = Columns | Confusion | Reliability | Scatter | Examples


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The evaluation of a model: its predictions, and the loss of each example.

    Attributes:
        texts: of each example; a tuple of them for a pair.
        losses: of each example; None where there are none.
    """

    texts: Sequence[Text]
    losses: Numbers | None = None

    def __post_init__(self) -> None:
        for name, values in vars(self).items():
            if name not in ("labels", "names") and not isinstance(values, str | bool | None) and len(values) != len(self.texts):
                raise BadInputError(f"{name} has {len(values):,} entries, and there are {len(self.texts):,} texts")

    def sections(self) -> list[Section]:
        """What a report shows."""
        return []

    def _worst(self, badness: Numbers, note: str, facts: dict[int, list[tuple[str, str]]] | None = None) -> Examples:
        """The worst examples by a number that is 0 for a right one."""
        values = np.nan_to_num(np.asarray(badness, np.float64), nan=np.inf)
        order = [int(n) for n in np.argsort(-values, kind="stable")[:WORST] if values[n] > 0]
        wrong = int((values > 0).sum())
        shown = "All" if len(order) == wrong else f"The worst {len(order)} of"
        about = f"{shown} {wrong:,} among {len(self.texts):,} examples. {note}"
        examples = [Example(_tuple(self.texts[n]), (facts or {}).get(n) or self._facts(n)) for n in order]
        return Examples("Worst errors", about, examples)

    def _facts(self, n: int) -> list[tuple[str, str]]:
        return [] if self.losses is None else [("loss", f"{self.losses[n]:.3f}")]


@dataclass(frozen=True, kw_only=True)
class LabelEvaluation(Evaluation):
    """One label for each example.

    Attributes:
        labels: names, ``C`` of them.
        gold: index of the label of each example, ``(n,)``.
        probabilities: ``(n, C)``.
    """

    labels: Sequence[str]
    gold: NDArray[np.int64]
    probabilities: NDArray[Any]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The likeliest label of each example, ``(n,)``."""
        likeliest: NDArray[np.int64] = self.probabilities.argmax(1)
        return likeliest

    def sections(self) -> list[Section]:
        predicted, confidence = self.predicted, self.probabilities.max(1)
        counts = np.zeros((len(self.labels), len(self.labels)), np.int64)
        np.add.at(counts, (self.gold, predicted), 1)
        found = metrics.calibration(confidence, predicted == self.gold)
        own = self.probabilities[np.arange(len(self.gold)), self.gold]
        losses = self.losses if self.losses is not None else -np.log(np.maximum(own, 1e-45))
        return [
            _by_label(self.labels, counts.diagonal(), counts.sum(1), counts.sum(0)),
            Confusion("Confusion matrix", "Rows are labels, columns are predictions.", self.labels, counts),
            Reliability("Calibration", _calibration_note(found, "the likeliest label"), found),
            self._worst(np.where(predicted == self.gold, 0, losses), "Wrong predictions, those with the highest loss first."),
        ]

    def _facts(self, n: int) -> list[tuple[str, str]]:
        def named(label: int) -> str:
            return f"{self.labels[label]} ({self.probabilities[n, label]:.3f})"

        return [("label", named(self.gold[n])), ("predicted", named(self.predicted[n])), *super()._facts(n)]


@dataclass(frozen=True, kw_only=True)
class MultiLabelEvaluation(Evaluation):
    """Any number of labels for each example; a label is predicted from a probability of 0.5 on.

    Attributes:
        labels: names, ``C`` of them.
        gold: zeros and ones, ``(n, C)``.
        probabilities: ``(n, C)``.
    """

    labels: Sequence[str]
    gold: NDArray[Any]
    probabilities: NDArray[Any]

    def sections(self) -> list[Section]:
        gold, predicted = self.gold > 0.5, self.probabilities > 0.5
        found = metrics.calibration(self.probabilities.reshape(-1), gold.reshape(-1))
        losses = self.losses if self.losses is not None else np.abs(gold - self.probabilities).sum(1)
        return [
            _by_label(self.labels, (gold & predicted).sum(0), gold.sum(0), predicted.sum(0)),
            Reliability("Calibration", _calibration_note(found, "each label"), found),
            self._worst(
                np.where((gold == predicted).all(1), 0, losses),
                "Examples with a wrong label, those with the highest loss first.",
            ),
        ]

    def _facts(self, n: int) -> list[tuple[str, str]]:
        def named(chosen: NDArray[np.bool_]) -> str:
            return (
                ", ".join(f"{self.labels[k]} ({self.probabilities[n, k]:.3f})" for k in np.flatnonzero(chosen).tolist())
                or "none"
            )

        return [("labels", named(self.gold[n] > 0.5)), ("predicted", named(self.probabilities[n] > 0.5)), *super()._facts(n)]


@dataclass(frozen=True, kw_only=True)
class NumberEvaluation(Evaluation):
    """A number for each example: regression, and the similarity of pairs.

    Attributes:
        gold, predicted: ``(n,)`` each.
        names: what they are called.
        by_rank: whether only their order has to agree, as that of scores and cosines.
    """

    gold: Numbers
    predicted: Numbers
    names: tuple[str, str] = ("label", "predicted")
    by_rank: bool = False

    def sections(self) -> list[Section]:
        gold, predicted = np.asarray(self.gold, np.float64), np.asarray(self.predicted, np.float64)
        if self.by_rank:
            ranks = [metrics.ranks(values) / max(len(values) - 1, 1) for values in (gold, predicted)]
            badness, note = np.abs(ranks[0] - ranks[1]), "Those whose ranks by the two numbers differ most."
        else:
            badness, note = np.abs(gold - predicted), "Those with the greatest difference."
        points = Scatter(
            f"{self.names[1]} by {self.names[0]}",
            "A point for each example.",
            (self.names[0], gold),
            (self.names[1], predicted),
        )
        return [points, self._worst(badness, note)]

    def _facts(self, n: int) -> list[tuple[str, str]]:
        return [(self.names[0], f"{self.gold[n]:.3f}"), (self.names[1], f"{self.predicted[n]:.3f}"), *super()._facts(n)]


@dataclass(frozen=True, kw_only=True)
class TagEvaluation(Evaluation):
    """A label for each word; ``texts`` are the words, joined by spaces.

    Attributes:
        words: of each sentence.
        gold, predicted: as many labels of each sentence.
    """

    words: Sequence[Sequence[str]]
    gold: Sequence[Sequence[str]]
    predicted: Sequence[Sequence[str]]

    @classmethod
    def of(
        cls,
        words: Sequence[Sequence[str]],
        gold: Sequence[Sequence[str]],
        predicted: Sequence[Sequence[str]],
        losses: Numbers | None = None,
    ) -> TagEvaluation:
        """An evaluation of sentences."""
        texts = [" ".join(row) for row in words]
        return cls(texts=texts, losses=losses, words=words, gold=gold, predicted=predicted)

    def sections(self) -> list[Section]:
        entities = metrics.are_entities((*self.gold, *self.predicted))
        pairs = [(_type(a), _type(b)) for one, other in zip(self.gold, self.predicted) for a, b in zip(one, other)]
        names = sorted(set(chain.from_iterable(pairs)), key=lambda name: (name != "O", name))
        place = {name: n for n, name in enumerate(names)}
        counts = np.zeros((len(names), len(names)), np.int64)
        for (a, b), count in Counter(pairs).items():
            counts[place[a], place[b]] = count
        sections: list[Section] = []
        facts: dict[int, list[tuple[str, str]]] = {}
        if entities:
            gold, predicted = [[metrics.entities(row) for row in rows] for rows in (self.gold, self.predicted)]
            hits, true, guessed = (Counter[str]() for _ in range(3))
            wrong = []
            for n, (true_ones, guesses) in enumerate(zip(gold, predicted)):
                for counter, found in ((hits, true_ones & guesses), (true, true_ones), (guessed, guesses)):
                    counter.update(kind for _, _, kind in found)
                wrong.append(len(true_ones ^ guesses))
                facts[n] = self._entity_facts(n, true_ones, guesses)
            kinds = sorted({*true, *guessed})
            numbers = (np.array([counter[kind] for kind in kinds], np.int64) for counter in (hits, true, guessed))
            sections.append(_by_label(kinds, *numbers, what="entities", first="Type"))
            note = "Sentences with wrong entities, those with most of them first."
        else:
            sections.append(_by_label(names, counts.diagonal(), counts.sum(1), counts.sum(0), what="words"))
            wrong = [sum(a != b for a, b in zip(one, other)) for one, other in zip(self.gold, self.predicted)]
            facts = {n: self._word_facts(n) for n, count in enumerate(wrong) if count}
            note = "Sentences with wrong words, those with most of them first."
        words = "Words. Rows are labels, columns are predictions" + (", without B- and I-." if entities else ".")
        losses = self.losses if self.losses is not None else np.zeros(len(self.texts))
        # by the loss among those with as many wrong ones
        badness = np.array(wrong, np.float64) + np.where(wrong, np.tanh(np.asarray(losses, np.float64)) / 2, 0.0)
        return [*sections, Confusion("Confusion matrix", words, names, counts), self._worst(badness, note, facts)]

    def _entity_facts(self, n: int, gold: set[metrics.Entity], predicted: set[metrics.Entity]) -> list[tuple[str, str]]:
        def told(entities: set[metrics.Entity]) -> str:
            return "; ".join(f"{' '.join(self.words[n][start:end])} ({kind})" for start, end, kind in sorted(entities))

        facts = [
            ("missed", told(gold - predicted)),
            ("wrongly predicted", told(predicted - gold)),
            ("right", told(gold & predicted)),
        ]
        return [*(fact for fact in facts if fact[1]), *super()._facts(n)]

    def _word_facts(self, n: int) -> list[tuple[str, str]]:
        wrong = [
            f"{word} ({label}, predicted {guess})"
            for word, label, guess in zip(self.words[n], self.gold[n], self.predicted[n])
            if label != guess
        ]
        return [("wrong", "; ".join(wrong)), *super()._facts(n)]


@dataclass(frozen=True, kw_only=True)
class AnswerEvaluation(Evaluation):
    """Answers to questions; ``texts`` are pairs of question and context.

    Attributes:
        answers: those that count as right, none for a question without answer.
        predicted: the model's, empty for none.
    """

    answers: Sequence[Sequence[str]]
    predicted: Sequence[str]

    def sections(self) -> list[Section]:
        scores = np.array([metrics.answer_scores(a, b) for a, b in zip(self.answers, self.predicted)]).reshape(-1, 2)
        has, told = (np.array([bool(a) for a in values], bool) for values in (self.answers, self.predicted))
        rows: list[list[str | float]] = []
        for name, chosen in (("with an answer", has), ("without an answer", ~has)):
            if chosen.any():
                exact, f1 = (100 * scores[chosen].mean(0)).tolist()
                rows.append([name, int(chosen.sum()), int((chosen & told).sum()), exact, f1])
        header = ("Questions", "Rows", "Answered", "Exact match", "F1")
        worst = self._worst(1 - scores[:, 1], "Those whose answer shares the fewest words with the right one.")
        return [Columns("By kind of question", "Exact match and F1 in percent.", header, rows), worst]

    def _facts(self, n: int) -> list[tuple[str, str]]:
        answers = " / ".join(dict.fromkeys(self.answers[n])) or "(no answer)"
        return [("answer", answers), ("predicted", self.predicted[n] or "(no answer)"), *super()._facts(n)]


@dataclass(frozen=True, kw_only=True)
class RankEvaluation(Evaluation):
    """Documents ranked by query; ``texts`` are pairs of a query and its best relevant document.

    Attributes:
        ranks: of that document, from 1.
        nearest: the document in the first place.
    """

    ranks: Sequence[int] | NDArray[np.int64]
    nearest: Sequence[str]

    def sections(self) -> list[Section]:
        ranks = np.asarray(self.ranks)
        bands = {"1": (1, 1), "2 to 3": (2, 3), "4 to 10": (4, 10), "11 to 100": (11, 100), "above 100": (101, np.inf)}
        inside = {name: (ranks >= low) & (ranks <= high) for name, (low, high) in bands.items()}
        rows: list[list[str | float]] = [
            [name, int(found.sum()), float(found.mean())] for name, found in inside.items() if found.any()
        ]
        header = ("Rank", "Queries", "Share")
        note = "Place of the best relevant document, from 1."
        return [Columns("Ranks", note, header, rows), self._worst(ranks - 1, "Those whose relevant document comes last.")]

    def _facts(self, n: int) -> list[tuple[str, str]]:
        return [("rank", f"{self.ranks[n]}"), ("in the first place", self.nearest[n]), *super()._facts(n)]


def _tuple(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text)


def _type(label: str) -> str:
    """A label without the mark of a place in an entity."""
    return label[2:] if metrics.are_entities([[label]]) else label


def _by_label(
    labels: Sequence[str],
    right: NDArray[np.int64],
    true: NDArray[np.int64],
    guessed: NDArray[np.int64],
    *,
    what: str = "rows",
    first: str = "Label",
) -> Columns:
    """Precision, recall and F1 of each label."""
    rows: list[list[str | float]] = []
    for label, hits, total, predicted in zip(labels, right.tolist(), true.tolist(), guessed.tolist()):
        f1 = 2 * hits / (total + predicted) if total + predicted else float("nan")
        precision, recall = hits / predicted if predicted else float("nan"), hits / total if total else float("nan")
        rows.append([label, precision, recall, f1, total, predicted])
    header = (first, "Precision", "Recall", "F1", what.capitalize(), "Predicted")
    note = "The worst F1 first. A dash stands where nothing was predicted, or nothing is there."
    return Columns(f"By {first.lower()}", note, header, sorted(rows, key=lambda row: np.nan_to_num(float(row[3]), nan=2)))


def _calibration_note(found: Calibration, what: str) -> str:
    return (
        f"Probability of {what}, and how often it is right. Expected calibration error: {found.error:.4f}, over {int(found.counts.sum()):,} predictions. "
        "On the diagonal, probabilities mean what they say; below it, the model is too sure."
    )
