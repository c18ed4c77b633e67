"""TensorBoard event files of a run (package ``tensorboard``)."""

from __future__ import annotations

from pathlib import Path

from nativebert.errors import NotFoundError
from nativebert.train.loop import Callback, TrainingLoop


class TensorBoard(Callback):
    """Write every line of the log as scalars.

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
        self._writer = SummaryWriter(str(folder))

    def on_log(self, loop: TrainingLoop, logs: dict[str, float]) -> None:
        for name, value in logs.items():
            part = "eval" if name.startswith("eval_") else "train"
            tag = f"{part}/{name.removeprefix('eval_').removeprefix('train_')}"
            self._writer.add_scalar(tag, value, loop.state.global_step)

    def on_train_end(self, loop: TrainingLoop) -> None:
        self._writer.close()
