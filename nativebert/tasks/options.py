"""The options that all tasks have, in one value: how long texts are read, how large batches are, where and in what numbers it is computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from inspect import signature
from os import PathLike
from typing import TYPE_CHECKING, Any, TypedDict

from nativebert.checks import at_least, whole
from nativebert.engine import Precision
from nativebert.errors import BadInputError
from nativebert.tasks import hints
from nativebert.text.window import TooLongPolicy, check_policy

if TYPE_CHECKING:
    import torch


class CallOptions(TypedDict, total=False):
    """Keyword arguments that every call of a task takes.

    Attributes:
        max_tokens: in place of the task's own, see :class:`TaskOptions`; without it, or with None, that holds.
        too_long: likewise.
        stride: likewise.
        batch_tokens: likewise.
        progress: show a progress bar; None, the default, shows one on a terminal for work that takes more than two seconds.

    And ``return_report``: True to return ``(results, Report)``, see :class:`~nativebert.tasks.results.Report`.
    """

    max_tokens: int | None
    too_long: TooLongPolicy | None
    stride: int | None
    batch_tokens: int | None
    progress: bool | None


class ReportOptions(CallOptions, total=False):
    """All of them, where the type of the result does not matter."""

    return_report: bool


class TaskOptions(TypedDict, total=False):
    """Keyword arguments that every task's constructor takes.

    Attributes:
        device: ``"auto"`` (the default: the first of cuda, mps and cpu that is there), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, a
            ``torch.device``, or the number of an NVIDIA GPU.
        precision: of the encoder: ``"float32"`` (the default), ``"bfloat16"``, ``"float16"`` or, on the CPU, ``"int8"``; or torch's type. Heads are computed in
            float32 always; vectors, logits and scores are float32.
        max_tokens: maximum length of a sequence in tokens, special tokens included. A longer text (or pair of texts) is treated as
            ``too_long`` says. None, the default, takes the limit in the model's files.
        too_long: ``"truncate"`` cuts long texts, with one warning per call that counts the tokens left out
            (:class:`~nativebert.errors.Truncated`); ``"window"`` reads all of them in overlapping windows; ``"error"`` raises. The default is
            ``"truncate"``, where the task does not say otherwise; how the results of windows are combined is the task's.
        stride: tokens that neighbouring windows share; at most half a window is used. 64, where the task does not say otherwise.
        batch_tokens: maximum tokens of a batch. It changes the speed, not the result. None, the default, chooses by device. Where the memory
            of the device does not hold such a batch, the task goes on with smaller ones, in later calls too, and warns
            (:class:`~nativebert.errors.SmallerBatches`).
        warmup: on an NVIDIA GPU, time a handful of tile sizes for the model's matrix products and keep the fastest in a file beside Triton's
            cache, where they hold for later tasks too: takes up to a minute, once. It changes the speed, not the result; other devices
            have nothing to choose.
        revision: branch, tag or commit on the Hub.
        offline: True for no network access; None, the default, for what the environment variable ``HF_HUB_OFFLINE`` says.
        token: Hub token; None, the default, for the one of the logged-in user.
        base: of an adapter of the library peft, the model to merge it into: a folder or a name on the Hub; None, the default, for the one
            that its adapter_config.json names.
    """

    device: str | int | torch.device
    precision: Precision | torch.dtype
    max_tokens: int | None
    too_long: TooLongPolicy
    stride: int
    batch_tokens: int | None
    warmup: bool
    revision: str | None
    offline: bool | None
    token: str | None
    base: str | PathLike[str] | None


CALL_OPTIONS, TASK_OPTIONS = ReportOptions.__optional_keys__, TaskOptions.__optional_keys__

DEFAULTS: TaskOptions = {
    "device": "auto", "precision": "float32", "max_tokens": None, "too_long": "truncate", "stride": 64, "batch_tokens": None,
    "warmup": False, "revision": None, "offline": None, "token": None, "base": None,
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """The options of a task, or of one call, resolved for its model and checked; so is what ``dataclasses.replace`` makes of them.

    Attributes:
        device, precision, max_tokens, too_long, stride, batch_tokens: as of :class:`TaskOptions`, none of them left open.
        positions: the maximum of ``max_tokens``: the model's positions.
        special_tokens: special tokens around a text; ``max_tokens`` is larger.

    Raises:
        BadInputError: a value that is not allowed.
    """

    device: str
    precision: Precision
    max_tokens: int
    too_long: TooLongPolicy
    stride: int
    batch_tokens: int
    positions: int
    special_tokens: int

    def __post_init__(self) -> None:
        limit = whole(self.max_tokens)
        if limit is None or not 1 <= limit <= self.positions:
            raise BadInputError(
                f"max_tokens must be between 1 and the model's {self.positions} positions, not {self.max_tokens!r}"
            )
        if limit <= self.special_tokens:
            raise BadInputError(f"max_tokens={limit} leaves no room for text beside {self.special_tokens} special tokens")
        vars(self).update(check(self.too_long, self.stride, self.batch_tokens), max_tokens=limit)  # whole numbers become ints

    def changed(self, options: ReportOptions, task: type | None = None) -> Options:
        """These options, with those of a call in their place.

        Raises:
            TypeError: a keyword argument that calls do not have.
            BadInputError: a value that is not allowed.
        """
        if not CALL_OPTIONS.issuperset(options):
            name = min(options.keys() - CALL_OPTIONS)
            known, made = set(CALL_OPTIONS), set(TASK_OPTIONS)
            if task is not None:
                made |= signature(task).parameters.keys()
                known |= signature(task.__call__).parameters.keys()
            hint = hints.of_argument(name, known, made)
            raise TypeError(f"the call of a task has no keyword argument {name!r}{hint}")
        changes: dict[str, Any] = {name: value for name, value in options.items() if value is not None and name in TASK_OPTIONS}
        return replace(self, **changes) if changes else self


def check(too_long: str, stride: int, batch_tokens: int | None) -> dict[str, Any]:
    """These options by name, whole numbers as ints: what can be checked before there is a model.

    Raises:
        BadInputError: a value that is not allowed.
    """
    return {
        "too_long": check_policy(too_long),
        "stride": at_least(0, "stride", stride),
        "batch_tokens": None if batch_tokens is None else at_least(1, "batch_tokens", batch_tokens),
    }
