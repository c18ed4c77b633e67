"""Atomic file writes, and strict JSON."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from weights_map.errors import BadFileError


@contextmanager
def replacing(targets: Sequence[Path]) -> Iterator[list[Path]]:
    """Temporary paths to write to, one beside each target; moved onto the targets at the end, removed after an error.

    Raises:
        BadFileError: the system refuses to write or move a file.
    """
    token = secrets.token_hex(4)
    temporary = [target.with_name(f".{target.name}.{token}.tmp") for target in targets]
    try:
        yield temporary
        for path, target in zip(temporary, targets):
            os.replace(path, target)
    except OSError as error:
        raise BadFileError(f"cannot be written: {error.strerror or error}", targets[0]) from error
    finally:
        for path in temporary:
            with suppress(OSError):
                path.unlink()


def parse_json(content: bytes) -> Any:
    """Parse UTF-8 JSON.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or has an object with the same key twice.
    """
    try:
        return json.loads(content.decode(), object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError(f"nested too deeply: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys are unique; the json module would silently keep the last of two equal ones."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the name {next(key for key in keys if keys.count(key) > 1)!r} appears twice")
    return content
