"""A file of the sentencepiece library (``sentencepiece.bpe.model``, ``spiece.model``, ``spm.model``), read from its own format, which is a protocol buffer
(``sentencepiece_model.proto``). The library itself is not needed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

UNIGRAM = 1
"""The algorithm whose scores the families' tokenizers compute with."""
CONTROL, USER_DEFINED = 3, 4
"""Kinds of pieces: not found in text unless it is written there; found in text before all others."""


class Piece(NamedTuple):
    """An entry of the vocabulary."""

    text: str
    score: float
    kind: int


class SentencePiece(NamedTuple):
    """The fields of a SentencePiece model that determine token ids.

    Attributes:
        pieces: the vocabulary, in the order of its ids.
        charsmap: the compiled table of characters that are replaced, or nothing.
        algorithm: 1 Unigram, 2 BPE, 3 words, 4 characters.
        byte_fallback: whether an unknown character becomes the pieces of its bytes.
    """

    pieces: list[Piece]
    charsmap: bytes
    algorithm: int
    byte_fallback: bool


def read(data: bytes) -> SentencePiece:
    """Read the content of a file.

    Raises:
        ValueError: it is damaged, or no such file.
    """
    pieces: list[Piece] = []
    charsmap, algorithm, byte_fallback, parts = b"", UNIGRAM, False, set()
    for number, value in _fields(data):
        if number == 1:
            pieces.append(_piece(_message(value)))
        elif number == 2:  # trainer_spec
            told = dict(_fields(_message(value)))
            algorithm, byte_fallback = _whole(told.get(3, UNIGRAM)), bool(_whole(told.get(35, 0)))
        elif number == 3:  # normalizer_spec
            charsmap = _message(dict(_fields(_message(value))).get(2, b""))
        parts.add(number)
    if not {1, 2, 3} <= parts:  # they come in this order, so a file that was cut off lacks the last
        raise ValueError("it is not a model of sentencepiece, or a part of one")
    return SentencePiece(pieces, charsmap, algorithm, byte_fallback)


def _piece(data: bytes) -> Piece:
    told = dict(_fields(data))
    (score,) = struct.unpack("<f", _message(told.get(2, b"\0\0\0\0")))
    return Piece(_message(told.get(1, 0)).decode("utf-8"), score, _whole(told.get(3, 1)))


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: the number of each, and its value, a whole number or bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"it holds a field of the unknown kind {wire}")
        if at + size > len(data):
            raise ValueError("it ends inside a field")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A whole number in groups of seven bits, the lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("it holds a number of more than 64 bits")


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("it holds a number where a text or a part belongs")
    return value


def _whole(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("it holds a text or a part where a number belongs")
    return value
