"""``TrainingArguments``: the options of a run, by the names of transformers 5 and 4."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from nativebert.errors import BadInputError, RefusedError
from nativebert.train.options import TrainingOptions

# Names of transformers 4 -> those of 5
_OLD = {"evaluation_strategy": "eval_strategy", "no_cuda": "use_cpu", "label_smoothing": "label_smoothing_factor"}
# Arguments that ask for nothing here: values are taken and have no effect.
_IGNORED = frozenset(
    """overwrite_output_dir do_train do_eval do_predict log_level log_level_replica log_on_each_node logging_dir logging_nan_inf_filter run_name
    project disable_tqdm dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor
    ddp_find_unused_parameters ddp_bucket_cap_mb skip_memory_metrics hub_model_id hub_token hub_strategy hub_private_repo
    prediction_loss_only eval_accumulation_steps save_safetensors save_on_each_node full_determinism tf32 optim_args auto_find_batch_size
    average_tokens_across_devices gradient_checkpointing_kwargs include_for_metrics use_mps_device local_rank ddp_backend
    torch_empty_cache_steps restore_callback_states_from_checkpoint include_num_input_tokens_seen eval_do_concat_batches""".split()
)
# Arguments that are refused where they are set, with what to do.
_REFUSED = {
    "fp16": "use bf16=True on a GPU, or leave it out: float32 is fast on the CPU",
    "deepspeed": "use torchrun, which shares the work among processes",
    "fsdp": "use `nativebert train --distributed fsdp` under torchrun",
    "push_to_hub": "save to a folder, then upload it with huggingface_hub",
    "torch_compile": "leave it out: the fast step does what it gains",
    "use_liger_kernel": "leave it out",
    "neftune_noise_alpha": "it is not supported",
    "jit_mode_eval": "leave it out",
}
_OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw")


@dataclass
class TrainingArguments:
    """Options of a :class:`~nativebert.hf.trainer.Trainer`; defaults are those of transformers.

    Attributes:
        output_dir: folder for checkpoints.
        per_device_train_batch_size, per_device_eval_batch_size: examples in a batch.
        num_train_epochs, max_steps, gradient_accumulation_steps: how long, and how large a step.
        learning_rate, lr_scheduler_type, warmup_steps, warmup_ratio: of the optimizer; ``warmup_steps`` below 1 is a share of all steps.
        weight_decay, adam_beta1, adam_beta2, adam_epsilon, max_grad_norm, optim: of AdamW.
        label_smoothing_factor: see :class:`nativebert.train.options.TrainingOptions`.
        logging_strategy, logging_steps, logging_first_step: when a line is logged.
        eval_strategy, eval_steps, save_strategy, save_steps, save_total_limit: when to evaluate, and to save.
        load_best_model_at_end, metric_for_best_model, greater_is_better: which checkpoint is the result.
        seed, data_seed: of everything, and of the order of examples.
        train_sampling_strategy: ``"random"``, ``"sequential"`` or ``"group_by_length"``.
        remove_unused_columns, label_names: what of an example goes to the model.
        dataloader_drop_last: leave out a last batch that is not full.
        gradient_checkpointing, bf16, use_cpu: how it is computed.
        report_to: ``"tensorboard"`` writes event files; ``"none"``.
        resume_from_checkpoint: kept for scripts that pass it to ``train``.

    Raises:
        RefusedError: an argument of transformers that is not supported; the message says what to do.
    """

    output_dir: str = "trainer_output"
    per_device_train_batch_size: int = 8
    per_device_eval_batch_size: int = 8
    num_train_epochs: float = 3.0
    max_steps: int = -1
    gradient_accumulation_steps: int = 1
    learning_rate: float = 5e-5
    lr_scheduler_type: str = "linear"
    warmup_steps: float = 0
    warmup_ratio: float | None = None
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    optim: str = "adamw_torch_fused"
    label_smoothing_factor: float = 0.0
    logging_strategy: str = "steps"
    logging_steps: float = 500
    logging_first_step: bool = False
    eval_strategy: str = "no"
    eval_steps: float | None = None
    eval_on_start: bool = False
    save_strategy: str = "steps"
    save_steps: float = 500
    save_total_limit: int | None = None
    save_only_model: bool = False
    load_best_model_at_end: bool = False
    metric_for_best_model: str | None = None
    greater_is_better: bool | None = None
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
    report_to: Any = None
    resume_from_checkpoint: str | None = None
    others: dict[str, Any] = field(default_factory=dict, repr=False)

    def __init__(self, output_dir: str | None = None, **arguments: Any) -> None:
        known = {f.name: f for f in fields(type(self)) if f.name != "others"}
        for name, f in known.items():
            setattr(self, name, f.default)
        self.others = {}
        if output_dir is not None:
            self.output_dir = str(output_dir)
        for given, value in arguments.items():
            name = _OLD.get(given, given)
            if name in known:
                setattr(self, name, value)
            elif name in _IGNORED:
                self.others[name] = value
            elif name in _REFUSED:
                if value:
                    raise RefusedError(f"TrainingArguments does not support {name}=: {_REFUSED[name]}")
            else:
                raise BadInputError(f"TrainingArguments has no argument {given!r}; it takes {', '.join(sorted(known))}")
        self.__post_init__()

    def __post_init__(self) -> None:
        for name in ("eval_strategy", "save_strategy", "logging_strategy", "lr_scheduler_type", "optim"):
            value = getattr(self, name)
            setattr(self, name, str(getattr(value, "value", value)))
        if self.optim not in _OPTIMIZERS:
            raise RefusedError(f"optim={self.optim!r} is not supported: it is AdamW, {', '.join(_OPTIMIZERS[:2])}")
        if self.group_by_length:
            self.train_sampling_strategy = "group_by_length"
        if self.train_sampling_strategy not in ("random", "sequential", "group_by_length"):
            raise RefusedError(
                f"train_sampling_strategy={self.train_sampling_strategy!r} is not supported: use 'random', 'sequential' or 'group_by_length'"
            )
        if self.eval_steps is None:
            self.eval_steps = self.logging_steps
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model = "loss"
        for name in ("save_strategy", "eval_strategy", "logging_strategy"):
            if getattr(self, name) not in ("no", "steps", "epoch", *(("best",) if name == "save_strategy" else ())):
                raise BadInputError(f"{name} must be 'no', 'steps' or 'epoch', not {getattr(self, name)!r}")
        if self.load_best_model_at_end and self.save_strategy not in (self.eval_strategy, "best"):
            raise BadInputError(
                f"load_best_model_at_end needs save_strategy and eval_strategy to be the same; they are {self.save_strategy!r} and "
                f"{self.eval_strategy!r}"
            )

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

    def to_dict(self) -> dict[str, Any]:
        """The arguments, by name."""
        values = asdict(self)
        return {**{name: value for name, value in values.items() if name != "others"}, **values["others"]}

    def options(self, steps: int) -> TrainingOptions:
        """As the training loop has them, for a run of so many steps: of which steps below 1 are shares."""

        def count(value: float) -> int:
            import math

            return max(1, math.ceil(value * steps)) if value < 1 else int(value)

        best = self.save_strategy == "best"
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
            lr_scheduler_type=self.lr_scheduler_type,
            warmup_steps=self.warmup_steps or self.warmup_ratio or 0.0,
            label_smoothing_factor=float(self.label_smoothing_factor),
            gradient_checkpointing=bool(self.gradient_checkpointing),
            bf16=bool(self.bf16),
            logging_steps=count(self.logging_steps),
            eval_strategy=self.eval_strategy,  # type: ignore[arg-type]
            eval_steps=count(self.eval_steps or self.logging_steps),
            save_strategy="no" if best else self.save_strategy,  # type: ignore[arg-type]
            save_steps=count(self.save_steps),
            save_total_limit=self.save_total_limit,
            load_best_model_at_end=bool(self.load_best_model_at_end),
            metric_for_best_model=self.metric_for_best_model,
            greater_is_better=self.greater_is_better,
            seed=int(self.seed),
        )
