"""A reader of R's serialization, for tests on machines without R."""

from __future__ import annotations

import io
import struct
from typing import Any


def read_back(data: bytes) -> Any:
    """Plain values from R's serialization: strings, numbers as (kind, list), lists, and attributes as ``(value, {name: value})``."""
    stream = io.BytesIO(data)
    assert stream.read(14) == b"X\n" + struct.pack(">3i", 2, 0x00040000, 0x00020300)
    value = _read(stream)
    assert stream.read() == b""
    return value


def _read(stream: io.BytesIO) -> Any:
    word = lambda: struct.unpack(">i", stream.read(4))[0]  # noqa: E731
    flags = word()
    kind = flags & 255
    if kind == 254:
        return None
    if kind == 9:
        size = word()
        return None if size == -1 else stream.read(size).decode()
    if kind in (10, 13):
        count = word()
        value: Any = list(struct.unpack(f">{count}i", stream.read(4 * count)))
    elif kind == 14:
        count = word()
        value = list(struct.unpack(f">{count}d", stream.read(8 * count)))
    else:
        assert kind in (16, 19)
        value = [_read(stream) for _ in range(word())]
    if not flags & 512:
        return value
    attributes: dict[str, Any] = {}
    while (flags := word()) != 254:
        assert flags == 2 | 1024
        assert word() == 1
        name = _read(stream)
        attributes[name] = _read(stream)
    return value, attributes


def simple(value: Any) -> Any:
    """What :func:`read_back` gives, with named lists as dicts, and without attributes that are not names."""
    if isinstance(value, tuple):
        items, attributes = value
        names = attributes.get("names")
        if attributes.get("class") == ["factor"]:
            return [None if code < 0 else attributes["levels"][code - 1] for code in items]
        if "dim" in attributes:
            rows, columns = attributes["dim"]
            return [[items[column * rows + row] for column in range(columns)] for row in range(rows)]
        return dict(zip(names, map(simple, items))) if names else [*map(simple, items)]
    return [*map(simple, value)] if isinstance(value, list) else value
