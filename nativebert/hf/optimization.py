"""Learning rate schedules for loops of your own: torch's ``LambdaLR``, by the names of transformers. Reference: its ``optimization.py``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from torch.optim.lr_scheduler import LambdaLR

from nativebert.errors import BadInputError
from nativebert.train.schedule import SCHEDULES, Shape


class SchedulerType(StrEnum):
    """Names of schedules."""

    LINEAR = "linear"
    COSINE = "cosine"
    COSINE_WITH_RESTARTS = "cosine_with_restarts"
    POLYNOMIAL = "polynomial"
    CONSTANT = "constant"
    CONSTANT_WITH_WARMUP = "constant_with_warmup"
    INVERSE_SQRT = "inverse_sqrt"
    COSINE_WITH_MIN_LR = "cosine_with_min_lr"


NAMES = tuple(map(str, SchedulerType))
_SETTINGS = {
    "cosine": ("num_cycles",),
    "cosine_with_restarts": ("num_cycles",),
    "polynomial": ("lr_end", "power"),
    "inverse_sqrt": ("timescale",),
    "cosine_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate"),
}


def factor(name: str, top: float, warmup: int, steps: int, settings: Mapping[str, Any] | None = None) -> Callable[[int], float]:
    """What the rate is multiplied by in each step, counted from 0.

    Args:
        name: the schedule.
        top: the highest rate, to which ``lr_end`` and ``min_lr`` are set in relation.
        warmup: steps in which the factor rises from 0 to 1.
        steps: of the whole run.
        settings: ``num_cycles`` (cosine, cosine_with_restarts), ``lr_end`` and ``power`` (polynomial), ``timescale`` (inverse_sqrt), ``min_lr`` or
            ``min_lr_rate`` (cosine_with_min_lr).

    Raises:
        BadInputError: an unknown schedule, or a setting that it does not have.
    """
    if name not in NAMES:
        raise BadInputError(f"the schedule must be one of {', '.join(NAMES)}, not {name!r}")
    settings = dict(settings or {})
    if unknown := [key for key in settings if key not in _SETTINGS.get(name, ())]:
        raise BadInputError(
            f"the schedule {name} has no setting {unknown[0]!r}; it has {', '.join(_SETTINGS.get(name, ())) or 'none'}"
        )
    if name == "constant":
        return lambda n: 1.0
    if name == "inverse_sqrt":
        scale = settings.get("timescale") or warmup or 10_000
        return lambda n: n / max(1, warmup) if n < warmup else 1.0 / math.sqrt((n + scale - warmup) / scale)
    shape = _shape(name, top, settings)
    return lambda n: n / max(1, warmup) if n < warmup else shape((n - warmup) / max(1, steps - warmup))


def _shape(name: str, top: float, settings: Mapping[str, Any]) -> Shape:
    """The factor by the share of the steps after the warm-up that are done."""
    if name == "cosine_with_restarts":
        cycles = float(settings.get("num_cycles", 1))
        return lambda done: 0.0 if done >= 1.0 else max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((cycles * done) % 1.0))))
    if name == "polynomial":
        end, power = float(settings.get("lr_end", 1e-7)), float(settings.get("power", 1.0))
        if not end < top:
            raise BadInputError(f"lr_end={end} must be below the learning rate, {top}")
        return lambda done: ((top - end) * (1 - min(done, 1.0)) ** power + end) / top
    if name in ("cosine", "cosine_with_min_lr"):
        cycles, least = float(settings.get("num_cycles", 0.5)), 0.0
        if name == "cosine_with_min_lr":
            if (settings.get("min_lr") is None) == (settings.get("min_lr_rate") is None):
                raise BadInputError("cosine_with_min_lr needs min_lr or min_lr_rate, one of them")
            least = float(settings["min_lr"]) / top if settings.get("min_lr") is not None else float(settings["min_lr_rate"])
        return lambda done: max(0.0, 0.5 * (1.0 + math.cos(math.pi * cycles * 2.0 * done)) * (1 - least) + least)
    return SCHEDULES[name]


def get_scheduler(
    name: Any,
    optimizer: Any,
    num_warmup_steps: int | None = None,
    num_training_steps: int | None = None,
    scheduler_specific_kwargs: Mapping[str, Any] | None = None,
) -> LambdaLR:
    """A schedule by name.

    Args:
        name: one of :class:`SchedulerType`.
        optimizer: of torch.
        num_warmup_steps, num_training_steps: its length; the constant ones need no length, and ``"constant"`` no warm-up.
        scheduler_specific_kwargs: see :func:`factor`.

    Raises:
        BadInputError: an unknown name, or a length that is missing.
    """
    name = str(getattr(name, "value", name))
    if num_warmup_steps is None and name != "constant":
        raise BadInputError(f"{name} needs num_warmup_steps")
    if num_training_steps is None and name not in ("constant", "constant_with_warmup", "inverse_sqrt"):
        raise BadInputError(f"{name} needs num_training_steps")
    top = optimizer.defaults["lr"]
    return LambdaLR(
        optimizer, factor(name, top, int(num_warmup_steps or 0), int(num_training_steps or 0), scheduler_specific_kwargs)
    )


def get_linear_schedule_with_warmup(
    optimizer: Any, num_warmup_steps: int, num_training_steps: int, last_epoch: int = -1
) -> LambdaLR:
    """Up from 0, then down to 0."""
    return _made("linear", optimizer, num_warmup_steps, num_training_steps, last_epoch)


def get_cosine_schedule_with_warmup(
    optimizer: Any, num_warmup_steps: int, num_training_steps: int, num_cycles: float = 0.5, last_epoch: int = -1
) -> LambdaLR:
    """Up from 0, then down to 0 along a cosine."""
    return _made("cosine", optimizer, num_warmup_steps, num_training_steps, last_epoch, num_cycles=num_cycles)


def get_cosine_with_hard_restarts_schedule_with_warmup(
    optimizer: Any, num_warmup_steps: int, num_training_steps: int, num_cycles: int = 1, last_epoch: int = -1
) -> LambdaLR:
    """Up from 0, then down to 0 along a cosine, several times."""
    return _made("cosine_with_restarts", optimizer, num_warmup_steps, num_training_steps, last_epoch, num_cycles=num_cycles)


def get_polynomial_decay_schedule_with_warmup(
    optimizer: Any,
    num_warmup_steps: int,
    num_training_steps: int,
    lr_end: float = 1e-7,
    power: float = 1.0,
    last_epoch: int = -1,
) -> LambdaLR:
    """Up from 0, then down to ``lr_end`` along a power."""
    return _made("polynomial", optimizer, num_warmup_steps, num_training_steps, last_epoch, lr_end=lr_end, power=power)


def get_inverse_sqrt_schedule(
    optimizer: Any, num_warmup_steps: int, timescale: int | None = None, last_epoch: int = -1
) -> LambdaLR:
    """Up from 0, then down with the inverse square root of the step."""
    return _made("inverse_sqrt", optimizer, num_warmup_steps, 0, last_epoch, timescale=timescale)


def get_constant_schedule(optimizer: Any, last_epoch: int = -1) -> LambdaLR:
    """The optimizer's own rate."""
    return _made("constant", optimizer, 0, 0, last_epoch)


def get_constant_schedule_with_warmup(optimizer: Any, num_warmup_steps: int, last_epoch: int = -1) -> LambdaLR:
    """Up from 0, then the optimizer's own rate."""
    return _made("constant_with_warmup", optimizer, num_warmup_steps, 0, last_epoch)


def _made(name: str, optimizer: Any, warmup: int, steps: int, last_epoch: int, **settings: Any) -> LambdaLR:
    return LambdaLR(optimizer, factor(name, optimizer.defaults["lr"], warmup, steps, settings), last_epoch)
