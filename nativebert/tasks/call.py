"""One call of a task: its items, in chunks; what is counted; the progress bar; the report."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from nativebert.errors import BadInputError, SmallerBatches, Truncated, heard, warn
from nativebert.tasks.options import ReportOptions
from nativebert.tasks.results import Report, Results
from nativebert.text.batching import group_ends

if TYPE_CHECKING:
    from nativebert.tasks.base import Task

# Texts, and characters, that are tokenised and sorted together: enough for well-filled batches, few enough to keep memory flat.
CHUNK_TEXTS, CHUNK_CHARACTERS = 2**14, 2**21


class Chunk(NamedTuple):
    """Items of a call that are tokenised, sorted by length and computed together.

    Attributes:
        call: whose they are.
        items: texts, pairs of texts, or lists of words.
        start: index of the first among the call's items.
    """

    call: Call
    items: list[Any]
    start: int

    @property
    def rows(self) -> slice:
        """Their indices among the call's items."""
        return slice(self.start, self.start + len(self.items))


class Call:
    """One call of a task.

    Args:
        task: whose call it is.
        items: texts, pairs of texts, or lists of words.
        options: of the call.
        copies: how many times an item is read, each time beside something else.

    Attributes:
        task: as above.
        options: those that hold; with fewer ``batch_tokens`` once the memory did not hold a batch.
        used, cut, windows: for each item the tokens that were read, those that were left out, and the windows, int64 ``(items,)``.

    Raises:
        TypeError, BadInputError: see :meth:`nativebert.tasks.options.Options.changed`.
    """

    def __init__(self, task: Task, items: list[Any], options: ReportOptions, copies: int = 1) -> None:
        self.task, self.options, self._started = (
            task,
            task.options.changed(options, type(task)),
            time.perf_counter(),
        )
        self._return_report = options.get("return_report", False)
        self._items, self._batch_tokens = items, self.options.batch_tokens
        self.used, self.cut, self.windows = np.zeros((3, len(items)), np.int64)
        self._batches = self._rows = self._padding_rows = 0
        self._bar = Progress(len(items), options.get("progress"))
        self._ends = [1] * len(items)
        if len(items) > 1:
            sizes = map(len if set(map(type, items)) == {str} else _characters, items)
            # short enough for all that the tokenizer says about a text (some 100 bytes a token), long enough for well-filled batches
            self._ends = group_ends(np.fromiter(sizes, np.int64, len(items)) * copies, CHUNK_CHARACTERS, CHUNK_TEXTS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def chunks(self) -> Iterator[Chunk]:
        """The items in chunks, :attr:`chunk_count` in all."""
        for start, end in pairwise([0, *self._ends]):
            yield Chunk(self, self._items[start:end], start)
            self._bar.reach(end)

    @property
    def chunk_count(self) -> int:
        """Number of chunks."""
        return len(self._ends)

    def count_batch(self, tokens: int, min_rows: int, done: float) -> None:
        """A batch of so many tokens was computed, filled up to ``min_rows``; with it so many items are ``done``."""
        self._batches += 1
        self._rows += max(tokens, min_rows)
        self._padding_rows += max(0, min_rows - tokens)
        self._bar.reach(int(done))

    def shrink_batches(self, tokens: int) -> None:
        """Batches of at most so many tokens from now on, in this call and in the task's later ones."""
        self.options = replace(self.options, batch_tokens=tokens)
        self.task.shrink_batches(tokens)

    def report(self) -> Report:
        """Report of the call; warns where texts were truncated, and where batches had to be smaller."""
        task, options = self.task, self.options
        if options.batch_tokens < self._batch_tokens:
            warn(
                f"the memory of {task.device} does not hold batches of {self._batch_tokens:,} tokens: they now have at most "
                f"{options.batch_tokens:,}, here and in later calls. Pass batch_tokens={options.batch_tokens} to begin there.",
                SmallerBatches,
            )
        if np.count_nonzero(self.cut):
            lost, whole = int(self.cut.sum()), int(self.cut.sum() + self.used.sum())
            long = int((self.cut > 0).sum())
            are, were = ("is", "was") if long == 1 else ("are", "were")
            warn(
                f"{long:,} of {len(self._items):,} {task.noun}s {are} longer than {options.max_tokens} tokens and {were} cut: {lost:,} of "
                f"{whole:,} tokens ({lost / whole:.1%}) were left out. Pass too_long='window' to read all of them, 'error' to refuse.",
                Truncated,
            )
        padding = self._padding_rows / self._rows if self._rows else 0.0
        seconds = time.perf_counter() - self._started
        return Report(
            self.used, self.cut, self.windows, self._batches, padding, seconds, task.reference, task.device, task.precision
        )

    def returned(self, value: Any) -> Any:
        """Return value of the call: ``value``, with the report if requested."""
        report = self.report()
        return (value, report) if self._return_report else value

    def results(self, items: Iterable[Any], like: Any) -> Any:
        """Return value of the call: the items as :class:`~nativebert.tasks.results.Results`, with the report if requested."""
        results = Results(items, self.report(), like)
        return (results, results.report) if self._return_report else results


class Progress:
    """A bar on stderr: from tqdm, which huggingface_hub brings. Work that is done at one stroke has none, and does not pay for it."""

    def __init__(self, total: int, show: bool | None) -> None:
        self._total, self._show = total, show if heard() else False
        self._bar: Any = None

    def reach(self, done: int) -> None:
        """So many of all texts are finished."""
        if self._bar is None and done < self._total:
            from tqdm.auto import tqdm

            # disable=None: not where stderr is not a terminal
            disable = None if self._show is None else not self._show
            self._bar = tqdm(total=self._total, unit="text", delay=2, leave=False, disable=disable)
        if self._bar is not None:
            with suppress(OSError, ValueError, AttributeError):  # stderr went away meanwhile: the work is what matters
                self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            with suppress(OSError, ValueError, AttributeError):
                self._bar.close()


def as_list(texts: Any, kind: str = "texts", of: str = "strings") -> list[Any]:
    """The caller's items as a list; a single string is a list of one.

    Raises:
        BadInputError: it is nothing that holds texts.
    """
    if isinstance(texts, str):
        return [texts]
    if type(texts) is list:
        return texts.copy()
    if hasattr(texts, "to_pylist"):  # of pyarrow: its items are not strings
        texts = texts.to_pylist()
    # the items of a table are the names of its columns, and a set has no order to give results in
    table_or_number = hasattr(texts, "columns") or getattr(texts, "ndim", 1) == 0  # an array of no dimension cannot be iterated
    if isinstance(texts, (bytes, type, Mapping, Set)) or table_or_number or not isinstance(texts, Iterable):
        raise BadInputError(f"{kind} must be a list of {of}, or one column of a table, not {type(texts).__name__}")
    return list(texts)


def as_single_items(items: Sequence[Any], start: int) -> list[Any]:
    """The items, or an error where one is a pair: a tokenizer takes pairs too. ``start`` is the index of the first item in messages."""
    if set(map(type, items)) == {str}:
        return list(items)
    for n, item in enumerate(items, start):
        if isinstance(item, (tuple, list)):
            raise BadInputError(f"text {n} is a {type(item).__name__}, {str(item)[:60]}, where a single text is expected")
    return list(items)


def _characters(item: Any) -> int:
    """Of a text, a pair of texts, a list of words; what is none of them is reported elsewhere."""
    return len(item) if isinstance(item, str) else sum(map(_characters, item)) if isinstance(item, (tuple, list)) else 0
