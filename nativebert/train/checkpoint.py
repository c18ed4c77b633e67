"""Checkpoints of a run: folders that are whole, or not there.

A checkpoint is a model folder with two files more: ``trainer_state.json``, in the form of transformers' Trainer, and
``optimizer.safetensors``, with all that a resumed run needs besides the model to go on with the same bits.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from safetensors.torch import load_file, save_file
from torch import Tensor

from nativebert.errors import CorruptError, DiskFullError, NotFoundError
from nativebert.files import read_json, write_json
from weights_map import WeightsMapError

STATE, OPTIMIZER = "trainer_state.json", "optimizer.safetensors"
_NAME = re.compile(r"checkpoint-(\d+)")
_DRAFT = re.compile(r"\.checkpoint-\d+\.[0-9a-f]+")


@dataclass
class TrainerState:
    """Where a run stands: what ``trainer_state.json`` holds.

    Attributes:
        global_step: optimizer steps that are done.
        max_steps: those of the whole run.
        epoch: passes over the data that are done; a fraction within one.
        num_train_epochs: those of the whole run, rounded up.
        log_history: every line of the log and every evaluation, in order.
        best_metric, best_global_step, best_model_checkpoint: the best evaluation so far, and its checkpoint.
        evaluations_without_gain: since the best one.
        skipped_steps: steps of epochs that a callback ended early.
        learning_rates: of each step that is done.
        settings: what the run's results depend on; a resumed run must have the same.
    """

    global_step: int = 0
    max_steps: int = 0
    epoch: float = 0.0
    num_train_epochs: int = 0
    log_history: list[dict[str, Any]] = field(default_factory=list)
    best_metric: float | None = None
    best_global_step: int | None = None
    best_model_checkpoint: str | None = None
    evaluations_without_gain: int = 0
    skipped_steps: int = 0
    learning_rates: list[float] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The state of a checkpoint.

        Raises:
            NotFoundError: the folder is not a checkpoint of nativebert.
            CorruptError: the file is damaged.
        """
        path = folder / STATE
        if not path.is_file():
            raise NotFoundError(f"{folder} is not a checkpoint: it has no {STATE}")
        known = {f.name for f in fields(cls)}
        content = {key: value for key, value in read_json(path).items() if key in known}
        if not {"global_step", "learning_rates", "settings"} <= content.keys():
            raise CorruptError(
                f"{path} is not that of a run of nativebert: it cannot be resumed from, but its model can be loaded"
            )
        return cls(**content)


def write(target: Path, state: TrainerState, tensors: Mapping[str, Tensor], save_model: Callable[[Path], object]) -> None:
    """Write a checkpoint: first into a hidden folder, which gets its name when all is on the disk.

    Args:
        target: its folder, in the run's.
        state: where the run stands.
        tensors: the content of ``optimizer.safetensors``.
        save_model: writes the model's files into a folder.

    Raises:
        DiskFullError: there is no room. What was begun is removed, earlier checkpoints stay.
    """
    output = target.parent
    draft = output / f".{target.name}.{uuid.uuid4().hex[:8]}"
    try:
        draft.mkdir(parents=True)
        save_model(draft)
        save_file({name: t.detach().contiguous().cpu() for name, t in tensors.items()}, draft / OPTIMIZER)
        write_json(draft / STATE, asdict(state))
        for path in draft.rglob("*"):
            _sync(path)
        if target.exists():  # of an earlier run that was resumed from further back
            old = output / f".{target.name}.{uuid.uuid4().hex[:8]}"
            target.rename(old)
            draft.rename(target)
            shutil.rmtree(old)
        else:
            draft.rename(target)
        _sync(output)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if is_disk_full(error):
            raise DiskFullError(
                f"{target}: no room on the disk for a checkpoint, which needs about {_size(tensors) >> 20} MiB beside the model. {advice(output)}"
            ) from error
        raise


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that the disk or the quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(error, DiskFullError) or "No space left on device" in str(error):
            return True
        error = error.__cause__ if isinstance(error, WeightsMapError) or error.__cause__ is not None else error.__context__
    return False


def advice(output: Path) -> str:
    """How to go on with a run that stopped."""
    last = last_checkpoint(output)
    if last is None:
        return "There is no earlier checkpoint."
    return f"The last whole checkpoint is {last}: make room, and go on from it with resume=True."


def checkpoints(output: Path) -> list[Path]:
    """The checkpoints of a run, in the order of their steps."""
    if not output.is_dir():
        return []
    found = [(int(match[1]), path) for path in output.iterdir() if (match := _NAME.fullmatch(path.name)) and path.is_dir()]
    return [path for _, path in sorted(found)]


def last_checkpoint(output: Path) -> Path | None:
    """The newest checkpoint of a run, or None."""
    found = checkpoints(output)
    return found[-1] if found else None


def begin(output: Path) -> None:
    """Make a run's folder, and remove checkpoints that were being written, or removed, when an earlier run was killed."""
    output.mkdir(parents=True, exist_ok=True)
    for path in output.iterdir():
        if _DRAFT.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def remove_old(output: Path, limit: int | None, keep: str | None) -> None:
    """Remove the oldest checkpoints beyond ``limit``; ``keep``, the best one, stays besides."""
    if limit is None:
        return
    for path in checkpoints(output)[:-limit]:
        if str(path) != keep:
            remove(path)


def remove(folder: Path) -> None:
    """Remove a checkpoint: a kill in the middle leaves no half of it."""
    hidden = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}"
    folder.rename(hidden)
    shutil.rmtree(hidden)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """``optimizer.safetensors`` of a checkpoint.

    Raises:
        CorruptError: it is missing or damaged.
    """
    try:
        return load_file(folder / OPTIMIZER)
    except Exception as error:
        raise CorruptError(f"{folder / OPTIMIZER} cannot be read: {error}. Resume from an earlier checkpoint.") from error


def _size(tensors: Mapping[str, Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())


def _sync(path: Path) -> None:
    """Have the system write a file, or a folder's list of files, to the disk."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    if path.is_dir() and os.name == "nt":
        return
    number = os.open(path, flags)
    try:
        os.fsync(number)
    finally:
        os.close(number)
