"""Options of a training run: the words of transformers' ``TrainingArguments``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal, Self, TypedDict

from nativebert.checks import at_least, whole_number
from nativebert.errors import BadInputError
from nativebert.train.schedule import SCHEDULES

Strategy = Literal["no", "steps", "epoch"]


class TrainingSettings(TypedDict, total=False):
    """The fields of :class:`TrainingOptions`, for functions that take them as keyword arguments."""

    epochs: float
    max_steps: int
    batch_size: int
    gradient_accumulation_steps: int
    learning_rate: float
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    max_grad_norm: float
    lr_scheduler_type: str
    warmup_steps: float
    label_smoothing_factor: float
    layer_decay: float
    group_by_length: bool
    gradient_checkpointing: bool
    bf16: bool
    fast: bool | None
    logging_steps: int
    eval_strategy: Strategy
    eval_steps: int
    save_strategy: Strategy
    save_steps: int
    save_total_limit: int | None
    load_best_model_at_end: bool
    metric_for_best_model: str | None
    greater_is_better: bool | None
    early_stopping_patience: int | None
    early_stopping_threshold: float
    seed: int


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training run.

    Attributes:
        epochs: passes over the training data (``num_train_epochs``); a fraction ends within one.
        max_steps: optimizer steps, in place of ``epochs``; -1 for none.
        batch_size: examples in a batch (``per_device_train_batch_size``).
        gradient_accumulation_steps: batches for each optimizer step. The loss is the mean over all examples, or tokens, of the step.
        learning_rate: the highest.
        weight_decay: of all parameters but biases and norms; decoupled (arXiv:1711.05101).
        adam_beta1, adam_beta2, adam_epsilon: of AdamW.
        max_grad_norm: the gradient is scaled down to this norm; 0 for never.
        lr_scheduler_type: ``"linear"``, ``"cosine"``, ``"constant"``, ``"constant_with_warmup"``.
        warmup_steps: steps in which the rate rises from 0; below 1, their share of all steps.
        label_smoothing_factor: share of the probability that is spread over all labels (arXiv:1512.00567, section 7).
        layer_decay: factor of the learning rate from each layer to the one below it; 1 for the same rate in all.
        group_by_length: batches of texts of similar length.
        gradient_checkpointing: keep the input of each layer only, and compute the layer again on the way back: less memory, more time.
        bf16: products in bfloat16, on devices that are fast in it; parameters stay in float32.
        fast: False for torch's autograd throughout; True for an error where the fast step does not support the model; None for the fast
            step where it is supported.
        logging_steps: steps between two lines of the log.
        eval_strategy, eval_steps: when to evaluate: ``"no"``, each epoch, or after so many steps.
        save_strategy, save_steps: when to write a checkpoint.
        save_total_limit: checkpoints to keep; the best one is kept besides. None for all.
        load_best_model_at_end: whether the result is the best checkpoint by ``metric_for_best_model``, and not the last.
        metric_for_best_model: a metric of the evaluation, or ``"loss"``; None for the task's own.
        greater_is_better: direction of that metric; None for what its name says.
        early_stopping_patience: evaluations without a better metric after which to stop; None for never.
        early_stopping_threshold: how much better it must be to count.
        seed: of the order of examples, dropout and new parameters.
    """

    epochs: float = 3.0
    max_steps: int = -1
    batch_size: int = 16
    gradient_accumulation_steps: int = 1
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    lr_scheduler_type: str = "linear"
    warmup_steps: float = 0.1
    label_smoothing_factor: float = 0.0
    layer_decay: float = 1.0
    group_by_length: bool = True
    gradient_checkpointing: bool = False
    bf16: bool = False
    fast: bool | None = None
    logging_steps: int = 50
    eval_strategy: Strategy = "epoch"
    eval_steps: int = 500
    save_strategy: Strategy = "epoch"
    save_steps: int = 500
    save_total_limit: int | None = 2
    load_best_model_at_end: bool = True
    metric_for_best_model: str | None = None
    greater_is_better: bool | None = None
    early_stopping_patience: int | None = None
    early_stopping_threshold: float = 0.0
    seed: int = 42

    def __post_init__(self) -> None:
        for name in ("batch_size", "gradient_accumulation_steps", "logging_steps", "eval_steps", "save_steps"):
            object.__setattr__(self, name, at_least(1, name, getattr(self, name)))
        object.__setattr__(self, "seed", at_least(0, "seed", self.seed))
        object.__setattr__(self, "max_steps", whole_number("max_steps", self.max_steps))
        if self.save_total_limit is not None:
            at_least(1, "save_total_limit", self.save_total_limit)
        for name in ("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps", "early_stopping_threshold"):
            if not getattr(self, name) >= 0:
                raise BadInputError(f"{name} must be 0 or more, not {getattr(self, name)!r}")
        if self.max_steps < 1 and not self.epochs > 0:
            raise BadInputError(f"epochs must be above 0, not {self.epochs!r}")
        if not 0.0 <= self.label_smoothing_factor < 1.0:
            raise BadInputError(f"label_smoothing_factor must be at least 0 and below 1, not {self.label_smoothing_factor}")
        if self.lr_scheduler_type not in SCHEDULES:
            raise BadInputError(f"lr_scheduler_type must be one of {', '.join(SCHEDULES)}, not {self.lr_scheduler_type!r}")
        for name in ("eval_strategy", "save_strategy"):
            if getattr(self, name) not in ("no", "steps", "epoch"):
                raise BadInputError(f"{name} must be 'no', 'steps' or 'epoch', not {getattr(self, name)!r}")
        if self.early_stopping_patience is not None and self.eval_strategy == "no":
            raise BadInputError("early_stopping_patience needs evaluations: set eval_strategy to 'epoch' or 'steps'")

    @classmethod
    def of(cls, **settings: Any) -> Self:
        """Options from keyword arguments.

        Raises:
            BadInputError: one that does not exist, or a value that makes no sense.
        """
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in settings if name not in known]:
            meant = {
                "num_train_epochs": "epochs",
                "per_device_train_batch_size": "batch_size",
                "train_batch_size": "batch_size",
            }
            meant |= {"lr": "learning_rate", "num_epochs": "epochs", "warmup_ratio": "warmup_steps", "bfloat16": "bf16"}
            near = get_close_matches(unknown[0], known, 1, 0.75)
            hint = f"; it is called {meant[unknown[0]]}" if unknown[0] in meant else f": {', '.join(known)}"
            hint = f": did you mean {near[0]}?" if near and unknown[0] not in meant else hint
            raise BadInputError(f"{unknown[0]!r} is not an option of training{hint}")
        return cls(**settings)
