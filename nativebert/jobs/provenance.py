"""How results were computed: what a file of them, or a job, records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nativebert import __version__
from nativebert.errors import BadInputError
from nativebert.tasks.base import Task
from nativebert.tasks.embed import Embedder

_SETTINGS = (
    "problem",
    "combine",
    "aggregation",
    "align",
    "ignore",
    "max_answer_tokens",
    "align_to_words",
    "activation",
)  # of tasks


def provenance_of(
    task: Task, prompt: str = "", width: int | None = None, call: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Provenance of a task's results.

    Args:
        task: with a model that has files.
        prompt: of an Embedder, what stood before each text.
        width: of vectors.
        call: options of the call in place of the task's own.

    Raises:
        BadInputError: the model has no files.
    """
    files, call = task.snapshot, call or {}
    if files is None:
        raise BadInputError(
            "the model has no files that could be recorded with the results: save it first, and load it from there"
        )
    record: dict[str, Any] = {
        "nativebert": __version__,
        "model": str(files.folder) if files.source == "folder" else files.reference.partition("@")[0],
        "commit": files.revision,
        "weights": files.digest(),
        "tokenizer": task.tokenizer.digest,
    }
    if isinstance(task, Embedder):
        record |= {
            "lowercase": task.config.lowercase,
            "pooling": list(task.pooling),
            "normalize": "normalize" in task.steps,
            "steps": [step if isinstance(step, str) else repr(step) for step in task.steps],
            "prompt": prompt,
            "include_prompt": task.config.include_prompt,
        }
        record |= {} if task.task is None else {"task": task.task}
    else:
        settings = {name: getattr(task, name) for name in _SETTINGS if hasattr(task, name)}
        record |= {name: sorted(value) if isinstance(value, (set, frozenset)) else value for name, value in settings.items()}
    record |= {
        "precision": task.precision,
        "max_tokens": call.get("max_tokens") or task.max_tokens,
        "too_long": call.get("too_long") or task.too_long,
    }
    return record if width is None else record | {"width": width}
