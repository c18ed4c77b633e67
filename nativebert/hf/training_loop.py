"""What :class:`nativebert.train.loop.TrainingLoop` does for a Trainer: its batches and losses, its callbacks, its optimizer."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Sampler

from nativebert.errors import BadInputError, DivergedError
from nativebert.hf.models import PreTrainedModel
from nativebert.hf.optimization import factor
from nativebert.hf.trainer_callback import TrainerState
from nativebert.loading import load
from nativebert.train import checkpoint
from nativebert.train.distributed import Processes
from nativebert.train.loop import TrainingLoop
from nativebert.train.step import Step

if TYPE_CHECKING:
    from nativebert.hf.trainer import Trainer

_ORDER = "order"  # the tensor with torch's random state at the beginning of the epoch
_MAY_DIFFER = ("epochs", "max_steps")  # between a run and the one that it is resumed from


# ---- the order of examples


class SeededSampler(Sampler[int]):
    """All examples in random order, which depends on a seed and the epoch. Reference: accelerate's ``SeedableRandomSampler``.

    Args:
        count: examples.
        seed: that of the first epoch.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def __len__(self) -> int:
        return self.count

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(self.count, generator=torch.Generator().manual_seed(self.seed + self.epoch)).tolist()


class LengthGroupedSampler(Sampler[int]):
    """Examples of similar length together: sorted by length within parts of 50 batches that are drawn at random. Reference: transformers.

    Args:
        lengths: of each example.
        batch_size: examples of an optimizer step.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int) -> None:
        self.lengths, self.batch_size = lengths, batch_size

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        count, size = len(self.lengths), self.batch_size
        part = (min(count // (size * 4), 50) or 1) * size
        order: list[int] = torch.randperm(count).tolist()
        parts = [sorted(order[n : n + part], key=lambda i: self.lengths[i], reverse=True) for n in range(0, count, part)]
        if parts:  # the longest example comes first, so that too little memory is noticed at once
            longest = max(range(len(parts)), key=lambda n: self.lengths[parts[n][0]])
            parts[0][0], parts[longest][0] = parts[longest][0], parts[0][0]
        return iter([i for one in parts for i in one])


# ---- batches and losses


class TrainerWork:
    """What the training loop asks of a Trainer. Batches come from its data loader, one after the other.

    Args:
        trainer: the Trainer.
    """

    default_metric = "loss"

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.loader = trainer, trainer.get_train_dataloader()
        try:
            self._count = len(self.loader)
        except TypeError as error:
            raise BadInputError(
                "the training data has no length, by which the steps of an epoch are counted: pass a dataset with a length, such as a list"
            ) from error
        self._size = getattr(self.loader, "batch_size", None) or 1
        self._batches: Iterator[Any] = iter(())
        self._epoch: int | None = None
        self._random: Tensor | None = None  # torch's random state at the beginning of the epoch
        self._takes_items = _takes(trainer.compute_loss, "num_items_in_batch")

    def epoch_batches(self, epoch: int, processes: Processes) -> Sequence[range]:
        """Which examples of the epoch each batch has, by their position in its order."""
        try:
            total = len(self.loader.dataset)
        except (AttributeError, TypeError):
            total = self._count * self._size
        return [range(n * self._size, max(n * self._size + 1, min((n + 1) * self._size, total))) for n in range(self._count)]

    def batch(self, item: range, epoch: int) -> Mapping[str, Any]:
        if self._epoch != epoch:
            self._begin(epoch, item.start // self._size)
        try:
            return self.trainer._prepare_inputs(next(self._batches))
        except StopIteration:
            raise BadInputError(f"the training data loader gave fewer batches than its length, {self._count}") from None

    def _begin(self, epoch: int, done: int) -> None:
        """Begin an epoch, or go on within one, after ``done`` batches: they are drawn as they were, and left out."""
        now = torch.get_rng_state()
        if done and self._random is not None:
            torch.set_rng_state(self._random)
        else:
            self._random = now
        for part in (self.loader, getattr(self.loader, "sampler", None), getattr(self.loader, "batch_sampler", None)):
            getattr(part, "set_epoch", _nothing)(epoch)
        self._batches, self._epoch = iter(self.loader), epoch
        for _ in range(done):
            next(self._batches)
        if done:
            torch.set_rng_state(now)

    def backward(self, step: Step, batches: Sequence[Any], processes: Processes) -> float:
        trainer, total = self.trainer, 0.0
        items = trainer._get_num_items_in_batch(batches)
        how: dict[str, Any] = {"num_items_in_batch": items} if self._takes_items else {}
        scaled = trainer.loss_is_scaled_for_ga
        if scaled is None:
            with_items = trainer.model_accepts_loss_kwargs or trainer.compute_loss_func is not None
            scaled = self._takes_items and with_items and items is not None
        trainer.current_gradient_accumulation_steps, trainer.passes = len(batches), 0
        for n, batch in enumerate(batches):
            step.micro_batch(n)
            trainer.count_tokens(batch)
            with _autocast(trainer):
                loss = trainer.compute_loss(trainer.model, batch, **how)
            if not scaled:
                loss = loss / len(batches)
            loss.backward()
            total += float(loss.detach())
            if n + 1 < len(batches):
                trainer.event("on_substep_end")
        return total

    def evaluate(self) -> dict[str, float]:
        return self.trainer.evaluate()

    def parameters_to_keep(self) -> dict[str, Tensor]:
        return {} if self._random is None else {_ORDER: self._random}  # to draw the order of the epoch again

    def save(self, folder: Path) -> None:
        self.trainer.save_model(str(folder), _internal_call=True)

    @torch.no_grad()
    def restore(self, folder: Path, kept: Mapping[str, Tensor]) -> None:
        model, self._random, self._epoch = self.trainer.model, kept.get(_ORDER), None
        if not isinstance(model, PreTrainedModel):
            model.load_state_dict(load_file(folder / "model.safetensors"))
            return
        tasks = model.native.tasks
        saved = dict(load(folder, head="auto" if len(tasks) > 1 else tasks[0] if tasks else None).named_parameters())
        for name, parameter in model.native.named_parameters():
            if name in saved:
                parameter.copy_(saved[name])

    def fingerprint(self) -> dict[str, Any]:
        args = self.trainer.args
        return {
            "batches": self._count,
            "order": args.train_sampling_strategy,
            "data_seed": args.data_seed,
            "lr_scheduler_type": str(args.lr_scheduler_type),
            "lr_scheduler_kwargs": args.lr_scheduler_kwargs,
            "optimizer": None if self.trainer.optimizer is None else type(self.trainer.optimizer).__name__,
        }


def _nothing(epoch: int) -> None:
    """For what has no epochs."""


def _takes(function: Any, name: str) -> bool:
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind == inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def _autocast(trainer: Trainer) -> Any:
    return torch.autocast(trainer.args.device.type, torch.bfloat16) if trainer.args.bf16 else nullcontext()


# ---- the loop


class TrainerLoop(TrainingLoop):
    """A training run that does what a Trainer's callbacks ask for.

    Args:
        trainer: the Trainer.
        work: its batches and losses.
        step: how the model is trained.
    """

    state: TrainerState

    def __init__(self, trainer: Trainer, work: TrainerWork, step: Step) -> None:
        super().__init__(work, step, trainer.args.options(), Path(trainer.args.output_dir))
        self.trainer = trainer
        self.control = trainer.control
        self.state = trainer.state = TrainerState(train_batch_size=trainer.args.train_batch_size)

    def _rates(self, steps: int) -> list[float]:
        args = self.trainer.args
        self.state.compute_steps(args, steps)
        top, name = float(args.learning_rate), str(args.lr_scheduler_type)
        shape = factor(name, top, args.get_warmup_steps(steps), steps, args.lr_scheduler_kwargs)
        return [top * shape(n) for n in range(steps)]

    def _epochs(self, first: Sequence[Any], per_epoch: int) -> None:
        if self.trainer.args.eval_on_start and self.state.global_step == 0:
            self.trainer.evaluate()
        super()._epochs(first, per_epoch)

    def _update(self, rate: float) -> float:
        self._call("on_pre_optimizer_step")
        norm = super()._update(rate)
        self._call("on_optimizer_step")
        return norm

    def _after_step(self, epoch_ends: bool) -> None:
        self._call("on_step_end")
        self.stop_if_asked()
        self._act()

    def _act(self) -> None:
        state, args = self.state, self.trainer.args
        if self.control.should_log and self.losses:
            loss = math.fsum(self.losses) / len(self.losses)
            self.losses = []
            self.log({"loss": loss, "grad_norm": self.norm, "learning_rate": self.trainer.rate_after(state.global_step)})
        if self.control.should_evaluate:
            better = self._is_best(self.trainer.evaluate())
            if args.save_strategy == "best":
                self.control.should_save = better
        if self.control.should_save:
            self.save()

    def _is_best(self, metrics: Mapping[str, float] | None) -> bool:
        """Whether an evaluation is the best so far; notes it."""
        state, args = self.state, self.trainer.args
        if args.metric_for_best_model is None:
            return False
        if self.metric not in (metrics := metrics or {}):
            raise BadInputError(
                f"metric_for_best_model={args.metric_for_best_model!r} is not among the evaluation's metrics: {', '.join(metrics)}"
            )
        value = float(metrics[self.metric])
        if state.best_metric is not None and not (
            value > state.best_metric if args.greater_is_better else value < state.best_metric
        ):
            return False
        state.best_metric = value
        if args.save_strategy != "no":
            state.best_global_step = state.global_step
        return True

    def log(self, values: dict[str, float]) -> None:
        self.trainer.log(values)

    def _metrics(self, seconds: float, steps: int) -> dict[str, float]:
        metrics = super()._metrics(seconds, steps)
        loss = metrics.pop("train_loss")
        return metrics | {"total_flos": self.state.total_flos, "train_loss": loss}

    def save(self) -> Path | None:
        states = {type(c).__name__: c.state() for c in self.trainer.callback_handler.callbacks if hasattr(c, "state")}
        self.state.stateful_callbacks = states
        return super().save()

    def _tensors(self) -> dict[str, Tensor]:
        return {} if self.trainer.args.save_only_model else super()._tensors()

    def _remove_old(self, output: Path) -> None:
        """As in transformers: the oldest by their time on the disk, never the newest or the best; there may be checkpoints of earlier runs."""
        limit, best = self.options.save_total_limit, self.state.best_model_checkpoint
        found = sorted(checkpoint.checkpoints(output), key=lambda path: path.stat().st_mtime_ns)
        spare = [path for path in found[:-1] if best is None or path != Path(best)]
        for path in spare[: max(0, len(found) - limit)] if limit is not None else ():
            checkpoint.remove(path)

    def _checkpoint(self, resume: bool | str | Path) -> Path | None:
        return super()._checkpoint(resume) if resume else None  # checkpoints of an earlier run stay, or are written over

    def _check_settings(self, folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        super()._check_settings(folder, old, {name: value for name, value in new.items() if name not in _MAY_DIFFER})

    def _restore(self, folder: Path) -> None:
        super()._restore(folder)
        trainer = self.trainer
        trainer.state = self.state
        self.state.compute_steps(trainer.args, self.state.max_steps)
        if trainer.args.restore_callback_states_from_checkpoint:
            for callback in trainer.callback_handler.callbacks:
                if (known := self.state.stateful_callbacks.get(type(callback).__name__)) is not None:
                    vars(callback).update(known["args"] | known["attributes"])

    def _load_best(self) -> None:
        self.step.close()  # what callbacks look at afterwards is the model itself
        super()._load_best()
        best, limit = self.state.best_model_checkpoint, self.options.save_total_limit
        if self.output is not None and best is not None and limit == 1:
            for path in checkpoint.checkpoints(self.output):
                if path != Path(best):
                    checkpoint.remove(path)

    def _call(self, event: str, *values: Any) -> None:
        named = {"on_log": "logs", "on_evaluate": "metrics"}
        self.trainer.event(event, **({named[event]: values[0]} if event in named else {}))
        self.control = self.trainer.control


# ---- an optimizer of your own


class OptimizerStep:
    """A :class:`~nativebert.train.step.Step` of torch's autograd and any optimizer of torch.

    Args:
        model: the model, in whole.
        optimizer: changes its parameters.
        scheduler: sets the optimizer's rates after each step; None for rates that stay.
    """

    def __init__(self, model: Any, optimizer: torch.optim.Optimizer, scheduler: Any) -> None:
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.rate = self._rate_now()  # of the last step

    def _rate_now(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def begin(self, step: int) -> None:
        self.model.zero_grad()

    def micro_batch(self, index: int) -> None:
        pass

    def encode(self, batch: Any) -> Tensor:
        raise NotImplementedError("the model is called itself")

    def update(self, rate: float, max_norm: float | None) -> float:
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        total = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not total.isfinite():
            raise DivergedError(f"the gradient's norm is {float(total)}")
        if max_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, total)
        self.optimizer.step()
        self.rate = self._rate_now()
        if self.scheduler is not None:
            self.scheduler.step()
        return float(total)

    def settled(self) -> Any:
        return nullcontext()

    def state(self) -> dict[str, Tensor]:
        saved = self.optimizer.state_dict()
        tensors: dict[str, Tensor] = {}
        values: dict[str, Any] = {"param_groups": saved["param_groups"], "state": {}}
        for n, one in saved["state"].items():
            tensors |= {f"{n}.{name}": value for name, value in one.items() if isinstance(value, Tensor)}
            values["state"][n] = {name: value for name, value in one.items() if not isinstance(value, Tensor)}
        values["scheduler"] = None if self.scheduler is None else self.scheduler.state_dict()
        try:
            text = json.dumps(values)
        except TypeError as error:
            raise BadInputError(
                f"the state of this optimizer, or of its schedule, cannot be saved: {error}. Pass save_only_model=True, or save_strategy='no'"
            ) from error
        return tensors | {"values": torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}

    def restore(self, step: int, rates: Sequence[float], state: Mapping[str, Tensor]) -> None:
        values = json.loads(state["values"].numpy().tobytes())
        saved: dict[int, dict[str, Any]] = {int(n): dict(one) for n, one in values["state"].items()}
        for name, value in state.items():
            number, _, rest = name.partition(".")
            if rest:
                saved[int(number)][rest] = value
        self.optimizer.load_state_dict({"state": saved, "param_groups": values["param_groups"]})
        if self.scheduler is not None:
            self.scheduler.load_state_dict(values["scheduler"])

    def close(self) -> None:
        self.model.zero_grad()


class RunSchedule:
    """The rates of a run, as a scheduler of torch reports them: what callbacks are given."""

    def __init__(self, loop: TrainingLoop) -> None:
        self._loop = loop

    def get_last_lr(self) -> list[float]:
        """The rate of the next step."""
        at = min(self._loop.state.global_step, len(self._loop.rates) - 1)
        return [self._loop.rates[at]] if at >= 0 else [0.0]


def parameter_settings(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimizer of torch: without decay for biases and norms, as in transformers' Trainer."""
    norms = {id(p) for part in model.modules() if isinstance(part, nn.LayerNorm) for p in part.parameters()}
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            bare = id(parameter) in norms or "bias" in name or "norm" in name.lower()
            groups[not bare].append(parameter)
    return [
        {"params": params, "weight_decay": weight_decay if decayed else 0.0} for decayed, params in groups.items() if params
    ]
