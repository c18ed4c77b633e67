"""A model prepared for one device and precision: ``prepare(model).hidden(packed) -> (T, H)``.

The reference model in :mod:`nativebert.nn` says what is computed; a plan (:class:`~nativebert.engine.plan.ExecutionPlan`) computes the same,
faster, and is tested against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from nativebert.checks import whole
from nativebert.errors import BadInputError, Slower, warn

if TYPE_CHECKING:
    import torch

    from nativebert.engine.plan import ExecutionPlan
    from nativebert.nn.model import Model

Precision = Literal["float32", "bfloat16", "float16", "int8", "tf32"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16", "int8", "tf32")


def choose_device(name: str | int | torch.device = "auto") -> torch.device:
    """A device by name; ``auto`` is the first of cuda, mps, cpu that is there, and a number the NVIDIA GPU with that number.

    Raises:
        BadInputError: not a device, or not on this machine.
    """
    import torch

    if isinstance(name, torch.device):
        name = str(name)
    elif not isinstance(name, (str, bool)) and (number := whole(name)) is not None and number >= 0:
        name = f"cuda:{number}"
    if not isinstance(name, str):
        raise BadInputError(f"device must be a name like 'auto', 'cpu' or 'cuda:1', or the number of a GPU, not {name!r}")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInputError(f"device must be 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps', not {name!r}") from None
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(device.type, False)
    if not there or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise BadInputError(
            f"this machine (or this build of torch {torch.__version__}) has no device {name!r}; use device='auto'"
        )
    return device


def precision_name(precision: str | torch.dtype) -> Precision:
    """One of :data:`PRECISIONS`, of its name or torch's type.

    Raises:
        BadInputError: no precision.
    """
    name = str(precision).removeprefix("torch.")
    for known in PRECISIONS:
        if name == known:
            return known
    raise BadInputError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")


def where(device: str) -> str:
    """A device for people: says of the CPU that the kernels are missing."""
    from nativebert import kernels

    return f"{device} without C kernels" if device == "cpu" and kernels.missing() else device


def prepare(
    model: Model,
    device: str | int | torch.device = "auto",
    precision: str | torch.dtype = "float32",
    *,
    heads: Sequence[str] | None = None,
    on_copied: Callable[[], None] | None = None,
) -> ExecutionPlan:
    """Prepare a model to run.

    Args:
        model: the reference model. The plan takes its weights as they are now: prepare again after changing them.
        device: a torch device or its name.
        precision: one of :data:`PRECISIONS`; int8 (see :mod:`nativebert.engine.int8`) on the CPU only, tf32 on NVIDIA GPUs only.
        heads: the tasks of the heads to prepare; None for all that the model has.
        on_copied: called whenever more of a layer's weights have been copied, for a caller that wants its own gone: with a checkpoint's ``release``
            the two never stand in memory together. The embedding tables are then not copied.

    Raises:
        BadInputError: unknown device or precision, or one that the device does not have.
    """
    from nativebert import kernels
    from nativebert.engine import cuda
    from nativebert.engine.cpu import CpuPlan, Product
    from nativebert.engine.int8 import Int8Product
    from nativebert.engine.native import CKernelPlan, supports
    from nativebert.engine.reference import ReferencePlan

    device, precision = choose_device(device), precision_name(precision)
    if precision == "int8" and device.type != "cpu":
        raise BadInputError(f"precision='int8' is for the CPU, not for {device}; use 'float16' or 'bfloat16' there")
    heads = model.tasks if heads is None else heads
    if device.type == "cpu" and precision in ("float32", "int8"):
        if kernels.available() and supports(model):
            return CKernelPlan(model, precision, heads, on_copied)
        if reason := kernels.missing():
            warn(f"nativebert's C kernels are not used, and it takes two to three times as long without them: {reason}", Slower)
        return CpuPlan(model, Int8Product if precision == "int8" else Product, heads, on_copied)
    if precision == "tf32" and device.type != "cuda":
        raise BadInputError(f"precision='tf32' is for NVIDIA GPUs, not for {device}; use 'float32' there")
    if device.type == "cuda":
        if not (reason := cuda.why_not(model, device)):
            from nativebert.engine.cuda.plan import CudaPlan

            return CudaPlan(model, device, precision, heads, on_copied)
        if precision == "tf32":
            raise BadInputError(f"precision='tf32' needs nativebert's own kernels: {reason}")
        warn(f"nativebert's own kernels for {device} are not used, and it will be slower without them: {reason}", Slower)
    return ReferencePlan(model, device, precision, heads)
