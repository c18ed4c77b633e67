"""``Trainer``: transformers' training by its own calls, on :class:`nativebert.train.loop.TrainingLoop`."""

from __future__ import annotations

import inspect
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler

from nativebert import __version__
from nativebert.errors import BadInputError, RefusedError, Slower, warn
from nativebert.hf import set_seed
from nativebert.hf.data_collator import DataCollatorWithPadding, default_data_collator
from nativebert.hf.models import PreTrainedModel
from nativebert.hf.optimization import get_scheduler
from nativebert.hf.trainer_callback import (
    CallbackHandler,
    DefaultFlowCallback,
    PrinterCallback,
    ProgressCallback,
    TrainerControl,
    TrainerState,
)
from nativebert.hf.trainer_utils import (
    EvalLoopOutput,
    EvalPrediction,
    PredictionOutput,
    TrainOutput,
    arrays,
    joined,
    number,
    size_of,
)
from nativebert.hf.training_arguments import TrainingArguments
from nativebert.hf.training_loop import (
    LengthGroupedSampler,
    OptimizerStep,
    RunSchedule,
    SeededSampler,
    TrainerLoop,
    TrainerWork,
    parameter_settings,
)
from nativebert.nn.packed import Packed
from nativebert.train import losses
from nativebert.train.checkpoint import last_checkpoint
from nativebert.train.fast import FastStep, why_not
from nativebert.train.loop import Callback
from nativebert.train.parameters import parameter_groups
from nativebert.train.reference import ReferenceStep
from nativebert.train.step import Step

_UNSUPPORTED = {
    "push_to_hub": "save_model(folder), then upload the folder with huggingface_hub",
    "init_hf_repo": "save_model(folder), then upload the folder with huggingface_hub",
    "hyperparameter_search": "make a Trainer for each trial, with model_init, and compare their evaluate()",
    "accelerator": "a Trainer is one process: return the DataLoader as it is, and move tensors to trainer.args.device",
    "deepspeed": "a Trainer is one process",
}


class Trainer:
    """Fine-tune a model of :mod:`nativebert.hf`, or a module with one inside.

    Args:
        model: the model; or leave it out and pass ``model_init``. A module of your own is called with the batch's columns, and returns the loss
            first, or as ``"loss"``.
        args: options; None for the defaults.
        data_collator: makes a batch of a list of examples; None for padding with ``processing_class``, or stacking without one.
        train_dataset, eval_dataset: sequences of examples, which are dicts. ``eval_dataset`` may be a dict of several.
        processing_class: the tokenizer, which is saved with the model; ``tokenizer`` is its old name.
        model_init: makes the model, again for each :meth:`train`.
        compute_loss_func: of outputs, labels and ``num_items_in_batch``.
        compute_metrics: of an :class:`EvalPrediction`, metrics by name.
        callbacks: objects or classes of :class:`~nativebert.hf.trainer_callback.TrainerCallback`.
        optimizers: an optimizer of torch for the model's parameters, and its schedule; None for AdamW, and for what ``args`` says.
        optimizer_cls_and_kwargs: a class of optimizers, and its arguments.
        preprocess_logits_for_metrics: of logits and labels, what is kept of the logits.
        tokenizer: see ``processing_class``.

    Raises:
        BadInputError: no model, or one without a loss.
    """

    _needs_head: ClassVar[bool] = True  # whether the loss is that of the model's head
    evaluator: Any = None
    """Of a trainer that has one: evaluates the model by itself."""

    loss_is_scaled_for_ga: ClassVar[bool | None] = None
    """Whether what :meth:`compute_loss` returns is a share of the whole accumulated batch's mean (True) or the mean of its own batch (False); None:
    the first where it was given ``num_items_in_batch``."""

    def __init__(
        self,
        model: Any = None,
        args: TrainingArguments | None = None,
        data_collator: Callable[[list[Any]], Any] | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        model_init: Callable[..., Any] | None = None,
        compute_loss_func: Callable[..., Tensor] | None = None,
        compute_metrics: Callable[[EvalPrediction], Mapping[str, float]] | None = None,
        callbacks: Sequence[Any] | None = None,
        optimizers: tuple[Any, Any] | None = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None = None,
        tokenizer: Any = None,
    ) -> None:
        self.args = args if args is not None else TrainingArguments("tmp_trainer")
        set_seed(self.args.seed)
        if (model is None) == (model_init is None):
            raise BadInputError("Trainer needs a model, or model_init, and not both")
        self.model_init = model_init
        self.model: Any = self.call_model_init() if model is None else model
        if not isinstance(self.model, nn.Module):
            raise BadInputError(f"Trainer takes a model of nativebert.hf, or a torch module, not a {type(self.model).__name__}")
        if self._needs_head and isinstance(self.model, PreTrainedModel) and not self.model.targets():
            raise BadInputError(
                f"{type(self.model).__name__} has no head, and so no loss: use a class with one, such as AutoModelForSequenceClassification"
            )
        self.model.to(self.args.device)
        self.processing_class = processing_class if processing_class is not None else tokenizer
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self.data_collator: Any = data_collator or (
            DataCollatorWithPadding(self.processing_class) if hasattr(self.processing_class, "pad") else default_data_collator
        )
        self.compute_loss_func, self.compute_metrics = compute_loss_func, compute_metrics
        self.preprocess_logits_for_metrics = preprocess_logits_for_metrics
        self.optimizer: Any
        self.lr_scheduler: Any
        self.optimizer, self.lr_scheduler = optimizers or (None, None)
        self.optimizer_cls_and_kwargs = optimizer_cls_and_kwargs
        if self.optimizer is not None and (model_init is not None or optimizer_cls_and_kwargs is not None):
            raise BadInputError(
                "optimizers= is of a model's own parameters: pass it without model_init and optimizer_cls_and_kwargs"
            )
        if self.args.eval_strategy != "no" and eval_dataset is None and self.evaluator is None:
            raise BadInputError(f"eval_strategy='{self.args.eval_strategy}' needs an eval_dataset")
        self._own_optimizer = self.optimizer is not None
        self._inspect_model()
        self.current_gradient_accumulation_steps = 1
        self.is_in_train = False
        self._loop: TrainerLoop | None = None
        self._step: Step | None = None
        self._observers: list[Callback] = []
        self._settled_depth = self.passes = self._weights = 0
        self.state, self.control = TrainerState(), TrainerControl()
        shown = PrinterCallback if self.args.disable_tqdm else ProgressCallback
        self.callback_handler = CallbackHandler(
            [DefaultFlowCallback, *(callbacks or ()), shown], self.model, self.processing_class
        )
        self.event("on_init_end")

    def _inspect_model(self) -> None:
        """What the model takes, and what its labels are called."""
        model = self.model
        if isinstance(model, PreTrainedModel):
            self.label_names = self.args.label_names or list(model.targets())
            self.model_accepts_loss_kwargs = True
            self._columns = {"input_ids", "attention_mask", "token_type_ids", "position_ids", *model.targets()}
            return
        parameters = inspect.signature(model.forward).parameters
        found = [name for name in parameters if "label" in name or name in ("start_positions", "end_positions")]
        self.label_names = self.args.label_names or found or ["labels"]
        self.model_accepts_loss_kwargs = any(p.kind == inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        self._columns = set(parameters)

    def __getattr__(self, name: str) -> Any:
        if name in _UNSUPPORTED:
            raise RefusedAttributeError(f"Trainer does not support {name}: {_UNSUPPORTED[name]}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.processing_class

    @property
    def model_wrapped(self) -> Any:
        """The model: there is nothing around it."""
        return self.model

    def call_model_init(self, trial: Any = None) -> Any:
        """A new model of ``model_init``."""
        assert self.model_init is not None
        count = len(inspect.signature(self.model_init).parameters)
        if count > 1:
            raise BadInputError("model_init should have 0 or 1 argument")
        model = self.model_init(trial) if count else self.model_init()
        if model is None:
            raise BadInputError("model_init returned None; it should return a model")
        return model

    # ---- callbacks

    def add_callback(self, callback: Any) -> None:
        """Add a callback, or an object of a callback's class."""
        self.callback_handler.add_callback(callback)

    def pop_callback(self, callback: Any) -> Any:
        """Remove a callback, or the first of a class, and return it."""
        return self.callback_handler.pop_callback(callback)

    def remove_callback(self, callback: Any) -> None:
        """Remove a callback, or the first of a class."""
        self.callback_handler.pop_callback(callback)

    def event(self, event: str, **values: Any) -> None:
        """Call an event of all callbacks."""
        self.control = getattr(self.callback_handler, event)(self.args, self.state, self.control, **values)
        if self._loop is not None:
            for observer in self._observers:
                if hasattr(observer, event):
                    getattr(observer, event)(self._loop, *values.values())

    # ---- training

    def train(self, resume_from_checkpoint: bool | str | PathLike[str] | None = None, **options: Any) -> TrainOutput:
        """Train.

        Args:
            resume_from_checkpoint: True for the newest in ``output_dir``, or a checkpoint's folder.
            **options: ``trial`` and ``ignore_keys_for_eval``, which have to be None.

        Raises:
            BadInputError: there are no training examples, or no checkpoint.
            NativeBertError: see :meth:`nativebert.train.loop.TrainingLoop.run`.
        """
        if unknown := [
            name for name, value in options.items() if value is not None or name not in ("trial", "ignore_keys_for_eval")
        ]:
            raise BadInputError(f"Trainer.train does not support {unknown[0]}=")
        args, output = self.args, Path(self.args.output_dir)
        resume: bool | str | Path = (
            resume_from_checkpoint if isinstance(resume_from_checkpoint, bool) else str(resume_from_checkpoint or "")
        )
        resume = resume or False
        if resume is True and last_checkpoint(output) is None:
            raise BadInputError(f"there is no checkpoint in {output} to resume from")
        if self.model_init is not None:
            set_seed(args.seed)
            self.model = self.callback_handler.model = self.call_model_init().to(args.device)
            self._inspect_model()
        self.model.train()
        work = TrainerWork(self)
        self._step = step = self._make_step(work)
        self._loop = loop = TrainerLoop(self, work, step)
        self._observers = self._reports()
        handler = self.callback_handler
        handler.train_dataloader, handler.optimizer = work.loader, getattr(step, "optimizer", None)
        handler.lr_scheduler = self.lr_scheduler if isinstance(step, OptimizerStep) else RunSchedule(loop)
        if isinstance(self.model, PreTrainedModel):
            self.model.settled, self._weights = self._settled, self.model.num_parameters(exclude_embeddings=True)
        self.is_in_train = True
        try:
            result = loop.run(resume)
        finally:
            self.state, self._loop, self._step, self.is_in_train = loop.state, None, None, False
            if isinstance(self.model, PreTrainedModel):
                del self.model.settled
            self.model.eval()
        return TrainOutput(result.global_step, result.training_loss, result.metrics)

    def _make_step(self, work: TrainerWork) -> Step:
        """How the model is trained: by the fastest way that supports it, or by an optimizer of your own."""
        args, model = self.args, self.model
        if args.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        steps = self.num_update_steps(len(work.epoch_batches(0, None)))  # type: ignore[arg-type]
        if not self._own_optimizer:
            self.optimizer = self.lr_scheduler = None
            if type(self).create_optimizer_and_scheduler is not Trainer.create_optimizer_and_scheduler:
                self.create_optimizer_and_scheduler(steps)
            elif (
                type(self).create_optimizer is not Trainer.create_optimizer
                or type(self).create_scheduler is not Trainer.create_scheduler
                or self.optimizer_cls_and_kwargs is not None
                or not isinstance(model, PreTrainedModel)
            ):
                self.create_optimizer()
        if self.optimizer is not None:
            if self.lr_scheduler is None:
                self.create_scheduler(steps, self.optimizer)
            return OptimizerStep(model, self.optimizer, self.lr_scheduler)
        native = model.native
        groups = parameter_groups(native, args.weight_decay)
        settings: dict[str, Any] = {
            "betas": (args.adam_beta1, args.adam_beta2),
            "eps": args.adam_epsilon,
            "seed": args.seed,
            "autocast": torch.bfloat16 if args.bf16 else None,
        }
        reason = "fast=False" if args.fast is False else "bf16=True" if args.bf16 else why_not(native, groups)
        if not reason:
            fast = FastStep(native, groups, checkpointing=args.gradient_checkpointing, **settings)

            def encode(batch: Packed) -> Tensor:
                fast.micro_batch(self.passes)  # every pass has dropout of its own, also where a loss takes several
                self.passes += 1
                return fast.encode(batch)

            native.training_encoder = encode
            return fast
        if args.fast:
            raise BadInputError(f"fast=True: the fast step does not support this run: {reason}")
        if args.fast is None and args.device.type == "cpu" and not args.bf16:
            warn(f"training with torch's own operations, which is slower: {reason}", Slower)
        return ReferenceStep(native, groups, **settings)

    def num_update_steps(self, batches: int) -> int:
        """Optimizer steps of a run with so many batches in an epoch."""
        args = self.args
        per_epoch = math.ceil(batches / args.gradient_accumulation_steps)
        return int(args.max_steps) if args.max_steps > 0 else math.ceil(args.num_train_epochs * per_epoch)

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Make :attr:`optimizer` and :attr:`lr_scheduler`; override it for others."""
        self.create_optimizer()
        self.create_scheduler(num_training_steps, self.optimizer)

    def create_optimizer(self, model: Any = None) -> Any:
        """Make :attr:`optimizer`; override it for another. Where it is not, training has an AdamW of its own, which is faster."""
        if self.optimizer is None:
            args = self.args
            settings = parameter_settings(self.model if model is None else model, args.weight_decay)
            kind, options = self.optimizer_cls_and_kwargs or (
                torch.optim.AdamW,
                {"betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon},
            )
            self.optimizer = kind(settings, **({"lr": args.learning_rate} | options))
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Make :attr:`lr_scheduler` for an optimizer; override it for another."""
        if self.lr_scheduler is None:
            args = self.args
            warmup = args.get_warmup_steps(num_training_steps)
            optimizer = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = get_scheduler(
                args.lr_scheduler_type, optimizer, warmup, num_training_steps, args.lr_scheduler_kwargs
            )
        return self.lr_scheduler

    def _reports(self) -> list[Callback]:
        if "tensorboard" not in self.args.report_to:
            return []
        from nativebert.train.tensorboard import TensorBoard

        return [TensorBoard(Path(self.args.logging_dir or Path(self.args.output_dir) / "runs"))]

    def rate_after(self, step: int) -> float:
        """The learning rate that step ``step``, counted from 1, had."""
        assert self._loop is not None
        return self._step.rate if isinstance(self._step, OptimizerStep) else self._loop.rates[step - 1]

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """Within it the model's parameters are those of the run so far, to be evaluated or saved."""
        step = self._step
        self._settled_depth += 1
        try:
            if step is None or self._settled_depth > 1:
                yield
            else:
                with step.settled():
                    yield
        finally:
            self._settled_depth -= 1

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Tensor | int | None = None
    ) -> Any:
        """The loss of a batch; override it for your own.

        Args:
            model: the model.
            inputs: the batch.
            return_outputs: whether to return the outputs besides.
            num_items_in_batch: labels of the whole accumulated batch, of which this one is a part: the loss is then the batch's share of the
                mean over all. None for the mean of this batch.
        """
        smoothing = self.args.label_smoothing_factor
        if smoothing and self._problem() == "multi_label_classification":
            smoothing = 0.0  # as in transformers: labels are not a distribution there
        labels = inputs.pop("labels", None) if self.compute_loss_func is not None or smoothing else None
        named = (
            {"num_items_in_batch": num_items_in_batch}
            if self.model_accepts_loss_kwargs and num_items_in_batch is not None
            else {}
        )
        outputs = model(**inputs, **named)
        if self.compute_loss_func is not None:
            loss = self.compute_loss_func(outputs, labels, num_items_in_batch=num_items_in_batch)
        elif labels is not None:
            logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs[0]
            smoothed = losses.cross_entropy(logits, labels, smoothing=smoothing)
            loss = smoothed.mean if num_items_in_batch is None else smoothed.over(num_items_in_batch)
        else:
            found: Tensor | None = outputs.get("loss") if isinstance(outputs, Mapping) else outputs[0]
            if found is None:
                wanted = ", ".join(model.targets()) if isinstance(model, PreTrainedModel) else ", ".join(self.label_names)
                raise BadInputError(
                    f"the model returned no loss: the batch has {', '.join(inputs)}, and {type(model).__name__} makes its loss of {wanted}"
                )
            loss = found
        return (loss, outputs) if return_outputs else loss

    def _problem(self) -> Any:
        return getattr(getattr(self.model, "config", None), "problem_type", None)

    def _get_num_items_in_batch(self, batch_samples: Sequence[Mapping[str, Any]], device: Any = None) -> Tensor | None:
        """Labels of an accumulated batch; None where they are not called ``labels``, or no loss takes it."""
        if not batch_samples or not (self.model_accepts_loss_kwargs or self.compute_loss_func is not None):
            return None
        labels = [batch.get("labels") for batch in batch_samples]
        if not all(isinstance(one, Tensor) for one in labels):
            return None
        return torch.stack([one.ne(losses.IGNORED).sum() for one in labels if isinstance(one, Tensor)]).sum()

    def count_tokens(self, batch: Mapping[str, Any]) -> None:
        """Count operations: six for each token and weight, as in transformers."""
        ids = batch.get("input_ids")
        if isinstance(ids, Tensor) and isinstance(self.model, PreTrainedModel):
            self.state.total_flos += 6.0 * ids.numel() * self._weights

    # ---- data

    def get_train_dataloader(self) -> Any:
        """The batches of training, whose order is that of the epoch; override it for your own."""
        if self.train_dataset is None:
            raise BadInputError("Trainer.train needs a train_dataset")
        sampler = self._get_train_sampler(self.train_dataset)
        return self._loader(self.train_dataset, self.args.train_batch_size, sampler)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """The batches of an evaluation, in the order of the data."""
        data = eval_dataset if eval_dataset is not None else self.eval_dataset
        if isinstance(data, str):
            data = self.eval_dataset[data]
        if data is None:
            raise BadInputError("Trainer.evaluate needs an eval_dataset")
        return self._loader(data, self.args.eval_batch_size, self._get_eval_sampler(data))

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        """The batches of a prediction, in the order of the data."""
        return self._loader(test_dataset, self.args.eval_batch_size, self._get_eval_sampler(test_dataset))

    def _loader(self, data: Any, size: int, sampler: Any) -> DataLoader[Any]:
        if self.args.remove_unused_columns and hasattr(data, "remove_columns") and hasattr(data, "column_names"):
            unused = [name for name in data.column_names if name not in self._known_columns()]
            if len(unused) == len(data.column_names):
                raise self._no_columns(unused)
            data = data.remove_columns(unused)
        return DataLoader(data, size, sampler=sampler, collate_fn=self._collate, drop_last=self.args.dataloader_drop_last)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """The order of the examples; override it for your own."""
        args, data = self.args, self.train_dataset if train_dataset is None else train_dataset
        if not hasattr(data, "__len__"):
            raise BadInputError(
                "the training data has no length, by which the steps of an epoch are counted: pass a dataset with a length, such as a list"
            )
        if not len(data):
            raise BadInputError("there are no training examples")
        if args.train_sampling_strategy == "sequential":
            return SequentialSampler(data)
        if args.train_sampling_strategy == "random":
            return SeededSampler(len(data), torch.initial_seed() if args.data_seed is None else args.data_seed)
        if args.length_column_name in getattr(data, "column_names", ()):
            lengths = [int(n) for n in data[args.length_column_name]]
        else:
            name = getattr(self.processing_class, "model_input_names", ["input_ids"])[0]
            first = data[0]
            if not isinstance(first, Mapping) or name not in first:
                raise BadInputError(f"group_by_length needs examples with {name}, or a column {args.length_column_name!r}")
            lengths = [len(row[name]) for row in data]
        return LengthGroupedSampler(lengths, args.train_batch_size * args.gradient_accumulation_steps)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """The order of an evaluation: that of the data."""
        return SequentialSampler(eval_dataset) if hasattr(eval_dataset, "__len__") else None

    def _known_columns(self) -> set[str]:
        return self._columns | {"label", "label_ids", *self.label_names}

    def _no_columns(self, columns: Sequence[str]) -> BadInputError:
        return BadInputError(
            f"no column of the dataset is an argument of the model: it has {', '.join(columns)}, and {type(self.model).__name__} takes "
            f"{', '.join(sorted(self._known_columns()))}. Tokenize the texts first, or pass remove_unused_columns=False"
        )

    def _collate(self, rows: list[Any]) -> Any:
        """A batch of examples, without the columns that the model does not take."""
        if self.args.remove_unused_columns and rows and isinstance(rows[0], Mapping):
            known, columns = self._known_columns(), list(rows[0])
            rows = [{name: value for name, value in row.items() if name in known} for row in rows]
            if not rows[0]:
                raise self._no_columns(columns)
        return self.data_collator(rows)

    def _prepare_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """A batch on the model's device."""
        if not len(inputs):
            raise BadInputError(f"the batch is empty; the model takes {', '.join(sorted(self._columns))}")
        device = self.args.device
        return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in inputs.items()}

    def num_examples(self, dataloader: Any) -> int:
        """Examples of a data loader."""
        try:
            return len(dataloader.dataset)
        except (AttributeError, TypeError):
            return len(dataloader) * self.args.train_batch_size

    # ---- evaluation

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Sequence[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Metrics of the model on the evaluation data, by name with a prefix; they are logged.

        Args:
            eval_dataset: other data than the Trainer's; a dict of several has the name of each in its metrics' names.
            ignore_keys: outputs of the model that are not predictions.
            metric_key_prefix: what the names begin with.
        """
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(data, dict):
            metrics: dict[str, float] = {}
            for name, part in data.items():
                metrics |= self.evaluate(part if eval_dataset is not None else name, ignore_keys, f"{metric_key_prefix}_{name}")
            return metrics
        loader, began = self.get_eval_dataloader(eval_dataset), time.time()
        loss_only = True if self.compute_metrics is None else None
        output = self.evaluation_loop(loader, "Evaluation", loss_only, ignore_keys, metric_key_prefix)
        found = (output.metrics or {}) | self._speed(metric_key_prefix, began, output.num_samples or 0)
        self.log(found)
        self.event("on_evaluate", metrics=found)
        return found

    def predict(
        self, test_dataset: Any, ignore_keys: Sequence[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """Logits, labels and metrics of a dataset, in its order; arguments as of :meth:`evaluate`. Where tokens differ in number, logits and
        labels are filled up with -100."""
        loader, began = self.get_test_dataloader(test_dataset), time.time()
        output = self.evaluation_loop(loader, "Prediction", None, ignore_keys, metric_key_prefix)
        found = (output.metrics or {}) | self._speed(metric_key_prefix, began, output.num_samples or 0)
        self.event("on_predict", metrics=found)
        return PredictionOutput(output.predictions, output.label_ids, found)

    def _speed(self, prefix: str, began: float, count: int) -> dict[str, float]:
        seconds = max(time.time() - began, 1e-9)
        steps = math.ceil(count / self.args.eval_batch_size)
        values = {
            "runtime": round(seconds, 4),
            "samples_per_second": round(count / seconds, 3),
            "steps_per_second": round(steps / seconds, 3),
        }
        return {f"{prefix}_{name}": value for name, value in values.items()}

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: Sequence[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Predictions for the batches of a data loader, and their metrics: what :meth:`evaluate` and :meth:`predict` do.

        Args:
            dataloader: the batches.
            description: what it is for.
            prediction_loss_only: compute the loss alone; None for what the arguments say.
            ignore_keys, metric_key_prefix: as of :meth:`evaluate`.
        """
        args = self.args
        loss_only = args.prediction_loss_only if prediction_loss_only is None else prediction_loss_only
        self.callback_handler.eval_dataloader = dataloader
        found: dict[str, list[Any]] = {"losses": [], "predictions": [], "labels": [], "inputs": []}
        count, training = 0, self.model.training
        with self._settled():
            self.model.eval()
            try:
                for batch in dataloader:
                    size = size_of(batch)
                    inputs = batch.get("input_ids") if "inputs" in args.include_for_metrics else None
                    loss, logits, labels = self.prediction_step(self.model, batch, loss_only, ignore_keys)
                    if logits is not None and self.preprocess_logits_for_metrics is not None:
                        logits = self.preprocess_logits_for_metrics(logits, labels)
                    repeated = None if loss is None else loss.detach().float().repeat(size)
                    for name, value in (("losses", repeated), ("predictions", logits), ("labels", labels), ("inputs", inputs)):
                        if value is not None:
                            found[name].append(arrays(value))
                    count += size
                    self.event("on_prediction_step")
            finally:
                self.model.train(training)
        predictions, labels = joined(found["predictions"]), joined(found["labels"])
        start = f"{metric_key_prefix}_"
        metrics: dict[str, Any] = {}
        if found["losses"]:
            metrics[f"{start}loss"] = float(joined(found["losses"]).mean())
        if self.compute_metrics is not None and predictions is not None and labels is not None:
            besides = {
                "losses": joined(found["losses"]) if "loss" in args.include_for_metrics else None,
                "inputs": joined(found["inputs"]),
            }
            computed = self.compute_metrics(EvalPrediction(predictions, labels, **besides))
            metrics |= {name if name.startswith(start) else start + name: number(value) for name, value in computed.items()}
        return EvalLoopOutput(predictions, labels, metrics, count)

    @torch.no_grad()
    def prediction_step(
        self, model: Any, inputs: Mapping[str, Any], prediction_loss_only: bool, ignore_keys: Sequence[str] | None = None
    ) -> tuple[Any, Any, Any]:
        """Loss, logits and labels of a batch, each None where there is none; override it for your own."""
        batch = self._prepare_inputs(inputs)
        given = tuple(batch.get(name) for name in self.label_names)
        complete = bool(given) and all(value is not None for value in given)
        loss = None
        if complete:
            items = self._get_num_items_in_batch([batch])
            how = (
                {"num_items_in_batch": items} if "num_items_in_batch" in inspect.signature(self.compute_loss).parameters else {}
            )
            loss, outputs = self.compute_loss(model, batch, return_outputs=True, **how)
            loss = loss.mean()
        else:
            outputs = model(**batch)
        if prediction_loss_only:
            return loss, None, None
        left_out = {"loss", *(ignore_keys or ())}
        if isinstance(outputs, Mapping):
            values = tuple(value for name, value in outputs.items() if name not in left_out)
        else:
            values = tuple(outputs[1:]) if complete else tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)
        logits = values[0] if len(values) == 1 else values
        labels = None if not complete else given[0] if len(given) == 1 else given
        return loss, logits, labels

    # ---- saving and reporting

    def save_model(self, output_dir: str | PathLike[str] | None = None, _internal_call: bool = False) -> None:
        """Write the model and the tokenizer to a folder."""
        folder = Path(output_dir if output_dir is not None else self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(self.model, PreTrainedModel):
            self.model.save_pretrained(folder)
        else:
            tensors = {name: value.detach().clone().contiguous().cpu() for name, value in self.model.state_dict().items()}
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        words: Any = (
            self.processing_class if self.processing_class is not None else getattr(self.data_collator, "tokenizer", None)
        )
        if hasattr(words, "save_pretrained"):
            words.save_pretrained(folder)

    def save_state(self) -> None:
        """Write ``trainer_state.json`` to ``output_dir``."""
        folder = Path(self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self.state.save_to_json(folder / "trainer_state.json")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add a line to the log, with the epoch."""
        logs["epoch"] = self.state.epoch
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self.event("on_log", logs=logs)

    def metrics_format(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Metrics as they are printed."""
        return {name: _readable(name, value) for name, value in metrics.items()}

    def log_metrics(self, split: str, metrics: Mapping[str, float]) -> None:
        """Print metrics."""
        shown = {name: str(value) for name, value in self.metrics_format(metrics).items()}
        width, right = max(map(len, shown), default=0), max(map(len, shown.values()), default=0)
        print(f"***** {split} metrics *****")
        for name in sorted(shown):
            print(f"  {name: <{width}} = {shown[name]:>{right}}")

    def save_metrics(self, split: str, metrics: Mapping[str, float], combined: bool = True) -> None:
        """Write metrics to ``{split}_results.json`` in ``output_dir``, and add them to ``all_results.json``."""
        folder = Path(self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{split}_results.json").write_text(json.dumps(dict(metrics), indent=4, sort_keys=True), "utf-8")
        if combined:
            path = folder / "all_results.json"
            everything = json.loads(path.read_text("utf-8")) if path.exists() else {}
            path.write_text(json.dumps(everything | dict(metrics), indent=4, sort_keys=True), "utf-8")

    def create_model_card(self, language: Any = None, license: str | None = None, tags: Any = None, model_name: str | None = None,
                          finetuned_from: str | None = None, tasks: Any = None, dataset_tags: Any = None, dataset: Any = None,
                          dataset_args: Any = None) -> None:  # fmt: skip
        """Write ``README.md`` to ``output_dir``: what the model was trained from, with what, and how well it does.

        Args:
            language, license, tags, tasks: of the card's header; ``tasks`` are added to the tags.
            model_name: title; None for the folder's name.
            finetuned_from: the model before; None for the name that it was loaded by.
            dataset_tags, dataset, dataset_args: names of the training data, and of its parts.
        """
        name = model_name or Path(self.args.output_dir).name
        base = finetuned_from or getattr(self.model, "name_or_path", None)
        header: dict[str, Any] = {
            "library_name": "transformers", "language": language, "license": license,
            "base_model": None if base is None or os.path.isdir(base) else base,
            "tags": [*_listed(tags), *_listed(tasks), "nativebert"], "datasets": _listed(dataset_tags) or None, "model_name": name,
        }  # fmt: skip
        lines = ["---", *_yaml({key: value for key, value in header.items() if value is not None}), "---", "", f"# {name}", ""]
        origin = f"fine-tuned from {base}" if base else "fine-tuned"
        data = ", ".join([*(_listed(dataset) or _listed(dataset_tags)), *_listed(dataset_args)])
        lines.append(f"This model was {origin}{f' on {data}' if data else ''} with nativebert {__version__}.")
        if last := [line for line in self.state.log_history if any(key.startswith("eval_") for key in line)][-1:]:
            lines += ["", "Results on the evaluation data:", ""]
            lines += [
                f"- {key.removeprefix('eval_')}: {_readable(key, value)}"
                for key, value in last[0].items()
                if key.startswith("eval_")
            ]
        args = self.args
        settings = {
            "learning_rate": args.learning_rate, "train_batch_size": args.train_batch_size, "eval_batch_size": args.eval_batch_size,
            "gradient_accumulation_steps": args.gradient_accumulation_steps, "seed": args.seed, "lr_scheduler_type": args.lr_scheduler_type,
            "num_epochs": args.num_train_epochs, "training_steps": self.state.global_step, "label_smoothing_factor": args.label_smoothing_factor,
        }  # fmt: skip
        lines += ["", "Training hyperparameters:", "", *(f"- {key}: {value}" for key, value in settings.items())]
        lines += ["", f"Versions: nativebert {__version__}, torch {torch.__version__}.", ""]
        folder = Path(args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "README.md").write_text("\n".join(lines), "utf-8")

    def is_world_process_zero(self) -> bool:
        """Whether this process writes files: there is one."""
        return True

    is_local_process_zero = is_world_process_zero

    def get_decay_parameter_names(self, model: Any = None) -> list[str]:
        """The parameters with weight decay, by name."""
        model = self.model if model is None else model
        decayed = {id(p) for group in parameter_settings(model, 1.0) if group["weight_decay"] for p in group["params"]}
        return [name for name, parameter in model.named_parameters() if id(parameter) in decayed]

    def get_num_trainable_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def get_learning_rates(self) -> list[float]:
        """The rate of the next step, of each group."""
        if self.callback_handler.lr_scheduler is None:
            raise BadInputError("there are no learning rates before train()")
        return [float(rate) for rate in self.callback_handler.lr_scheduler.get_last_lr()]


class RefusedAttributeError(RefusedError, AttributeError):
    """An attribute that transformers' Trainer has and this one does not; the message says what to do."""


def _readable(name: str, value: Any) -> Any:
    if name.endswith("_runtime"):
        return str(timedelta(seconds=round(value, 2)))[:10]
    if name == "total_flos":
        return f"{int(value) >> 30}GF"
    return round(value, 4) if isinstance(value, float) else value


def _listed(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _yaml(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, list):
            yield f"{key}:"
            yield from (f"- {json.dumps(one)}" for one in value)
        else:
            yield f"{key}: {json.dumps(value)}"
