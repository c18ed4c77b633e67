"""Token sequences of texts: truncated, split into windows, or refused where a text is too long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nativebert.errors import BadInputError, RefusedError, TooLongError
from nativebert.tasks.call import Call, Chunk, as_single_items
from nativebert.text.tokenizer import Ids, Tokenizer
from nativebert.text.window import Window, windows


class Windows(NamedTuple):
    """Texts as token sequences of at most ``max_tokens``: one for each text, or several windows of it.

    Attributes:
        ids: token ids of each sequence, special tokens included.
        segments: token type ids of each sequence, or None for all zeros.
        text: for each sequence the index of its text in the chunk.
        spans: the tokens of its text that each sequence holds (of the text that slides, where a pair is windowed; of the whole
            sequence, for other pairs).
        prefix_len: tokens of each sequence before that span.
    """

    ids: list[list[int]]
    segments: list[list[int]] | None
    text: list[int]
    spans: list[Window]
    prefix_len: list[int]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence, ``(sequences,)``."""
        return np.fromiter(map(len, self.ids), np.int64, len(self.ids))

    @property
    def starts(self) -> NDArray[np.int64]:
        """The first sequence of each text, ``(texts,)``; every text has at least one, and they stand in the order of the texts."""
        return np.flatnonzero(np.diff(self.text, prepend=-1))

    def select(self, indices: NDArray[np.int64]) -> Windows:
        """These sequences, in their order."""
        if len(indices) == len(self.ids):
            return self
        rows = indices.tolist()
        segments = None if self.segments is None else [self.segments[n] for n in rows]
        ids, text = [self.ids[n] for n in rows], [self.text[n] for n in rows]
        return Windows(ids, segments, text, [self.spans[n] for n in rows], [self.prefix_len[n] for n in rows])

    def merge(self, rows: Sequence[Tensor], texts: int) -> list[Tensor]:
        """Values for the tokens of each text, from values for the tokens of each sequence: each from the window that owns the token.

        Args:
            rows: ``(tokens, ...)`` for each sequence.
            texts: number of texts.

        Returns:
            ``(tokens of the text, ...)`` for each text, without special tokens and without what was cut.
        """
        parts: list[list[Tensor]] = [[] for _ in range(texts)]
        for x, n, w, prefix in zip(rows, self.text, self.spans, self.prefix_len, strict=True):
            parts[n].append(x[prefix + w.own_start - w.start : prefix + w.own_end - w.start])
        return [torch.cat(owned) if len(owned) > 1 else owned[0] for owned in parts]


def of_texts(chunk: Chunk, texts: list[str]) -> Windows:
    """Single texts, one for each item of the chunk, when only their ids matter."""
    ids = chunk.call.task.tokenizer.ids_batch(as_single_items(texts, chunk.start), first=chunk.start).ids
    return of_ids(chunk, ids)


def tokenized_ahead(call: Call, prefix: str) -> Iterator[tuple[Chunk, Windows]]:
    """Chunks of a call of single texts with their windows, ``prefix`` before each text. While a GPU computes a chunk, a thread tokenises
    the next one: the tokenizers library releases Python's lock."""

    def prefixed(chunk: Chunk) -> list[str]:
        return [prefix + text if isinstance(text, str) else text for text in chunk.items] if prefix else chunk.items

    if call.task.device == "cpu":
        for chunk in call.chunks():
            yield chunk, of_texts(chunk, prefixed(chunk))
        return

    def tokenize(chunk: Chunk) -> Callable[[], Ids]:
        return call.task.tokenizer.ids_soon(as_single_items(prefixed(chunk), chunk.start), first=chunk.start)

    waiting: tuple[Chunk, Callable[[], Callable[[], Ids]]] | None = None  # a chunk, and the result of tokenize
    with ThreadPoolExecutor(1) as thread:
        for chunk in call.chunks():
            if waiting is None:
                waiting = chunk, partial(tokenize, chunk)  # a call of one chunk needs no thread
            else:
                following = chunk, thread.submit(tokenize, chunk).result
                yield waiting[0], of_ids(waiting[0], waiting[1]()().ids)
                waiting = following
        if waiting is not None:
            yield waiting[0], of_ids(waiting[0], waiting[1]()().ids)


def of_ids(chunk: Chunk, ids: list[list[int]]) -> Windows:
    """Single texts that are tokenised already."""
    prefix, suffix = map(len, chunk.call.task.tokenizer.frame)
    return to_windows(chunk, ids, None, lambda n: (prefix, len(ids[n]) - suffix))


def of_pairs(chunk: Chunk) -> Windows:
    """Pairs of texts. Cutting takes from the longer text until both are equally long; windows slide over the second."""
    pairs, tokenizer = chunk.items, chunk.call.task.tokenizer
    batch = tokenizer.ids_batch(pairs, first=chunk.start)
    if batch.type_ids is None and pairs:
        raise BadInputError(f"{chunk.call.task.noun} {chunk.start} is a single text among pairs: give all as pairs, or none")
    limit = chunk.call.options.max_tokens
    return to_windows(
        chunk,
        batch.ids,
        batch.type_ids,
        lambda n: _second_text(tokenizer, pairs[n]),
        lambda n: _longest_first(tokenizer, pairs[n], limit),
    )


def to_windows(
    chunk: Chunk,
    ids: list[list[int]],
    segments: list[list[int]] | None,
    sliding: Callable[[int], tuple[int, int]],
    shorten: Callable[[int], list[int]] | None = None,
) -> Windows:
    """Sequences of at most ``max_tokens``, by the call's options for long texts; counts go to the call.

    Args:
        chunk: the items.
        ids: token ids of each text, or pair of texts, of any length.
        segments: token type ids, as long each, or None.
        sliding: first and last-plus-one token of the text that windows slide over, for text ``n``.
        shorten: indices of the tokens that are kept when text ``n`` is cut; None cuts the end of what ``sliding`` says.

    Raises:
        TooLongError: a text is too long and ``too_long="error"``, or what must stand in every window leaves no room.
        RefusedError: a text must be cut, and the tokenizer's files want its beginning cut off.
    """
    call, start = chunk.call, chunk.start
    task, options = call.task, call.options
    limit, noun = options.max_tokens, task.noun
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    call.used[chunk.rows], call.windows[chunk.rows] = np.minimum(lengths, limit), 1
    long = set(np.flatnonzero(lengths > limit).tolist())
    if long and options.too_long == "error":
        n = min(long)
        raise TooLongError(
            f"{noun} {start + n} has {lengths[n]} tokens and the limit is {limit} ({len(long)} {noun}s are too long). Shorten them, or "
            "pass too_long='window' or 'truncate'.",
            int(lengths[n]),
            limit,
        )
    if long and options.too_long == "truncate" and task.tokenizer.settings.get("truncation_side", "right") != "right":
        n = min(long)
        raise RefusedError(
            f"{noun} {start + n} has {lengths[n]} tokens and the limit is {limit}, and the tokenizer's files say that long texts are cut at "
            "their beginning, which nativebert does not do. Shorten them, or pass too_long='window'."
        )
    if task.encoder.segments < 2 or segments is None or not any(map(any, segments)):
        segments = None
    out = Windows([], None if segments is None else [], [], [], [])

    def add(n: int, kept: Iterable[int] | None, span: Window, prefix_len: int) -> None:
        indices = None if kept is None else list(kept)
        out.ids.append(ids[n] if indices is None else [ids[n][i] for i in indices])
        if segments is not None and out.segments is not None:
            out.segments.append(segments[n] if indices is None else [segments[n][i] for i in indices])
        out.text.append(n)
        out.spans.append(span)
        out.prefix_len.append(prefix_len)

    for n, length in enumerate(lengths.tolist()):
        if shorten is not None and not (n in long and options.too_long == "window"):
            kept = None
            if n in long:
                kept, call.cut[start + n] = shorten(n), length - limit
            add(n, kept, Window(0, min(length, limit), 0, min(length, limit)), 0)
            continue
        first, end = sliding(n)
        if n not in long:
            add(n, None, Window(0, end - first, 0, end - first), first)
            continue
        room = limit - (length - (end - first))
        if room < 1:
            raise TooLongError(
                f"{noun} {start + n} has {length} tokens, and {length - (end - first)} of them must stand in every window of {limit}: "
                "shorten its first part"
            )
        spans = [Window(0, room, 0, room)]
        if options.too_long == "truncate":
            call.cut[start + n] = length - limit
        else:
            spans = windows(end - first, room, options.stride)
            call.used[start + n], call.windows[start + n] = length, len(spans)
        for span in spans:
            add(n, [*range(first), *range(first + span.start, first + span.end), *range(end, length)], span, first)
    return out


def _second_text(tokenizer: Tokenizer, pair: tuple[str, str]) -> tuple[int, int]:
    """First and last-plus-one token of the second text of a pair."""
    tokens = [i for i, text in enumerate(tokenizer.encode(*pair).sequence_ids) if text == 1]
    return (tokens[0], tokens[-1] + 1) if tokens else (0, 0)


def _longest_first(tokenizer: Tokenizer, pair: tuple[str, str], limit: int) -> list[int]:
    """Indices of the tokens that are kept when a pair is cut (``longest_first`` of the tokenizers library)."""
    e = tokenizer.encode(*pair)
    tokens_of = [[i for i, text in enumerate(e.sequence_ids) if text == which] for which in (0, 1)]
    room = limit - (len(e) - len(tokens_of[0]) - len(tokens_of[1]))
    if room < 0:
        raise TooLongError(f"a pair has {limit - room} special tokens and the limit is {limit}: allow more tokens")
    short, long = sorted(map(len, tokens_of))
    short = min(short, room // 2)
    long = min(long, room - short)
    keep = (short, long) if len(tokens_of[0]) <= len(tokens_of[1]) else (long, short)
    cut = {i for tokens, count in zip(tokens_of, keep, strict=True) for i in tokens[count:]}
    return [i for i in range(len(e)) if i not in cut]
