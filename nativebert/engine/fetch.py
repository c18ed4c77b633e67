"""Results on their way from a device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MOST = 2**24  # numbers that are copied to pinned memory, which stays reserved
FEW = 2**16  # numbers that are copied sooner than an event is made that says when they have been


class Fetch:
    """A tensor on its way to the CPU. Tensors that are large, or of other devices than NVIDIA cards, stay where they are.

    Args:
        x: the tensor; it may still be computed.
        ahead: whether more work is launched on the device before the result is asked for. The copy is then queued now, right behind what
            computes the tensor, and the host goes on.
    """

    def __init__(self, x: Tensor, *, ahead: bool = True) -> None:
        self._x = x
        self._copied: Any = None
        self._late = x.is_cuda and not ahead and x.numel() <= FEW
        if x.is_cuda and x.numel() <= MOST and not self._late:
            self._x = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
            self._x.copy_(x, non_blocking=True)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record(torch.cuda.current_stream(x.device))

    def result(self) -> Tensor:
        """The tensor, when it has arrived."""
        if self._late:
            return self._x.cpu()
        if self._copied is not None:
            self._copied.synchronize()
        return self._x
