"""Whole numbers among arguments, whoever wrote them."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from nativebert.errors import BadInputError


def whole(value: Any) -> int | None:
    """A whole number as an int: Python's or numpy's, or a float without a fraction, as R and tables write whole numbers.

    None for all else: 32.5, NaN, infinities, True, "32".
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    if isinstance(value, Integral):
        return int(value)
    return int(float(value)) if float(value).is_integer() else None


def at_least(least: int, name: str, value: Any, instead: str = "") -> int:
    """An argument as an int.

    Args:
        least: the lowest that it may be.
        name: of the argument, for the error.
        value: what the caller gave.
        instead: what else the error should say may be given.

    Raises:
        BadInputError: it is no whole number, or too low.
    """
    number = whole(value)
    if number is None or number < least:
        raise BadInputError(f"{name} must be a whole number, {least} or more{instead}, not {value!r}")
    return number
