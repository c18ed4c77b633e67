"""TensorBoard event files, read back by TensorBoard's own reader."""

from __future__ import annotations

from pathlib import Path

import pytest
import training

pytest.importorskip("tensorboard")


def test_every_line_of_the_log_is_an_event(tmp_path: Path) -> None:
    """Also after a resumed run, whose steps replace those that the earlier process logged after the checkpoint."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from nativebert.train.tensorboard import TensorBoard

    model, runs = training.folder(tmp_path / "model"), tmp_path / "runs"
    settings = {"max_steps": 6, "eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 4}
    _, result = training.run(model, tmp_path / "out", callbacks=[TensorBoard(runs)], **settings)
    training.run(model, tmp_path / "out", callbacks=[TensorBoard(runs)], resume=tmp_path / "out" / "checkpoint-4", **settings)
    events = EventAccumulator(str(runs)).Reload()
    assert [e.step for e in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert [e.value for e in events.Scalars("train/loss")] == pytest.approx(training.losses(result))
    assert [e.step for e in events.Scalars("eval/accuracy")] == [3, 6]
    assert [e.step for e in events.Scalars("train/train_loss")] == [6]
