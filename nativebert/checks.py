"""Checks of whole numbers: arguments of Python, numpy, torch, R and tables, and values of JSON files."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, TypeGuard

from nativebert.errors import BadInputError


def plain(value: Any) -> Any:
    """A single number of numpy or torch as one of Python; all else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def is_number(value: Any) -> bool:
    """Whether it is a single number, of Python or numpy; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_integer(value: Any, low: int | None = None) -> TypeGuard[int]:
    """Whether a value of a JSON file is a whole number, written without a point, and at least ``low``."""
    return isinstance(value, int) and not isinstance(value, bool) and (low is None or value >= low)


def whole(value: Any) -> int | None:
    """A whole number as an int: Python's, numpy's or torch's, or a float without a fraction, as R and tables write whole numbers.

    None for all else: 32.5, NaN, infinities, True, "32".
    """
    number = plain(value)
    if not is_number(number):
        return None
    if isinstance(number, Integral):
        return int(number)
    return int(float(number)) if float(number).is_integer() else None


def whole_number(name: str, value: Any) -> int:
    """An argument as an int; see :func:`whole`.

    Args:
        name: of the argument, for the error.
        value: the argument.

    Raises:
        BadInputError: it is not a whole number.
    """
    if (number := whole(value)) is None:
        raise BadInputError(f"{name} must be a whole number, not {value!r}")
    return number


def at_least(low: int, name: str, value: Any, instead: str = "") -> int:
    """An argument as an int that has a lower limit.

    Args:
        low: the limit.
        name: of the argument, for the error.
        value: the argument.
        instead: what else may be passed, for the error.

    Raises:
        BadInputError: it is not a whole number, or too low.
    """
    number = whole(value)
    if number is None or number < low:
        raise BadInputError(f"{name} must be a whole number, {low} or more{instead}, not {value!r}")
    return number
