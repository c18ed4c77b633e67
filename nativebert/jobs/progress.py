"""How far a job is, by tokens: texts of very different lengths take very different times, tokens hardly."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Self

from nativebert.errors import heard
from nativebert.jobs.rows import Survey

_BYTES_A_TOKEN = 4.5  # of English, until something was tokenised


class Progress:
    """A bar on stderr (tqdm). How many tokens there will be is reckoned from the bytes of text, and from what the tokens so far had.

    Args:
        known: the table, read once; None for a bar without an end.
        show: True, False, or None for only on a terminal.

    Attributes:
        tokens, total: done, and reckoned for the whole; None where it is not known.
    """

    def __init__(self, known: Survey | None, show: bool | None) -> None:
        from tqdm.auto import tqdm

        self._size, self._done, self.tokens = known.size if known else None, 0.0, 0
        self._bar: Any = tqdm(
            total=self.total,
            unit="tok",
            unit_scale=True,
            leave=False,
            disable=None if show is None and heard() else not show or not heard(),
        )

    @property
    def total(self) -> int | None:
        """Tokens of the whole table, estimated."""
        if self._size is None:
            return None
        if not self.tokens or not self._done:
            return int(self._size / _BYTES_A_TOKEN)
        return int(self._size / self._done * self.tokens)

    def add(self, tokens: int, size: float) -> None:
        """So many tokens, of so many bytes of text, are done."""
        self.tokens, self._done = self.tokens + tokens, self._done + size
        with suppress(OSError, ValueError, AttributeError):  # stderr went away meanwhile: the work is what matters
            self._bar.total = self.total
            self._bar.update(tokens)

    def skip(self, tokens: int, size: float) -> None:
        """So many were done by an earlier run: they say nothing about the speed."""
        self.tokens, self._done = self.tokens + tokens, self._done + size
        with suppress(OSError, ValueError, AttributeError):
            self._bar.total, self._bar.n, self._bar.initial = self.total, self.tokens, self.tokens

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, ValueError, AttributeError):
            self._bar.close()
