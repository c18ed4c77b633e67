"""Sentence embeddings: texts that belong together get vectors that lie together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nativebert import sentence
from nativebert.errors import BadInputError, RefusedError
from nativebert.files import write_json
from nativebert.loading import LoadedModel, load
from nativebert.nn.pool import pool
from nativebert.tasks.embed import Embedder
from nativebert.train import data as tables
from nativebert.train import metrics
from nativebert.train.batches import epoch_batches
from nativebert.train.contrastive import LOSSES, PairLoss, matryoshka
from nativebert.train.data import Table
from nativebert.train.distributed import Processes
from nativebert.train.encode import encode_texts, max_tokens
from nativebert.train.evaluation import Evaluation, NumberEvaluation, RankEvaluation
from nativebert.train.objective import Objective, Sequences
from nativebert.train.options import TrainingOptions
from nativebert.train.run import FineTuned, Plan, RunSettings, Source, describe, options_of, run, split
from nativebert.train.step import Step

LossName = Literal["multiple_negatives", "cosine_similarity", "cosent", "triplet"]


class Examples:
    """Rows of several texts, and maybe a score.

    Args:
        columns: the texts of each column, as many in each.
        scores: of each row; None for none.
    """

    def __init__(self, columns: Sequence[Sequence[str]], scores: Sequence[float] | None = None) -> None:
        self.columns, self.scores = [list(column) for column in columns], None if scores is None else list(map(float, scores))

    def __len__(self) -> int:
        return len(self.columns[0])

    @property
    def rows(self) -> list[str]:
        """All texts, row by row."""
        return [text for row in zip(*self.columns) for text in row]


class Embedding(Objective):
    """Learn vectors of texts.

    Args:
        model: an encoder without head, in the folder of a sentence-transformers model, or a plain one.
        train, evaluation: the rows.
        options: of the run.
        loss: of the vectors.
        limit: most tokens of a text; longer ones are cut.
        mini_batch_size: rows that are computed at a time: with fewer than a batch has, each is computed twice, and what one batch may have of
            rows does not depend on memory (GradCache: Gao et al. 2021, arXiv:2101.06983). None for a whole batch.
    """

    task = "embed"
    evaluation: Examples | None

    def __init__(
        self,
        model: LoadedModel,
        train: Examples,
        evaluation: Examples | None,
        options: TrainingOptions,
        *,
        loss: PairLoss,
        limit: int,
        mini_batch_size: int | None = None,
    ) -> None:
        encoded = encode_texts(model, train.rows, limit=limit)
        super().__init__(model, encoded, evaluation, options)
        self.rows, self.pair_loss, self.limit = train, loss, limit
        self.mini_batch_size = mini_batch_size
        self._width = len(train.columns)
        self.config = sentence.read(model.snapshot) if model.snapshot is not None else sentence.SentenceConfig()
        if other := [step for step in self.config.then if not isinstance(step, sentence.Truncate) and step != "normalize"]:
            raise RefusedError(
                f"{model.reference} has a {type(other[0]).__name__} module after pooling, which is not trained here: train it with sentence-transformers"
            )
        scored = evaluation is not None and evaluation.scores is not None
        self.default_metric = "spearman_cosine" if scored else "accuracy"

    def fingerprint(self) -> dict[str, Any]:
        return super().fingerprint() | {"mini_batch_size": self.mini_batch_size}

    def epoch_batches(self, epoch: int, processes: Processes) -> list[NDArray[np.int64]]:
        if processes.count > 1:
            raise RefusedError("embeddings are trained in one process: negatives come from the whole batch")
        options = self.options
        lengths = self.train.lengths.reshape(-1, self._width).sum(1)
        return epoch_batches(lengths, options.batch_size, options.seed, epoch, group_by_length=options.group_by_length)

    def batch(self, item: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        return item

    def vectors(self, step: Step, rows: NDArray[np.int64]) -> list[Tensor]:
        """Vectors of some rows, ``(rows, n)`` for each column, with their graph."""
        packed, order = self.train.pack((rows[:, None] * self._width + np.arange(self._width)).reshape(-1), self.model)
        place = {int(n): k for k, n in enumerate(order)}
        pooled = pool(step.encode(packed), packed, self.config.pooling)
        wanted = [[place[int(row) * self._width + column] for row in rows] for column in range(self._width)]
        for what in self.config.then:
            pooled = F.normalize(pooled, dim=-1) if what == "normalize" else pooled[:, : what.width]  # type: ignore[union-attr]
        return [pooled[torch.tensor(places)] for places in wanted]

    def backward(self, step: Step, batches: Sequence[NDArray[np.int64]], processes: Processes) -> float:
        total = 0.0
        for rows in batches:  # each is a batch of its own: a row's negatives are those of its batch
            scores = None if self.rows.scores is None else torch.tensor([self.rows.scores[n] for n in rows])
            size = self.mini_batch_size or len(rows)
            parts = [rows[start : start + size] for start in range(0, len(rows), size)]
            if len(parts) == 1:
                step.micro_batch(0)
                found = self.pair_loss(self.vectors(step, rows), scores).mean / len(batches)
                found.backward()  # type: ignore[no-untyped-call]
            else:
                found = self._cached(step, parts, scores, len(batches))
            total += float(found.detach())
        return total

    def _cached(self, step: Step, parts: Sequence[NDArray[np.int64]], scores: Tensor | None, count: int) -> Tensor:
        """The loss over all vectors, whose gradients are carried through the encoder part by part."""
        states, kept = [], []
        for n, rows in enumerate(parts):
            states.append(torch.get_rng_state())  # so that dropout is the same the second time
            step.micro_batch(n)
            with torch.no_grad():
                kept.append(self.vectors(step, rows))
        leaves = [torch.cat([part[column] for part in kept]).requires_grad_() for column in range(self._width)]
        loss = self.pair_loss(leaves, scores).mean / count
        loss.backward()  # type: ignore[no-untyped-call]
        after, start = torch.get_rng_state(), 0
        for n, rows in enumerate(parts):
            torch.set_rng_state(states[n])
            step.micro_batch(n)
            gradients = [leaf.grad[start : start + len(rows)] for leaf in leaves if leaf.grad is not None]
            torch.autograd.backward(self.vectors(step, rows), gradients)
            start += len(rows)
        torch.set_rng_state(after)
        return loss

    def save(self, folder: Path) -> None:
        super().save(folder)
        if not (folder / "modules.json").exists():
            write_modules(folder, self.model.config.width, self.config.pooling, self.limit)

    def _evaluated(self, held: Examples) -> list[NDArray[Any]]:
        """Unit vectors of the evaluation's columns."""
        with self.evaluating() as model:
            embed = Embedder(model, device=self.device, pooling=self.config.pooling, normalize=True, max_tokens=self.limit)
        return [embed(column, progress=False) for column in held.columns]

    def evaluate(self) -> dict[str, float]:
        """Correlations of cosines and scores; or how often a row's second text is the nearest, of those of all rows, and for triplets nearer
        than the third."""
        held = self.evaluation
        if held is None:
            return {}
        columns = self._evaluated(held)
        if held.scores is not None:
            return metrics.similarity(np.asarray(held.scores), (columns[0] * columns[1]).sum(1))
        similar = columns[0] @ columns[1].T
        own = np.diag(similar)
        ranks = 1 + (similar > own[:, None]).sum(1)
        found = {"accuracy": float((ranks == 1).mean()), "mrr": float((1 / ranks).mean())}
        if len(columns) > 2:
            found["triplet_accuracy"] = float((own > (columns[0] * columns[2]).sum(1)).mean())
        return found

    def evaluation_details(self) -> Evaluation | None:
        held = self.evaluation
        if held is None:
            return None
        columns = self._evaluated(held)
        texts = list(zip(held.columns[0], held.columns[1]))
        if held.scores is not None:
            cosines, scores = (columns[0] * columns[1]).sum(1), np.asarray(held.scores)
            return NumberEvaluation(texts=texts, gold=scores, predicted=cosines, names=("score", "cosine"), by_rank=True)
        similar = columns[0] @ columns[1].T
        ranks = 1 + (similar > np.diag(similar)[:, None]).sum(1)
        return RankEvaluation(texts=texts, ranks=ranks, nearest=[held.columns[1][n] for n in similar.argmax(1)])


def write_modules(folder: Path, width: int, pooling: Sequence[str], limit: int) -> None:
    """Make a folder with an encoder one of sentence-transformers: pooling, and the longest text."""
    kinds = {"transformer": "sentence_transformers.models.Transformer", "pooling": "sentence_transformers.models.Pooling"}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    names = {
        "cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "max": "pooling_mode_max_tokens",
        "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens", "weightedmean": "pooling_mode_weightedmean_tokens",
        "lasttoken": "pooling_mode_lasttoken",
    }  # fmt: skip
    modes = {key: name in pooling for name, key in names.items()}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **modes})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": False})
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": kinds["transformer"]},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": kinds["pooling"]},
    ]
    write_json(folder / "modules.json", modules)


ANCHOR = ("anchor", "query", "question", "sentence1", "text1", "premise")
POSITIVE = ("positive", "answer", "sentence2", "text2", "passage", "hypothesis")
SCORE = ("score", "similarity_score", "label", "similarity")


def embed(
    data: Source,
    model: str | PathLike[str],
    output: str | PathLike[str] | None = None,
    *,
    evaluation: Source | None = None,
    columns: Sequence[str] | None = None,
    score: str | None = None,
    loss: LossName | None = None,
    matryoshka_dims: Sequence[int] | None = None,
    mini_batch_size: int | None = None,
    max_length: int | None = None,
    validation_split: float = 0.1,
    **settings: Unpack[RunSettings],
) -> FineTuned:
    """Fine-tune a model for sentence embeddings.

    Args:
        data: a table, as for :func:`nativebert.train.classify`: pairs (anchor and positive), maybe with a column ``negative``; or two texts
            with a score, which is brought to between 0 and 1.
        model: a folder, or a model on the Hub: of sentence-transformers, or a plain encoder, which gets mean pooling.
        output: a folder for checkpoints, and at the end for the model, which sentence-transformers loads; None to save nothing.
        evaluation: a table to evaluate with; None to hold out a share of the data.
        columns: the columns of texts, in order; None for the usual names.
        score: the column of scores; None for the usual names.
        loss: None for ``"cosent"`` where there are scores, else ``"multiple_negatives"``, in whose batches every other row is a negative.
        matryoshka_dims: also train the vectors' first so many numbers, for each of these widths.
        mini_batch_size: rows that are computed at a time, for batches larger than memory.
        max_length: most tokens of a text; None for the model's own limit.
        validation_split: share that is held out for evaluation; 0 for none.
        **settings: see :class:`~nativebert.train.options.TrainingOptions` and :class:`~nativebert.train.run.ModelOptions`.

    Raises:
        BadInputError: no such columns, or a loss that the columns do not fit.
        NativeBertError: the model cannot be loaded, or the run ends: see :meth:`nativebert.train.loop.TrainingLoop.run`.
    """
    options, how, extra = options_of(settings)
    table = tables.read_table(data)
    names = list(columns) if columns is not None else _columns(table)
    for name in names:
        table.column("columns", (), name)
    scored = score if score is not None else next((name for name in SCORE if name in table.columns), None)
    if scored is not None:
        table.column("score", (), scored)
    wanted = loss or ("cosent" if scored is not None and len(names) == 2 else "multiple_negatives")
    if wanted not in LOSSES:
        raise BadInputError(f"loss must be one of {', '.join(LOSSES)}, not {wanted!r}")
    if wanted in ("cosent", "cosine_similarity") and (scored is None or len(names) != 2):
        raise BadInputError(f"loss={wanted!r} needs two columns of texts and one of scores; there are {', '.join(names)}")
    if wanted == "triplet" and len(names) != 3:
        raise BadInputError(f"loss='triplet' needs an anchor, a positive and a negative; there are {', '.join(names)}")
    train, held = split(
        table,
        evaluation,
        validation_split,
        options,
        names[:1],
        required=[*names[1:], *([scored] if scored else [])],
        missing=extra.get("missing", "error"),
    )
    torch.manual_seed(options.seed)
    loaded = load(model, head=None, revision=how.revision, offline=how.offline)
    if loaded.dtype != torch.float32:
        loaded = loaded.float()
    own = sentence.read(loaded.snapshot).transformer.max_tokens if loaded.snapshot is not None else None
    limit = max_tokens(loaded, max_length if max_length is not None else own)
    low, high = _range(train, scored)

    def examples(rows: Table) -> Examples:
        values = None if scored is None else [(v - low) / (high - low) for v in rows.number_column(scored)]
        return Examples([rows.texts(name) for name in names], values)

    function: PairLoss = LOSSES[wanted]
    if matryoshka_dims is not None:
        function = matryoshka(function, matryoshka_dims)
    objective = Embedding(
        loaded,
        examples(train),
        None if held is None else examples(held),
        options,
        loss=function,
        limit=limit,
        mini_batch_size=mini_batch_size,
    )
    texts = list(zip(*(train.texts(name) for name in names)))
    held_texts = None if held is None else list(zip(*(held.texts(name) for name in names)))
    cut = objective.train.cut_tokens
    assert cut is not None
    rows = np.repeat(np.arange(len(texts)), len(names)).tolist()
    whole = Sequences(objective.train.ids, None, {}, rows, cut.reshape(-1, len(names)).sum(1))
    report = replace(describe(train, texts, None, {}, whole, limit, held_texts), windows=0)
    fingerprint = {"data": table.fingerprint, "loss": wanted, "max_length": limit, "matryoshka_dims": matryoshka_dims}
    return run(Plan(loaded, objective, report, fingerprint), output, options, how, extra)


def _columns(table: Table) -> list[str]:
    """The columns of texts."""
    names = [table.column("columns", ANCHOR), table.column("columns", POSITIVE)]
    return [*names, *(name for name in table.columns if name.startswith("negative"))]


def _range(table: Table, name: str | None) -> tuple[float, float]:
    """What scores are brought to between 0 and 1 from: 0 to 1, 0 to 5, or what there is."""
    if name is None:
        return 0.0, 1.0
    values = table.number_column(name)
    low, high = min(values), max(values)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if low == high:
        raise BadInputError(f"{table.name}: every score is {low}, so there is nothing to learn")
    return (0.0, 5.0) if low >= 0 and high <= 5 else (low, high)
