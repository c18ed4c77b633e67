"""Symmetric int8 quantisation of matrices, one float32 scale per row.

In a file such a matrix is two tensors, as compressed-tensors writes them ("int-quantized"): ``x.weight``, I8 ``(N, K)`` with values from
-127 to 127, and ``x.weight_scale``, F32 ``(N, 1)``. Scales are rounded to 16 significant bits: then ``scale * int8`` is exact in float32,
and quantising a dequantised matrix gives the same bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from weights_map.errors import BadTensorError
from weights_map.safetensors import Checkpoint, View

SUFFIX = "_scale"
"""Ending of the scales' name, after the name of the matrix."""

_FLOATS = {"F32": np.float32, "F16": np.float16, "F64": np.float64}
_MIN_SCALE = np.float32(2.0**-100)
_ROUNDING_STEP = np.uint32(0x100)  # in a float32's bits: 24 significant bits less 16


def scales(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scale of each row: its largest magnitude / 127, rounded to 16 significant bits.

    Args:
        rows: ``(N, K)``.

    Returns:
        float32 ``(N,)``; 1 where the scale would be below 2**-100: such a row is quantised to zeros.
    """
    exact = np.abs(rows).max(1, initial=0).astype(np.float32) / np.float32(127)  # (N,)
    rounded = ((exact.view(np.uint32) + _ROUNDING_STEP // 2) // _ROUNDING_STEP * _ROUNDING_STEP).view(np.float32)
    return np.where(rounded < _MIN_SCALE, np.float32(1), rounded)


def quantise(matrix: View) -> tuple[View, View]:
    """An int8 matrix ``(N, K)`` and its scales ``(N, 1)``.

    Raises:
        BadTensorError: it is not a matrix of F64, F32, F16 or BF16.
    """
    rows = _to_float32(matrix)
    scale = scales(rows)[:, None]  # (N, 1)
    return _view("I8", np.rint(rows / scale).astype(np.int8)), _view("F32", scale)


def dequantise(matrix: View, scale: View) -> View:
    """The F32 matrix ``scale * matrix``.

    Raises:
        BadTensorError: the two are not an int8 matrix and its scales.
    """
    if problem := misfit(matrix.dtype, matrix.shape, scale.dtype, scale.shape):
        raise BadTensorError(problem)
    int8 = np.frombuffer(matrix.buffer, np.int8).reshape(matrix.shape)
    return _view("F32", int8 * np.frombuffer(scale.buffer, np.float32)[:, None])


restore = dequantise  # the old name, for one version


def misfit(dtype: str, shape: tuple[int, ...], scale_dtype: str, scale_shape: tuple[int, ...]) -> str:
    """Why two tensors are not an int8 matrix and its scales; "" if they are."""
    if dtype != "I8" or len(shape) != 2:
        return "only a matrix that is stored as I8 has scales"
    if scale_dtype != "F32" or scale_shape not in ((shape[0],), (shape[0], 1)):
        return f"the scales of {shape[0]} rows must be {shape[0]} numbers of F32"
    return ""


def is_quantised(checkpoint: Checkpoint, name: str) -> bool:
    """Whether a file stores a tensor as int8 with scales."""
    matrix, scale = (checkpoint.tensors.get(key) for key in (name, name + SUFFIX))
    return matrix is not None and scale is not None and not misfit(matrix.dtype, matrix.shape, scale.dtype, scale.shape)


def read(checkpoint: Checkpoint, name: str) -> View:
    """A tensor of a file, dequantised if the file stores it as int8 with scales."""
    view = checkpoint.view(name)
    return dequantise(view, checkpoint.view(name + SUFFIX)) if is_quantised(checkpoint, name) else view


def _to_float32(matrix: View) -> NDArray[np.float32]:
    if len(matrix.shape) != 2 or matrix.dtype not in (*_FLOATS, "BF16"):
        raise BadTensorError(f"only matrices of floats can be stored as int8, not {matrix.dtype} {matrix.shape}")
    if matrix.dtype == "BF16":  # the upper half of a float32
        bits = np.frombuffer(matrix.buffer, np.uint16).astype(np.uint32) << 16
        return bits.view(np.float32).reshape(matrix.shape)
    return np.frombuffer(matrix.buffer, _FLOATS[matrix.dtype]).reshape(matrix.shape).astype(np.float32, copy=False)


def _view(dtype: str, array: NDArray[np.generic]) -> View:
    return View(dtype, array.shape, np.ascontiguousarray(array).data.cast("B") if array.size else memoryview(b""))
