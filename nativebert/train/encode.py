"""Examples to token sequences that fit the model: cut, with the count of it, or split into windows."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from nativebert.errors import BadInputError, TooLongError
from nativebert.loading import LoadedModel
from nativebert.text.tokenizer import Encoding
from nativebert.text.window import check_policy, windows
from nativebert.train.losses import IGNORED
from nativebert.train.objective import Sequences

Span = tuple[int, int, str]  # first and last-plus-one character, label


def max_tokens(model: LoadedModel, wanted: int | None = None) -> int:
    """Most tokens of a sequence: what is wanted, within what the model and its tokenizer's files allow.

    Raises:
        BadInputError: more is wanted than the model has positions.
    """
    most = model.config.max_tokens
    if wanted is None:
        return min(most, model.tokenizer.max_length or most)
    if wanted > most:
        raise BadInputError(f"max_length={wanted} is more than the {most} tokens that the model has positions for")
    return wanted


def encode_texts(model: LoadedModel, items: Sequence[Any], *, limit: int, too_long: str = "truncate") -> Sequences:
    """Texts, or pairs of texts, one sequence each.

    Args:
        model: whose tokenizer reads them.
        items: all texts, or all pairs.
        limit: most tokens of a sequence.
        too_long: ``"truncate"`` cuts longer ones (of a pair, the longer text first); ``"error"`` refuses them.

    Raises:
        TooLongError: ``too_long="error"``, and a text is too long.
    """
    if check_policy(too_long) == "window":
        raise BadInputError("too_long='window' is for tagging, answering and masked-LM training; use 'truncate' or 'error'")
    tokenizer = model.tokenizer
    batch = tokenizer.ids_batch(items)
    cut = np.array([max(0, len(ids) - limit) for ids in batch.ids], np.int64)
    long = np.flatnonzero(cut).tolist()
    if long and too_long == "error":
        n = long[0]
        raise TooLongError(
            f"text {n} has {len(batch.ids[n])} tokens and the limit is {limit} ({len(long)} are too long): shorten them, or pass "
            "too_long='truncate'",
            len(batch.ids[n]),
            limit,
        )
    if long:
        core = tokenizer.core()
        core.enable_truncation(limit)  # of a pair, from the longer text
        core.encode_special_tokens = tokenizer.backend.encode_special_tokens
        for n, raw in zip(long, core.encode_batch_fast([items[n] for n in long])):
            batch.ids[n] = raw.ids
            if batch.type_ids is not None:
                batch.type_ids[n] = raw.type_ids
    return Sequences(batch.ids, _segments(model, batch.type_ids), {}, None, cut)


def encode_tagged(
    model: LoadedModel,
    texts: Sequence[str],
    labels: Sequence[Sequence[tuple[int, int, int]]],
    *,
    limit: int,
    too_long: str = "window",
    stride: int = 0,
) -> Sequences:
    """Texts with a label for each token: of a labelled stretch, its first token has the label, and the others none.

    Args:
        model: whose tokenizer reads them.
        texts: running texts.
        labels: for each text, first and last-plus-one character and label of each of its words, in order.
        limit: most tokens of a sequence.
        too_long: ``"window"`` splits longer texts into windows, each token labelled in one of them; ``"truncate"`` cuts them; ``"error"``
            refuses them.
        stride: tokens that neighbouring windows share.

    Returns:
        Sequences with the target ``labels``, :data:`~nativebert.train.losses.IGNORED` where a token has none.
    """
    targets = []
    encodings = model.tokenizer.encode_batch(texts)
    for text, e, words in zip(texts, encodings, labels, strict=True):
        row = [IGNORED] * len(e)
        starts = [start for start, _, _ in words]
        done = -1
        for token in e.own:
            first, last = e.offsets[token]
            first += len(text[first:last]) - len(
                text[first:last].lstrip()
            )  # a byte-level token may begin with the space before a word
            word = bisect_right(starts, first) - 1
            if first < last and word > done and first < words[word][1]:
                row[token], done = words[word][2], word
        targets.append(row)
    return _windows(model, encodings, {"labels": targets}, limit, too_long, stride)


def words_as_text(words: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Words as running text, one space between them, and the characters of each: as :meth:`nativebert.Tagger.words` reads them."""
    starts = accumulate((len(word) + 1 for word in words[:-1]), initial=0) if words else ()
    return " ".join(words), [(start, start + len(word)) for start, word in zip(starts, words)]


def words_of_spans(e: Encoding, spans: Sequence[Span]) -> list[tuple[int, int, str]]:
    """The words of a text, as its tokenizer splits them, each with ``B-``, ``I-`` and the label of the span that it lies in, or ``O``.

    Raises:
        BadInputError: spans overlap, or begin or end within a word.
    """
    spans = sorted(spans)
    for (_, end, _), (start, _, _) in pairwise(spans):
        if start < end:
            raise BadInputError(f"entities overlap at character {start}: a token has one label")
    words: list[list[int]] = []
    last = None
    for token in e.own:
        start, end = e.offsets[token]
        if start >= end:
            continue
        if e.word_ids[token] == last and words:
            words[-1][1] = end
        else:
            words.append([start, end])
        last = e.word_ids[token]
    starts = [word[0] for word in words]
    labelled = [[start, end, "O"] for start, end in words]
    for start, end, label in spans:
        first = max(0, bisect_right(starts, start) - 1)
        if first < len(words) and words[first][1] <= start:
            first += 1
        for n in range(first, bisect_left(starts, end)):
            labelled[n][2] = f"{'B' if n == first else 'I'}-{label}"
    return [(start, end, label) for start, end, label in labelled]  # type: ignore[misc]


def encode_questions(
    model: LoadedModel,
    questions: Sequence[str],
    contexts: Sequence[str],
    answers: Sequence[tuple[int, int] | None],
    *,
    limit: int = 384,
    stride: int = 128,
) -> Sequences:
    """Pairs of question and context with the answer's first and last token; windows slide over long contexts.

    A window that does not hold the whole answer has the sequence's first token as its answer, as in the reference (``run_qa.py`` of transformers).

    Args:
        model: whose tokenizer reads them.
        questions, contexts: as many of both.
        answers: first and last-plus-one character of each answer in its context; None for no answer.
        limit: most tokens of a sequence.
        stride: tokens that neighbouring windows share.

    Returns:
        Sequences with the targets ``start_positions`` and ``end_positions``.
    """
    tokenizer = model.tokenizer
    encodings = tokenizer.encode_batch(list(zip(questions, contexts, strict=True)))
    ids: list[list[int]] = []
    segments: list[list[int]] = []
    starts, ends, examples = [], [], []
    for n, (e, answer) in enumerate(zip(encodings, answers, strict=True)):
        texts = e.sequence_ids
        count = texts.count(1)
        first = texts.index(1) if count else len(texts)
        room = limit - (len(e) - count)
        if room < 1:
            raise TooLongError(
                f"question {n} has so many tokens that nothing of its context fits beside it in {limit}: shorten the question, or raise max_length",
                len(e),
                limit,
            )
        span = None if answer is None else _tokens_of(e, first, count, answer)
        for w in windows(count, room, stride):
            kept = [*range(first), *range(first + w.start, first + w.end), *range(first + count, len(e))]
            ids.append([e.ids[i] for i in kept])
            segments.append([e.type_ids[i] for i in kept])
            inside = span is not None and w.start <= span[0] and span[1] < w.end
            starts.append(first + span[0] - w.start if span is not None and inside else 0)
            ends.append(first + span[1] - w.start if span is not None and inside else 0)
            examples.append(n)
    return Sequences(ids, _segments(model, segments), {"start_positions": starts, "end_positions": ends}, examples)


def _tokens_of(e: Encoding, first: int, count: int, characters: tuple[int, int]) -> tuple[int, int] | None:
    """First and last token of a stretch of the context, counted within the context; None where no token touches it."""
    inside = [
        n
        for n, (start, end) in enumerate(e.offsets[first : first + count])
        if start < end and start < characters[1] and end > characters[0]
    ]
    return (inside[0], inside[-1]) if inside else None


def encode_windows(model: LoadedModel, texts: Sequence[str], *, limit: int, too_long: str = "window") -> Sequences:
    """Texts, split into windows that share no tokens where they are too long: for masked-LM training."""
    return _windows(model, model.tokenizer.encode_batch(texts), {}, limit, too_long, 0)


def _windows(
    model: LoadedModel,
    encodings: Sequence[Encoding],
    targets: dict[str, list[list[int]]],
    limit: int,
    too_long: str,
    stride: int,
) -> Sequences:
    """Single texts as sequences of at most ``limit`` tokens. Of targets, each token's own stands in one window only."""
    check_policy(too_long)
    prefix, suffix = map(len, model.tokenizer.frame)
    room = limit - prefix - suffix
    ids: list[list[int]] = []
    examples: list[int] = []
    rows: dict[str, list[Any]] = {name: [] for name in targets}
    cut = np.zeros(len(encodings), np.int64)
    for n, e in enumerate(encodings):
        count = len(e) - prefix - suffix
        parts = windows(count, room, stride)
        if len(parts) > 1 and too_long == "error":
            raise TooLongError(
                f"text {n} has {len(e)} tokens and the limit is {limit}: shorten it, or pass too_long='window'", len(e), limit
            )
        if len(parts) > 1 and too_long == "truncate":
            parts, cut[n] = windows(room, room, 0), count - room
        all_ids = e.ids
        for w in parts:
            ids.append([*all_ids[:prefix], *all_ids[prefix + w.start : prefix + w.end], *all_ids[len(e) - suffix :]])
            examples.append(n)
            for name, values in targets.items():
                own = [value if w.own_start <= i < w.own_end else IGNORED for i, value in enumerate(values[n][prefix:], 0)]
                rows[name].append([IGNORED] * prefix + own[w.start : w.end] + [IGNORED] * suffix)
    return Sequences(ids, None, rows, examples, cut)


def _segments(model: LoadedModel, segments: list[list[int]] | None) -> list[list[int]] | None:
    if segments is None or model.config.segments < 2 or not any(map(any, segments)):
        return None
    return segments
