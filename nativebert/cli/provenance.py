"""Comparison of the provenance of vectors that a command computes with that of a file."""

from __future__ import annotations

import shlex

from nativebert.errors import BadInputError
from nativebert.io.provenance import Provenance


def check_provenance(path: str, recorded: Provenance, ours: Provenance, prompt: str | None, task: str | None = None) -> None:
    """Refuse vectors that were computed in another way than this command would.

    Args:
        path: file of the vectors.
        recorded: their provenance.
        ours: provenance of the command's own vectors; only keys in both are compared.
        prompt: prompt of the file's vectors, if the command specifies one.
        task: whose adapter made them, if the command specifies one.

    Raises:
        BadInputError: they differ; names the difference and the options to use.
    """

    def differs(*keys: str) -> bool:
        return any(key in recorded and key in ours and recorded[key] != ours[key] for key in keys)

    if differs("weights", "tokenizer", "lowercase"):
        what = "other weights" if differs("weights") else "another tokenizer"
        theirs = f"{recorded.get('model')}@{recorded['commit']}" if recorded.get("commit") else str(recorded.get("model"))
        if recorded.get("model") == ours["model"] and recorded.get("commit") == ours["commit"]:
            raise BadInputError(f"{path} was computed with {theirs}, which now has {what}: compute the vectors again")
        raise BadInputError(
            f"{path} was computed with {theirs}, and {ours['model']} has {what}: use -m {shlex.quote(theirs)}, or compute the vectors again"
        )
    if differs("pooling"):
        say = " ".join(f"--pooling {mode}" for mode in recorded["pooling"])
        raise _mismatch(path, "pooling", " and ".join(recorded["pooling"]), " and ".join(ours["pooling"]), say)
    if differs("normalize"):
        say = "--normalize" if recorded["normalize"] else "--no-normalize"
        theirs, here = ("to unit length" if one["normalize"] else "none" for one in (recorded, ours))
        raise _mismatch(path, "normalization", theirs, here, say)
    if differs("steps"):
        theirs, here = (", ".join(one["steps"]) or "none" for one in (recorded, ours))
        raise _mismatch(path, "steps after pooling", theirs, here, "")
    if differs("precision"):
        raise _mismatch(path, "precision", recorded["precision"], ours["precision"], f"--precision {recorded['precision']}")
    if prompt is not None and "prompt" in recorded and recorded["prompt"] != prompt:
        raise _mismatch(path, "prompt", repr(recorded["prompt"]), repr(prompt), "")
    if task is not None and recorded.get("task") != task:
        made = recorded.get("task")
        raise _mismatch(path, "task", made or "none", task, f"--task {made}" if made else "no --task")
    if differs("width"):
        raise _mismatch(path, "width", recorded["width"], ours["width"], "")


def _mismatch(path: str, what: str, theirs: object, here: object, say: str) -> BadInputError:
    way = f"use {say}, or compute the vectors again" if say else "compute the vectors again"
    return BadInputError(f"{path} was computed with a different {what}: {theirs} in the file, {here} in this command; {way}")
