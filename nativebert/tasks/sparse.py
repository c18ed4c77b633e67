"""Sparse vectors over the vocabulary (SPLADE): texts in, for each the weights of a few tokens out."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from functools import partial
from os import PathLike
from typing import Any, ClassVar, Literal, NamedTuple, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nativebert import sentence
from nativebert.checks import at_least
from nativebert.engine import where
from nativebert.engine.plan import NonFiniteStates, is_finite
from nativebert.errors import Assumed, BadInputError, NotFoundError, RefusedError, TooLongError, warn
from nativebert.hub import Snapshot
from nativebert.nn.model import Model
from nativebert.nn.packed import Packed
from nativebert.tasks.base import Task
from nativebert.tasks.call import Call, Chunk, as_list
from nativebert.tasks.options import CallOptions, ReportOptions, TaskOptions
from nativebert.tasks.results import Report
from nativebert.tasks.windows import Windows, tokenized_ahead


class SparseVectors(NamedTuple):
    """Vectors of which nearly all numbers are zero, as compressed sparse rows: those that are not, row by row.

    Attributes:
        data: the numbers, float32 ``(n,)``.
        indices: their columns, ascending within a row, int32 ``(n,)``.
        indptr: where each row begins, and ``n``, int64 ``(rows + 1,)``.
        width: columns: tokens of the vocabulary.
    """

    data: NDArray[np.float32]
    indices: NDArray[np.int32]
    indptr: NDArray[np.int64]
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.indptr) - 1, self.width

    @property
    def rows(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """Columns and numbers of each row."""
        for start, end in zip(self.indptr[:-1].tolist(), self.indptr[1:].tolist(), strict=True):
            yield self.indices[start:end], self.data[start:end]

    def dense(self) -> NDArray[np.float32]:
        """All numbers, float32 ``(rows, width)``."""
        out = np.zeros(self.shape, np.float32)
        out[np.repeat(np.arange(len(out)), np.diff(self.indptr)), self.indices] = self.data
        return out

    def scipy(self) -> Any:
        """The same as ``scipy.sparse.csr_array``.

        Raises:
            NotFoundError: scipy is not installed.
        """
        if importlib.util.find_spec("scipy") is None:
            raise NotFoundError("scipy is not installed: pip install scipy, or use the arrays data, indices and indptr")
        from scipy.sparse import csr_array

        return csr_array((self.data, self.indices, self.indptr), shape=self.shape)

    def similarity(self, other: SparseVectors) -> NDArray[np.float32]:
        """Dot products of each row with each row of ``other``, float32 ``(rows, other rows)``.

        Raises:
            BadInputError: another width.
        """
        if self.width != other.width:
            raise BadInputError(
                f"vectors over {self.width} and {other.width} tokens cannot be compared: use one model for both"
            )
        out = np.empty((self.shape[0], other.shape[0]), np.float32)
        row = np.zeros(self.width, np.float32)
        bounds = other.indptr
        full = np.flatnonzero(np.diff(bounds))
        for n, (columns, values) in enumerate(self.rows):
            row[columns] = values
            products = row[other.indices] * other.data
            out[n] = 0.0
            out[n, full] = np.add.reduceat(products, bounds[full]) if len(full) else 0.0
            row[columns] = 0.0
        return out


class SparseEmbedder(Task):
    """Sparse vectors from an encoder with a masked-LM head: how much each token of the vocabulary matters for a text, whether it stands there or not
    (SPLADE, Formal et al. 2021, arXiv:2109.10086). They serve an inverted index; two vectors are compared by their dot product.

    The pooling, prompts and length limit are read from the model's sentence-transformers files (``SparseEncoder``).

    Args:
        model: a folder, a Hub id, a :class:`~nativebert.hub.Snapshot`, or a :class:`~nativebert.nn.model.Model` with a masked-LM head.
        **options: see :class:`~nativebert.tasks.options.TaskOptions`. ``too_long="window"`` takes the maximum over a text's windows.

    Attributes:
        config: what the model's files say.
        dimension: columns of a vector: tokens of the vocabulary.

    Raises:
        NativeBertError: one of its kinds, for a model that cannot be had or is not understood.
    """

    head: ClassVar[str | None] = "lm"

    def __init__(self, model: str | PathLike[str] | Snapshot | Model, **options: Unpack[TaskOptions]) -> None:
        super().__init__(model, **options)
        for note in self.config.assumed:
            warn(f"{self.reference}: {note}.", Assumed)
        self.dimension = self.encoder.heads["lm"].classes

    def _read_settings(self) -> None:
        self.config = sentence.read_sparse(self.snapshot) if self.snapshot else sentence.SparseConfig()
        self._file_settings = self.config.transformer

    def __repr__(self) -> str:
        return (
            f"SparseEmbedder({self.reference!r}, dimension={self.dimension}, max_tokens={self.max_tokens}, {self.config.pooling}, {where(self.device)}, "
            f"{self.precision})"
        )

    @overload
    def __call__(
        self,
        texts: Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        top_k: int | None = None,
        return_report: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> SparseVectors: ...
    @overload
    def __call__(
        self,
        texts: Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        top_k: int | None = None,
        return_report: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[SparseVectors, Report]: ...
    def __call__(
        self,
        texts: Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        top_k: int | None = None,
        **options: Unpack[ReportOptions],
    ) -> Any:
        """Sparse vectors of texts.

        Args:
            texts: a list (tuple, array, series, iterator) of strings; a single string is taken as a list of one.
            prompt: text to put before each text.
            prompt_name: or the name of one of the model's own prompts.
            top_k: keep only so many tokens of each text, those of the largest weights; None for all.
            **options: see :class:`~nativebert.tasks.options.CallOptions`.

        Returns:
            :class:`SparseVectors`, one row for each text; with ``return_report`` also the report.

        Raises:
            BadInputError: something that is not a string, or an unknown prompt name.
            TooLongError: a text is longer than ``max_tokens`` and ``too_long="error"``, or the prompt leaves no room.
            RefusedError: ``too_long="window"``, and the model sums over tokens, of which windows share some.
        """
        keep = None if top_k is None else at_least(1, "top_k", top_k)
        prefix = self.prompt_text(prompt, prompt_name)
        special = self.tokenizer.n_special()
        taken = len(self.tokenizer.ids_batch([prefix]).ids[0]) if prefix else special
        items = as_list(texts)
        rows: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = []
        with Call(self, items, options) as call:
            if prefix and taken >= call.options.max_tokens:
                raise TooLongError(
                    f"the prompt alone takes {taken} of {call.options.max_tokens} tokens and leaves no room for text; shorten it"
                )
            if self.config.pooling == "sum" and call.options.too_long == "window":
                raise RefusedError(
                    f"{self.reference} sums over tokens, of which windows share some: pass too_long='truncate' or 'error'"
                )
            for chunk, windows in tokenized_ahead(call, prefix):
                found = self._weights(windows, chunk)
                for start, end in zip(windows.starts.tolist(), [*windows.starts[1:].tolist(), len(found)], strict=True):
                    rows.append(_largest(_maximum(found[start:end]), keep))
        return call.returned(_stacked(rows, self.dimension))

    def tokens(self, vectors: SparseVectors, top_k: int | None = None) -> list[dict[str, float]]:
        """The weights of each row by the tokens as the vocabulary writes them, the largest first.

        Args:
            vectors: of this model.
            top_k: so many of each; None for all.

        Raises:
            BadInputError: vectors over another vocabulary.
        """
        if vectors.width != self.dimension:
            raise BadInputError(f"the vectors have {vectors.width} columns, and this model {self.dimension} tokens")
        keep = None if top_k is None else at_least(1, "top_k", top_k)
        names: dict[int, str] = {}
        out = []
        for columns, values in vectors.rows:
            order = np.argsort(-values, kind="stable")[:keep]
            for column in columns[order].tolist():
                if column not in names:
                    names[column] = self.tokenizer.id_to_token(column) or f"[{column}]"
            out.append({names[c]: v for c, v in zip(columns[order].tolist(), values[order].tolist(), strict=True)})
        return out

    def prompt_text(self, prompt: str | None = None, name: str | None = None) -> str:
        """The text put before each text, by the ``prompt`` and ``prompt_name`` of a call; empty for nothing.

        Raises:
            BadInputError: both, an unknown name, or what is not a string.
        """
        return sentence.prompt_text(self.config.prompts, self.config.default_prompt, prompt, name)

    # -- the steps of a call

    def _weights(self, windows: Windows, chunk: Chunk) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """Columns and weights of each sequence."""
        most = self.config.pooling == "max"
        compute = partial(self.plan.logits, task="lm", reduce="max") if most else self._sums
        found: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = [(np.empty(0, np.int32), np.empty(0, np.float32))] * len(
            windows.ids
        )
        for rows, _, x in self._run(windows, chunk, compute, checked=True):
            dense = (self._activated(x) if most else x).cpu().numpy()  # (B, V); the maximum of what grows is that of the logits
            for n, values in zip(rows.tolist(), dense, strict=True):
                columns = np.flatnonzero(values)
                found[n] = columns.astype(np.int32), values[columns]
        return found

    def _activated(self, logits: Tensor) -> Tensor:
        weights = torch.log1p(logits.relu())
        return weights if self.config.activation == "relu" else torch.log1p(weights)

    def _sums(self, batch: Packed) -> Tensor:
        """The sums over each sequence's tokens, ``(B, V)``; one sequence at a time, so that none depends on others."""
        hidden = self.plan.hidden(batch).float()
        if not is_finite(hidden):
            raise NonFiniteStates(hidden)
        parts = torch.split(hidden, list(batch.lengths))
        return torch.stack([self._activated(self.plan.head_logits("lm", part)).sum(0) for part in parts])


def _maximum(parts: list[tuple[NDArray[np.int32], NDArray[np.float32]]]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The largest weight of each column over the windows of a text."""
    if len(parts) == 1:
        return parts[0]
    columns, values = (np.concatenate(x) for x in zip(*parts, strict=True))
    order = np.argsort(columns, kind="stable")
    kept, starts = np.unique(columns[order], return_index=True)
    return kept, np.maximum.reduceat(values[order], starts) if len(kept) else values


def _largest(
    row: tuple[NDArray[np.int32], NDArray[np.float32]], keep: int | None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    columns, values = row
    if keep is None or len(columns) <= keep:
        return row
    order = np.sort(np.argsort(-values, kind="stable")[:keep])
    return columns[order], values[order]


def _stacked(rows: list[tuple[NDArray[np.int32], NDArray[np.float32]]], width: int) -> SparseVectors:
    indptr = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(columns) for columns, _ in rows], out=indptr[1:])
    indices = np.concatenate([columns for columns, _ in rows]) if rows else np.empty(0, np.int32)
    data = np.concatenate([values for _, values in rows]) if rows else np.empty(0, np.float32)
    return SparseVectors(data, indices, indptr, width)
