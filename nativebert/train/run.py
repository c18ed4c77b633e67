"""From a table to a saved model: what ``nativebert train`` and :mod:`nativebert.train` run."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nativebert import console
from nativebert.config import NewHead
from nativebert.engine import choose_device
from nativebert.errors import BadInputError, NewlyInitialized, Slower, warn
from nativebert.hub import Snapshot
from nativebert.loading import LoadedModel, load
from nativebert.train import data as tables
from nativebert.train.card import write_card
from nativebert.train.data import DataReport, Table
from nativebert.train.distributed import DataParallelStep, Mode, Processes, ShardedStep, processes
from nativebert.train.fast import FastStep, why_not
from nativebert.train.loop import Callback, TrainingLoop, command
from nativebert.train.lora import Adapters, LoraOptions
from nativebert.train.objective import Objective, Sequences
from nativebert.train.options import TrainingOptions, TrainingSettings
from nativebert.train.parameters import freeze, parameter_groups, set_dropout
from nativebert.train.reference import ReferenceStep
from nativebert.train.report import write_report
from nativebert.train.step import Step

Source = str | PathLike[str] | Table | Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | Any


@dataclass(frozen=True)
class ModelOptions:
    """What is trained, and where.

    Attributes:
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
        dropout: of embeddings, layers and heads; None for the model's own.
        attention_dropout: of attention weights; None for the model's own.
        freeze: parts that stay as they are: beginnings of parameters' names, as ``"embed"``, ``"layers.0-3"``.
        lora: train adapters of low rank in place of the encoder; None for the encoder itself.
        distributed: how processes of ``torchrun`` share the work: ``"ddp"`` or ``"fsdp"``.
        revision: branch, tag or commit of the model on the Hub.
        offline: True to touch no network.
    """

    device: str = "auto"
    dropout: float | None = None
    attention_dropout: float | None = None
    freeze: Sequence[str] = ()
    lora: LoraOptions | None = None
    distributed: Mode = "ddp"
    revision: str | None = None
    offline: bool | None = None


class RunSettings(TrainingSettings, total=False):
    """Keyword arguments of every function that trains: the fields of :class:`~nativebert.train.options.TrainingOptions` and
    :class:`ModelOptions`, and those of the run."""

    device: str
    dropout: float | None
    attention_dropout: float | None
    freeze: Sequence[str]
    lora: LoraOptions | None
    distributed: Mode
    revision: str | None
    offline: bool | None
    resume: bool | str | Path
    callbacks: Sequence[Callback]
    progress: bool | None
    missing: str


@dataclass(frozen=True)
class FineTuned:
    """The result of a run.

    Attributes:
        model: the trained model, in evaluation mode.
        output: its folder; None where none was given.
        metrics: of the last evaluation of what was saved: the best checkpoint, or the last step.
        history: every line of the log.
        data: what was found in the training data.
    """

    model: LoadedModel
    output: Path | None
    metrics: Mapping[str, float]
    history: Sequence[Mapping[str, Any]]
    data: DataReport

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {value:.4f}" for name, value in self.metrics.items())
        return f"FineTuned({str(self.output)!r}, {shown})"


@dataclass
class Plan:
    """A task's part of a run, made from its tables."""

    model: LoadedModel
    objective: Objective
    data: DataReport
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    card: str = ""
    """The task in the words of model cards, where it is not the objective's."""


def options_of(settings: Mapping[str, Any]) -> tuple[TrainingOptions, ModelOptions, dict[str, Any]]:
    """Keyword arguments, sorted by what takes them.

    Raises:
        BadInputError: one that nothing takes, or a value that makes no sense.
    """
    of_model = set(ModelOptions.__dataclass_fields__)
    of_run = {"resume", "callbacks", "progress", "missing"}
    training = TrainingOptions.of(**{name: value for name, value in settings.items() if name not in of_model | of_run})
    model = ModelOptions(**{name: value for name, value in settings.items() if name in of_model})
    return training, model, {name: value for name, value in settings.items() if name in of_run}


def load_model(
    reference: str | PathLike[str] | Snapshot, head: NewHead, options: TrainingOptions, how: ModelOptions
) -> LoadedModel:
    """A model with a head to be trained, its new parameters drawn by the run's seed."""
    torch.manual_seed(options.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NewlyInitialized)  # that it is new is why it is trained
        model = load(reference, head=head, revision=how.revision, offline=how.offline)
    if model.dtype != torch.float32:
        model = model.float()
    return model


def split(
    table: Table,
    evaluation: Source | None,
    share: float,
    options: TrainingOptions,
    by: Sequence[str],
    *,
    required: Sequence[str] = (),
    missing: str = "error",
) -> tuple[Table, Table | None]:
    """Training and evaluation rows.

    Args:
        table: the data.
        evaluation: what to evaluate with; None to hold out a share.
        share: that share; 0 for none.
        options: for the seed.
        by: the columns of the text, by which rows are held out.
        required: the columns that need a value, besides.
        missing: ``"drop"`` leaves rows without a value out, and the data's report names them; ``"error"`` leaves them in, for whoever reads the
            column to refuse them.
    """
    if missing not in ("error", "drop"):
        raise BadInputError(f"missing must be 'error' or 'drop', not {missing!r}")
    held = None if evaluation is None else tables.read_table(evaluation)
    if missing == "drop":
        columns = [*by, *required]
        table, held = table.without_missing(columns), None if held is None else held.without_missing(columns)
    if held is not None or not share:
        return table, held
    return tables.split(table, share, options.seed, by)


def describe(
    table: Table,
    texts: Sequence[Any],
    labels: Sequence[Any] | None,
    counts: Mapping[str, int],
    sequences: Sequences,
    limit: int,
    evaluation: Sequence[Any] | None = None,
) -> DataReport:
    """What there is in the training data, with its tokens."""
    cut = np.zeros(0, np.int64) if sequences.cut_tokens is None else sequences.cut_tokens
    of_row = np.zeros(len(texts), np.int64)
    np.add.at(
        of_row, np.asarray(sequences.examples if sequences.examples is not None else range(len(sequences))), sequences.lengths
    )
    if len(cut):
        of_row += cut
    quantiles = tuple(int(q) for q in np.quantile(of_row, [0, 0.5, 0.95, 1], method="higher")) if len(of_row) else (0, 0, 0, 0)
    return tables.describe(
        table,
        texts,
        labels,
        counts,
        evaluation=evaluation,
        lengths=quantiles,
        limit=limit,
        cut_rows=int((cut > 0).sum()),
        cut_tokens=int(cut.sum()),
        windows=len(sequences) - len(texts),
    )


def run(
    plan: Plan, output: str | PathLike[str] | None, options: TrainingOptions, how: ModelOptions, extra: Mapping[str, Any]
) -> FineTuned:
    """Train, evaluate, save.

    Args:
        plan: what is learnt.
        output: the run's folder: checkpoints, and at the end the model; None to save nothing.
        options: of the run.
        how: what is trained, and where.
        extra: ``resume``, ``callbacks``, ``progress``, ``missing``.
    """
    model, objective = plan.model, plan.objective
    folder = None if output is None else Path(output)
    device = choose_device(how.device)
    team = processes(str(device))
    if objective.evaluation is None:
        options = replace(options, eval_strategy="no", load_best_model_at_end=False, early_stopping_patience=None)
    if folder is None:
        options = replace(options, save_strategy="no", load_best_model_at_end=False)
    if options.load_best_model_at_end and options.eval_strategy == "no":
        options = replace(options, load_best_model_at_end=False)
    objective.options = options
    objective.extra_fingerprint = dict(plan.fingerprint)
    show = extra.get("progress")
    progress = Progress(sys.stderr) if (show if show is not None else console.is_terminal(sys.stderr)) else None
    if progress is not None and team.is_main:
        console.facts({f"Training data: {plan.data.name}": plan.data.lines()}, file=sys.stderr)
    prepare_model(model, objective, how)
    step = make_step(model, options, how, device, team)
    callbacks = [*([progress] if progress else []), *extra.get("callbacks", ())]
    loop = TrainingLoop(objective, step, options, folder, callbacks, team)
    loop.run(extra.get("resume", False))
    if objective.adapters is not None:
        objective.adapters.merge()
        objective.adapters = None
    model.eval()
    metrics = _metrics(loop)
    if folder is not None:
        team.from_main(partial(_save, plan, folder, loop, metrics, options))
    return FineTuned(model, folder, metrics, loop.state.log_history, plan.data)


def _save(plan: Plan, folder: Path, loop: TrainingLoop, metrics: Mapping[str, float], options: TrainingOptions) -> None:
    """Write the model, its card and the report."""
    objective, state = plan.objective, loop.state
    objective.save(folder)
    base = plan.model.snapshot
    settings = asdict(options)
    best = state.best_global_step if options.load_best_model_at_end else None
    write_report(
        folder,
        state.log_history,
        objective.evaluation_details(),
        plan.data,
        settings,
        command(),
        title=folder.name,
        best_step=best,
    )
    write_card(
        folder,
        plan.card or objective.task,
        base_model=plan.model.reference,
        metrics=metrics,
        data=plan.data,
        fingerprint=str(plan.fingerprint.get("data", "")),
        settings=settings,
        command=command(),
        repo=base.repo if base is not None else None,
        labels=plan.model.config.labels if plan.model.tasks else (),
    )


def prepare_model(model: LoadedModel, objective: Objective, how: ModelOptions) -> None:
    """Dropout, frozen parts, adapters."""
    if how.dropout is not None or how.attention_dropout is not None:
        set_dropout(model, how.dropout, how.attention_dropout)
    if how.freeze:
        freeze(model, how.freeze)
    if how.lora is not None:
        objective.adapters = Adapters(model, how.lora)


def make_step(model: LoadedModel, options: TrainingOptions, how: ModelOptions, device: torch.device, team: Processes) -> Step:
    """How the model is trained: the fastest way that supports it."""
    model.to(device).train()
    groups = parameter_groups(model, options.weight_decay, options.layer_decay)
    settings: dict[str, Any] = {
        "betas": (options.adam_beta1, options.adam_beta2),
        "eps": options.adam_epsilon,
        "seed": options.seed,
        "autocast": torch.bfloat16 if options.bf16 else None,
    }
    model.activation_checkpointing = options.gradient_checkpointing
    if team.count > 1:
        if options.fast:
            raise BadInputError("fast=True is for one process: the fast step is not split among several")
        if how.distributed == "fsdp":
            return ShardedStep(model, groups, device=str(device), **settings)
        return DataParallelStep(model, groups, **settings)
    reason = "fast=False" if options.fast is False else "bf16=True" if options.bf16 else why_not(model, groups)
    if not reason:
        return FastStep(model, groups, checkpointing=options.gradient_checkpointing, **settings)
    if options.fast:
        raise BadInputError(f"fast=True: the fast step does not support this run: {reason}")
    if options.fast is None and device.type == "cpu" and not options.bf16:
        warn(f"training with torch's own operations, which is slower: {reason}", Slower)
    return ReferenceStep(model, groups, **settings)


def _metrics(loop: TrainingLoop) -> dict[str, float]:
    """The evaluation of the model as the run left it."""
    state = loop.state
    lines = [line for line in state.log_history if any(name.startswith("eval_") for name in line)]
    best = [line for line in lines if line["step"] == state.best_global_step]
    chosen = best[-1] if loop.options.load_best_model_at_end and best else lines[-1] if lines else {}
    return {name.removeprefix("eval_"): value for name, value in chosen.items() if name.startswith("eval_")}


class Progress(Callback):
    """A line for each entry of the log, with the time that is left.

    Args:
        out: where to.
    """

    def __init__(self, out: Any) -> None:
        self._out, self._begun, self._from = out, 0.0, 0

    def on_train_begin(self, loop: TrainingLoop) -> None:
        self._begun, self._from = time.monotonic(), loop.state.global_step
        goes_on = f", going on after step {self._from:,}" if self._from else ""
        print(f"{loop.state.max_steps:,} steps in {loop.state.num_train_epochs} epochs{goes_on}", file=self._out)

    def on_log(self, loop: TrainingLoop, logs: dict[str, float]) -> None:
        state = loop.state
        if "train_runtime" in logs:
            return
        done = state.global_step - self._from
        seconds = time.monotonic() - self._begun
        left = seconds / max(done, 1) * (state.max_steps - state.global_step)
        values = {name.removeprefix("eval_"): value for name, value in logs.items() if name != "epoch"}
        told = "  ".join(
            f"{name} {value:.3g}" if name == "learning_rate" else f"{name} {value:.4f}" for name, value in values.items()
        )
        kind = "evaluation" if any(name.startswith("eval_") for name in logs) else f"{_clock(left)} left"
        print(
            f"step {state.global_step:>6,}/{state.max_steps:,}  epoch {state.epoch:.2f}  {kind:<12}  {told}",
            file=self._out,
            flush=True,
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
