"""Vectors in fewer bytes, and what that costs in the order of neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nativebert.errors import BadInputError
from nativebert.io.files import arrow
from nativebert.tasks.embed import Vectors

KINDS = ("float32", "float16", "int8", "binary")
_NEAREST = 10


def type_of(width: int, kind: str) -> Any:
    """The type of a column of vectors: a FixedSizeList of ``width`` numbers; of ``binary``, of a byte for every 8 of them.

    Raises:
        BadInputError: ``binary``, and a width that is not a multiple of 8.
    """
    pa = arrow()
    if kind == "binary" and width % 8:
        raise BadInputError(
            f"binary vectors need a dimension that is a multiple of 8, not {width}: pass truncate_dim={width - width % 8}"
        )
    number = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8(), "binary": pa.uint8()}[kind]
    return pa.list_(number, width // 8 if kind == "binary" else width)


def reduced(vectors: Vectors, kind: str) -> NDArray[Any]:
    """Vectors ``(n, width)`` in another kind of number.

    ``int8`` scales each vector so that its largest number is 127, which leaves cosine similarity as it is, except for rounding; ``binary`` keeps the signs, 8 to
    a byte as ``numpy.packbits`` does it.
    """
    if kind == "float16":
        return vectors.astype(np.float16)
    if kind == "int8":
        largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
        return np.rint(vectors * (127 / np.where(largest > 0, largest, 1))).astype(np.int8)
    return np.packbits(vectors > 0, axis=1) if kind == "binary" else vectors


def packed(vectors: Vectors, kind: str) -> Any:
    """Vectors as an Arrow array of :func:`type_of`."""
    numbers = np.ascontiguousarray(reduced(vectors, kind))
    pa = arrow()
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), type=type_of(vectors.shape[1], kind))


def kept_neighbours(vectors: Vectors, kind: str) -> float:
    """Share of the 10 nearest neighbours (by cosine) of each vector that are still among its 10 nearest in another kind of number.

    Args:
        vectors: float32 ``(n, width)``, more than 10.
        kind: one of :data:`KINDS`.
    """
    small = reduced(vectors, kind)
    if kind == "binary":
        small = np.unpackbits(small, axis=1).astype(np.float32) * 2 - 1  # their product orders as the Hamming distance does
    full, less = (_nearest(np.asarray(x, np.float32)) for x in (vectors, small))
    kept = [len(set(a) & set(b)) for a, b in zip(full.tolist(), less.tolist())]
    return float(np.mean(kept) / full.shape[1])


def _nearest(vectors: Vectors) -> NDArray[np.int64]:
    x = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    scores = x @ x.T
    np.fill_diagonal(scores, -np.inf)
    nearest: NDArray[np.int64] = np.argsort(-scores, axis=1, kind="stable")[:, :_NEAREST]
    return nearest
