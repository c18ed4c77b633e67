"""Truncation, or sliding windows, for texts longer than the model's maximum."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple, get_args

from nativebert.errors import BadInputError

TooLongPolicy = Literal["truncate", "window", "error"]


class Window(NamedTuple):
    """A stretch of a text's tokens, special tokens not counted.

    Attributes:
        start: first token of the window.
        end: the one after its last.
        own_start: first token that this window answers for; the windows' own stretches tile the text.
        own_end: the one after the last it answers for.
    """

    start: int
    end: int
    own_start: int
    own_end: int


def check_policy(policy: str) -> TooLongPolicy:
    """``policy`` itself. Raises :class:`BadInputError` where it is not a known one."""
    if policy not in get_args(TooLongPolicy):
        raise BadInputError(f"too_long must be 'truncate', 'window' or 'error', not {policy!r}")
    return policy  # type: ignore[return-value]


def windows(tokens: int, room: int, stride: int) -> list[Window]:
    """Windows over a text.

    Each token is owned by exactly one window: the one in which it stands farther from an edge.

    Args:
        tokens: tokens of the text, special tokens not counted.
        room: most tokens in a window, special tokens not counted.
        stride: tokens that neighbouring windows share (as in the tokenizers library); at most ``room // 2`` is used.

    Raises:
        BadInputError: no room for a single token, or a negative stride.
    """
    if room < 1 or stride < 0:
        raise BadInputError(f"no window of {room} tokens that share {stride} can be made; allow more tokens")
    if tokens <= room:
        return [Window(0, tokens, 0, tokens)]
    stride = min(stride, room // 2)
    starts = [*range(0, tokens - room, max(1, room - stride)), tokens - room]
    # the border between two windows lies in the middle of what they share
    borders = [0, *((b + a + room) // 2 for a, b in pairwise(starts)), tokens]
    return [Window(s, s + room, lo, hi) for s, (lo, hi) in zip(starts, pairwise(borders))]
