"""``SentenceTransformerTrainer``: training of sentence embeddings by the calls of sentence-transformers, on :class:`~nativebert.hf.trainer.Trainer`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from nativebert.arch import family
from nativebert.errors import BadInputError, RefusedError
from nativebert.hf.losses import CoSENTLoss, EmbeddingLoss
from nativebert.hf.models import MODELS, PreTrainedModel
from nativebert.hf.sentence import SentenceTransformer
from nativebert.hf.trainer import Trainer
from nativebert.hf.training_arguments import TrainingArguments
from nativebert.nn.packed import Packed
from nativebert.nn.pool import pool

_LABELS = ("label", "labels", "score", "scores")


class BatchSamplers:
    """How batches are made: ``BATCH_SAMPLER`` at random; ``NO_DUPLICATES`` at random, and no text twice in a batch."""

    BATCH_SAMPLER, NO_DUPLICATES, GROUP_BY_LABEL = "batch_sampler", "no_duplicates", "group_by_label"


class NoDuplicatesBatchSampler(Sampler[list[int]]):
    """Batches in which no text occurs twice, so that a text is never among its own negatives. Reference: sentence-transformers'
    sampler of this name.

    Args:
        texts: of each row.
        batch_size: rows of a batch.
        drop_last: leave out batches that are not full.
        seed: of the order in the first epoch.
    """

    def __init__(self, texts: Sequence[frozenset[str]], batch_size: int, drop_last: bool, seed: int) -> None:
        self.texts, self.batch_size, self.drop_last, self.seed, self.epoch = texts, batch_size, drop_last, seed, 0

    def __len__(self) -> int:
        full, rest = divmod(len(self.texts), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        generator, made = torch.Generator().manual_seed(self.seed + self.epoch), 0
        while made < len(self):  # rows are drawn again where their texts fill too few batches
            before = made
            for batch in self._batches(torch.randperm(len(self.texts), generator=generator, dtype=torch.int32).tolist()):
                made += 1
                yield batch
            if made == before:
                raise BadInputError(
                    f"too few different texts for a batch of {self.batch_size}: lower per_device_train_batch_size, or pass dataloader_drop_last=False"
                )

    def _batches(self, order: list[int]) -> Iterator[list[int]]:
        """Each row in the first batch that has none of its texts and comes after the last full one."""
        waiting, following = deque[int](), iter(order)
        while True:
            batch, seen, again = list[int](), set[str](), list[int]()
            for row in chain(_drain(waiting), following):
                if seen.isdisjoint(self.texts[row]):
                    batch.append(row)
                    seen |= self.texts[row]
                    if len(batch) == self.batch_size:
                        break
                else:
                    again.append(row)
            waiting.extendleft(reversed(again))
            if not batch:
                return
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch


def _drain(rows: deque[int]) -> Iterator[int]:
    while rows:
        yield rows.popleft()


class SentenceTransformerTrainingArguments(TrainingArguments):
    """Options of a :class:`SentenceTransformerTrainer`: those of :class:`~nativebert.hf.training_arguments.TrainingArguments`, and

    Attributes:
        batch_sampler: one of :class:`BatchSamplers`; ``"group_by_label"`` is refused.
        prompts: a text to put before each text: one for all columns, or by the column's name.
    """

    batch_sampler: str = BatchSamplers.BATCH_SAMPLER
    prompts: Any = None

    def __init__(
        self, output_dir: Any = None, *, batch_sampler: Any = "batch_sampler", prompts: Any = None, **arguments: Any
    ) -> None:
        sampler = str(getattr(batch_sampler, "value", batch_sampler))
        if sampler not in (BatchSamplers.BATCH_SAMPLER, BatchSamplers.NO_DUPLICATES):
            raise RefusedError(f"batch_sampler={batch_sampler!r} is not supported: use 'batch_sampler' or 'no_duplicates'")
        arguments.pop("multi_dataset_batch_sampler", None)  # of several datasets, which the trainer refuses
        super().__init__(output_dir, **arguments)
        self.batch_sampler, self.prompts = sampler, prompts


@dataclass
class SentenceTransformerModelCardData:
    """What a model card says beside what is measured, for ``SentenceTransformer(model_card_data=)``: taken, and of no effect on results."""

    language: str | Sequence[str] | None = None
    license: str | None = None
    model_name: str | None = None
    model_id: str | None = None
    train_datasets: Sequence[Any] = ()
    eval_datasets: Sequence[Any] = ()
    task_name: str = ""
    tags: Sequence[str] = ()
    generate_widget_examples: bool = True


@dataclass
class InputExample:
    """Texts with a label, for :meth:`nativebert.hf.SentenceTransformer.fit`."""

    guid: str = ""
    texts: Sequence[str] = ()
    label: float = 0


class SentenceTransformerTrainer(Trainer):
    """Fine-tune a :class:`~nativebert.hf.sentence.SentenceTransformer`.

    Args:
        model: the model; its vectors are those of the trained weights after :meth:`train`.
        args: options; None for the defaults.
        train_dataset, eval_dataset: examples with one column for each text, in order, and maybe one called ``label``, ``labels``, ``score`` or
            ``scores``.
        loss: one of :mod:`nativebert.hf.losses`; None for :class:`~nativebert.hf.losses.CoSENTLoss`.
        evaluator: called with the model at each evaluation, or several of them.
        callbacks: as of :class:`~nativebert.hf.trainer.Trainer`.
        **more: other arguments of sentence-transformers, which have to be None.

    Raises:
        BadInputError, RefusedError: something that is not supported, or modules after pooling that would not be trained.
    """

    _needs_head = False

    def __init__(
        self,
        model: SentenceTransformer,
        args: TrainingArguments | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        loss: EmbeddingLoss | None = None,
        evaluator: Any = None,
        callbacks: Sequence[Any] | None = None,
        **more: Any,
    ) -> None:
        if unknown := [
            name for name, value in more.items() if value is not None and name not in ("tokenizer", "processing_class")
        ]:
            raise RefusedError(f"SentenceTransformerTrainer does not support {unknown[0]}=")
        if not isinstance(model, SentenceTransformer):
            raise BadInputError(
                f"SentenceTransformerTrainer takes a SentenceTransformer of nativebert.hf, not a {type(model).__name__}"
            )
        if isinstance(train_dataset, Mapping) or isinstance(loss, Mapping):
            raise RefusedError("several datasets, or losses, at a time are not supported: train on one after the other")
        loss = CoSENTLoss(model) if loss is None else loss
        if not isinstance(loss, EmbeddingLoss):
            raise BadInputError(f"loss must be one of nativebert.hf.losses, not a {type(loss).__name__}")
        self.sentence_transformer, self.loss, self.evaluator = model, loss, evaluator
        native = model.trainable()
        kind = MODELS[family(native.config.family).stem + "Model"]
        args = SentenceTransformerTrainingArguments("tmp_trainer") if args is None else args
        super().__init__(
            kind(model.config, native),
            args,
            self._columns_of,
            train_dataset,
            eval_dataset,
            model.tokenizer,
            callbacks=callbacks,
        )
        self.args.remove_unused_columns = False
        self.label_names = ["label"]

    @staticmethod
    def _columns_of(rows: Sequence[Any]) -> dict[str, Any]:
        """A batch: the texts of each column, and the labels."""
        rows = [dict(row) for row in rows]
        named = next((name for name in _LABELS if name in rows[0]), None)
        texts = {name: [row[name] for row in rows] for name in rows[0] if name != named}
        if wrong := [name for name, column in texts.items() if not all(isinstance(text, str) for text in column)]:
            raise BadInputError(f"column {wrong[0]!r} holds something that is not text; labels are called {', '.join(_LABELS)}")
        labels = {} if named is None else {"label": torch.tensor([float(row[named]) for row in rows])}
        return {**texts, **labels}

    def get_train_dataloader(self) -> Any:
        """The batches of training; override it for your own."""
        if getattr(self.args, "batch_sampler", "") != BatchSamplers.NO_DUPLICATES or self.train_dataset is None:
            return super().get_train_dataloader()
        rows = [dict(row) for row in self.train_dataset]
        texts = [frozenset(str(value) for name, value in row.items() if name not in _LABELS) for row in rows]
        sampler = NoDuplicatesBatchSampler(texts, self.args.train_batch_size, self.args.dataloader_drop_last, self.args.seed)
        return DataLoader(self.train_dataset, batch_sampler=sampler, collate_fn=self._collate)

    def _vectors(self, model: PreTrainedModel, columns: Mapping[str, Sequence[str]]) -> list[Tensor]:
        """Vectors of each column, with their graph."""
        st, native = self.sentence_transformer, model.native
        prompts = getattr(self.args, "prompts", None) or {}
        named = {name: prompts if isinstance(prompts, str) else prompts.get(name, "") for name in columns}
        texts = [named[name] + text for name, column in columns.items() for text in column]
        ids = st.training_ids(texts)
        order = np.argsort([len(one) for one in ids], kind="stable")
        packed = Packed.of([ids[n] for n in order], position_pad_id=native.config.position_pad_id).to(native.device)
        pooled = pool(native.encode(packed).hidden, packed, st.pooling)
        if st.normalizes:
            pooled = F.normalize(pooled, dim=-1)
        back = torch.from_numpy(np.argsort(order, kind="stable")).to(pooled.device)
        return list(torch.split(pooled[back], [len(column) for column in columns.values()]))

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Tensor | int | None = None
    ) -> Any:
        """The loss of a batch of texts; override it for your own."""
        labels = inputs.get("label")
        columns = {name: column for name, column in inputs.items() if name != "label"}
        size, rows = self.loss.mini_batch_size, len(next(iter(columns.values())))
        if size is None or size >= rows or not torch.is_grad_enabled():
            loss = self.loss.pair_loss(self._vectors(model, columns), labels).mean
        else:
            loss = self._cached(model, columns, labels, size, rows)
        return (loss, {"loss": loss}) if return_outputs else loss

    def _cached(self, model: Any, columns: Mapping[str, Sequence[str]], labels: Tensor | None, size: int, rows: int) -> Tensor:
        """The loss over all vectors. Its gradients are carried through the encoder here, part by part, so what is returned has none."""
        parts = [{name: column[n : n + size] for name, column in columns.items()} for n in range(0, rows, size)]
        states, passes, kept = [], self.passes, []
        for part in parts:
            states.append(torch.get_rng_state())  # so that dropout is the same the second time
            with torch.no_grad():
                kept.append(self._vectors(model, part))
        leaves = [torch.cat([part[n] for part in kept]).requires_grad_() for n in range(len(columns))]
        loss = self.loss.pair_loss(leaves, labels).mean
        (loss / self.current_gradient_accumulation_steps).backward()  # type: ignore[no-untyped-call]
        after, self.passes = torch.get_rng_state(), passes
        for n, part in enumerate(parts):
            torch.set_rng_state(states[n])
            gradients = [leaf.grad[n * size : (n + 1) * size] for leaf in leaves if leaf.grad is not None]
            torch.autograd.backward(self._vectors(model, part), gradients)
        torch.set_rng_state(after)
        return loss.detach().requires_grad_()

    def prediction_step(
        self, model: Any, inputs: Mapping[str, Any], prediction_loss_only: bool, ignore_keys: Sequence[str] | None = None
    ) -> tuple[Any, Any, Any]:
        """The loss of a batch, which texts without labels have too; override it for your own."""
        return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Sequence[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The loss on the evaluation data, and what the evaluators find."""
        found: dict[str, float] = {}
        if eval_dataset is not None or self.eval_dataset is not None:
            found = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        evaluators = self.evaluator if isinstance(self.evaluator, list | tuple) else [self.evaluator] if self.evaluator else []
        if evaluators:
            with self._settled():
                self.sentence_transformer.take(self.model.native)
                metrics = {name: value for one in evaluators for name, value in one(self.sentence_transformer).items()}
            metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
            self.log(dict(metrics))
            self.event("on_evaluate", metrics=metrics)
            found |= metrics
        return found

    def train(self, resume_from_checkpoint: bool | str | PathLike[str] | None = None, **options: Any) -> Any:
        """Train; the :class:`~nativebert.hf.sentence.SentenceTransformer` has the new weights afterwards."""
        try:
            return super().train(resume_from_checkpoint, **options)
        finally:
            self.sentence_transformer.take(self.model.native)

    def save_model(self, output_dir: str | PathLike[str] | None = None, _internal_call: bool = False) -> None:
        """Write the model to a folder that sentence-transformers loads."""
        self.sentence_transformer.take(self.model.native)
        self.sentence_transformer.save_pretrained(Path(output_dir if output_dir is not None else self.args.output_dir))


def fit(
    model: SentenceTransformer,
    train_objectives: Iterable[tuple[Any, EmbeddingLoss]],
    evaluator: Any = None,
    epochs: int = 1,
    scheduler: str = "WarmupLinear",
    warmup_steps: int = 10_000,
    optimizer_params: Mapping[str, Any] | None = None,
    weight_decay: float = 0.01,
    evaluation_steps: int = 0,
    output_path: str | None = None,
    max_grad_norm: float = 1.0,
    show_progress_bar: bool = True,
    **more: Any,
) -> None:
    """What :meth:`nativebert.hf.SentenceTransformer.fit` does: see there."""
    schedules = {
        "WarmupLinear": "linear",
        "WarmupCosine": "cosine",
        "ConstantLR": "constant",
        "WarmupConstant": "constant_with_warmup",
    }
    if scheduler not in schedules:
        raise BadInputError(f"scheduler must be one of {', '.join(schedules)}, not {scheduler!r}")
    harmless = {"save_best_model", "use_amp", "callback", "checkpoint_path", "steps_per_epoch", "optimizer_class"}
    if unknown := [name for name, value in more.items() if value and name not in harmless]:
        raise RefusedError(f"fit does not support {unknown[0]}=: use SentenceTransformerTrainer")
    objectives = list(train_objectives)
    if len(objectives) != 1:
        raise RefusedError(f"fit takes one objective, not {len(objectives)}: train on one after the other")
    loader, loss = objectives[0]
    rows = [
        {**{f"sentence_{n}": text for n, text in enumerate(example.texts)}, "label": example.label}
        for example in loader.dataset
    ]
    args = SentenceTransformerTrainingArguments(
        output_path or "checkpoints/model", num_train_epochs=epochs, per_device_train_batch_size=loader.batch_size or 16,
        learning_rate=(optimizer_params or {"lr": 2e-5})["lr"], lr_scheduler_type=schedules[scheduler], warmup_steps=warmup_steps,
        weight_decay=weight_decay, max_grad_norm=max_grad_norm, save_strategy="no", report_to="none", disable_tqdm=not show_progress_bar,
        eval_strategy="steps" if evaluation_steps and evaluator else "epoch" if evaluator else "no", eval_steps=evaluation_steps or None,
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(model, args, rows, loss=loss, evaluator=evaluator)
    trainer.train()
    if output_path is not None:
        model.save_pretrained(output_path)
