"""Callbacks of the Trainer, with transformers' signatures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nativebert.errors import BadInputError
from nativebert.train.checkpoint import TrainerState as TrainerState
from nativebert.train.loop import Callback, Control, TrainingLoop

TrainerControl = Control

EVENTS = (
    "on_init_end", "on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end", "on_step_begin", "on_pre_optimizer_step",
    "on_optimizer_step", "on_substep_end", "on_step_end", "on_evaluate", "on_predict", "on_save", "on_log", "on_prediction_step",
)  # fmt: skip


class TrainerCallback:
    """Override the events that are needed: ``on_step_end(self, args, state, control, **kwargs)``. What is set on ``control`` is done next."""

    def __getattr__(self, name: str) -> Any:
        if name in EVENTS:
            return lambda args, state, control, **kwargs: control
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


class EarlyStoppingCallback(TrainerCallback):
    """Stop after evaluations without gain.

    Args:
        early_stopping_patience: how many of them.
        early_stopping_threshold: how much better the metric must be to count.
    """

    def __init__(self, early_stopping_patience: int = 1, early_stopping_threshold: float | None = 0.0) -> None:
        self.early_stopping_patience, self.early_stopping_threshold = early_stopping_patience, early_stopping_threshold or 0.0
        self.early_stopping_patience_counter = 0
        self._best: float | None = None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Check that there is a metric."""
        if args.metric_for_best_model is None or args.eval_strategy == "no":
            raise BadInputError(
                "EarlyStoppingCallback needs metric_for_best_model and an eval_strategy other than 'no' in TrainingArguments"
            )

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Count, and stop."""
        name = args.metric_for_best_model
        value = kwargs["metrics"].get(name if name.startswith("eval_") else f"eval_{name}")
        if value is None:
            return
        better = args.greater_is_better if args.greater_is_better is not None else not name.endswith("loss")
        gain = None if self._best is None else (value - self._best) * (1 if better else -1)
        if gain is None or gain > self.early_stopping_threshold:
            self.early_stopping_patience_counter = 0
        else:
            self.early_stopping_patience_counter += 1
        if gain is None or gain > 0:
            self._best = value
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True


class PrinterCallback(TrainerCallback):
    """Print each line of the log."""

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any) -> None:
        """Print it."""
        print(logs)


@dataclass
class Adapter(Callback):
    """The callbacks of a Trainer, as the training loop calls them."""

    trainer: Any

    def call(self, event: str, loop: TrainingLoop | None = None, **values: Any) -> None:
        """Call an event of all callbacks."""
        trainer = self.trainer
        if loop is not None:
            trainer.state, trainer.control = loop.state, loop.control
        values |= {"model": trainer.model, "processing_class": trainer.processing_class, "tokenizer": trainer.processing_class}
        for callback in trainer.callbacks:
            returned = getattr(callback, event)(trainer.args, trainer.state, trainer.control, **values)
            if isinstance(returned, TrainerControl) and returned is not trainer.control:
                vars(trainer.control).update(vars(returned))

    def on_train_begin(self, loop: TrainingLoop) -> None:
        self.call("on_train_begin", loop)

    def on_epoch_begin(self, loop: TrainingLoop) -> None:
        self.call("on_epoch_begin", loop)

    def on_step_begin(self, loop: TrainingLoop) -> None:
        self.call("on_step_begin", loop)

    def on_step_end(self, loop: TrainingLoop) -> None:
        if self.trainer.args.logging_first_step and loop.state.global_step == 1:
            loop.control.should_log = True
        self.call("on_step_end", loop)

    def on_epoch_end(self, loop: TrainingLoop) -> None:
        if self.trainer.args.logging_strategy == "epoch":
            loop.control.should_log = True
        self.call("on_epoch_end", loop)

    def on_log(self, loop: TrainingLoop, logs: dict[str, float]) -> None:
        self.call("on_log", loop, logs=logs)

    def on_evaluate(self, loop: TrainingLoop, metrics: dict[str, float]) -> None:
        if self.trainer.args.save_strategy == "best" and loop.state.best_global_step == loop.state.global_step:
            loop.control.should_save = True
        self.call("on_evaluate", loop, metrics=metrics)

    def on_save(self, loop: TrainingLoop, folder: Path) -> None:
        self.call("on_save", loop)

    def on_train_end(self, loop: TrainingLoop) -> None:
        self.call("on_train_end", loop)
