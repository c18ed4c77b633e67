"""Where the tests of Triton kernels run: on the card of this machine, or on its CPU in Triton's interpreter.

The interpreter multiplies tiles with numpy, whose sums depend on the shape of the tile, and takes bfloat16 for integers. Here it sums in the
order of the depth, as tensor cores do for tiles of every size, so that a test of bits is one of the kernels.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

CARD = torch.cuda.is_available()
DEVICE = torch.device("cuda", torch.cuda.current_device()) if CARD else torch.device("cpu")
needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton is not installed (pip install triton 'numpy<2.3')"
)

if not CARD and find_spec("triton") is not None:
    os.environ["TRITON_INTERPRET"] = "1"  # read where a kernel is defined
    from triton.runtime import interpreter

    def _float32(tile: Any) -> np.ndarray:
        if tile.data.dtype == np.uint16:  # bfloat16: the upper half of a float32
            return (tile.data.astype(np.uint32) << 16).view(np.float32)
        return tile.data.astype(np.float32)

    def _create_dot(self: Any, a: Any, b: Any, d: Any, *_: Any) -> Any:
        x, y, out = _float32(a), _float32(b), d.data.astype(np.float32)
        for k in np.flatnonzero(x.any(0)):  # what fills a tile up adds nothing
            out = out + x[:, k, None] * y[k]
        return interpreter.TensorHandle(out, d.dtype.scalar)

    interpreter.InterpreterBuilder.create_dot = _create_dot
