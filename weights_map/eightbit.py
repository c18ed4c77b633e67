"""Matrices in eight bits: a row is one float32 scale times whole numbers from -127 to 127.

In a file such a matrix is two tensors, as compressed-tensors writes them ("int-quantized"): ``x.weight`` as I8 and, beside it,
``x.weight_scale`` as F32, ``(rows, 1)``. Scales are rounded to 16 significant bits: then scale times number is exact in float32, and
quantising what was restored gives the same bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from weights_map.errors import BadTensor
from weights_map.safetensors import View

SUFFIX = "_scale"
"""What the name of a matrix's scales ends with, after the matrix's own name."""

_FLOATS = {"F32": np.float32, "F16": np.float16, "F64": np.float64}
_LEAST = np.float32(2.0**-100)
_STEP = np.uint32(0x100)  # of a float32's bits: 24 significant ones less 16


def scales(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What one is worth in each row.

    Args:
        rows: ``(N, K)``.

    Returns:
        float32 ``(N,)``: the largest magnitude / 127, rounded to 16 significant bits; 1 where that is below 2**-100: such a row is nothing but zeros.
    """
    most = np.abs(rows).max(1, initial=0).astype(np.float32)
    exact = most / np.float32(127)
    rounded = ((exact.view(np.uint32) + _STEP // 2) // _STEP * _STEP).view(np.float32)
    return np.where(rounded < _LEAST, np.float32(1), rounded)


def quantise(value: View) -> tuple[View, View]:
    """A matrix as I8, and its scales.

    Raises:
        BadTensor: it is no matrix of F64, F32, F16 or BF16.
    """
    rows = _floats(value)
    scale = scales(rows)
    units = np.rint(rows / scale[:, None]).astype(np.int8)
    return _view("I8", units), _view("F32", scale[:, None])


def restore(units: View, scale: View) -> View:
    """A matrix as F32 again.

    Raises:
        BadTensor: the two do not belong together.
    """
    if problem := misfit(units.dtype, units.shape, scale.dtype, scale.shape):
        raise BadTensor(problem)
    whole = np.frombuffer(units.buffer, np.int8).reshape(units.shape)
    return _view("F32", whole * np.frombuffer(scale.buffer, np.float32)[:, None])


def misfit(dtype: str, shape: tuple[int, ...], scale_dtype: str, scale_shape: tuple[int, ...]) -> str:
    """Why two tensors are not a matrix and its scales, or ""."""
    if dtype != "I8" or len(shape) != 2:
        return "scales are of matrices stored as I8"
    if scale_dtype != "F32" or scale_shape not in ((shape[0],), (shape[0], 1)):
        return f"the scales of {shape[0]} rows must be as many numbers of F32"
    return ""


def _floats(value: View) -> NDArray[np.float32]:
    if len(value.shape) != 2 or value.dtype not in (*_FLOATS, "BF16"):
        raise BadTensor(f"only matrices of floats can be stored in eight bits, not {value.dtype} {value.shape}")
    if value.dtype == "BF16":  # the upper half of a float32
        wide = np.frombuffer(value.buffer, np.uint16).astype(np.uint32) << 16
        return wide.view(np.float32).reshape(value.shape)
    return np.frombuffer(value.buffer, _FLOATS[value.dtype]).reshape(value.shape).astype(np.float32, copy=False)


def _view(dtype: str, array: NDArray[np.generic]) -> View:
    return View(dtype, array.shape, np.ascontiguousarray(array).data.cast("B") if array.size else memoryview(b""))
