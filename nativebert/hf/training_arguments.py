"""``TrainingArguments``: the options of a run, by the names of transformers 5 and 4."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from nativebert.checks import at_least
from nativebert.errors import BadInputError, RefusedError
from nativebert.hf.optimization import NAMES, SchedulerType
from nativebert.hf.trainer_utils import IntervalStrategy, SaveStrategy
from nativebert.train.options import TrainingOptions
from nativebert.train.schedule import warmup_steps as warmup_steps_of

# Names of transformers 4, and of 5 for what has two names -> the name here.
_OLD = {
    "evaluation_strategy": "eval_strategy",
    "no_cuda": "use_cpu",
    "label_smoothing": "label_smoothing_factor",
    "activation_checkpointing": "gradient_checkpointing",
    "activation_checkpointing_kwargs": "gradient_checkpointing_kwargs",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
}
# Arguments that change no result here, and their defaults: they can be read again.
_HARMLESS: dict[str, Any] = {
    **dict.fromkeys(
        """overwrite_output_dir do_train do_eval do_predict ignore_data_skip dataloader_persistent_workers full_determinism
        save_on_each_node ddp_find_unused_parameters use_cache use_mps_device eval_use_gather_object""".split(),
        False,
    ),
    **dict.fromkeys(
        """log_on_each_node logging_nan_inf_filter dataloader_pin_memory dataloader_in_order skip_memory_metrics
        average_tokens_across_devices save_safetensors""".split(),
        True,
    ),
    **dict.fromkeys(
        """run_name dataloader_prefetch_factor dataloader_multiprocessing_context ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph
        ddp_backend hub_model_id hub_token hub_private_repo hub_revision eval_accumulation_steps torch_empty_cache_steps
        gradient_checkpointing_kwargs resume_from_checkpoint place_model_on_device""".split()
    ),
    "log_level": "passive",
    "log_level_replica": "warning",
    "project": "huggingface",
    "dataloader_num_workers": 0,
    "ddp_timeout": 1800,
    "hub_strategy": "every_save",
    "hub_always_push": False,
    "local_rank": -1,
    "half_precision_backend": "auto",
    "fp16_backend": "auto",
    "fp16_opt_level": "O1",
}
_ONE_DEVICE = "`nativebert train` shares the work among the processes of torchrun; a Trainer is one process"
_SMALL = "bf16=True has products in bfloat16 on a GPU; on the CPU float32 is the fast one"
# Arguments that are supported with their defaults alone: default, and what to do.
_REFUSED: dict[str, tuple[Any, str]] = {
    "fp16": (False, f"leave it out: {_SMALL}"),
    "fp16_full_eval": (False, f"leave it out: {_SMALL}"),
    "bf16_full_eval": (False, "call model.to(torch.bfloat16) before an evaluation"),
    "tf32": (None, "set torch.backends.cuda.matmul.allow_tf32"),
    "deepspeed": (None, f"leave it out: {_ONE_DEVICE}"),
    "fsdp": (None, f"leave it out: {_ONE_DEVICE}"),
    "fsdp_config": (None, f"leave it out: {_ONE_DEVICE}"),
    "accelerator_config": (None, f"leave it out: {_ONE_DEVICE}"),
    "parallelism_config": (None, f"leave it out: {_ONE_DEVICE}"),
    "tpu_num_cores": (None, "leave it out: it runs on the CPU, CUDA and MPS"),
    "push_to_hub": (False, "save to a folder, then upload it with huggingface_hub"),
    "torch_compile": (False, "leave it out: the fast step on the CPU has the gain of it"),
    "torch_compile_backend": (None, "leave it out, as torch_compile"),
    "torch_compile_mode": (None, "leave it out, as torch_compile"),
    "use_liger_kernel": (False, "leave it out: its kernels are for models that generate text"),
    "liger_kernel_config": (None, "leave it out, as use_liger_kernel"),
    "use_ipex": (False, "leave it out"),
    "jit_mode_eval": (False, "leave it out"),
    "neftune_noise_alpha": (None, "override compute_loss to add noise of your own"),
    "auto_find_batch_size": (False, "choose per_device_train_batch_size, and gradient_accumulation_steps with it"),
    "batch_eval_metrics": (False, "compute_metrics is called once, with all predictions; preprocess_logits_for_metrics makes them small"),
    "eval_do_concat_batches": (True, "predictions are always joined"),
    "include_num_input_tokens_seen": ("no", "count them in a TrainerCallback"),
    "include_tokens_per_second": (False, "count them in a TrainerCallback"),
    "optim_args": (None, "AdamW has adam_beta1, adam_beta2 and adam_epsilon; pass optimizers= for another"),
    "optim_target_modules": (None, "pass optimizers="),
    "adafactor": (False, "pass optimizers="),
    "enable_jit_checkpoint": (False, "leave it out: SIGTERM ends a run with a checkpoint"),
    "debug": ("", "leave it out: a loss that is infinite or NaN is an error, which names the step"),
    "past_index": (-1, "leave it out: encoders have no past"),
    "sharded_ddp": ("", f"leave it out: {_ONE_DEVICE}"),
    "dispatch_batches": (None, f"leave it out: {_ONE_DEVICE}"),
    "split_batches": (None, f"leave it out: {_ONE_DEVICE}"),
    **dict.fromkeys(
        ("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"), (None, "report with a TrainerCallback of your own")
    ),
}  # fmt: skip
_OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw")


@dataclass(init=False)
class TrainingArguments:
    """Options of a :class:`~nativebert.hf.trainer.Trainer`; defaults are those of transformers.

    Attributes:
        output_dir: folder for checkpoints.
        per_device_train_batch_size, per_device_eval_batch_size: examples in a batch.
        num_train_epochs, max_steps, gradient_accumulation_steps: how long, and how large a step.
        learning_rate, lr_scheduler_type, lr_scheduler_kwargs, warmup_steps, warmup_ratio: of the optimizer; ``warmup_steps`` below 1 is a share
            of all steps.
        weight_decay, adam_beta1, adam_beta2, adam_epsilon, max_grad_norm, optim: of AdamW.
        label_smoothing_factor: see :class:`nativebert.train.options.TrainingOptions`.
        logging_strategy, logging_steps, logging_first_step, logging_dir: when a line is logged, and where event files go.
        eval_strategy, eval_steps, eval_delay, eval_on_start: when to evaluate. Steps below 1 are a share of all steps.
        prediction_loss_only, include_for_metrics: what ``compute_metrics`` is given: ``"inputs"`` and ``"loss"`` besides.
        save_strategy, save_steps, save_total_limit, save_only_model: when to write a checkpoint, how many stay, and whether one holds the model
            alone.
        load_best_model_at_end, metric_for_best_model, greater_is_better: which checkpoint is the result.
        restore_callback_states_from_checkpoint: whether a resumed run's callbacks (early stopping) go on from where they were.
        seed, data_seed: of everything, and of the order of examples.
        train_sampling_strategy, group_by_length, length_column_name: ``"random"``, ``"sequential"``, or ``"group_by_length"`` for batches of
            examples of similar length.
        remove_unused_columns, label_names: what of an example goes to the model.
        dataloader_drop_last: leave out a last batch that is not full.
        gradient_checkpointing, bf16, use_cpu: how it is computed.
        fast: of nativebert alone: False for torch's autograd throughout, True for an error where the fast step does not support the model; None for
            the fast step where it is supported.
        disable_tqdm: no progress bar; lines of the log are printed.
        report_to: ``"tensorboard"`` writes event files; ``"none"``.

    Raises:
        RefusedError: an argument of transformers that is not supported; the message says what to do.
        BadInputError: one that transformers does not have either, or a value that makes no sense.
    """

    output_dir: str = "trainer_output"
    per_device_train_batch_size: int = 8
    per_device_eval_batch_size: int = 8
    num_train_epochs: float = 3.0
    max_steps: int = -1
    gradient_accumulation_steps: int = 1
    learning_rate: float = 5e-5
    lr_scheduler_type: str = "linear"
    lr_scheduler_kwargs: dict[str, Any] | None = None
    warmup_steps: float = 0
    warmup_ratio: float | None = None
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    optim: str = "adamw_torch_fused"
    label_smoothing_factor: float = 0.0
    logging_strategy: str = IntervalStrategy.STEPS
    logging_steps: float = 500
    logging_first_step: bool = False
    logging_dir: str | None = None
    eval_strategy: str = IntervalStrategy.NO
    eval_steps: float | None = None
    eval_delay: float = 0
    eval_on_start: bool = False
    prediction_loss_only: bool = False
    include_for_metrics: list[str] = field(default_factory=list)
    save_strategy: str = SaveStrategy.STEPS
    save_steps: float = 500
    save_total_limit: int | None = None
    save_only_model: bool = False
    load_best_model_at_end: bool = False
    metric_for_best_model: str | None = None
    greater_is_better: bool | None = None
    restore_callback_states_from_checkpoint: bool = False
    seed: int = 42
    data_seed: int | None = None
    train_sampling_strategy: str = "random"
    group_by_length: bool = False
    length_column_name: str = "length"
    remove_unused_columns: bool = True
    label_names: list[str] | None = None
    dataloader_drop_last: bool = False
    gradient_checkpointing: bool = False
    bf16: bool = False
    use_cpu: bool = False
    fast: bool | None = None
    disable_tqdm: bool = False
    report_to: Any = "none"

    def __init__(self, output_dir: Any = None, **arguments: Any) -> None:
        for name, default in (_HARMLESS | {name: default for name, (default, _) in _REFUSED.items()}).items():
            setattr(self, name, default)
        known = {f.name: f for f in fields(self)}
        for name, f in known.items():
            setattr(self, name, f.default_factory() if callable(f.default_factory) else f.default)
        if output_dir is not None:
            self.output_dir = str(output_dir)
        for asked, value in arguments.items():
            name = _OLD.get(asked, asked)
            if asked == "include_inputs_for_metrics":
                self.include_for_metrics = ["inputs"] if value else []
            elif name in _REFUSED:
                default, advice = _REFUSED[name]
                if value and value != default:
                    raise RefusedError(f"TrainingArguments does not support {asked}=: {advice}")
            elif name in known or name in _HARMLESS:
                if name in known and value is None:
                    value = getattr(self, name)  # as argparse and R leave it out
                setattr(self, name, value)
            else:
                raise BadInputError(f"TrainingArguments has no argument {asked!r}; it takes {', '.join(sorted(known))}")
        if self.save_safetensors is False:  # type: ignore[attr-defined]
            raise RefusedError("TrainingArguments does not support save_safetensors=False: models are written as safetensors")
        self._check()

    def _check(self) -> None:
        self.output_dir = str(Path(self.output_dir).expanduser())
        strategies: tuple[tuple[str, type[StrEnum]], ...] = (
            ("eval_strategy", IntervalStrategy), ("logging_strategy", IntervalStrategy), ("save_strategy", SaveStrategy),
        )  # fmt: skip
        for name, kind in strategies:
            value = _plain(getattr(self, name))
            if value not in set(kind):
                raise BadInputError(f"{name} must be one of {', '.join(kind)}, not {value!r}")
            setattr(self, name, kind(value))
        self.lr_scheduler_type, self.optim = _plain(self.lr_scheduler_type), _plain(self.optim)
        if self.lr_scheduler_type not in NAMES:
            raise RefusedError(
                f"lr_scheduler_type={self.lr_scheduler_type!r} is not supported: use {', '.join(NAMES)}, or pass optimizers=(optimizer, scheduler) to "
                "the Trainer"
            )
        self.lr_scheduler_type = SchedulerType(self.lr_scheduler_type)
        if self.optim not in _OPTIMIZERS:
            raise RefusedError(
                f"optim={self.optim!r} is not supported: use {', '.join(_OPTIMIZERS[:2])}, or pass optimizers=(optimizer, None) to the Trainer"
            )
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
            setattr(self, name, at_least(1, name, getattr(self, name)))
        if self.save_total_limit is not None and self.save_total_limit <= 0:
            self.save_total_limit = None  # as in transformers
        self._check_sampling()
        self._check_steps()
        self._check_best()
        self._check_reports()

    def _check_sampling(self) -> None:
        if self.group_by_length:
            self.train_sampling_strategy = "group_by_length"
        self.group_by_length = self.train_sampling_strategy == "group_by_length"
        if self.train_sampling_strategy not in ("random", "sequential", "group_by_length"):
            raise RefusedError(
                f"train_sampling_strategy={self.train_sampling_strategy!r} is not supported: use 'random', 'sequential' or 'group_by_length'"
            )

    def _check_steps(self) -> None:
        if self.eval_strategy != "no":
            self.do_eval = True
        if not self.eval_steps:
            self.eval_steps = self.logging_steps if self.eval_strategy == "steps" else None
        for name in ("logging", "eval", "save"):
            value = getattr(self, f"{name}_steps")
            if getattr(self, f"{name}_strategy") == "steps" and not value > 0:
                raise BadInputError(f"{name}_strategy='steps' needs {name}_steps above 0, not {value!r}")

    def _check_best(self) -> None:
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model = "loss"
        if self.greater_is_better is None and self.metric_for_best_model is not None:
            self.greater_is_better = not self.metric_for_best_model.endswith("loss")
        if (self.load_best_model_at_end or self.save_strategy == "best") and self.eval_strategy == "no":
            raise BadInputError("the best model is chosen by evaluations: set eval_strategy to 'epoch' or 'steps'")
        if self.save_strategy == "best" and self.metric_for_best_model is None:
            raise BadInputError("save_strategy='best' needs metric_for_best_model")
        if not self.load_best_model_at_end or self.save_strategy == "best":
            return
        if self.save_strategy != str(self.eval_strategy):
            raise BadInputError(
                f"load_best_model_at_end needs save_strategy and eval_strategy to be the same; they are '{self.save_strategy}' and "
                f"'{self.eval_strategy}'"
            )
        if self.save_strategy == "steps":
            times = float(self.save_steps) / float(self.eval_steps or 1)
            if (self.save_steps < 1) != ((self.eval_steps or 1) < 1) or abs(times - round(times)) > 1e-6 or times < 1:
                raise BadInputError(
                    f"load_best_model_at_end needs save_steps to be a multiple of eval_steps: they are {self.save_steps} and {self.eval_steps}"
                )

    def _check_reports(self) -> None:
        wanted = self.report_to or []
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        if names == ["all"]:
            from importlib.util import find_spec

            names = ["tensorboard"] if find_spec("tensorboard") else []
        names = [name for name in names if name != "none"]
        if other := [name for name in names if name != "tensorboard"]:
            raise RefusedError(
                f"report_to={other[0]!r} is not supported: use 'tensorboard' or 'none', or a TrainerCallback whose on_log sends the logs"
            )
        self.report_to = names

    # ---- what scripts read

    @property
    def train_batch_size(self) -> int:
        """Examples in a batch of training."""
        return int(self.per_device_train_batch_size)

    @property
    def eval_batch_size(self) -> int:
        """Examples in a batch of an evaluation."""
        return int(self.per_device_eval_batch_size)

    @property
    def device(self) -> Any:
        """Where the model runs."""
        from nativebert.engine import choose_device

        return choose_device("cpu" if self.use_cpu else "auto")

    @property
    def n_gpu(self) -> int:
        """GPUs that are used: one at most."""
        return int(self.device.type == "cuda")

    world_size, process_index, local_process_index, should_save, should_log = 1, 0, 0, True, True
    parallel_mode = "not_parallel"

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Steps of the warm-up, in a run of so many."""
        return warmup_steps_of(self.warmup_steps or self.warmup_ratio or 0.0, num_training_steps)

    def get_process_log_level(self) -> int:
        """The level of warnings."""
        return 30

    def to_dict(self) -> dict[str, Any]:
        """The arguments, by name."""
        values = asdict(self) | {name: getattr(self, name) for name in (*_HARMLESS, *_REFUSED)}
        return {name: str(value) if isinstance(value, StrEnum) else value for name, value in values.items()}

    def to_json_string(self) -> str:
        """:meth:`to_dict`, as text."""
        import json

        return json.dumps(self.to_dict(), indent=2)

    def count(self, steps: float, of: int) -> int:
        """A number of steps, where below 1 it is a share of all."""
        return max(1, math.ceil(steps * of)) if steps < 1 else int(steps)

    def options(self) -> TrainingOptions:
        """As the training loop has them. When it logs, evaluates and saves is decided by callbacks, and the rates by the Trainer."""
        return TrainingOptions(
            epochs=float(self.num_train_epochs),
            max_steps=int(self.max_steps),
            batch_size=self.train_batch_size,
            gradient_accumulation_steps=int(self.gradient_accumulation_steps),
            learning_rate=float(self.learning_rate),
            weight_decay=float(self.weight_decay),
            adam_beta1=float(self.adam_beta1),
            adam_beta2=float(self.adam_beta2),
            adam_epsilon=float(self.adam_epsilon),
            max_grad_norm=float(self.max_grad_norm or 0.0),
            warmup_steps=float(self.warmup_steps or self.warmup_ratio or 0.0),
            label_smoothing_factor=float(self.label_smoothing_factor),
            group_by_length=self.group_by_length,
            gradient_checkpointing=bool(self.gradient_checkpointing),
            bf16=bool(self.bf16),
            fast=self.fast,
            eval_strategy="no",
            save_strategy="no",
            save_total_limit=self.save_total_limit,
            load_best_model_at_end=bool(self.load_best_model_at_end),
            metric_for_best_model=self.metric_for_best_model,
            greater_is_better=self.greater_is_better,
            seed=int(self.seed),
        )


def _plain(value: Any) -> str:
    return str(getattr(value, "value", value))
