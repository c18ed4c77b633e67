"""R's own files, written from Python values: what ``readRDS()``, ``load()`` and ``unserialize()`` read.

    with open("out.rds", "wb") as file:
        dump_rds(file, Frame(text=["good", None], label=Factor([0, -1], ["neg", "pos"]), score=np.array([0.5, NA_REAL])))

===============================================  =============================================
Python                                           R
===============================================  =============================================
str; list of str and None                        character, in UTF-8; ``None`` is ``NA``
bool; list of bool and None                      logical
int, float; list of them and None                integer where all are whole numbers of 32 bits, else double
numpy array of floats, int64, uint32             double, with ``dim`` from two dimensions on
numpy array of narrower integers; of bool        integer; logical
:class:`Matrix`, :class:`Factor`, :class:`Frame` matrix with dimnames, factor, data.frame
dict; tuple                                      list with names; list without
None                                             NULL
===============================================  =============================================

The format is R's serialization, version 2, big-endian ("R Internals", 1.8), which every R since 2.3 reads. An item is a word of flags (type in the lowest
byte, then the bits below), for vectors a length and the elements, then its attributes as a linked list of named items.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nativebert.errors import BadInputError

# Types of R ("R Internals", 1.1), and bits of the flags
_SYMBOL, _PAIRLIST, _CHAR, _LOGICAL, _INTEGER, _REAL, _STRING, _LIST, _NULL = 1, 2, 9, 10, 13, 14, 16, 19, 254
_IS_OBJECT, _HAS_ATTRIBUTES, _HAS_TAG = 1 << 8, 1 << 9, 1 << 10
_UTF8, _ASCII = 8 << 12, 64 << 12  # encoding of a string

# "X": big-endian binary; version 2; written by R 4.0.0, for R 2.3.0 and newer
_HEADER = b"X\n" + struct.pack(">3i", 2, 0x00040000, 0x00020300)

NA_INTEGER = np.int32(-(2**31))
"""R's missing integer, and so no value of an integer of R."""
NA_REAL: np.float64 = np.frombuffer(b"\x7f\xf0\x00\x00\x00\x00\x07\xa2", ">f8").astype("<f8")[0]
"""R's missing number: a NaN that R distinguishes from others by its lower bits. Arithmetic may lose them: copy it."""
_EXACT = 2**53  # beyond it, a double leaves out whole numbers


class Factor(NamedTuple):
    """A factor.

    Attributes:
        codes: index of each value's level, counted from 0; -1 for a missing value.
        levels: names, each once.
    """

    codes: Sequence[int] | NDArray[np.integer[Any]]
    levels: Sequence[str]


class Matrix(NamedTuple):
    """A matrix with names.

    Attributes:
        values: ``(rows, columns)``.
        rows, columns: names, or None.
    """

    values: NDArray[Any]
    rows: Sequence[str] | None = None
    columns: Sequence[str] | None = None


class Frame(dict[str, Any]):
    """A data frame: columns by name, of equal length; each is a list, a one-dimensional array or a :class:`Factor`."""


def serialize(value: Any) -> bytes:
    """A value as ``unserialize()`` takes it.

    Args:
        value: see the table above.

    Raises:
        BadInputError: it has no counterpart in R: strings with NUL or lone surrogates, whole numbers beyond 2^53, lists of several types, columns of
            unequal length, other types.
    """
    return b"".join([_HEADER, *_item(value)])


def dump_rds(file: IO[bytes], value: Any, *, compress: bool = True) -> None:
    """Write a file for ``readRDS()``.

    Args:
        file: open for writing.
        value: see the table above.
        compress: with gzip, as ``saveRDS()`` does.

    Raises:
        BadInputError: as :func:`serialize`.
    """
    _write(file, [_HEADER, *_item(value)], compress)


def dump_rdata(file: IO[bytes], variables: Mapping[str, Any], *, compress: bool = True) -> None:
    """Write a file for ``load()``, which makes variables of these names.

    Args:
        file: open for writing.
        variables: values by name.
        compress: with gzip, as ``save()`` does.

    Raises:
        BadInputError: as :func:`serialize`.
    """
    _write(file, [b"RDX2\n", _HEADER, *_named_items(variables)], compress)


def _write(file: IO[bytes], parts: Iterable[bytes], compress: bool) -> None:
    if not compress:
        file.writelines(parts)
        return
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1, filename="", mtime=0) as packed:
        packed.write(b"".join(parts))  # many small writes would take longer than compressing


def _words(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}i", *numbers)


def _length(n: int) -> bytes:
    return _words(n) if n < 2**31 else _words(-1, n >> 32) + struct.pack(">I", n & 0xFFFFFFFF)


def _string(text: str | None) -> bytes:
    if text is None:
        return _words(_CHAR, -1)
    if "\0" in text:
        raise BadInputError(f"R has no strings with a NUL character, as in {text[:60]!r}: remove it")
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise BadInputError(f"{text[:60]!r} is not valid Unicode (a lone surrogate: it was cut inside a character)") from None
    return _words(_CHAR | (_ASCII if text.isascii() else _UTF8), len(data)) + data


def _named_items(named: Mapping[str, Any]) -> list[bytes]:
    """A linked list of values with names: attributes, variables."""
    parts: list[bytes] = []
    for name, value in named.items():
        parts += [_words(_PAIRLIST | _HAS_TAG, _SYMBOL), _string(name), *_item(value)]
    return [*parts, _words(_NULL)]


def _vector(kind: int, length: int, data: Iterable[bytes], attributes: Mapping[str, Any]) -> list[bytes]:
    flags = kind | (_HAS_ATTRIBUTES if attributes else 0) | (_IS_OBJECT if "class" in attributes else 0)
    return [_words(flags), _length(length), *data, *(_named_items(attributes) if attributes else [])]


def _item(value: Any, **attributes: Any) -> list[bytes]:
    if value is None:
        return [_words(_NULL)]
    if isinstance(value, Factor):
        return _factor(value)
    if isinstance(value, Matrix):
        return _matrix(value)
    if isinstance(value, Frame):
        return _frame(value)
    if isinstance(value, Mapping):
        items = [part for item in value.values() for part in _item(item)]
        return _vector(_LIST, len(value), items, {"names": list(value)})
    if isinstance(value, tuple):
        return _vector(_LIST, len(value), [part for item in value for part in _item(item)], attributes)
    if isinstance(value, (str, bool, int, float)):
        value = [value]
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "UO":
        value = value.tolist()
    if not isinstance(value, list):
        return _array(np.asarray(value), attributes)
    if all(item is None or isinstance(item, str) for item in value):
        return _vector(_STRING, len(value), map(_string, value), attributes)
    kind, array = _numbers(value)
    return _array(array, attributes, kind)


def _matrix(matrix: Matrix) -> list[bytes]:
    values = np.asarray(matrix.values)
    if values.ndim != 2:
        raise BadInputError(f"a matrix has two dimensions, not {values.ndim}: pass other arrays as they are")
    for names, count, what in zip((matrix.rows, matrix.columns), values.shape, ("rows", "columns")):
        if names is not None and len(names) != count:
            raise BadInputError(f"a matrix has {count} {what}, but {len(names)} names for them")
    dimnames = tuple(list(names) if names else None for names in (matrix.rows, matrix.columns))
    return _item(values, **({"dimnames": dimnames} if any(dimnames) else {}))


def _factor(factor: Factor) -> list[bytes]:
    codes, levels = np.asarray(factor.codes, np.int64), list(factor.levels)
    if codes.ndim != 1 or (len(codes) and not -1 <= codes.min() <= codes.max() < len(levels)):
        raise BadInputError(f"codes of a factor with {len(levels)} levels must be from -1 (missing) to {len(levels) - 1}")
    if len(set(levels)) < len(levels):
        raise BadInputError("levels of a factor must be different from each other")
    values = np.where(codes < 0, NA_INTEGER, codes + 1).astype(np.int32)
    return _item(values, levels=levels, **{"class": ["factor"]})


def _frame(frame: Frame) -> list[bytes]:
    lengths = {name: len(column.codes if isinstance(column, Factor) else column) for name, column in frame.items()}
    if len(set(lengths.values())) > 1:
        raise BadInputError(f"columns of a data frame must be of equal length, not {lengths}")
    rows = next(iter(lengths.values()), 0)
    attributes: dict[str, Any] = {"names": list(frame), "class": ["data.frame"]}
    # row names "1" to "n" are (NA, -n); those of no rows are an empty vector
    attributes["row.names"] = np.array([NA_INTEGER, -rows] if rows else [], np.int32)
    return _vector(_LIST, len(frame), [part for column in frame.values() for part in _item(column)], attributes)


def _numbers(values: list[Any]) -> tuple[int, NDArray[Any]]:
    """R's type for a list of numbers or of truth values, with None; and the list as an array."""
    there = [value for value in values if value is not None]
    logical = all(isinstance(value, (bool, np.bool_)) for value in there)
    if not logical and any(
        isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)) for value in there
    ):
        kinds = ", ".join(sorted({type(value).__name__ for value in there}))
        raise BadInputError(f"a vector of R is of one type, not of {kinds}: pass a tuple for a list of R")
    if logical or all(isinstance(value, (int, np.integer)) and abs(int(value)) < 2**31 for value in there):
        integers = np.array([NA_INTEGER if value is None else value for value in values], np.int32)
        return _LOGICAL if logical else _INTEGER, integers
    for value in there:
        _check_exact(value)
    return _REAL, np.array([NA_REAL if value is None else value for value in values], np.float64)


def _array(array: NDArray[Any], attributes: Mapping[str, Any], kind: int | None = None) -> list[bytes]:
    letter, size = array.dtype.kind, array.dtype.itemsize
    if letter not in "biuf" or size > 8:
        raise BadInputError(f"R has no vectors of {array.dtype}: pass strings, numbers or truth values")
    if letter in "iu" and size == 8 and array.size:
        _check_exact(array.max())
        _check_exact(array.min())
    if array.ndim > 1:
        attributes = {"dim": np.array(array.shape, np.int32), **attributes}
    narrow = letter in "iu" and (size < 4 or array.dtype == np.int32)
    kind = kind or (_LOGICAL if letter == "b" else _INTEGER if narrow else _REAL)
    data = array.astype(">f8" if kind == _REAL else ">i4").tobytes(order="F")  # R stores columns one after another
    return _vector(kind, array.size, [data], attributes)


def _check_exact(number: Any) -> None:
    if isinstance(number, (int, np.integer)) and abs(int(number)) > _EXACT:
        raise BadInputError(f"R has no whole number {number}, which is beyond 2^53: pass it as a string or a float")
