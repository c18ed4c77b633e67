"""What the old names ask of a device and a number type, and all token states of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nativebert.checks import is_number, plain, whole_number
from nativebert.errors import BadInputError, RefusedError
from nativebert.tasks.base import Call, Task

FLOATS = ("float32", "bfloat16", "float16")


class States(Task):
    """A task that gives the states of every token, special ones included, as the reference does."""

    def states(self, texts: Sequence[str], progress: bool | None = None) -> list[Tensor]:
        """Hidden states of the last layer, float32 ``(tokens, width)`` on the CPU, for each text."""
        found: list[Tensor] = []
        with Call(self, texts, progress) as call:
            for here in call.chunks():
                pieces = self._fit_texts(list(texts[here]), here, call)
                rows_of: list[Tensor] = [torch.empty(0)] * len(pieces.ids)
                for rows, batch, hidden in self._run(pieces, here, call):
                    for n, x in zip(rows.tolist(), torch.split(hidden.float().cpu(), list(batch.lengths)), strict=True):
                        rows_of[n] = x
                found += rows_of
        call.report()
        return found


def device_name(given: Any) -> str:
    """``"cuda:1"`` and its like, of a name, a number (-1 is the CPU), a ``torch.device``, or None for the best there is.

    Raises:
        RefusedError: several devices.
        BadInputError: no device.
    """
    if isinstance(given, (list, tuple)):
        raise RefusedError("several devices at once are not carried: start one process for each, with its share of the texts")
    if given is None:
        return "auto"
    if is_number(plain(given)):
        given = whole_number("device", given)
    if isinstance(given, bool) or not isinstance(given, (int, str, torch.device)):
        raise BadInputError(f"device must be a name like 'cpu' or 'cuda:1', a number or None, not {given!r}")
    if isinstance(given, int):
        # as in the reference, a number means an accelerator if there is one
        return "cpu" if given < 0 else f"cuda:{given}" if torch.cuda.is_available() else "auto"
    return str(given)


def precision_name(given: Any) -> str:
    """``"bfloat16"`` and its like, of a ``torch.dtype`` or its name; ``"float32"`` for None and ``"auto"``.

    Raises:
        RefusedError: another number type.
    """
    name = str(given).removeprefix("torch.")
    name = {"None": "float32", "auto": "float32", "float": "float32", "half": "float16"}.get(name, name)
    if name not in FLOATS:
        raise RefusedError(
            f"dtype must be one of {', '.join(FLOATS)}, not {given!r}; vectors and scores are float32 always. The native tasks also take "
            "precision='int8'"
        )
    return name


def hub_token(given: Any) -> str | None:
    """A Hub token: True means the one that is logged in."""
    if given is False:
        raise RefusedError("token=False is not carried: unset HF_TOKEN, and the Hub is asked without a token")
    return None if given is True else given
