"""``Trainer``: transformers' training loop by its own calls, on :class:`nativebert.train.loop.TrainingLoop`."""

from __future__ import annotations

import inspect
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nativebert.errors import BadInputError, RefusedError
from nativebert.hf import set_seed
from nativebert.hf.data_collator import DataCollatorWithPadding, default_data_collator
from nativebert.hf.models import PreTrainedModel
from nativebert.hf.trainer_callback import Adapter, TrainerCallback, TrainerControl, TrainerState
from nativebert.hf.training_arguments import TrainingArguments
from nativebert.loading import load
from nativebert.train import losses
from nativebert.train.checkpoint import last_checkpoint
from nativebert.train.distributed import Processes
from nativebert.train.fast import FastStep, why_not
from nativebert.train.loop import TrainingLoop, TrainOutput
from nativebert.train.parameters import parameter_groups
from nativebert.train.reference import ReferenceStep
from nativebert.train.step import Step


class EvalPrediction(NamedTuple):
    """What ``compute_metrics`` is given: arrays over all examples. It unpacks into predictions and labels.

    Attributes:
        predictions: logits, or a tuple of them.
        label_ids: labels, or a tuple of them.
    """

    predictions: Any
    label_ids: Any


class PredictionOutput(NamedTuple):
    """The result of :meth:`Trainer.predict`."""

    predictions: Any
    label_ids: Any
    metrics: dict[str, float] | None


class Trainer:
    """Fine-tune a model of :mod:`nativebert.hf`.

    Args:
        model: the model; or leave it out and pass ``model_init``.
        args: options; None for the defaults.
        data_collator: makes a batch of a list of examples; None for padding with ``processing_class``, or stacking without one.
        train_dataset, eval_dataset: sequences of examples, which are dicts. ``eval_dataset`` may be a dict of several.
        processing_class: the tokenizer, which is saved with the model; ``tokenizer`` is its old name.
        model_init: makes the model.
        compute_loss_func: of outputs, labels and ``num_items_in_batch``.
        compute_metrics: of an :class:`EvalPrediction`, metrics by name.
        callbacks: objects or classes of :class:`~nativebert.hf.trainer_callback.TrainerCallback`.
        preprocess_logits_for_metrics: of logits and labels, what is kept of the logits.
        **more: ``optimizers`` other than ``(None, None)`` is refused.

    Raises:
        RefusedError, BadInputError: an argument that is not supported, or no model.
    """

    def __init__(
        self,
        model: Any = None,
        args: TrainingArguments | None = None,
        data_collator: Callable[[list[Any]], Mapping[str, Any]] | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        model_init: Callable[[], Any] | None = None,
        compute_loss_func: Callable[..., Tensor] | None = None,
        compute_metrics: Callable[[EvalPrediction], Mapping[str, float]] | None = None,
        callbacks: Sequence[Any] | None = None,
        preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None = None,
        tokenizer: Any = None,
        **more: Any,
    ) -> None:
        if more.pop("optimizers", (None, None)) not in ((None, None), None):
            raise RefusedError(
                "Trainer does not support optimizers=: the optimizer is AdamW; set its options in TrainingArguments"
            )
        if more:
            raise BadInputError(f"Trainer has no argument {next(iter(more))!r}")
        self.args = args or TrainingArguments()
        set_seed(self.args.seed)
        if model is None and model_init is None:
            raise BadInputError("Trainer needs a model, or model_init")
        self.model = model if model is not None else model_init()  # type: ignore[misc]
        if not isinstance(self.model, PreTrainedModel):
            raise BadInputError(
                f"Trainer takes a model of nativebert.hf (AutoModelForSequenceClassification.from_pretrained), not a {type(self.model).__name__}"
            )
        self.processing_class = processing_class if processing_class is not None else tokenizer
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self.data_collator = data_collator or (
            DataCollatorWithPadding(self.processing_class) if self.processing_class is not None else default_data_collator
        )
        self.compute_loss_func, self.compute_metrics = compute_loss_func, compute_metrics
        self.preprocess_logits_for_metrics = preprocess_logits_for_metrics
        self.callbacks: list[TrainerCallback] = [c() if isinstance(c, type) else c for c in callbacks or ()]
        self.state, self.control = TrainerState(), TrainerControl()
        self.label_names = self.args.label_names or list(self.model.targets()) or ["labels"]
        self._loop: TrainingLoop | None = None
        Adapter(self).call("on_init_end")

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.processing_class

    def add_callback(self, callback: Any) -> None:
        """Add a callback, or an object of a callback's class."""
        self.callbacks.append(callback() if isinstance(callback, type) else callback)

    def remove_callback(self, callback: Any) -> None:
        """Remove a callback, or those of a class."""
        self.callbacks = [
            c for c in self.callbacks if c is not callback and not (isinstance(callback, type) and isinstance(c, callback))
        ]

    # ---- training

    def train(self, resume_from_checkpoint: bool | str | None = None, **_: Any) -> TrainOutput:
        """Train.

        Args:
            resume_from_checkpoint: True for the newest in ``output_dir``, or a checkpoint's folder.

        Raises:
            BadInputError: there are no training examples, or no checkpoint.
            NativeBertError: see :meth:`nativebert.train.loop.TrainingLoop.run`.
        """
        if self.train_dataset is None and type(self).get_train_dataloader is Trainer.get_train_dataloader:
            raise BadInputError("Trainer.train needs a train_dataset")
        args, output = self.args, Path(self.args.output_dir)
        resume: bool | str | Path = resume_from_checkpoint or False
        if resume is True and last_checkpoint(output) is None:
            raise BadInputError(f"there is no checkpoint in {output} to resume from")
        if not resume and args.save_strategy != "no":
            _remove_checkpoints(output)  # of an earlier run, which the reference writes over
        work = _Work(self)
        batches = work.epoch_batches(0, Processes())
        per_epoch = math.ceil(len(batches) / args.gradient_accumulation_steps)
        steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * per_epoch)
        native = self.model.native
        native.to(args.device).train()
        if args.gradient_checkpointing:
            self.model.gradient_checkpointing_enable()
        groups = parameter_groups(native, args.weight_decay)
        settings: dict[str, Any] = {
            "betas": (args.adam_beta1, args.adam_beta2),
            "eps": args.adam_epsilon,
            "seed": args.seed,
            "autocast": torch.bfloat16 if args.bf16 else None,
        }
        step: Step
        if args.bf16 or why_not(native, groups):
            step = ReferenceStep(native, groups, **settings)
        else:
            step = FastStep(native, groups, checkpointing=args.gradient_checkpointing, **settings)
        self.model.train()
        self._loop = TrainingLoop(work, step, args.options(steps), output, [Adapter(self), *self._report()])
        try:
            result = self._loop.run(resume)
        finally:
            self.state, self.control = self._loop.state, self._loop.control
            self._loop = None
            self.model.eval()
        return result

    def _report(self) -> list[Any]:
        wanted = self.args.report_to
        names = [wanted] if isinstance(wanted, str) else list(wanted or ())
        if "tensorboard" in names or "all" in names:
            from nativebert.train.tensorboard import TensorBoard

            return [TensorBoard(Path(self.args.output_dir) / "runs")]
        return []

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Tensor | int | None = None
    ) -> Any:
        """The loss of a batch; override it for one's own.

        Args:
            model: the model.
            inputs: the batch.
            return_outputs: whether to return the outputs besides.
            num_items_in_batch: labels of the whole accumulated batch, of which this one is a part: the loss is then the batch's share of the
                mean over all. None for the mean of this batch.
        """
        inputs = dict(inputs)
        labels = None
        if self.compute_loss_func is not None or self.args.label_smoothing_factor:
            labels = inputs.pop("labels", None)
        named = {} if num_items_in_batch is None or labels is not None else {"num_items_in_batch": num_items_in_batch}
        outputs = model(**inputs, **named)
        if self.compute_loss_func is not None:
            loss = self.compute_loss_func(outputs, labels, num_items_in_batch=num_items_in_batch)
        elif labels is not None:
            smoothed = losses.cross_entropy(outputs.logits, labels, smoothing=self.args.label_smoothing_factor)
            loss = smoothed.mean if num_items_in_batch is None else smoothed.over(num_items_in_batch)
        else:
            loss = outputs.loss
            if loss is None:
                raise BadInputError(
                    f"the model returned no loss: batches have {', '.join(inputs)}, and {type(model).__name__} makes its loss of "
                    f"{', '.join(model.targets()) or 'nothing'}"
                )
        return (loss, outputs) if return_outputs else loss

    # ---- data

    def get_train_dataloader(self) -> Any:
        """The batches of training, in the order of the first epoch; override it for one's own, which is then used for every epoch."""
        return _Loader(self, self.train_dataset, _order(self, len(self.train_dataset), 0), self.args.train_batch_size)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """The batches of an evaluation, in the order of the data."""
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        return _Loader(self, data, range(len(data)), self.args.eval_batch_size)

    get_test_dataloader = get_eval_dataloader

    def _collate(self, rows: list[Any]) -> dict[str, Any]:
        """A batch of examples, without the columns that the model does not take."""
        if self.args.remove_unused_columns and rows and isinstance(rows[0], Mapping):
            known = {"input_ids", "attention_mask", "token_type_ids", "position_ids", "label", "label_ids", *self.label_names}
            known |= set(self.model.targets())
            rows = [{name: value for name, value in row.items() if name in known} for row in rows]
            if not rows[0]:
                raise BadInputError(
                    "no column of the dataset is an argument of the model: tokenize the texts first, or pass remove_unused_columns=False"
                )
        return dict(self.data_collator(rows))

    def _placed(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return {name: t.to(self.model.device) if isinstance(t, Tensor) else t for name, t in batch.items()}

    # ---- evaluation

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Metrics of the model on the evaluation data, by name with a prefix."""
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        if data is None:
            raise BadInputError("Trainer.evaluate needs an eval_dataset")
        if isinstance(data, Mapping):
            metrics: dict[str, float] = {}
            for name, part in data.items():
                metrics |= self.evaluate(part, metric_key_prefix=f"{metric_key_prefix}_{name}")
            return metrics
        found = self.predict(data, metric_key_prefix=metric_key_prefix).metrics or {}
        if self._loop is None:
            line = found | {"epoch": self.state.epoch}
            self.state.log_history.append(line | {"step": self.state.global_step})
            Adapter(self).call("on_log", logs=line)
            Adapter(self).call("on_evaluate", metrics=found)
            return line
        return found

    @torch.no_grad()
    def predict(self, test_dataset: Any, ignore_keys: Any = None, metric_key_prefix: str = "test") -> PredictionOutput:
        """Logits, labels and metrics of a dataset."""
        began, training = time.monotonic(), self.model.training
        self.model.eval()
        logits: list[Any] = []
        labels: list[Any] = []
        total, items, count = 0.0, 0.0, 0
        try:
            for batch in self.get_eval_dataloader(test_dataset):
                inputs = self._placed(batch)
                given = [inputs[name] for name in self.label_names if name in inputs]
                size = len(next(iter(inputs.values())))
                if given:
                    loss, outputs = self.compute_loss(self.model, inputs, return_outputs=True)
                    total, items = total + float(loss) * size, items + size
                else:
                    outputs = self.model(**inputs)
                values = [v for k, v in outputs.items() if k in ("logits", "start_logits", "end_logits", "prediction_logits")]
                kept = tuple(values) if len(values) > 1 else values[0]
                if self.preprocess_logits_for_metrics is not None:
                    kept = self.preprocess_logits_for_metrics(kept, given[0] if len(given) == 1 else tuple(given))
                logits.append(kept)
                labels.append(tuple(given) if len(given) > 1 else given[0] if given else None)
                count += size
        finally:
            self.model.train(training)
        predictions = _gathered(logits)
        label_ids = _gathered(labels) if labels and labels[0] is not None else None
        metrics: dict[str, float] = {}
        if items:
            metrics["loss"] = total / items
        if self.compute_metrics is not None and label_ids is not None:
            metrics |= {
                name: _number(value) for name, value in self.compute_metrics(EvalPrediction(predictions, label_ids)).items()
            }
        seconds = max(time.monotonic() - began, 1e-9)
        metrics |= {"runtime": round(seconds, 4), "samples_per_second": round(count / seconds, 3)}
        metrics["steps_per_second"] = round(math.ceil(count / self.args.eval_batch_size) / seconds, 3)
        start = f"{metric_key_prefix}_"
        return PredictionOutput(
            predictions, label_ids, {name if name.startswith(start) else start + name: value for name, value in metrics.items()}
        )

    # ---- saving

    def save_model(self, output_dir: str | PathLike[str] | None = None, _internal_call: bool = False) -> None:
        """Write the model and the tokenizer to a folder."""
        folder = Path(output_dir if output_dir is not None else self.args.output_dir)
        self.model.save_pretrained(folder)
        if self.processing_class is not None and hasattr(self.processing_class, "save_pretrained"):
            self.processing_class.save_pretrained(folder)

    def save_state(self) -> None:
        """Write ``trainer_state.json`` to ``output_dir``."""
        from dataclasses import asdict

        from nativebert.files import write_json

        folder = Path(self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "trainer_state.json", asdict(self.state))

    def log(self, logs: dict[str, float]) -> None:
        """Add a line to the log."""
        if self._loop is not None:
            self._loop.log(dict(logs))
            return
        self.state.log_history.append({**logs, "epoch": self.state.epoch, "step": self.state.global_step})
        Adapter(self).call("on_log", logs=logs)

    def log_metrics(self, split: str, metrics: Mapping[str, float]) -> None:
        """Print metrics."""
        print(f"***** {split} metrics *****")
        width = max(map(len, metrics), default=0)
        for name in sorted(metrics):
            print(f"  {name.ljust(width)} = {metrics[name]}")

    def save_metrics(self, split: str, metrics: Mapping[str, float], combined: bool = True) -> None:
        """Write metrics to ``{split}_results.json`` in ``output_dir``, and add them to ``all_results.json``."""
        folder = Path(self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{split}_results.json").write_text(json.dumps(dict(metrics), indent=4, sort_keys=True))
        if combined:
            path = folder / "all_results.json"
            everything = json.loads(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps(everything | dict(metrics), indent=4, sort_keys=True))

    def is_world_process_zero(self) -> bool:
        """Whether this process writes files: there is one."""
        return True

    def push_to_hub(self, *args: Any, **options: Any) -> None:
        """RefusedError: save to a folder, and upload it."""
        raise RefusedError(
            "Trainer does not support push_to_hub: save_model(folder), then upload the folder with huggingface_hub"
        )


class _Work:
    """What the training loop asks of a Trainer."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.default_metric = trainer, "loss"
        self._own = type(trainer).get_train_dataloader is not Trainer.get_train_dataloader
        self._loss_takes_items = "num_items_in_batch" in inspect.signature(trainer.compute_loss).parameters

    def epoch_batches(self, epoch: int, processes: Processes) -> Sequence[Any]:
        trainer, args = self.trainer, self.trainer.args
        if self._own:
            return list(trainer.get_train_dataloader())
        order = _order(trainer, len(trainer.train_dataset), epoch)
        size = args.train_batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        return batches[:-1] if args.dataloader_drop_last and batches and len(batches[-1]) < size else batches

    def batch(self, item: Any, epoch: int) -> dict[str, Any]:
        trainer = self.trainer
        batch = dict(item) if self._own else trainer._collate([trainer.train_dataset[n] for n in item])
        return trainer._placed(batch)

    def backward(self, step: Step, batches: Sequence[Any], processes: Processes) -> float:
        trainer, total = self.trainer, 0.0
        items = None
        if len(batches) > 1 and all("labels" in batch for batch in batches) and self._loss_takes_items:
            items = sum((batch["labels"].ne(losses.IGNORED).sum() for batch in batches), torch.tensor(0))
        for n, batch in enumerate(batches):
            step.micro_batch(n)
            how: dict[str, Any] = {"num_items_in_batch": items} if items is not None else {}
            with _autocast(trainer):
                loss = trainer.compute_loss(trainer.model, batch, **how)
            if items is None:
                loss = loss / len(batches)
            loss.backward()
            total += float(loss.detach())
        return total

    def evaluate(self) -> dict[str, float]:
        found = self.trainer.evaluate() if self.trainer.eval_dataset is not None else {}
        return {name.removeprefix("eval_"): value for name, value in found.items()}

    def parameters_to_keep(self) -> dict[str, Tensor]:
        return {}

    def save(self, folder: Path) -> None:
        self.trainer.save_model(folder)

    @torch.no_grad()
    def restore(self, folder: Path, kept: Mapping[str, Tensor]) -> None:
        model = self.trainer.model
        saved = dict(load(folder).named_parameters())
        for name, parameter in model.native.named_parameters():
            if parameter.requires_grad and name in saved:
                parameter.copy_(saved[name])

    def fingerprint(self) -> dict[str, Any]:
        data = self.trainer.train_dataset
        order = {"order": self.trainer.args.train_sampling_strategy, "data_seed": self.trainer.args.data_seed}
        return {"examples": len(data) if hasattr(data, "__len__") else None, **order}


def _autocast(trainer: Trainer) -> Any:
    enabled = bool(trainer.args.bf16)
    return torch.autocast(trainer.model.device.type, torch.bfloat16, enabled=enabled)


def _order(trainer: Trainer, count: int, epoch: int) -> list[int]:
    """The order of the examples in an epoch, as transformers has it: accelerate's seedable sampler, or LengthGroupedSampler."""
    args = trainer.args
    if args.train_sampling_strategy == "sequential":
        return list(range(count))
    generator = torch.Generator().manual_seed((args.seed if args.data_seed is None else args.data_seed) + epoch)
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    if args.train_sampling_strategy == "random":
        return order
    lengths = [len(_ids(trainer.train_dataset[n])) for n in range(count)]
    size = args.train_batch_size * args.gradient_accumulation_steps
    mega = min(count // (size * 4), 50) or 1
    parts = [order[start : start + mega * size] for start in range(0, count, mega * size)]
    parts = [sorted(part, key=lambda n: lengths[n], reverse=True) for part in parts]
    longest = max(range(len(parts)), key=lambda n: lengths[parts[n][0]])
    parts[0][0], parts[longest][0] = parts[longest][0], parts[0][0]
    return [n for part in parts for n in part]


def _ids(row: Any) -> Any:
    if not isinstance(row, Mapping) or "input_ids" not in row:
        raise BadInputError("group_by_length needs examples with input_ids")
    return row["input_ids"]


class _Loader:
    """Batches of a dataset."""

    def __init__(self, trainer: Trainer, data: Any, order: Sequence[int], size: int) -> None:
        self._trainer, self.dataset, self._order, self.batch_size = trainer, data, order, size

    def __len__(self) -> int:
        return math.ceil(len(self._order) / self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self._order), self.batch_size):
            yield self._trainer._collate([self.dataset[n] for n in self._order[start : start + self.batch_size]])


def _gathered(parts: list[Any]) -> Any:
    """Arrays of batches as one, filled up with -100 where tokens differ in number."""
    if parts and isinstance(parts[0], tuple):
        return tuple(_gathered([part[n] for part in parts]) for n in range(len(parts[0])))
    arrays = [part.detach().float().cpu().numpy() if part.is_floating_point() else part.cpu().numpy() for part in parts]
    if not arrays:
        return np.zeros(0)
    if arrays[0].ndim < 2:
        return np.concatenate([np.atleast_1d(array) for array in arrays])
    width = max(array.shape[1] for array in arrays)
    filled = [
        np.pad(array, [(0, 0), (0, width - array.shape[1]), *[(0, 0)] * (array.ndim - 2)], constant_values=losses.IGNORED)
        for array in arrays
    ]
    return np.concatenate(filled)


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def _remove_checkpoints(output: Path) -> None:
    import shutil

    from nativebert.train.checkpoint import checkpoints

    for path in checkpoints(output):
        shutil.rmtree(path)
