"""The training loop: steps, the log, evaluations, checkpoints, the best model, and stopping in order."""

from __future__ import annotations

import math
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor

from nativebert.errors import BadInputError, DivergedError, InterruptedRunError, NotFoundError
from nativebert.train import checkpoint, metrics
from nativebert.train.checkpoint import TrainerState
from nativebert.train.distributed import Processes
from nativebert.train.options import TrainingOptions
from nativebert.train.schedule import learning_rates
from nativebert.train.step import Step

# Options that may differ between a run and the one that it is resumed from: what they change is not the weights.
_FREE = {
    "logging_steps",
    "save_strategy",
    "save_steps",
    "save_total_limit",
    "eval_strategy",
    "eval_steps",
    "load_best_model_at_end",
}
_FREE |= {"metric_for_best_model", "greater_is_better", "early_stopping_patience", "early_stopping_threshold"}
_RANDOM = "random.torch"  # the tensor with the state of torch's generator


class Work(Protocol):
    """What a run computes. The loop knows nothing of texts, heads and losses."""

    default_metric: str

    def epoch_batches(self, epoch: int, processes: Processes) -> Sequence[Any]:
        """The batches of an epoch that this process computes, in order, as something small (indices): all of one epoch exist at once, and
        every process has as many."""

    def batch(self, item: Any, epoch: int) -> Any:
        """A batch, ready to be computed, of what :meth:`epoch_batches` gave."""

    def backward(self, step: Step, batches: Sequence[Any], processes: Processes) -> float:
        """Gradients of the mean loss over the batches of one optimizer step, and that loss.

        Where there are several processes, each has its own batches, and the loss is the mean over all: it is divided by ``processes.total(count)``,
        and what is returned is the sum over all.
        """

    def evaluate(self) -> dict[str, float]:
        """Metrics of the model as it is, by name; empty without evaluation data."""

    def parameters_to_keep(self) -> dict[str, Tensor]:
        """Trained parameters that the saved model does not hold as they are, by name: they are in a checkpoint besides."""

    def save(self, folder: Path) -> None:
        """Write the model's files."""

    def restore(self, folder: Path, kept: Mapping[str, Tensor]) -> None:
        """Load what :meth:`save` wrote, and :meth:`parameters_to_keep`, into the model that is trained."""

    def fingerprint(self) -> dict[str, Any]:
        """What the run depends on besides its options: the data, the model."""


@dataclass
class Control:
    """What callbacks ask of the loop. All but the first two are for one step."""

    should_training_stop: bool = False
    should_epoch_stop: bool = False
    should_save: bool = False
    should_evaluate: bool = False
    should_log: bool = False


class Callback:
    """Called by a :class:`TrainingLoop` as it goes; override what is needed. ``loop.state`` says where the run stands, and what is set on
    ``loop.control`` is done next."""

    def on_train_begin(self, loop: TrainingLoop) -> None: ...

    def on_epoch_begin(self, loop: TrainingLoop) -> None: ...

    def on_step_begin(self, loop: TrainingLoop) -> None: ...

    def on_step_end(self, loop: TrainingLoop) -> None: ...

    def on_log(self, loop: TrainingLoop, logs: dict[str, float]) -> None: ...

    def on_evaluate(self, loop: TrainingLoop, metrics: dict[str, float]) -> None: ...

    def on_save(self, loop: TrainingLoop, folder: Path) -> None: ...

    def on_epoch_end(self, loop: TrainingLoop) -> None: ...

    def on_train_end(self, loop: TrainingLoop) -> None: ...


@dataclass(frozen=True)
class TrainOutput:
    """The result of a run.

    Attributes:
        global_step: optimizer steps that were done.
        training_loss: mean over them.
        metrics: ``train_runtime`` in seconds, ``train_samples_per_second``, ``train_steps_per_second``, ``train_loss``, ``epoch``.
        state: the run's whole state, with its log.
    """

    global_step: int
    training_loss: float
    metrics: dict[str, float]
    state: TrainerState


class TrainingLoop:
    """A training run.

    Args:
        work: what is computed.
        step: how the model is trained.
        options: of the run.
        output: the run's folder, for checkpoints; None for none.
        callbacks: called as the run goes, in the main process.
        processes: that share the work.
    """

    def __init__(
        self,
        work: Work,
        step: Step,
        options: TrainingOptions,
        output: Path | None = None,
        callbacks: Sequence[Callback] = (),
        processes: Processes | None = None,
    ) -> None:
        self.work, self.step, self.options, self.output = work, step, options, output
        self.processes = processes or Processes()
        self.callbacks = list(callbacks)
        self.state, self.control = TrainerState(), Control()
        self.rates: list[float] = []
        self.losses: list[float] = []  # of the steps since the last line of the log
        self.norm = 0.0  # of the last step's gradient
        self._total_loss, self._samples = 0.0, 0
        self._evaluated_at = self._saved_at = -1
        self._signal: int | None = None

    # ---- the run

    def run(self, resume: bool | str | Path = False) -> TrainOutput:
        """Train.

        Args:
            resume: True to go on from the newest checkpoint in the run's folder, or from the start if there is none; a folder to go on from that one.

        Raises:
            DivergedError: the loss or the gradient is infinite or NaN.
            InterruptedRunError: Ctrl-C, or SIGTERM; a checkpoint was written. A second Ctrl-C stops at once, without one.
            DiskFullError: no room for a checkpoint.
            NotFoundError, CorruptError, BadInputError: there is no such checkpoint, it is damaged, or of a run with other options or data.
        """
        options, state = self.options, self.state
        first = self.work.epoch_batches(0, self.processes)
        if not len(first):
            raise BadInputError("there are no training examples")
        per_epoch = math.ceil(len(first) / options.gradient_accumulation_steps)
        state.max_steps = options.max_steps if options.max_steps > 0 else math.ceil(options.epochs * per_epoch)
        state.num_train_epochs = math.ceil(state.max_steps / per_epoch)
        self.rates = self._rates(state.max_steps)
        state.settings = _settings(options, self.work)
        if self.output is not None:
            self.processes.from_main(partial(checkpoint.begin, self.output))
        if folder := self._checkpoint(resume):
            self._restore(folder)
        state = self.state
        begun, began_at = time.monotonic(), state.global_step
        try:
            with self._signals():
                self._call("on_train_begin")
                self._epochs(first, per_epoch)
                metrics = self._metrics(max(time.monotonic() - begun, 1e-9), state.global_step - began_at)
                self.log(metrics)
                self._load_best()
                self._call("on_train_end")
        except BaseException:
            if self.processes.count == 1:  # else the others might not be there to close with
                self.step.close()
            raise
        self.step.close()
        return TrainOutput(state.global_step, metrics["train_loss"], metrics | {"epoch": state.epoch}, state)

    def _rates(self, steps: int) -> list[float]:
        """The learning rate of each of ``steps`` steps."""
        options = self.options
        return learning_rates(options.lr_scheduler_type, options.learning_rate, steps, options.warmup_steps)

    def _metrics(self, seconds: float, steps: int) -> dict[str, float]:
        """What is logged at the end of a run of so many seconds and steps."""
        return {
            "train_runtime": round(seconds, 4),
            "train_samples_per_second": round(self._samples / seconds, 3),
            "train_steps_per_second": round(steps / seconds, 3),
            "train_loss": self._total_loss / steps if steps else 0.0,
        }

    def _epochs(self, first: Sequence[Any], per_epoch: int) -> None:
        state, options = self.state, self.options
        while state.global_step < state.max_steps and not self.control.should_training_stop:
            epoch, done = divmod(state.global_step + state.skipped_steps, per_epoch)
            items = first if epoch == 0 else self.work.epoch_batches(epoch, self.processes)
            self.control.should_epoch_stop = False
            if done == 0:
                self._call("on_epoch_begin")
            size = options.gradient_accumulation_steps
            for start in range(done * size, len(items), size):
                self._one(items[start : start + size], epoch)
                state.epoch = epoch + min(1.0, (start + size) / len(items))
                self._after_step(epoch_ends=start + size >= len(items))
                if self.control.should_training_stop or self.control.should_epoch_stop or state.global_step >= state.max_steps:
                    break
            if self.control.should_epoch_stop:  # a callback has had enough of it
                skipped = (epoch + 1) * per_epoch - state.global_step - state.skipped_steps
                state.skipped_steps += skipped
                state.max_steps -= skipped
            self._call("on_epoch_end")
            self._act()

    def _one(self, items: Sequence[Any], epoch: int) -> None:
        """One optimizer step."""
        state = self.state
        self._call("on_step_begin")
        batches = [self.work.batch(item, epoch) for item in items]
        number, rate = state.global_step + 1, self.rates[state.global_step]
        self.step.begin(number)
        try:
            loss = self.work.backward(self.step, batches, self.processes)
            if not math.isfinite(loss):
                raise DivergedError(f"the loss is {loss}")
            self.norm = self._update(rate)
        except DivergedError as error:
            raise DivergedError(self._diverged(str(error), number, rate)) from error
        state.global_step = number
        state.learning_rates.append(rate)
        self.losses.append(loss)
        self._total_loss += loss
        self._samples += sum(map(len, items))

    def _update(self, rate: float) -> float:
        """Change the parameters; returns the gradient's norm."""
        return self.step.update(rate, self.options.max_grad_norm or None)

    def _diverged(self, what: str, number: int, rate: float) -> str:
        before = self.losses[-1] if self.losses else None
        history = "" if before is None else f"; the loss of the step before was {before:.4g}"
        return (
            f"training diverged: {what} in step {number} of {self.state.max_steps} (learning rate {rate:.3g}{history}). Try a lower learning_rate, "
            f"or more warmup_steps.{self._how_to_go_on()}"
        )

    def _how_to_go_on(self) -> str:
        last = None if self.output is None else checkpoint.last_checkpoint(self.output)
        return "" if last is None else f" The last checkpoint is {last}."

    # ---- after a step

    def _after_step(self, epoch_ends: bool) -> None:
        state, options, control = self.state, self.options, self.control
        at, last = state.global_step, state.global_step >= state.max_steps
        control.should_log |= at % options.logging_steps == 0 or last
        evaluate = {"steps": at % options.eval_steps == 0 or last, "epoch": epoch_ends or last}
        save = {"steps": at % options.save_steps == 0 or last, "epoch": epoch_ends or last}
        control.should_evaluate |= evaluate.get(options.eval_strategy, False)
        control.should_save |= save.get(options.save_strategy, False)
        self._call("on_step_end")
        self.stop_if_asked()
        self._act()

    def _act(self) -> None:
        """Do what was asked for: log, evaluate, save."""
        control, at = self.control, self.state.global_step
        log, evaluate, save = control.should_log, control.should_evaluate, control.should_save
        control.should_log = control.should_evaluate = control.should_save = False
        if log and self.losses:
            logs = {
                "loss": math.fsum(self.losses) / len(self.losses),
                "grad_norm": self.norm,
                "learning_rate": self.rates[at - 1],
            }
            self.losses = []
            self.log(logs)
        if evaluate and self._evaluated_at != at:
            self._evaluated_at = at
            self.evaluate()
        if save and self._saved_at != at:
            self.save()
        if control.should_evaluate or control.should_save:  # a callback wants more after what it was told
            self._act()

    def log(self, values: dict[str, float]) -> None:
        """Add a line to the log."""
        line = values | {"epoch": round(self.state.epoch, 4)}
        self.state.log_history.append(line | {"step": self.state.global_step})
        self._call("on_log", line)

    def evaluate(self) -> dict[str, float]:
        """Evaluate the model as it is, log it, and note whether it is the best so far."""
        with self.step.settled():
            metrics = self.processes.from_main(self.work.evaluate)
        metrics = {f"eval_{name}": value for name, value in metrics.items()}
        if metrics:
            self.log(metrics)
            self._note_best(metrics)
            self._call("on_evaluate", metrics)
        return metrics

    @property
    def metric(self) -> str:
        """The metric by which the best checkpoint is chosen, as it stands in the log."""
        name = self.options.metric_for_best_model or self.work.default_metric
        return name if name.startswith("eval_") else f"eval_{name}"

    @property
    def greater_is_better(self) -> bool:
        """Direction of :attr:`metric`."""
        if self.options.greater_is_better is not None:
            return self.options.greater_is_better
        return metrics.greater_is_better(self.metric)

    def _note_best(self, metrics: Mapping[str, float]) -> None:
        state, options = self.state, self.options
        if self.metric not in metrics:
            if options.metric_for_best_model is None and not (
                options.load_best_model_at_end or options.early_stopping_patience
            ):
                return
            raise BadInputError(
                f"metric_for_best_model={self.metric.removeprefix('eval_')!r} is not among the evaluation's metrics: "
                f"{', '.join(name.removeprefix('eval_') for name in metrics)}"
            )
        value = metrics[self.metric]
        sign = 1.0 if self.greater_is_better else -1.0
        gain = math.inf if state.best_metric is None else sign * (value - state.best_metric)
        state.evaluations_without_gain = 0 if gain > options.early_stopping_threshold else state.evaluations_without_gain + 1
        if gain > 0:
            state.best_metric, state.best_global_step = value, state.global_step
            state.best_model_checkpoint = None
            if options.load_best_model_at_end and self.output is not None:
                self.control.should_save = True  # what is to be loaded at the end has to be there
        if options.early_stopping_patience is not None and state.evaluations_without_gain >= options.early_stopping_patience:
            self.control.should_training_stop = True

    # ---- checkpoints

    def save(self) -> Path | None:
        """Write a checkpoint of the run as it is."""
        if self.output is None:
            return None
        state = self.state
        self._saved_at = state.global_step
        if state.best_global_step == state.global_step:
            state.best_model_checkpoint = str(self.output / f"checkpoint-{state.global_step}")
        tensors = self._tensors()
        folder = self.output / f"checkpoint-{state.global_step}"
        with self.step.settled():
            self.processes.from_main(partial(checkpoint.write, folder, state, tensors, self.work.save))
        self.processes.from_main(partial(self._remove_old, self.output))
        self._call("on_save", folder)
        return folder

    def _tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds besides the model."""
        kept = {f"kept.{name}": t for name, t in self.work.parameters_to_keep().items()}
        return self.step.state() | kept | {_RANDOM: torch.get_rng_state()}

    def _remove_old(self, output: Path) -> None:
        """Remove checkpoints beyond the limit."""
        checkpoint.remove_old(output, self.options.save_total_limit, self.state.best_model_checkpoint)

    def _checkpoint(self, resume: bool | str | Path) -> Path | None:
        """The folder to resume from."""
        if not isinstance(resume, bool):
            return Path(resume)
        if not resume:
            old = None if self.output is None else checkpoint.last_checkpoint(self.output)
            if old is not None:
                raise BadInputError(
                    f"{self.output} holds checkpoints of an earlier run (the newest is {old.name}): go on from it with resume=True, or choose another "
                    "folder"
                )
            return None
        if self.output is None:
            raise BadInputError("resume=True looks for checkpoints in the run's folder: pass one")
        return checkpoint.last_checkpoint(self.output)

    def _restore(self, folder: Path) -> None:
        state = type(self.state).read(folder)
        self._check_settings(folder, state.settings, self.state.settings)
        tensors = checkpoint.read_tensors(folder)
        if _RANDOM not in tensors:
            raise BadInputError(f"{folder} holds the model alone, without the optimizer's state: a run cannot go on from it")
        kept = {name.removeprefix("kept."): t for name, t in tensors.items() if name.startswith("kept.")}
        self.work.restore(folder, kept)
        random = tensors.pop(_RANDOM)
        own = {name: t for name, t in tensors.items() if not name.startswith("kept.")}
        self.step.restore(state.global_step, state.learning_rates, own)
        torch.set_rng_state(random)
        state.max_steps, state.num_train_epochs = self.state.max_steps - state.skipped_steps, self.state.num_train_epochs
        if state.best_model_checkpoint is not None:  # the run's folder may have been moved
            state.best_model_checkpoint = str(folder.parent / Path(state.best_model_checkpoint).name)
        self.state = state
        self._evaluated_at = self._saved_at = state.global_step

    def _check_settings(self, folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """Refuse to go on from a run with other settings."""
        differences = [
            f"{name} was {old.get(name)!r} and is {new.get(name)!r}" for name in new if old.get(name) != new.get(name)
        ]
        if differences:
            raise BadInputError(
                f"{folder} is of another run: {'; '.join(differences)}. Resume with what the run began with, or begin a new one in another folder."
            )

    def _load_best(self) -> None:
        """Give the model the weights of the best checkpoint."""
        best = self.state.best_model_checkpoint
        if not self.options.load_best_model_at_end or best is None or self.state.best_global_step == self.state.global_step:
            return
        if not Path(best).is_dir():
            raise NotFoundError(f"the best checkpoint, {best}, is not there any more: the model is that of the last step")
        kept = {
            name.removeprefix("kept."): t for name, t in checkpoint.read_tensors(Path(best)).items() if name.startswith("kept.")
        }
        self.step.close()
        self.work.restore(Path(best), kept)

    # ---- stopping

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the run after the step, with a checkpoint; a second one at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: FrameType | None) -> None:
            if self._signal is not None:
                raise KeyboardInterrupt
            self._signal = number

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop_if_asked(self) -> None:
        """End the run with a checkpoint, if there was a signal."""
        if not self.processes.total(self._signal is not None):  # it may reach one process after this step, and another before
            return
        name = signal.Signals(self._signal or signal.SIGINT).name
        folder = self.save()
        where = "without a checkpoint, since the run has no folder"
        if folder is not None:
            where = f"and checkpoint {folder} was written: go on from it with resume=True"
        raise InterruptedRunError(f"stopped by {name} after step {self.state.global_step} of {self.state.max_steps}, {where}")

    def _call(self, event: str, *values: Any) -> None:
        """Call the callbacks, in the main process; what they ask for holds in all."""

        def call() -> Control:
            for callback in self.callbacks:
                getattr(callback, event)(self, *values)
            return self.control

        if self.callbacks:
            self.control = self.processes.from_main(call)


def _settings(options: TrainingOptions, work: Work) -> dict[str, Any]:
    """What the weights of a run depend on."""
    return {name: value for name, value in asdict(options).items() if name not in _FREE} | work.fingerprint()


def command() -> str:
    """The command that this process was started with."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
