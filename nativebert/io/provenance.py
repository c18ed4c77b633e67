"""Provenance of vectors: a JSON file beside theirs (``vectors.npy.json``) that records how they were computed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nativebert.errors import BadInputError, CorruptError
from nativebert.files import dump_json, read_json
from nativebert.io.table_writer import schema_provenance
from nativebert.io.write import check_place, output_file

Provenance = Mapping[str, Any]
IN_FILE = (".parquet", ".pq", ".feather", ".arrow")  # files that hold their own


def provenance_file(path: str) -> str:
    """Path of the provenance of the vectors in ``path``."""
    return f"{path}.json"


def check_writable(path: str) -> None:
    """Check that the provenance of ``path`` can be written, before the work.

    Raises:
        BadInputError: it cannot, or an unrelated file has its name.
    """
    side = provenance_file(path)
    check_place(side, Path(side).name)
    if os.path.exists(side) and _read(side) is None:
        raise BadInputError(
            f"{side} will record how {path} was computed, but an unrelated file of that name exists: move it away first"
        )


def write_provenance(path: str, provenance: Provenance, texts: Iterable[str] | str) -> None:
    """Write the provenance of a file of vectors, with digests of their texts and of the file. ``texts`` may be their digest already."""
    digest = texts if isinstance(texts, str) else digest_of(texts)
    record = {**provenance, "texts": digest, "file": _digest(path)}
    with output_file(provenance_file(path)) as file:
        file.write(dump_json(record).encode())


def read_provenance(path: str) -> Provenance | None:
    """Provenance of the vectors in ``path``; None where there is no record.

    Raises:
        BadInputError: the record is damaged, or of another version of the file.
    """
    if Path(path).suffix.lower() in IN_FILE or Path(path).is_dir():
        return schema_provenance(path)
    side = provenance_file(path)
    record = _read(side)
    if record is None and os.path.exists(side):
        raise BadInputError(
            f"{side} should record how the vectors in {path} were computed, but is damaged or unrelated. Compute the vectors again, "
            f"or move {side} away to use them unchecked"
        )
    if record is not None and record["file"] != _digest(path):
        raise BadInputError(
            f"{path} has changed since {side}, which records how its vectors were computed, was written. Compute the vectors "
            f"again, or delete {side} to use them unchecked"
        )
    return record


def digest_of(texts: Iterable[str]) -> str:
    """SHA-256 of texts, in their order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text_line(text))
    return digest.hexdigest()


def text_line(text: str) -> bytes:
    """What a text adds to :func:`digest_of`."""
    return json.dumps(text).encode() + b"\n"


def _read(side: str) -> dict[str, Any] | None:
    try:
        record = read_json(Path(side))
    except (OSError, CorruptError):
        return None
    return record if {"nativebert", "file"} <= record.keys() else None


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
