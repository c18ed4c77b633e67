"""Callbacks of the Trainer, with transformers' signatures. Reference: its ``trainer_callback.py``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from nativebert.errors import BadInputError, NativeBertWarning, warn
from nativebert.hf.training_arguments import TrainingArguments
from nativebert.train import checkpoint
from nativebert.train.loop import Control

EVENTS = (
    "on_init_end", "on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end", "on_step_begin", "on_pre_optimizer_step",
    "on_optimizer_step", "on_substep_end", "on_step_end", "on_evaluate", "on_predict", "on_save", "on_log", "on_prediction_step",
)  # fmt: skip


@dataclass
class TrainerState(checkpoint.TrainerState):
    """Where a run stands: what ``trainer_state.json`` holds. See :class:`nativebert.train.checkpoint.TrainerState` for what is not here.

    Attributes:
        logging_steps, eval_steps, save_steps: steps between two lines of the log, evaluations, checkpoints.
        train_batch_size: examples in a batch.
        num_input_tokens_seen: 0: it is not counted.
        total_flos: floating-point operations of the products so far, as transformers estimates them.
        is_local_process_zero, is_world_process_zero, is_hyper_param_search, trial_name, trial_params: there is one process, and no search.
        stateful_callbacks: the states of callbacks that have some, by the names of their classes.
    """

    logging_steps: int = 500
    eval_steps: int = 500
    save_steps: int = 500
    train_batch_size: int | None = None
    num_input_tokens_seen: int = 0
    total_flos: float = 0.0
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True
    is_hyper_param_search: bool = False
    trial_name: str | None = None
    trial_params: dict[str, Any] | None = None
    stateful_callbacks: dict[str, Any] = field(default_factory=dict)

    def compute_steps(self, args: TrainingArguments, max_steps: int) -> None:
        """Take the steps between two events from arguments, where below 1 they are shares of ``max_steps``."""
        for name in ("logging_steps", "eval_steps", "save_steps"):
            if (value := getattr(args, name)) is not None:
                setattr(self, name, args.count(value, max_steps))

    def save_to_json(self, json_path: Any) -> None:
        """Write it to a file."""
        Path(json_path).write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n", "utf-8")

    @classmethod
    def load_from_json(cls, json_path: Any) -> Self:
        """The state in a file; keys that are not known are left out."""
        known = {f.name for f in fields(cls)}
        content = json.loads(Path(json_path).read_text("utf-8"))
        return cls(**{name: value for name, value in content.items() if name in known})


class ExportableState:
    """A callback with a state that is kept in checkpoints: ``state()`` gives ``{"args": ..., "attributes": ...}``."""

    def state(self) -> dict[str, Any]:
        """Arguments and attributes to make it again."""
        raise NotImplementedError(f"{type(self).__name__} has no method state()")

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """One with a state of before."""
        made = cls(**state["args"])
        vars(made).update(state["attributes"])
        return made


class TrainerControl(Control):
    """What callbacks ask of a run: ``should_training_stop``, ``should_epoch_stop``, ``should_save``, ``should_evaluate``, ``should_log``."""


class TrainerCallback:
    """Override the events that are needed: ``on_step_end(self, args, state, control, **kwargs)``.

    What is set on ``control`` is done next. The other arguments are ``model``, ``processing_class``, ``optimizer``, ``lr_scheduler``,
    ``train_dataloader``, ``eval_dataloader``, and ``logs`` or ``metrics`` where there are some.
    """

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """At the end of ``Trainer.__init__``."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Before the first step."""

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """After the last step, with the best model if that was asked for."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Before the first step of an epoch."""

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """After the last step of an epoch."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Before a step."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """When the gradients are there, before they are clipped."""

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """When the parameters have changed."""

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """After each batch of a step but the last."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """After a step."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """After an evaluation: ``metrics``."""

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> Any:
        """After ``Trainer.predict``."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """After a checkpoint."""

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """After a line of the log: ``logs``."""

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """After each batch of an evaluation."""


class CallbackHandler(TrainerCallback):
    """Calls callbacks in order.

    Attributes:
        callbacks: the callbacks.
        model, processing_class, optimizer, lr_scheduler, train_dataloader, eval_dataloader: what they are given.
    """

    def __init__(self, callbacks: Sequence[Any], model: Any, processing_class: Any) -> None:
        self.callbacks: list[Any] = []
        self.model, self.processing_class = model, processing_class
        self.optimizer: Any = None
        self.lr_scheduler: Any = None
        self.train_dataloader: Any = None
        self.eval_dataloader: Any = None
        for callback in callbacks:
            self.add_callback(callback)

    def add_callback(self, callback: Any) -> None:
        """Add a callback, or an object of a callback's class."""
        made = callback() if isinstance(callback, type) else callback
        if type(made) in map(type, self.callbacks):
            warn(f"the Trainer has a {type(made).__name__} already, and will call both", NativeBertWarning)
        self.callbacks.append(made)

    def pop_callback(self, callback: Any) -> Any:
        """Remove a callback, or the first of a class, and return it; None where there is none."""
        for one in self.callbacks:
            if one is callback or (isinstance(callback, type) and isinstance(one, callback)):
                self.callbacks.remove(one)
                return one
        return None

    def call_event(self, event: str, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Call an event of all callbacks; returns the control, or what a callback returned in its place."""
        shared = {
            "model": self.model, "processing_class": self.processing_class, "tokenizer": self.processing_class, "optimizer": self.optimizer,
            "lr_scheduler": self.lr_scheduler, "train_dataloader": self.train_dataloader, "eval_dataloader": self.eval_dataloader,
        }  # fmt: skip
        for callback in self.callbacks:
            control = getattr(callback, event)(args, state, control, **shared, **kwargs) or control
        return control

    def __getattribute__(self, name: str) -> Any:
        if name not in EVENTS:
            return super().__getattribute__(name)

        def call(args: Any, state: Any, control: Any, metrics: Any = None, logs: Any = None) -> Any:
            for switch in _RESET.get(name, ()):
                setattr(control, switch, False)
            values = {"metrics": metrics, "logs": logs}
            return self.call_event(name, args, state, control, **{k: v for k, v in values.items() if v is not None})

        return call


# What is asked for holds until it is done, or until the next step.
_RESET = {
    "on_train_begin": ("should_training_stop",),
    "on_epoch_begin": ("should_epoch_stop",),
    "on_step_begin": ("should_log", "should_evaluate", "should_save"),
    "on_log": ("should_log",),
    "on_evaluate": ("should_evaluate",),
    "on_save": ("should_save",),
}


class DefaultFlowCallback(TrainerCallback):
    """When a run logs, evaluates and saves, by its arguments."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """After steps."""
        at, last = state.global_step, state.global_step >= state.max_steps
        if (at == 1 and args.logging_first_step) or (args.logging_strategy == "steps" and at % state.logging_steps == 0):
            control.should_log = True
        if args.eval_strategy == "steps" and args.eval_delay <= at and (at % state.eval_steps == 0 or last):
            control.should_evaluate = True
        if args.save_strategy == "steps" and (at % state.save_steps == 0 or last):
            control.should_save = True
        if last:
            control.should_training_stop = True

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """After epochs."""
        if args.logging_strategy == "epoch":
            control.should_log = True
        if args.eval_strategy == "epoch" and args.eval_delay <= state.epoch:
            control.should_evaluate = True
        if args.save_strategy == "epoch":
            control.should_save = True


class ProgressCallback(TrainerCallback):
    """Bars of a run and of its evaluations, and the lines of the log.

    Args:
        max_str_len: longer texts in the log are cut off.
    """

    def __init__(self, max_str_len: int = 100) -> None:
        self.training_bar: Any = None
        self.prediction_bar: Any = None
        self.max_str_len = max_str_len

    def _bar(self, total: int, leave: bool = True) -> Any:
        from tqdm.auto import tqdm

        return tqdm(total=total, dynamic_ncols=True, leave=leave, file=sys.stderr)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show a bar."""
        self.training_bar = self._bar(state.max_steps)
        self.training_bar.update(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move it."""
        if self.training_bar is not None:
            self.training_bar.update(state.global_step - self.training_bar.n)

    def on_prediction_step(self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **kwargs: Any) -> None:
        """Show a bar of the evaluation, and move it."""
        if not hasattr(eval_dataloader, "__len__"):
            return
        if self.prediction_bar is None:
            self.prediction_bar = self._bar(len(eval_dataloader), leave=self.training_bar is None)
        self.prediction_bar.update(1)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close it."""
        if self.prediction_bar is not None:
            self.prediction_bar.close()
        self.prediction_bar = None

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
        """Close it."""
        self.on_evaluate(args, state, control)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Write a line of the log above the bar."""
        if self.training_bar is None or logs is None:
            return
        shown = {name: f"{v:.4g}" if isinstance(v, float) else str(v)[: self.max_str_len] for name, v in logs.items()}
        shown.pop("total_flos", None)
        self.training_bar.write(str(shown))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        if self.training_bar is not None:
            self.training_bar.close()
        self.training_bar = None


class PrinterCallback(TrainerCallback):
    """Print each line of the log."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Print it."""
        if logs is not None:
            print({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in logs.items() if k != "total_flos"})


class EarlyStoppingCallback(TrainerCallback, ExportableState):
    """Stop after evaluations without gain in ``metric_for_best_model``.

    Args:
        early_stopping_patience: how many of them.
        early_stopping_threshold: how much better than the best the metric must be to count.
    """

    def __init__(self, early_stopping_patience: int = 1, early_stopping_threshold: float | None = 0.0) -> None:
        self.early_stopping_patience, self.early_stopping_threshold = early_stopping_patience, early_stopping_threshold
        self.early_stopping_patience_counter = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check that there is a metric."""
        if args.metric_for_best_model is None or args.eval_strategy == "no":
            raise BadInputError(
                "EarlyStoppingCallback needs metric_for_best_model and an eval_strategy other than 'no' in TrainingArguments"
            )
        if not args.load_best_model_at_end:
            warn(
                "EarlyStoppingCallback without load_best_model_at_end=True: the model will be that of the last step",
                NativeBertWarning,
            )

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Count, and stop. The best metric before this evaluation is ``state.best_metric``."""
        name = args.metric_for_best_model
        value = (metrics or {}).get(name if name.startswith("eval_") else f"eval_{name}")
        if value is None:  # of one of several evaluation sets
            return
        gain = None if state.best_metric is None else (value - state.best_metric) * (1 if args.greater_is_better else -1)
        if gain is None or (gain > 0 and gain > (self.early_stopping_threshold or 0.0)):
            self.early_stopping_patience_counter = 0
        else:
            self.early_stopping_patience_counter += 1
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True

    def state(self) -> dict[str, Any]:
        """Its arguments, and the count."""
        arguments = ("early_stopping_patience", "early_stopping_threshold")
        count = "early_stopping_patience_counter"
        return {"args": {name: getattr(self, name) for name in arguments}, "attributes": {count: getattr(self, count)}}
