"""The learning rate of each step. Reference: transformers ``optimization.py``."""

from __future__ import annotations

import math
from collections.abc import Callable

from nativebert.errors import BadInputError

Shape = Callable[[float], float]  # share of the steps after the warm-up that are done -> factor of the top rate

SCHEDULES: dict[str, Shape] = {
    "linear": lambda done: max(0.0, 1.0 - done),
    "cosine": lambda done: max(0.0, 0.5 * (1.0 + math.cos(math.pi * done))),
    "constant": lambda done: 1.0,
    "constant_with_warmup": lambda done: 1.0,
}


def warmup_steps(warmup: float, steps: int) -> int:
    """Steps of the warm-up: ``warmup`` itself from 1 on, else that share of all steps, rounded up."""
    if warmup < 0:
        raise BadInputError(f"warmup_steps must be 0 or more, not {warmup}")
    return int(warmup) if warmup >= 1 else math.ceil(warmup * steps)


def learning_rates(schedule: str, top: float, steps: int, warmup: float = 0.0) -> list[float]:
    """The learning rate of each of ``steps`` steps.

    Args:
        schedule: a name in :data:`SCHEDULES`; ``"constant"`` has no warm-up.
        top: the rate after the warm-up, which begins at 0.
        steps: of the whole run.
        warmup: steps of the warm-up, or below 1 their share.

    Raises:
        BadInputError: an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise BadInputError(f"lr_scheduler_type must be one of {', '.join(SCHEDULES)}, not {schedule!r}")
    shape = SCHEDULES[schedule]
    warm = 0 if schedule == "constant" else warmup_steps(warmup, steps)
    return [top * (n / max(1, warm) if n < warm else shape((n - warm) / max(1, steps - warm))) for n in range(steps)]
