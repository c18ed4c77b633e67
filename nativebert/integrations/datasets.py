"""datasets: a task over the columns of a ``Dataset``, by ``map``, which finds what it computed before."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from nativebert import __version__
from nativebert.errors import BadInputError
from nativebert.hub import Snapshot
from nativebert.tasks.base import Task

_READ = (".json", ".txt", ".model", ".safetensors")  # endings of the files that a model is read from


class Apply:
    """A function for ``dataset.map``: a task, applied to one column, or to two columns as pairs.

    ``map`` takes results out of its cache where the function is the same, and knows that by its pickle. A task pickles as where its
    files are; here what the files hold is part of it too, so that a model that was retrained in its folder is another function.

    Args:
        task: an :class:`~nativebert.Embedder`, a :class:`~nativebert.Classifier`, ...: any task that takes one list.
        column: the column that holds the texts, or two of them for pairs.
        into: the column that the results go to.
        **call: further arguments of a call (``top_k=3``, ``prompt_name="query"``).
    """

    def __init__(self, task: Task, column: str | Sequence[str], into: str, **call: Any) -> None:
        self.columns = (column,) if isinstance(column, str) else tuple(column)
        if not self.columns or len(self.columns) > 2:
            raise BadInputError(f"column must name one column, or two for pairs, not {len(self.columns)}")
        self.task, self.into, self.call = task, into, call
        self._version, self._files = __version__, _files(task.snapshot)

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        """The new column of a batch (``batched=True``), or its value of one row."""
        values = [rows[column] for column in self.columns]
        single = isinstance(values[0], str)
        columns = [[value] for value in values] if single else values
        items = list(columns[0]) if len(columns) == 1 else list(zip(*columns, strict=True))
        results = self.task(items, progress=False, **self.call)  # type: ignore[operator]
        return {self.into: results[0] if single else results}


def _files(snapshot: Snapshot | None) -> str:
    """Fingerprint of a model's files: the commit of one on the Hub, or a digest of those in its folder. Nothing for a model in memory, whose
    weights are in the pickle."""
    if snapshot is None:
        return ""
    if snapshot.revision is not None:
        return snapshot.revision
    digest = hashlib.sha256()
    for path in sorted(path for path in snapshot.folder.rglob("*") if path.suffix in _READ and path.is_file()):
        with path.open("rb") as file:
            held = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(snapshot.folder).as_posix()}\0{held}\n".encode())
    return digest.hexdigest()
