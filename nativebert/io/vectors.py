"""Vectors from a file that ``nativebert embed`` wrote."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nativebert.errors import BadInputError, NotFoundError
from nativebert.io.table_writer import is_vector, matrix
from nativebert.io.tables import open_table

ENDINGS = (".npy", ".csv", ".jsonl", ".parquet", ".pq", ".feather", ".arrow")


class TextVectors(NamedTuple):
    """float32 ``(n, width)``, NaN in rows without a vector, and the ``n`` texts, or None for a file that holds none."""

    vectors: NDArray[np.float32]
    texts: list[str | None] | None


def read_vectors(path: str) -> TextVectors:
    """Read vectors, and their texts where the file has them (see :func:`nativebert.io.write.write_vectors`).

    Args:
        path: ``.npy``, a matrix of numbers; ``.csv`` with a column ``text`` (or none) and all others numbers, or numbers in columns ``d1`` to ``dN``;
            ``.jsonl`` with ``{"text": ..., "embedding": [...]}`` on each line; ``.parquet`` or ``.feather`` with one column of vectors, or a folder of such files.

    Raises:
        NotFoundError: no such file.
        BadInputError: another ending, or not what its ending says; with the line's number.
    """
    source = Path(path)
    ending = source.suffix.lower()
    if source.is_dir() or ending in ENDINGS[3:]:
        return _arrow(path)
    if ending not in ENDINGS:
        raise BadInputError(f"unknown format of {path}: vector files have the extension {', '.join(ENDINGS)}")
    try:
        if ending == ".npy":
            return TextVectors(_npy(source), None)
        content = source.read_text("utf-8-sig")
    except FileNotFoundError:
        raise NotFoundError(f"file {path} does not exist") from None
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInputError(f"{path} is not UTF-8, so it is not a vector file with texts") from None
    rows = _csv(content, path) if ending == ".csv" else _jsonl(content, path)
    if not rows[0]:
        raise BadInputError(f"{path} contains no vectors")
    return TextVectors(np.array(rows[0], np.float32), rows[1])


def _arrow(path: str) -> TextVectors:
    reader = open_table(path, {}, usual="")
    columns = [field.name for field in reader.schema if is_vector(field.type)]
    if len(columns) != 1:
        raise BadInputError(f"{path} has {len(columns)} columns of vectors (lists of one length), where one is expected")
    vectors: list[NDArray[np.float32]] = []
    texts: list[str | None] | None = [] if "text" in reader.schema.names else None
    for block in reader:
        values = block.batch.column(columns[0])
        rows = matrix(values).astype(np.float32)
        if values.null_count:
            rows[values.is_null().to_numpy(zero_copy_only=False)] = np.nan
        vectors.append(rows)
        if texts is not None:
            texts += block.batch.column("text").to_pylist()
    if not vectors:
        raise BadInputError(f"{path} contains no vectors")
    return TextVectors(np.concatenate(vectors), texts)


def _npy(source: Path) -> NDArray[np.float32]:
    try:
        vectors = np.load(source, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BadInputError(f"{source} is not a numeric .npy file: {error}") from None
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise BadInputError(f"{source} contains no vectors: expected a 2D array with one row per text")
    return vectors.astype(np.float32, copy=False)


def _csv(content: str, name: str) -> tuple[list[Any], list[str | None] | None]:
    limit = csv.field_size_limit(max(len(content), 131072))  # a global of the csv module; texts may be long
    rows = csv.reader(io.StringIO(content, newline=""), strict=True)
    vectors, texts = list[Any](), list[str | None]()
    try:
        header = next(rows, [])
        at = header.index("text") if "text" in header else None
        numbered = [n for n, name in enumerate(header) if re.fullmatch(r"d\d+", name)]
        others = [n for n in range(len(header)) if n != at]
        # other columns of a table may stand beside the numbers
        own = numbered if numbered and [header[n] for n in numbered] == [f"d{n + 1}" for n in range(len(numbered))] else others
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise BadInputError(f"{name}, line {rows.line_num}: {len(row)} fields, but the header has {len(header)}")
            if at is not None:
                texts.append(row[at])
            try:
                vectors.append(np.array([row[n] for n in own] if any(row[n] for n in own) else [np.nan] * len(own), np.float32))
            except ValueError as error:
                raise BadInputError(f"{name}, line {rows.line_num}: {error}; all columns but 'text' must be numbers") from None
    except csv.Error as error:
        raise BadInputError(f"{name}, line {rows.line_num}: {error}") from None
    finally:
        csv.field_size_limit(limit)
    return vectors, None if at is None else texts


def _jsonl(content: str, name: str) -> tuple[list[Any], list[str | None]]:
    vectors: list[NDArray[np.float32]] = []
    texts: list[str | None] = []
    width = 0
    for number, line in enumerate(io.StringIO(content, newline=None), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            embedding, text = record["embedding"], record["text"]
            vector = np.array([np.nan] if embedding is None else embedding, np.float32)
        except (ValueError, KeyError, TypeError, RecursionError):
            embedding, vector, text = (), np.empty(0, np.float32), ""
        if vector.ndim != 1 or not vector.size or not (isinstance(text, str) or (text is None and embedding is None)):
            raise BadInputError(f'{name}, line {number}: not in the form {{"text": "...", "embedding": [numbers]}}')
        width = width or (0 if embedding is None else len(vector))
        if embedding is not None and len(vector) != width:
            raise BadInputError(f"{name}, line {number}: {len(vector)} numbers, but the previous lines have {width}")
        vectors.append(vector)
        texts.append(text)
    return [np.full(width, np.nan, np.float32) if len(vector) != width else vector for vector in vectors], texts
