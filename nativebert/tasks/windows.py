"""Token sequences of texts: truncated, split into windows, or refused where a text is too long."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nativebert.errors import BadInputError, RefusedError, TooLongError
from nativebert.nn.packed import Ragged, ranges
from nativebert.tasks.call import Call, Chunk, as_single_items
from nativebert.text.tokenizer import Tokenizer
from nativebert.text.window import Window, windows

IntArray = NDArray[np.int64]


@dataclass(eq=False)
class Windows:
    """Texts as token sequences of at most ``max_tokens``: one for each text, or several windows of it.

    Arrays for all sequences; properties give the same as lists, for those who read them one by one.

    Attributes:
        tokens: token ids of each sequence, special tokens included.
        token_types: token type ids of each sequence, or None for all zeros.
        owners: for each sequence the index of its text in the chunk, ``(n,)``.
        bounds: the fields of each sequence's :class:`~nativebert.text.window.Window`, ``(n, 4)``: the tokens of its text that it holds
            (of the text that slides, where a pair is windowed; of the whole sequence, for other pairs).
        prefix_lens: tokens of each sequence before that span, ``(n,)``.
    """

    tokens: Ragged
    token_types: Ragged | None
    owners: IntArray
    bounds: IntArray
    prefix_lens: IntArray

    def __len__(self) -> int:
        return len(self.owners)

    @property
    def lengths(self) -> IntArray:
        """Tokens of each sequence, ``(n,)``."""
        return self.tokens.lengths

    @property
    def starts(self) -> IntArray:
        """The first sequence of each text, ``(texts,)``; every text has at least one, and they stand in the order of the texts."""
        return np.flatnonzero(np.diff(self.owners, prepend=-1))

    @cached_property
    def ids(self) -> list[list[int]]:
        return self.tokens.tolist()

    @cached_property
    def segments(self) -> list[list[int]] | None:
        return None if self.token_types is None else self.token_types.tolist()

    @cached_property
    def text(self) -> list[int]:
        owners: list[int] = self.owners.tolist()
        return owners

    @cached_property
    def spans(self) -> list[Window]:
        return [Window(*bounds) for bounds in self.bounds.tolist()]

    @cached_property
    def prefix_len(self) -> list[int]:
        lengths: list[int] = self.prefix_lens.tolist()
        return lengths

    def select(self, indices: IntArray) -> Windows:
        """These sequences, in their order."""
        types = None if self.token_types is None else self.token_types.take(indices)
        return Windows(self.tokens.take(indices), types, self.owners[indices], self.bounds[indices], self.prefix_lens[indices])

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
    return _of_tokens(chunk, Ragged(*_ids_soon(chunk, texts)()))


def tokenized_ahead(call: Call, prefix: str) -> Iterator[tuple[Chunk, Windows]]:
    """Chunks of a call of single texts with their windows, ``prefix`` before each text. While a GPU computes a chunk, a thread tokenises
    the next one: the tokenizers library releases Python's lock."""

    def texts(chunk: Chunk) -> list[Any]:
        return [prefix + text if isinstance(text, str) else text for text in chunk.items] if prefix else chunk.items

    if call.task.device == "cpu" or call.chunk_count < 2:
        for chunk in call.chunks():
            yield chunk, of_texts(chunk, texts(chunk))
        return
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[tuple[Chunk, Future[Callable[[], tuple[IntArray, IntArray]]]]] = deque()
        chunks = call.chunks()
        while True:
            for chunk in islice(chunks, 2 - len(waiting)):
                waiting.append((chunk, thread.submit(_ids_soon, chunk, texts(chunk))))
            if not waiting:
                return
            chunk, ids = waiting.popleft()
            yield chunk, _of_tokens(chunk, Ragged(*ids.result()()))


def _ids_soon(chunk: Chunk, texts: list[str]) -> Callable[[], tuple[IntArray, IntArray]]:
    return chunk.call.task.tokenizer.ids_soon(as_single_items(texts, chunk.start), first=chunk.start)


def of_ids(chunk: Chunk, ids: list[list[int]]) -> Windows:
    """Single texts that are tokenised already."""
    return _of_tokens(chunk, Ragged.of(ids))


def _of_tokens(chunk: Chunk, tokens: Ragged) -> Windows:
    prefix, suffix = map(len, chunk.call.task.tokenizer.frame)
    return to_windows(chunk, tokens, None, lambda n: (prefix, tokens.lengths[n] - suffix))


def of_pairs(chunk: Chunk) -> Windows:
    """Pairs of texts. Cutting takes from the longer text until both are equally long; windows slide over the second."""
    pairs, tokenizer = chunk.items, chunk.call.task.tokenizer
    batch = tokenizer.ids_batch(pairs, first=chunk.start)
    if batch.type_ids is None and pairs:
        raise BadInputError(f"{chunk.call.task.noun} {chunk.start} is a single text among pairs: give all as pairs, or none")
    limit = chunk.call.options.max_tokens
    return to_windows(
        chunk,
        Ragged.of(batch.ids),
        None if batch.type_ids is None else Ragged.of(batch.type_ids),
        lambda numbers: np.array([_second_text(tokenizer, pairs[n]) for n in numbers]).T,
        lambda n: _longest_first(tokenizer, pairs[n], limit),
    )


def to_windows(
    chunk: Chunk,
    tokens: Ragged,
    token_types: Ragged | None,
    sliding: Callable[[IntArray], Any],
    shorten: Callable[[int], list[int]] | None = None,
) -> Windows:
    """Sequences of at most ``max_tokens``, by the call's options for long texts; counts go to the call.

    Args:
        chunk: the items.
        tokens: token ids of each text, or pair of texts, of any length.
        token_types: token type ids, as long each, or None.
        sliding: first and last-plus-one tokens of the text that windows slide over, for the texts of these numbers: two arrays, or a number
            that all have in common.
        shorten: indices of the tokens that are kept when text ``n`` is cut; None cuts the end of what ``sliding`` says.

    Raises:
        TooLongError: a text is too long and ``too_long="error"``, or what must stand in every window leaves no room.
        RefusedError: a text must be cut, and the tokenizer's files want its beginning cut off.
    """
    call, lengths, numbers = chunk.call, tokens.lengths, np.arange(len(tokens))
    limit, rows = call.options.max_tokens, chunk.rows
    used = np.minimum(lengths, limit)
    call.used[rows], call.windows[rows] = used, 1
    if token_types is not None and (call.task.encoder.segments < 2 or not token_types.values.any()):
        token_types = None
    prefix_lens, bounds = np.empty_like(numbers), np.zeros((len(numbers), 4), np.int64)
    prefix_lens[:], end = sliding(numbers) if shorten is None else (0, used)
    bounds[:, 1] = bounds[:, 3] = end - prefix_lens
    whole = Windows(tokens, token_types, numbers, bounds, prefix_lens)
    return _shortened(chunk, whole, sliding, shorten) if np.count_nonzero(lengths > limit) else whole


def _shortened(
    chunk: Chunk,
    whole: Windows,
    sliding: Callable[[IntArray], Any],
    shorten: Callable[[int], list[int]] | None,
) -> Windows:
    """:func:`to_windows` for sequences ``whole`` of which at least one is too long."""
    call, start, lengths = chunk.call, chunk.start, whole.lengths
    task, options = call.task, call.options
    limit, noun = options.max_tokens, task.noun
    long = np.flatnonzero(lengths > limit)
    n = int(long[0])
    if options.too_long == "error":
        raise TooLongError(
            f"{noun} {start + n} has {lengths[n]} tokens and the limit is {limit} ({len(long)} {noun}s are too long). Shorten them, or "
            "pass too_long='window' or 'truncate'.",
            int(lengths[n]),
            limit,
        )
    if options.too_long == "truncate" and task.tokenizer.settings.get("truncation_side", "right") != "right":
        raise RefusedError(
            f"{noun} {start + n} has {lengths[n]} tokens and the limit is {limit}, and the tokenizer's files say that long texts are cut at "
            "their beginning, which nativebert does not do. Shorten them, or pass too_long='window'."
        )

    def parts(n: int) -> tuple[list[Window], int, list[list[int]]]:
        """The windows of text ``n``, the tokens before each, and the indices of the tokens that each keeps."""
        length = int(lengths[n])
        if options.too_long == "truncate":
            call.cut[start + n] = length - limit
            if shorten is not None:
                return [Window(0, limit, 0, limit)], 0, [shorten(n)]
        first, end = (int(np.ravel(edge)[0]) for edge in sliding(np.array([n])))
        room = limit - (length - (end - first))
        if room < 1:
            raise TooLongError(
                f"{noun} {start + n} has {length} tokens, and {length - (end - first)} of them must stand in every window of {limit}: "
                "shorten its first part"
            )
        spans = [Window(0, room, 0, room)]
        if options.too_long == "window":
            spans = windows(end - first, room, options.stride)
            call.used[start + n], call.windows[start + n] = length, len(spans)
        return spans, first, [[*range(first), *range(first + w.start, first + w.end), *range(end, length)] for w in spans]

    of_long = {n: parts(n) for n in long.tolist()}
    counts = np.ones_like(lengths)
    counts[long] = [len(spans) for spans, _, _ in of_long.values()]
    owners, firsts = np.repeat(whole.owners, counts), counts.cumsum() - counts
    bounds, prefix_lens, kept_lengths = whole.bounds[owners], whole.prefix_lens[owners], lengths[owners]
    kept_tokens: dict[int, list[int]] = {}  # of windows, by their number
    for n, (spans, prefix, kept) in of_long.items():
        for row, (span, indices) in enumerate(zip(spans, kept), int(firsts[n])):
            bounds[row], prefix_lens[row], kept_lengths[row], kept_tokens[row] = span, prefix, len(indices), indices
    starts = whole.tokens.starts[owners]
    chosen, ends = ranges(starts, kept_lengths), kept_lengths.cumsum()
    for row, indices in kept_tokens.items():
        chosen[ends[row] - len(indices) : ends[row]] = starts[row] + np.array(indices)
    types = None if whole.token_types is None else Ragged(whole.token_types.values[chosen], kept_lengths)
    return Windows(Ragged(whole.tokens.values[chosen], kept_lengths), types, owners, bounds, prefix_lens)


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
