"""A model made ready for one device and precision: ``prepare(model).run(packed) -> (T, H)``.

The reference model in :mod:`nativebert.nn` says what is computed; a plan here computes the same, faster, and is tested against it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from nativebert.errors import BadInput, Slower, warn

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nativebert.nn.model import Model
    from nativebert.nn.packed import Packed

PRECISIONS = ("float32", "bfloat16", "float16", "int8", "tf32")


class Prepared(Protocol):
    """An immutable execution plan.

    Attributes:
        device: where it runs, and where its results are.
    """

    device: torch.device

    def run(self, batch: Packed) -> Tensor:
        """Hidden states of the last layer, ``(T, H)``."""

    def states(self, batch: Packed) -> list[Tensor]:
        """Hidden states after the embeddings and after each layer, ``(T, H)`` each; the last is what :meth:`run` gives."""

    def pooled(self, batch: Packed, modes: tuple[str, ...], skip: int = 0) -> Tensor:
        """A vector for each sequence, float32 ``(B, H * len(modes))``: what :func:`nativebert.nn.pool.pool` makes of :meth:`run`."""


def choose_device(name: str = "auto") -> torch.device:
    """A device by name; ``auto`` is the first of cuda, mps, cpu that is there.

    Raises:
        BadInput: not a device, or not on this machine.
    """
    import torch

    if not isinstance(name, str):
        raise BadInput(f"device must be a string like 'auto', 'cpu' or 'cuda:1', not {name!r}")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInput(f"device must be 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps', not {name!r}") from None
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(device.type, False)
    if not there or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise BadInput(f"this machine (or this build of torch {torch.__version__}) has no device {name!r}; use device='auto'")
    return device


def prepare(
    model: Model,
    device: str | torch.device = "auto",
    precision: str = "float32",
    *,
    after: Callable[[], None] | None = None,
) -> Prepared:
    """Make ``model`` ready to run.

    Args:
        model: the reference model. The plan takes its weights as they are now: prepare again after changing them.
        device: a torch device or its name.
        precision: one of :data:`PRECISIONS`; int8 (see :mod:`nativebert.engine.int8`) on the CPU only, tf32 on NVIDIA cards only.
        after: called whenever more of a layer's weights have been copied, for a caller that wants its own gone: with a checkpoint's ``release``
            the two never stand in memory together. The embedding tables are then not copied.

    Raises:
        BadInput: unknown device or precision, or one that is not for this device.
    """
    from nativebert import kernels
    from nativebert.engine import cuda
    from nativebert.engine.cpu import CpuPlan, Product
    from nativebert.engine.int8 import Int8Product
    from nativebert.engine.native import NativePlan, fits
    from nativebert.engine.reference import ReferencePlan

    device = choose_device(str(device))
    if precision not in PRECISIONS:
        raise BadInput(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    if precision == "int8" and device.type != "cpu":
        raise BadInput(f"precision='int8' is for the CPU, not for {device}; use 'float16' or 'bfloat16' there")
    if device.type == "cpu" and precision in ("float32", "int8"):
        if kernels.available() and fits(model):
            return NativePlan(model, precision, after)
        return CpuPlan(model, Int8Product if precision == "int8" else Product, after)
    if precision == "tf32" and device.type != "cuda":
        raise BadInput(f"precision='tf32' is for NVIDIA cards, not for {device}; use 'float32' there")
    if device.type == "cuda":
        if not (why := cuda.why_not(model, device)):
            from nativebert.engine.cuda.plan import CudaPlan

            return CudaPlan(model, device, precision, after)
        if precision == "tf32":
            raise BadInput(f"precision='tf32' needs nativebert's own kernels: {why}")
        warn(f"nativebert's own kernels for {device} are not used, and it will be slower without them: {why}", Slower)
    return ReferencePlan(model, device, precision)
