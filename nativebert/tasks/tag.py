"""Token classification: entities in running text, labels of words that are given one by one."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from os import PathLike
from typing import Any, ClassVar, Literal, NamedTuple, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray

from nativebert.engine import where
from nativebert.errors import BadInputError
from nativebert.hub import Snapshot
from nativebert.nn.model import Model
from nativebert.tasks.base import Task
from nativebert.tasks.call import Call, Chunk, as_list
from nativebert.tasks.classify import checked_top_k
from nativebert.tasks.options import CallOptions, ReportOptions, TaskOptions
from nativebert.tasks.results import Entity, Report, Results, Word
from nativebert.tasks.scores import Scores, softmax
from nativebert.tasks.windows import of_ids
from nativebert.text.tokenizer import Encoding

Aggregation = Literal["none", "simple", "first", "average", "max"]
OF_WORDS = ("first", "average", "max")
"""Aggregations that label words; the others label tokens."""
AGGREGATIONS = ("none", "simple", *OF_WORDS)

Span = tuple[int, int]
Probabilities = NDArray[np.float32] | NDArray[np.float64]


class Tagger(Task):
    """Entities in texts, by a token-classification model.

    Entities are stretches of the original text: ``text[start:end] == entity["text"]`` always, never empty, no whitespace at either end,
    and no two of them overlap (except the tokens of ``aggregation="none"``). docs/tasks/tag.md has every rule.

    Args:
        model: a folder, a Hub id, a :class:`~nativebert.hub.Snapshot`, or a loaded model with the head ``"tag"``.
        aggregation: how tokens become entities. ``"none"``: they do not, each token is an item by itself. ``"simple"``: neighbouring tokens
            are joined as the labels' scheme says. The others give each word one label before words are joined: ``"first"`` that of its
            first token, ``"average"`` that of its tokens' mean probabilities, ``"max"`` that of its most certain token.
        ignore: labels left out: whole labels of the model (``"O"``, ``"B-PER"``), or types of entities (``"PER"``).
        **options: see :class:`~nativebert.tasks.options.TaskOptions`. ``too_long="window"``, the default, takes each token's label from the
            window in which it stands farther from an edge.

    Attributes:
        labels: the model's labels, in the order of its outputs.
        scheme: how labels mark where entities begin: ``"BIO"``, ``"BIOES"``, ``"BILOU"``, or ``"bare"`` for labels that do not.
        aggregation, ignore: as given.

    Raises:
        NativeBertError: one of its kinds, for a model that cannot be had, is not understood, or has no token classifier.
    """

    head = "tag"
    defaults: ClassVar[TaskOptions] = {"too_long": "window"}

    def __init__(
        self,
        model: str | PathLike[str] | Snapshot | Model,
        *,
        aggregation: str = "simple",
        ignore: Sequence[str] = ("O",),
        **options: Unpack[TaskOptions],
    ) -> None:
        self.aggregation = _one_of(AGGREGATIONS, aggregation)
        super().__init__(model, **options)
        self.labels = self.encoder.labels
        self.scheme, tags = read_labels(self.labels)
        self.ignore = tuple(as_list(ignore, "ignore"))
        left_out = _left_out(self.labels, tags, self.ignore)
        self._tags = [None if out else tag for tag, out in zip(tags, left_out, strict=True)]
        self._kept = ~np.array(left_out)
        self._of_label, self._of_type = _indices(self.labels), _indices([tag.label for tag in tags])
        self._outside = "O" if "O" in self.labels or not self.ignore else self.ignore[0]
        self._prefix_len = len(self.tokenizer.frame[0])

    def __repr__(self) -> str:
        return (
            f"Tagger({self.reference!r}, {len(self.labels)} labels ({self.scheme}), aggregation={self.aggregation!r}, "
            f"max_tokens={self.max_tokens}, {where(self.device)})"
        )

    @overload
    def __call__(
        self,
        texts: Iterable[str],
        *,
        aggregation: Aggregation | None = None,
        top_k: int | None = 1,
        return_report: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> Results[list[Entity]]: ...
    @overload
    def __call__(
        self,
        texts: Iterable[str],
        *,
        aggregation: Aggregation | None = None,
        top_k: int | None = 1,
        return_report: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[Results[list[Entity]], Report]: ...
    def __call__(
        self, texts: Iterable[str], *, aggregation: str | None = None, top_k: int | None = 1, **options: Unpack[ReportOptions]
    ) -> Any:
        """The entities in texts.

        Args:
            texts: strings; a single string is taken as a list of one.
            aggregation: in place of the Tagger's own.
            top_k: how many labels of each entity, with their scores; None for all. The first is always the entity's own, with its score.
            **options: see :class:`~nativebert.tasks.options.CallOptions`.

        Returns:
            For each text its entities, in their order: ``{"text", "label", "score", "start", "end"}``, characters of the text, the end not
            included. ``label`` is the type (``"PER"``), or the whole label (``"B-PER"``) of ``aggregation="none"``; ``score`` is the mean
            probability of what was joined. Where ``top_k`` is not 1, also ``"labels"``, a list of ``{"label", "score"}``, best first, of
            equal scores the label that the model has first: of the types, or of the whole labels under ``"none"``; those that ``ignore``
            names are among them. The score of a type is the mean, over what was joined, of the highest probability of its labels.

        Raises:
            BadInputError: something that is not a string, an unknown aggregation, or a ``top_k`` below 1.
            TooLongError: a text is longer than ``max_tokens`` and ``too_long="error"``.
        """
        how = self.aggregation if aggregation is None else _one_of(AGGREGATIONS, aggregation)
        top_k = checked_top_k(top_k)
        items = _running_texts(texts)
        results: list[list[dict[str, Any]]] = []
        with Call(self, items, options) as call:
            for chunk in call.chunks():
                encodings = self.tokenizer.encode_batch(chunk.items, first=chunk.start)
                rows = self._probabilities(encodings, chunk)
                results += [
                    self._entities(text, e, p, how, top_k) for text, e, p in zip(chunk.items, encodings, rows, strict=True)
                ]
        like = {"text": "", "label": "", "score": 0.0, "start": 0, "end": 0}
        return call.results(results, [like if top_k == 1 else like | {"labels": [{"label": "", "score": 0.0}]}])

    @overload
    def words(
        self,
        sentences: Iterable[Sequence[str]],
        *,
        aggregation: Literal["first", "average", "max"] = "first",
        top_k: int | None = 1,
        return_report: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> Results[list[Word]]: ...
    @overload
    def words(
        self,
        sentences: Iterable[Sequence[str]],
        *,
        aggregation: Literal["first", "average", "max"] = "first",
        top_k: int | None = 1,
        return_report: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[Results[list[Word]], Report]: ...
    def words(
        self,
        sentences: Iterable[Sequence[str]],
        *,
        aggregation: str = "first",
        top_k: int | None = 1,
        **options: Unpack[ReportOptions],
    ) -> Any:
        """A label for each word of texts that are split into words, as CoNLL evaluation wants them.

        The words of a sentence are read as running text, one space between them.

        Args:
            sentences: lists of words.
            aggregation: ``"first"``, ``"average"`` or ``"max"``, of the tokens of a word.
            top_k: how many labels of each word, with their scores; None for all. The first is always the word's own, with its score.
            **options: as for a call.

        Returns:
            For each sentence ``{"word", "label", "score"}`` for each of its words, in their order; labels are whole (``"B-ORG"``) and none is
            left out. A word without a token (an empty one, or one beyond where a sentence was cut) has the label ``"O"`` (or, of a model
            without that label, the first of ``ignore``) and the score 0.0. Where ``top_k`` is not 1, also ``"labels"``, a list of
            ``{"label", "score"}``, best first; of a word without a token, its label alone.

        Raises:
            BadInputError: something that is not a list of strings, another aggregation, or a ``top_k`` below 1.
            TooLongError: a sentence is longer than ``max_tokens`` and ``too_long="error"``.
        """
        how = _one_of(OF_WORDS, aggregation)
        top_k = checked_top_k(top_k)
        items = [_words_of(n, sentence) for n, sentence in enumerate(as_list(sentences, "sentences"))]
        results: list[list[dict[str, Any]]] = []
        with Call(self, items, options) as call:
            for chunk in call.chunks():
                texts = [" ".join(words) for words in chunk.items]
                encodings = self.tokenizer.encode_batch(texts, first=chunk.start)
                rows = self._probabilities(encodings, chunk)
                results += [
                    self._labelled(words, text, e, p, how, top_k)
                    for words, text, e, p in zip(chunk.items, texts, encodings, rows, strict=True)
                ]
        like = {"word": "", "label": "", "score": 0.0}
        return call.results(results, [like if top_k == 1 else like | {"labels": [{"label": "", "score": 0.0}]}])

    @overload
    def probabilities(
        self, texts: Iterable[str], *, return_report: Literal[False] = False, **options: Unpack[CallOptions]
    ) -> list[tuple[Encoding, Scores]]: ...
    @overload
    def probabilities(
        self, texts: Iterable[str], *, return_report: Literal[True], **options: Unpack[CallOptions]
    ) -> tuple[list[tuple[Encoding, Scores]], Report]: ...
    def probabilities(self, texts: Iterable[str], **options: Unpack[ReportOptions]) -> Any:
        """Probabilities of the labels for each token, before aggregation.

        Args:
            texts, **options: as for a call.

        Returns:
            For each text its encoding, and float32 ``(tokens, labels)`` for the tokens that are the text's own (``encoding.own``) and were
            not cut.

        Raises:
            BadInputError, TooLongError: as a call.
        """
        results: list[tuple[Encoding, Scores]] = []
        with Call(self, _running_texts(texts), options) as call:
            for chunk in call.chunks():
                encodings = self.tokenizer.encode_batch(chunk.items, first=chunk.start)
                results += zip(encodings, self._probabilities(encodings, chunk), strict=True)
        return call.returned(results)

    # -- the steps of a call

    def _probabilities(self, encodings: list[Encoding], chunk: Chunk) -> list[Scores]:
        """Probabilities of the labels for each token of each text that was not cut, ``(tokens, labels)``, special tokens left out."""
        windows = of_ids(chunk, [e.ids for e in encodings])
        logits = windows.merge(self._token_logits(windows, chunk), len(encodings))
        return np.split(softmax(torch.cat(logits)), np.cumsum([len(x) for x in logits[:-1]]))

    def _entities(self, text: str, e: Encoding, p: Probabilities, how: str, top_k: int | None) -> list[dict[str, Any]]:
        tokens = slice(self._prefix_len, self._prefix_len + len(p))
        first = list(range(len(p)))  # first token of what is labelled: of each token, or of each word
        if how in OF_WORDS:
            first = _word_starts(e.word_ids[tokens])
            p = _merged(p, first, how)
        best = p.argmax(1)
        if not self._kept[best].any():
            return []
        offsets = e.offsets[tokens]
        extents = [(offsets[a][0], offsets[b - 1][1]) for a, b in pairwise([*first, len(offsets)])]
        if how == "simple":
            extents = _without_marks(e.tokens[tokens], extents)
        spans = _visible(text, extents, disjoint=how != "none")
        visible = [n for n, (start, end) in enumerate(spans) if start < end]
        labels, scores = best[visible].tolist(), p.max(1)[visible].tolist()
        if how == "none":
            groups = [(n, n + 1, self.labels[label]) for n, label in enumerate(labels) if self._tags[label]]
        else:
            groups = merge_tags([self._tags[label] for label in labels])
        entities = []
        for a, b, name in groups:
            start, end = spans[visible[a]][0], spans[visible[b - 1]][1]
            entity = {"text": text[start:end], "label": name, "score": _mean(scores[a:b]), "start": start, "end": end}
            if top_k != 1:
                names = self._of_label if how == "none" else self._of_type
                entity["labels"] = _best(_scores(p[visible[a:b]], names), name, top_k)
            entities.append(entity)
        return entities

    def _labelled(
        self, words: list[str], text: str, e: Encoding, p: Probabilities, how: str, top_k: int | None
    ) -> list[dict[str, Any]]:
        labelled: list[dict[str, Any]] = [{"word": word, "label": self._outside, "score": 0.0} for word in words]
        spans = _visible(text, e.offsets[self._prefix_len : self._prefix_len + len(p)])
        visible = [n for n, (start, end) in enumerate(spans) if start < end]
        begins = list(accumulate((len(word) + 1 for word in words[:-1]), initial=0))
        owners = [bisect_right(begins, spans[n][0]) - 1 for n in visible]
        first = _word_starts(owners)
        p = _merged(p[visible], first, how)
        for start, label, score in zip(first, p.argmax(1).tolist(), p.max(1).tolist(), strict=True):
            labelled[owners[start]] |= {"label": self.labels[label], "score": score}
        if top_k != 1:
            each = [{self._outside: 0.0} for _ in words]
            for n, start in enumerate(first):
                each[owners[start]] = _scores(p[n : n + 1], self._of_label)
            for item, scores in zip(labelled, each, strict=True):
                item["labels"] = _best(scores, item["label"], top_k)
        return labelled


# -- labels to entities


class Tag(NamedTuple):
    """A label parsed by the BIO, BIOES or BILOU scheme.

    Attributes:
        label: the type of entity.
        begins: an entity begins here, whatever stands before.
        ends: an entity ends here, whatever follows.
    """

    label: str
    begins: bool
    ends: bool


# B, I, O of all schemes; E(nd), S(ingle), M(iddle) of BIOES and BMES; L(ast), U(nit) of BILOU
_PREFIXED = re.compile(r"([BIESMLU])[-_](.+)", re.DOTALL)


def read_labels(labels: Sequence[str]) -> tuple[str, tuple[Tag, ...]]:
    """The scheme that labels follow, and what each of them says.

    Whether ``"E-MAIL"`` is the end of a ``MAIL`` or a label of its own, only the other labels tell. A letter counts as a prefix where
    some type has it beside a B or an I (``B-PER`` and ``E-PER``); B and I also where all labels but ``"O"`` have one of them.

    Returns:
        ``"BIO"``, ``"BIOES"``, ``"BILOU"`` or ``"bare"``, and one :class:`Tag` a label.
    """
    parts = [match.groups() if (match := _PREFIXED.fullmatch(label)) else None for label in labels]
    letters_of: dict[str, set[str]] = defaultdict(set)
    for letter, kind in filter(None, parts):
        letters_of[kind].add(letter)
    letters: set[str] = set().union(*(have for have in letters_of.values() if len(have) > 1 and have & {"B", "I"}))
    others = [part and part[0] for label, part in zip(labels, parts, strict=True) if label != "O"]
    if letters or (others and all(letter in ("B", "I") for letter in others)):
        letters |= {"B", "I"}
    tags = []
    for label, part in zip(labels, parts, strict=True):
        letter, kind = part if part and part[0] in letters else ("", label)
        tags.append(Tag(kind, begins=letter in ("B", "S", "U"), ends=letter in ("E", "S", "L", "U")))
    scheme = "bare" if not letters else "BILOU" if letters & {"L", "U"} else "BIOES" if letters & {"E", "S", "M"} else "BIO"
    return scheme, tuple(tags)


def merge_tags(tags: Sequence[Tag | None]) -> list[tuple[int, int, str]]:
    """Entities from neighbouring tags, whatever their order: ``(first, one after the last, type)``. None is outside of all entities.

    A tag goes on with the entity before it if both are of one type, the one before did not end it and this one does not begin one.
    Else it begins an entity, whether the scheme allows it there or not.
    """
    entities: list[tuple[int, int, str]] = []
    before: Tag | None = None
    for n, tag in enumerate(tags):
        if tag is not None:
            goes_on = before is not None and before.label == tag.label and not before.ends and not tag.begins
            start = entities.pop()[0] if goes_on else n
            entities.append((start, n + 1, tag.label))
        before = tag
    return entities


def _left_out(labels: Sequence[str], tags: Sequence[Tag], ignore: Sequence[str]) -> list[bool]:
    """Labels to leave out. A name that is a label means that label alone, not a type of the same name (``"O"`` and ``"B-O"``)."""
    types = {tag.label for tag in tags} - set(labels)
    for name in ignore:
        if name != "O" and name not in labels and name not in types:
            raise BadInputError(f"ignore names {name!r}, which the model does not have; its labels are: {', '.join(labels)}")
    return [label in ignore or (tag.label in types and tag.label in ignore) for label, tag in zip(labels, tags, strict=True)]


# -- tokens to words


def _word_starts(owners: Sequence[int | None]) -> list[int]:
    """Index of the first token of each word."""
    return [n for n, owner in enumerate(owners) if n == 0 or owner != owners[n - 1]]


def _merged(p: Probabilities, first: list[int], how: str) -> Probabilities:
    """Probabilities of words, ``(words, labels)``, from those of their tokens; ``first`` is the first token of each word."""
    counts = np.diff([*first, len(p)])
    words: Probabilities
    if how == "average" and first:
        words = np.add.reduceat(p, first, axis=0, dtype=np.float64) / counts[:, None]
    elif how == "max" and first:
        by_word = np.lexsort((-p.max(1), np.repeat(np.arange(len(first)), counts)))  # in each the most certain token first
        words = p[by_word[first]]
    else:
        words = p[first]
    return words


# -- probabilities to scores


def _mean(scores: list[float]) -> float:
    return sum(scores) / len(scores)


def _indices(names: Sequence[str]) -> dict[str, list[int]]:
    """The indices of each name."""
    return {name: [n for n, other in enumerate(names) if other == name] for name in names}


def _scores(rows: Probabilities, names: dict[str, list[int]]) -> dict[str, float]:
    """The score of each name: of the labels that it stands for, the highest probability in each row; the mean of that over the rows.

    The highest and not the sum, as the highest decides what a token is called: so the name of an entity scores best, and as the entity.

    Args:
        rows: probabilities of what was joined, ``(joined, labels)``.
        names: which labels each name stands for.
    """
    return {name: _mean(rows[:, labels].max(1).tolist()) for name, labels in names.items()}


def _best(scores: dict[str, float], label: str, top_k: int | None) -> list[dict[str, Any]]:
    """The ``top_k`` best of the labels; ``label``, which is one of the best, before others that score the same."""
    names = sorted(scores, key=lambda name: (name != label, -scores[name]))[:top_k]
    return [{"label": name, "score": scores[name]} for name in names]


# -- characters


def _without_marks(tokens: Sequence[str], spans: Sequence[Span]) -> list[Span]:
    """The spans, empty for each token that only marks the beginning of a word: a Unigram tokenizer writes ``▁`` before words that it does not
    know with their mark, and gives it the first character of the word, which is that of the next token, too."""
    follows = [start for start, _ in spans[1:]] + [-1]
    return [
        (start, start) if start == following and not token.strip("▁Ġ") else (start, end)
        for token, (start, end), following in zip(tokens, spans, follows, strict=True)
    ]


def _visible(text: str, spans: list[Span], disjoint: bool = False) -> list[Span]:
    """The spans without whitespace at their ends; ``start == end`` where nothing is left.

    Args:
        text: what the spans are of.
        spans: first and last-plus-one characters.
        disjoint: give each character to the first span that holds it. (A character of several bytes may be several tokens.)
    """
    trimmed, done = [], 0
    for start, end in spans:
        if disjoint:
            start, done = max(start, done), max(done, end)
        part = text[start:end]
        start += len(part) - len(part.lstrip())
        trimmed.append((start, start + len(part.strip())))
    return trimmed


# -- checking what the user gives


def _one_of(known: tuple[str, ...], aggregation: str) -> str:
    if aggregation not in known:
        raise BadInputError(f"aggregation must be one of {', '.join(known)}, not {aggregation!r}")
    return aggregation


def _running_texts(texts: Any) -> list[Any]:
    items = as_list(texts)
    for n, item in enumerate(items):
        if isinstance(item, (list, tuple)):
            raise BadInputError(
                f"text {n} is a {type(item).__name__}, not a str: for texts that are split into words, use .words()"
            )
    return items


def _words_of(n: int, sentence: Any) -> list[str]:
    if isinstance(sentence, (str, bytes, dict)) or not isinstance(sentence, Iterable):
        raise BadInputError(
            f"sentence {n} must be a list of words, not {str(sentence)[:60]!r}; running text goes to a plain call"
        )
    words = list(sentence)
    for index, word in enumerate(words):
        if not isinstance(word, str):
            raise BadInputError(f"word {index} of sentence {n} must be a string, not {str(word)[:60]!r}")
    return [str(word) for word in words]
