"""The training loop: its log, evaluations, checkpoints, stopping and going on."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import training
from safetensors.torch import load_file
from training import losses, run, same_bits

import nativebert as nb
from nativebert.errors import BadInputError, CorruptError, DiskFullError, DivergedError, InterruptedRunError, NotFoundError
from nativebert.train.checkpoint import OPTIMIZER, STATE, checkpoints
from nativebert.train.loop import Callback, TrainingLoop


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.folder(tmp_path_factory.mktemp("tiny"))


class At(Callback):
    """Do something after a step."""

    def __init__(self, step: int, do: Any) -> None:
        self.step, self.do = step, do

    def on_step_end(self, loop: TrainingLoop) -> None:
        if loop.state.global_step == self.step:
            self.do(loop)


def test_it_learns(tiny: Path) -> None:
    _, result = run(tiny, max_steps=60, eval_strategy="steps", eval_steps=60)
    first, last = losses(result)[:8], losses(result)[-8:]
    assert sum(last) < 0.5 * sum(first)
    assert result.state.log_history[-2]["eval_accuracy"] > 0.8


def test_the_log(tiny: Path) -> None:
    _, result = run(tiny, max_steps=6, logging_steps=2, warmup_steps=2, eval_strategy="epoch", epochs=1)
    lines = [line for line in result.state.log_history if "loss" in line]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert [line["learning_rate"] for line in lines] == pytest.approx([5e-4, 7.5e-4, 2.5e-4])
    assert all(line["grad_norm"] > 0 for line in lines)
    assert result.metrics["train_loss"] == pytest.approx(sum(line["loss"] for line in lines) / 3)


def test_epochs_and_steps(tiny: Path) -> None:
    _, result = run(tiny, max_steps=-1, epochs=1.5, count=60, batch_size=8)
    assert (result.global_step, result.state.epoch) == (12, 1.5)  # 8 batches in an epoch, the last one smaller
    _, result = run(tiny, max_steps=-1, epochs=1, gradient_accumulation_steps=3)
    assert result.global_step == 3


def test_the_loss_is_the_mean_over_the_accumulated_batch(tiny: Path) -> None:
    """Four batches of 4 make the step of one batch of 16, though their sizes differ at the end of the epoch."""
    changes = {"group_by_length": False, "max_steps": -1, "epochs": 2, "count": 58}
    whole, one = run(tiny, batch_size=16, **changes)
    parts, four = run(tiny, batch_size=4, gradient_accumulation_steps=4, **changes)
    assert losses(four) == pytest.approx(losses(one), abs=1e-6)
    for name, parameter in whole.named_parameters():
        if name.endswith("attn.k.bias"):  # no result depends on it: its gradient is nothing but rounding
            continue
        torch.testing.assert_close(parts.get_parameter(name), parameter, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_resumed_run_has_the_same_bits(tiny: Path, tmp_path: Path, dropout: float) -> None:
    whole, result = run(tiny, tmp_path / "whole", dropout=dropout, save_strategy="steps", save_steps=5)

    def stop(loop: TrainingLoop) -> None:
        loop.control.should_training_stop = True

    run(tiny, tmp_path / "parts", dropout=dropout, save_strategy="steps", save_steps=5, callbacks=[At(7, stop)])
    resumed, again = run(tiny, tmp_path / "parts", dropout=dropout, save_strategy="steps", save_steps=5, resume=True)
    assert same_bits(whole, resumed)
    assert losses(again)[-5:] == losses(result)[-5:]


def test_evaluating_and_saving_change_nothing(tiny: Path, tmp_path: Path) -> None:
    plain, _ = run(tiny, dropout=0.1)
    busy, _ = run(tiny, tmp_path, dropout=0.1, save_strategy="steps", save_steps=1, eval_strategy="steps", eval_steps=1)
    assert same_bits(plain, busy)


def test_a_killed_run_goes_on(tiny: Path, tmp_path: Path) -> None:
    """SIGKILL at any moment leaves whole checkpoints, and the resumed run ends with the bits of one that was not killed."""
    code = (
        "import sys, training; from pathlib import Path\n"
        "training.run(Path(sys.argv[1]), Path(sys.argv[2]), dropout=0.1, save_strategy='steps', save_steps=1, max_steps=40, resume=True, "
        "save_total_limit=2)"
    )
    paths = os.pathsep.join([str(Path(training.__file__).parent), str(Path(nb.__file__).parents[1])])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    output = tmp_path / "killed"
    for seconds in (0.0, 0.13, 0.41):
        process = subprocess.Popen([sys.executable, "-c", code, str(tiny), str(output)], env=environment)
        before = len(checkpoints(output))
        while process.poll() is None and len(checkpoints(output)) == before == 0:
            time.sleep(0.01)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for folder in checkpoints(output):  # each is whole
            nb.load(folder)
            load_file(folder / OPTIMIZER)
            json.loads((folder / STATE).read_text())
    resumed, _ = run(
        tiny, output, dropout=0.1, save_strategy="steps", save_steps=1, max_steps=40, resume=True, save_total_limit=2
    )
    whole, _ = run(tiny, dropout=0.1, max_steps=40)
    assert same_bits(whole, resumed)
    assert not [path for path in output.iterdir() if path.name.startswith(".")]


def test_the_best_checkpoint(tiny: Path, tmp_path: Path) -> None:
    evaluated: list[float] = []

    class Note(Callback):
        def on_evaluate(self, loop: TrainingLoop, metrics: dict[str, float]) -> None:
            evaluated.append(metrics["eval_loss"])

    changes = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "max_steps": 30,
        "learning_rate": 2e-2,
        "load_best_model_at_end": True,
    }
    best, result = run(tiny, tmp_path, metric_for_best_model="loss", save_total_limit=1, callbacks=[Note()], **changes)
    assert result.state.best_metric == min(evaluated)
    assert result.state.best_global_step == 2 * (1 + evaluated.index(min(evaluated)))
    assert Path(result.state.best_model_checkpoint or "").name == f"checkpoint-{result.state.best_global_step}"
    assert same_bits(best, nb.load(result.state.best_model_checkpoint or ""))
    assert min(evaluated) < evaluated[-1], "the run is to go past its best"


def test_early_stopping(tiny: Path, tmp_path: Path) -> None:
    _, result = run(
        tiny, tmp_path, metric_for_best_model="loss", eval_strategy="steps", eval_steps=1, early_stopping_patience=2,
        early_stopping_threshold=1e9,
    )  # fmt: skip
    assert result.global_step == 3  # the first evaluation is the best, and no other is better by so much


def test_only_some_checkpoints_stay(tiny: Path, tmp_path: Path) -> None:
    run(tiny, tmp_path, save_strategy="steps", save_steps=2, save_total_limit=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-10", "checkpoint-12"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_a_checkpoint(tiny: Path, tmp_path: Path, number: int) -> None:
    def press(loop: TrainingLoop) -> None:
        os.kill(os.getpid(), number)

    with pytest.raises(InterruptedRunError, match=r"after step 5 of 12, and checkpoint .*checkpoint-5 was written"):
        run(tiny, tmp_path, dropout=0.1, callbacks=[At(5, press)])
    resumed, _ = run(tiny, tmp_path, dropout=0.1, resume=True)
    whole, _ = run(tiny, dropout=0.1)
    assert same_bits(whole, resumed)


def test_a_second_signal_stops_at_once(tiny: Path, tmp_path: Path) -> None:
    def press(loop: TrainingLoop) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path, callbacks=[At(5, press)])
    assert checkpoints(tmp_path) == []


def test_divergence(tiny: Path, tmp_path: Path) -> None:
    def spoil(loop: TrainingLoop) -> None:
        with torch.no_grad():
            loop.step.model.embed.norm.weight.fill_(torch.nan)

    with pytest.raises(
        DivergedError, match=r"the loss is nan in step 4 of 12 .*lower learning_rate.*The last checkpoint is .*-2"
    ):
        run(tiny, tmp_path, save_strategy="steps", save_steps=2, callbacks=[At(3, spoil)])
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-2"]


def test_a_full_disk_leaves_no_half_checkpoint(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nativebert.train import checkpoint

    real, calls = checkpoint.save_file, []

    def full(tensors: Any, path: Any) -> None:
        calls.append(path)
        if len(calls) == 2:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(DiskFullError, match=r"no room on the disk.*The last whole checkpoint is .*checkpoint-2"):
        run(tiny, tmp_path, save_strategy="steps", save_steps=2)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_what_cannot_be_resumed(tiny: Path, tmp_path: Path) -> None:
    run(tiny, tmp_path, save_strategy="steps", save_steps=6)
    with pytest.raises(BadInputError, match="holds checkpoints of an earlier run"):
        run(tiny, tmp_path)
    with pytest.raises(BadInputError, match=r"batch_size was 8 and is 4"):
        run(tiny, tmp_path, resume=True, batch_size=4)
    with pytest.raises(BadInputError, match=r"examples was 60 and is 50"):
        run(tiny, tmp_path, resume=True, count=50)
    with pytest.raises(NotFoundError, match="not a checkpoint"):
        run(tiny, tmp_path, resume=tiny)
    (tmp_path / "checkpoint-12" / OPTIMIZER).write_bytes(b"damaged")
    with pytest.raises(CorruptError, match="earlier checkpoint"):
        run(tiny, tmp_path, resume=True)
    run(tiny, tmp_path, resume=tmp_path / "checkpoint-6")


def test_an_unknown_metric(tiny: Path) -> None:
    with pytest.raises(BadInputError, match=r"metric_for_best_model='recall' is not among .*: loss, accuracy"):
        run(tiny, metric_for_best_model="recall", eval_strategy="steps", eval_steps=1)


def test_a_callback_ends_an_epoch(tiny: Path) -> None:
    def enough(loop: TrainingLoop) -> None:
        loop.control.should_epoch_stop = True

    _, result = run(tiny, max_steps=-1, epochs=2, callbacks=[At(3, enough)])
    assert (result.global_step, result.state.epoch) == (11, 2.0)  # 3 steps and then 8
