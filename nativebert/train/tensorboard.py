"""TensorBoard event files of a run (package ``tensorboard``, extra ``train``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nativebert.errors import NotFoundError
from nativebert.train.loop import Callback, TrainingLoop


class TensorBoard(Callback):
    """Write every line of the log as scalars: ``train/loss``, ``eval/accuracy``.

    A resumed run goes on in the same folder: what an earlier process logged after the checkpoint is no longer shown.

    Args:
        folder: where to.

    Raises:
        NotFoundError: the package is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise NotFoundError("TensorBoard files need the package tensorboard: pip install nativebert[train]") from error
        self._folder, self._new_writer = folder, SummaryWriter
        self._writer: Any = None

    def on_train_begin(self, loop: TrainingLoop) -> None:
        step = loop.state.global_step
        self._writer = self._new_writer(str(self._folder), purge_step=step + 1 if step else None)

    def on_log(self, loop: TrainingLoop, logs: dict[str, float]) -> None:
        for name, value in logs.items():
            # names as transformers has them: train_loss, the mean of the whole run, is not a point of the curve train/loss
            tag = f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"
            self._writer.add_scalar(tag, value, loop.state.global_step)
        if "train_runtime" in logs:  # the last line
            self._writer.close()
        else:
            self._writer.flush()
