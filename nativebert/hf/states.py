"""Arguments that name a device, a number type or a Hub token, as native ones."""

from __future__ import annotations

from typing import Any

import torch

from nativebert import engine
from nativebert.checks import is_number, plain, whole_number
from nativebert.engine import Precision
from nativebert.errors import BadInputError, RefusedError

FLOATS = ("float32", "bfloat16", "float16")


def device_name(value: Any) -> str:
    """``"cuda:1"`` and similar, of a name, a number (-1 is the CPU), a ``torch.device``, or None for the best there is.

    Raises:
        RefusedError: several devices.
        BadInputError: no device.
    """
    if isinstance(value, (list, tuple)):
        raise RefusedError("several devices at once are not supported: start one process for each, with its share of the texts")
    if value is None:
        return "auto"
    if is_number(plain(value)):
        value = whole_number("device", value)
    if isinstance(value, bool) or not isinstance(value, (int, str, torch.device)):
        raise BadInputError(f"device must be a name like 'cpu' or 'cuda:1', a number or None, not {value!r}")
    if isinstance(value, int):
        # as in the reference, a number means an accelerator if there is one
        return "cpu" if value < 0 else f"cuda:{value}" if torch.cuda.is_available() else "auto"
    return str(value)


def precision_name(value: Any) -> Precision:
    """``"bfloat16"`` and similar, of a ``torch.dtype`` or its name; ``"float32"`` for None and ``"auto"``.

    Raises:
        RefusedError: another number type.
    """
    name = str(value).removeprefix("torch.")
    name = {"None": "float32", "auto": "float32", "float": "float32", "half": "float16"}.get(name, name)
    if name not in FLOATS:
        raise RefusedError(
            f"dtype must be one of {', '.join(FLOATS)}, not {value!r}; vectors and scores are float32 always. The native tasks also take "
            "precision='int8'"
        )
    return engine.precision_name(name)


def hub_token(value: Any) -> str | None:
    """A Hub token: True means the one that is logged in."""
    if value is False:
        raise RefusedError("token=False is not supported: unset HF_TOKEN, and the Hub is asked without a token")
    return None if value is True else value
