"""Learning rate schedules for loops of one's own: torch's ``LambdaLR``, by the names of transformers."""

from __future__ import annotations

from typing import Any

from torch.optim.lr_scheduler import LambdaLR

from nativebert.errors import BadInputError
from nativebert.train.schedule import SCHEDULES


def get_scheduler(
    name: Any, optimizer: Any, num_warmup_steps: int | None = None, num_training_steps: int | None = None, **_: Any
) -> LambdaLR:
    """A schedule by name.

    Args:
        name: ``"linear"``, ``"cosine"``, ``"constant"``, ``"constant_with_warmup"``.
        optimizer: of torch.
        num_warmup_steps, num_training_steps: its length; the constant ones need no length, and ``"constant"`` no warm-up.

    Raises:
        BadInputError: an unknown name, or a length that is missing.
    """
    name = str(getattr(name, "value", name))
    if name not in SCHEDULES:
        raise BadInputError(f"the schedule must be one of {', '.join(SCHEDULES)}, not {name!r}")
    if num_warmup_steps is None and name != "constant":
        raise BadInputError(f"{name} needs num_warmup_steps")
    if num_training_steps is None and name in ("linear", "cosine"):
        raise BadInputError(f"{name} needs num_training_steps")
    warm = 0 if name == "constant" else int(num_warmup_steps or 0)
    total, shape = int(num_training_steps or 0), SCHEDULES[name]
    return LambdaLR(optimizer, lambda n: n / max(1, warm) if n < warm else shape((n - warm) / max(1, total - warm)))


def get_linear_schedule_with_warmup(optimizer: Any, num_warmup_steps: int, num_training_steps: int) -> LambdaLR:
    """Up from 0, then down to 0."""
    return get_scheduler("linear", optimizer, num_warmup_steps, num_training_steps)


def get_cosine_schedule_with_warmup(optimizer: Any, num_warmup_steps: int, num_training_steps: int) -> LambdaLR:
    """Up from 0, then down to 0 along a cosine."""
    return get_scheduler("cosine", optimizer, num_warmup_steps, num_training_steps)


def get_constant_schedule(optimizer: Any) -> LambdaLR:
    """The optimizer's own rate."""
    return get_scheduler("constant", optimizer)


def get_constant_schedule_with_warmup(optimizer: Any, num_warmup_steps: int) -> LambdaLR:
    """Up from 0, then the optimizer's own rate."""
    return get_scheduler("constant_with_warmup", optimizer, num_warmup_steps)
