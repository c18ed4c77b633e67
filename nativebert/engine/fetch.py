"""Results on their way from a device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MOST = 2**24  # numbers that are copied to pinned memory, which stays reserved


class Fetch:
    """A tensor that is copied to the CPU behind what is computing it, while the host goes on. Tensors that are large, or of other devices than
    NVIDIA cards, stay where they are."""

    def __init__(self, x: Tensor) -> None:
        self._x = x
        self._copied: Any = None
        if x.is_cuda and x.numel() <= MOST:
            self._x = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
            self._x.copy_(x, non_blocking=True)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record(torch.cuda.current_stream(x.device))

    def result(self) -> Tensor:
        """The tensor, when it has arrived."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._x
