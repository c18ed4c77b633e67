"""Vectors that were computed before, by the hash of their text, in one file."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import numpy as np

from nativebert.errors import BadInputError, CorruptError
from nativebert.jobs.provenance import provenance_of
from nativebert.tasks.call import as_list
from nativebert.tasks.embed import Embedder, Vectors

_AT_ONCE = 500  # parameters of a statement


class VectorCache:
    """An Embedder that looks first into a file (SQLite) whether it computed a text before.

    Vectors are kept under the hash of the text and of all that the vector depends on (weights, tokenizer, pooling, prompt, limits, precision), so one file serves any number of models, and a
    model that was retrained finds none of its old vectors. Processes may share the file.

    Args:
        embedder: computes what is not there; made from a model with files.
        path: of the file; made if it is not there.

    Attributes:
        found, computed: texts that were in the file, and that were not, in all calls so far.

    Raises:
        BadInputError: a model without files.
        CorruptError: the file is none of this kind.
    """

    def __init__(self, embedder: Embedder, path: str | os.PathLike[str]) -> None:
        self.embedder, self.path, self.found, self.computed = embedder, os.fspath(path), 0, 0
        self._made = provenance_of(embedder, width=embedder.dimension)
        try:
            with closing(self._open()) as file, file:
                file.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID")
        except sqlite3.DatabaseError as error:
            raise CorruptError(f"{self.path} is not a cache of vectors ({error}): choose another file") from None

    def __call__(
        self, texts: Iterable[str], *, prompt: str | None = None, prompt_name: str | None = None, **options: Any
    ) -> Vectors:
        """Vectors of texts, float32 ``(n, dimension)``, the bits that the Embedder gives.

        Args:
            texts, prompt, prompt_name: as of a call of the Embedder.
            **options: ``max_tokens``, ``too_long``, ``stride``, ``batch_tokens`` and ``progress``, likewise.

        Raises:
            BadInputError: something that is not a string, or another option.
        """
        items = as_list(texts)
        if unknown := options.keys() - {"max_tokens", "too_long", "stride", "batch_tokens", "progress"}:
            raise BadInputError(f"{min(unknown)} cannot be cached: call the Embedder itself")
        for n, text in enumerate(items):
            if not isinstance(text, str):
                raise BadInputError(f"text {n} is not a string but {type(text).__name__}")
        options = {"prompt": self.embedder.prompt_text(prompt, prompt_name)} | options
        keys = self._keys(items, options)
        known = self._read(set(keys))
        new = {key: text for key, text in zip(keys, items) if key not in known}  # each text once
        self.found, self.computed = self.found + len(items) - len(new), self.computed + len(new)
        if new:
            vectors = self.embedder(list(new.values()), **options)
            rows = [(key, row.astype("<f4").tobytes()) for key, row in zip(new, vectors)]
            with closing(self._open()) as file, file:
                file.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
            known |= dict(rows)
        out = np.empty((len(items), self.embedder.dimension), np.float32)
        for n, key in enumerate(keys):
            out[n] = np.frombuffer(known[key], "<f4")
        return out

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=60)

    def _keys(self, texts: list[str], options: dict[str, Any]) -> list[bytes]:
        made = {name: value for name, value in self._made.items() if name not in ("model", "commit", "nativebert")}
        how = {name: value for name, value in options.items() if name not in ("batch_tokens", "progress")}
        device = self.embedder.device.partition(":")[0]
        start = hashlib.sha256(json.dumps([made, how, device, self.embedder.stride], sort_keys=True).encode()).digest()
        return [hashlib.sha256(start + text.encode("utf-8", "surrogatepass")).digest() for text in texts]

    def _read(self, keys: set[bytes]) -> dict[bytes, bytes]:
        known: dict[bytes, bytes] = {}
        left = list(keys)
        with closing(self._open()) as file:
            for start in range(0, len(left), _AT_ONCE):
                part = left[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                known |= dict(file.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", part).fetchall())
        return known
