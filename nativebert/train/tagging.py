"""Token classification: a label for each word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from os import PathLike
from typing import Any, Unpack

import torch
from numpy.typing import NDArray
from torch import Tensor

from nativebert.checks import whole
from nativebert.config import NewHead
from nativebert.errors import BadInputError
from nativebert.loading import load
from nativebert.text.tokenizer import Tokenizer
from nativebert.train import data as tables
from nativebert.train import losses, metrics
from nativebert.train.data import Table
from nativebert.train.encode import Span, encode_tagged, max_tokens, words_as_text, words_of_spans
from nativebert.train.evaluation import Evaluation, TagEvaluation
from nativebert.train.losses import IGNORED
from nativebert.train.objective import HeadObjective, Sequences
from nativebert.train.run import FineTuned, Plan, RunSettings, Source, describe, load_model, options_of, run, split


class Tagging(HeadObjective):
    """Learn labels of words.

    Sequences have the target ``labels``: one for each token, :data:`~nativebert.train.losses.IGNORED` for none. The loss is the mean over
    labelled tokens.
    """

    task = "tag"
    default_metric = "f1"

    def targets(self, sequences: Sequences, indices: NDArray, epoch: int) -> tuple[dict[str, Tensor], float]:  # type: ignore[type-arg]
        rows = sequences.targets["labels"]
        labels = torch.tensor(list(chain.from_iterable(rows[n] for n in indices)))  # (T,)
        return {"labels": labels}, float((labels != IGNORED).sum())

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        return losses.cross_entropy(logits, targets["labels"], smoothing=self.options.label_smoothing_factor).total

    def predicted_labels(self, sequences: Sequences) -> tuple[list[list[int]], list[list[int]], float]:
        """Labels of each example's words in order, true and predicted, and the mean loss."""
        examples = sequences.examples or list(range(len(sequences)))
        true: list[dict[int, list[int]]] = [{} for _ in range(max(examples, default=-1) + 1)]
        predicted: list[dict[int, list[int]]] = [{} for _ in true]
        total, count = 0.0, 0.0
        for indices, packed, logits in self.predict(sequences):
            targets, labelled = self.targets(sequences, indices, 0)
            total, count = total + float(self.loss(logits, targets)), count + labelled
            best = logits.argmax(1)
            parts = (torch.split(x, list(packed.lengths)) for x in (targets["labels"], best))
            for n, labels, guesses in zip(indices.tolist(), *parts):
                kept = labels != IGNORED
                true[examples[n]][n], predicted[examples[n]][n] = labels[kept].tolist(), guesses[kept].tolist()
        return _joined(true), _joined(predicted), total / max(count, 1.0)

    def evaluate(self) -> dict[str, float]:
        if self.evaluation is None or not len(self.evaluation):
            return {}
        true, predicted, loss = self.predicted_labels(self.evaluation)
        names = self.model.config.labels
        named = ([[names[label] for label in row] for row in rows] for rows in (true, predicted))
        return {"loss": loss, **metrics.tagging(*named)}

    def evaluation_details(self) -> Evaluation | None:
        if self.evaluation is None or not self.texts:
            return None
        true, predicted, _ = self.predicted_labels(self.evaluation)
        names = self.model.config.labels
        named = [[[names[label] for label in row] for row in rows] for rows in (true, predicted)]
        if any(len(words) != len(labels) for words, labels in zip(self.texts, named[0], strict=True)):
            return None  # words that have no token, or were cut, cannot be shown beside the others
        return TagEvaluation.of(self.texts, named[0], named[1])


def _joined(windows: Sequence[Mapping[int, list[int]]]) -> list[list[int]]:
    """Labels of each example, over its windows in order."""
    return [list(chain.from_iterable(of[n] for n in sorted(of))) for of in windows]


def tag(
    data: Source,
    model: str | PathLike[str],
    output: str | PathLike[str] | None = None,
    *,
    evaluation: Source | None = None,
    tokens: str | None = None,
    tags: str | None = None,
    text: str | None = None,
    entities: str | None = None,
    labels: Sequence[str] | None = None,
    max_length: int | None = None,
    too_long: str = "window",
    validation_split: float = 0.1,
    **settings: Unpack[RunSettings],
) -> FineTuned:
    """Fine-tune a model to label words: entities, parts of speech.

    Args:
        data: a table, as for :func:`nativebert.train.classify`, of one of two forms: a column of lists of words with one of lists of labels
            (CoNLL); or running texts with a column of lists of entities, each ``{"start", "end", "label"}`` in characters. Entities
            become the labels ``B-...``, ``I-...`` and ``O`` of the words that the tokenizer sees.
        model: a folder, or a model on the Hub.
        output: a folder for checkpoints, and at the end for the model; None to save nothing.
        evaluation: a table to evaluate with; None to hold out a share of the data.
        tokens, tags: the columns of the first form; None for the usual names (``tokens``, ``words``; ``tags``, ``ner_tags``, ``labels``).
        text, entities: the columns of the second form; None for the usual names.
        labels: all labels, in order; None for those of the data.
        max_length: most tokens of a sequence; None for the model's own limit.
        too_long: ``"window"`` splits longer texts, ``"truncate"`` cuts them, ``"error"`` refuses them.
        validation_split: share that is held out for evaluation; 0 for none.
        **settings: see :class:`~nativebert.train.options.TrainingOptions` and :class:`~nativebert.train.run.ModelOptions`.

    Raises:
        BadInputError: no such column, lists of different lengths, overlapping entities, or a label of the evaluation that was not trained.
        NativeBertError: the model cannot be loaded, or the run ends: see :meth:`nativebert.train.loop.TrainingLoop.run`.
    """
    options, how, extra = options_of(settings)
    table = tables.read_table(data)
    of_words = entities is None and text is None and (tokens is not None or table.has(TOKENS))
    if of_words:
        columns = table.column("tokens", TOKENS, tokens), table.column("tags", TAGS, tags)
    else:
        columns = table.column("text", TEXT, text), table.column("entities", ENTITIES, entities)
    train, held = split(
        table,
        evaluation,
        validation_split,
        options,
        columns[:1],
        required=columns[1:] if of_words else [],
        missing=extra.get("missing", "error"),
    )
    if of_words:
        read = partial(_tagged_words, columns=columns)
    else:
        # another model reads other words: which ones, its tokenizer says, before there is a model
        tokenizer = load(model, head=None, revision=how.revision, offline=how.offline).tokenizer
        read = partial(_tagged_spans, columns=columns, tokenizer=tokenizer)
    rows = read(train)
    known = list(labels) if labels is not None else _known(rows)
    loaded = load_model(model, NewHead("tag", known, replace=True), options, how)
    limit = max_tokens(loaded, max_length)

    def sequences(table: Table, rows: Sequence[Tagged]) -> Sequences:
        indices = {label: n for n, label in enumerate(known)}
        for n, (_, words) in enumerate(rows):
            if unknown := [label for _, _, label in words if label not in indices]:
                raise BadInputError(
                    f"{table.name}, row {table.row(n)}: the label {unknown[0]!r} was not trained; the labels are {', '.join(map(repr, known[:12]))}"
                    f"{' ...' if len(known) > 12 else ''}"
                )
        labelled = [[(start, end, indices[label]) for start, end, label in words] for _, words in rows]
        return encode_tagged(loaded, [text for text, _ in rows], labelled, limit=limit, too_long=too_long)

    training = sequences(train, rows)
    held_rows = None if held is None else read(held)
    evaluated = None if held is None or held_rows is None else sequences(held, held_rows)
    counts = Counter(label for _, words in rows for _, _, label in words)
    as_labels = [tuple(label for _, _, label in words) for _, words in rows]
    held_texts = None if held_rows is None else [text for text, _ in held_rows]
    report = describe(train, [text for text, _ in rows], as_labels, counts, training, limit, held_texts)
    objective = Tagging(loaded, training, evaluated, options)
    if held_rows is not None:
        objective.texts = [[text[start:end] for start, end, _ in words] for text, words in held_rows]
    plan = Plan(
        loaded, objective, report, {"data": table.fingerprint, "labels": known, "max_length": limit, "too_long": too_long}
    )
    return run(plan, output, options, how, extra)


TOKENS, TAGS = ("tokens", "words"), ("tags", "ner_tags", "labels", "pos_tags", "chunk_tags")
TEXT, ENTITIES = ("text", "sentence"), ("entities", "spans", "label")
Tagged = tuple[str, list[tuple[int, int, str]]]  # a text; first and last-plus-one character and label of each of its words


def _tagged_words(table: Table, columns: tuple[str, str]) -> list[Tagged]:
    """Rows of words and labels."""
    names = table.classes.get(columns[1])
    rows = []
    for n, (words, labels) in enumerate(zip(table.columns[columns[0]], table.columns[columns[1]])):
        where = f"{table.name}, row {table.row(n)}"
        if isinstance(words, str) or isinstance(labels, str) or words is None or labels is None:
            raise BadInputError(f"{where}: {columns[0]} and {columns[1]} must be lists, of words and of their labels")
        words, labels = list(words), list(labels)
        if len(words) != len(labels):
            raise BadInputError(f"{where} has {len(words)} words and {len(labels)} labels")
        if bad := [word for word in words if not isinstance(word, str)]:
            raise BadInputError(f"{where}: {bad[0]!r} is not a word")
        text, spans = words_as_text(words)
        named = [names[label] if names is not None and not isinstance(label, str) else str(label) for label in labels]
        rows.append((text, [(start, end, label) for (start, end), label in zip(spans, named)]))
    return rows


def _tagged_spans(table: Table, columns: tuple[str, str], tokenizer: Tokenizer) -> list[Tagged]:
    """Rows of texts with entities."""
    texts = table.texts(columns[0])
    rows = []
    for n, (text, encoding, entities) in enumerate(zip(texts, tokenizer.encode_batch(texts), table.columns[columns[1]])):
        where = f"{table.name}, row {table.row(n)}"
        spans: list[Span] = []
        for entity in entities or ():
            start, end, label = _entity(entity, where)
            if not 0 <= start < end <= len(text):
                raise BadInputError(
                    f"{where}: the entity {start}:{end} is not within the text, which has {len(text)} characters"
                )
            spans.append((start, end, label))
        try:
            rows.append((text, words_of_spans(encoding, spans)))
        except BadInputError as error:
            raise BadInputError(f"{where}: {error}") from None
    return rows


def _entity(entity: Any, where: str) -> Span:
    if isinstance(entity, Mapping):
        label = next((entity[key] for key in ("label", "type", "entity_group") if key in entity), None)
        entity = (entity.get("start"), entity.get("end"), label)
    values = list(entity) if isinstance(entity, list | tuple) else []
    if len(values) != 3 or whole(values[0]) is None or whole(values[1]) is None or not values[2]:
        raise BadInputError(f"{where}: an entity is {{'start': 0, 'end': 4, 'label': 'PER'}}, in characters, not {entity!r}")
    return int(values[0]), int(values[1]), str(values[2])


def _known(rows: Sequence[Tagged]) -> list[str]:
    """The labels of the data: ``O`` first, then the types, each with ``B-`` before ``I-``."""
    found = {label for _, words in rows for _, _, label in words}
    # an entity of one word everywhere in training may have several elsewhere
    found |= {f"I-{label[2:]}" for label in found if label.startswith("B-")}
    if len(found) < 2:
        raise BadInputError(f"every training word has the label {next(iter(found), None)!r}, so there is nothing to learn")
    return sorted(found, key=lambda label: (label != "O", label[2:] if label[:2] in ("B-", "I-") else label, label))
