"""Late interaction (ColBERT): texts in, for each a vector of every token out; queries and documents are compared token by token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, ClassVar, Literal, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nativebert import sentence
from nativebert.checks import at_least
from nativebert.engine import where
from nativebert.engine.cpu import CpuPlan
from nativebert.errors import BadInputError, RefusedError
from nativebert.hub import Snapshot
from nativebert.loading import LoadedModel
from nativebert.nn.packed import Packed, Ragged
from nativebert.tasks import steps
from nativebert.tasks.base import Task
from nativebert.tasks.call import Call, as_list, as_single_items
from nativebert.tasks.options import CallOptions, ReportOptions, TaskOptions
from nativebert.tasks.results import Report
from nativebert.tasks.windows import Windows, of_ids

TokenVectors = list[NDArray[np.float32]]
"""For each text the vectors of its tokens, ``(tokens, dimension)``."""

SCORES_AT_ONCE = 2**24  # products of a query's tokens with those of documents


class MultiVectorEmbedder(Task):
    """Vectors of every token, for late interaction (ColBERT, Khattab and Zaharia 2020, arXiv:2004.12832): a document's score for a query is the sum, over
    the query's tokens, of the largest product with one of the document's.

    What follows the encoder, prompts, lengths, the filling-up of queries and the tokens that are left out are read from the model's files: those of
    sentence-transformers' ``MultiVectorEncoder`` or of PyLate.

    Args:
        model: a folder, a Hub id, or a :class:`~nativebert.hub.Snapshot`.
        **options: see :class:`~nativebert.tasks.options.TaskOptions`. ``too_long="window"`` takes each token of a document from the window in
            which it stands farther from an edge.

    Attributes:
        config: what the model's files say.
        dimension: numbers of a vector.

    Raises:
        NativeBertError: one of its kinds, for a model that cannot be had or is not understood.
    """

    def __init__(self, model: str | PathLike[str] | Snapshot, **options: Unpack[TaskOptions]) -> None:
        super().__init__(model, **options)
        self._finish, self.dimension = self._steps()
        known = {word: self.tokenizer.token_to_id(word) for word in self.config.skiplist}
        unknown = self.tokenizer.unk_id
        self._skip = np.array(sorted({n for w, n in known.items() if n is not None and n != unknown}), np.int64)
        expansion = self.config.expansion
        self._mask: int | None = self.tokenizer.mask_id
        if expansion is not None and expansion.token is not None:
            self._mask = self.tokenizer.token_to_id(expansion.token)
        if expansion is not None and self._mask is None:
            raise RefusedError(
                f"{self.reference} fills queries up with {expansion.token or 'mask tokens'}, and its vocabulary has none"
            )

    _prepared: ClassVar[frozenset[str]] = Task._prepared | {"_finish", "_masked"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._finish, _ = self._steps()

    def _steps(self) -> tuple[list[steps.Apply], int]:
        width, chain = self.encoder.width, []
        for step in self.config.then:
            apply, width = steps.make(step, width, self.snapshot)
            chain.append(apply)
        return chain, width

    def _read_settings(self) -> None:
        if self.snapshot is None:
            raise BadInputError("MultiVectorEmbedder is made from a folder or a name, whose files say what follows the encoder")
        self.config = sentence.read_multivector(self.snapshot)
        self._file_settings = self.config.transformer

    def _prepare(self, model: LoadedModel, device: str, precision: str) -> None:
        expansion, self._masked = self.config.expansion, None
        if expansion is not None and not expansion.attend:
            if model.config.masked_padding:
                raise RefusedError(
                    f"{self.reference}: queries are filled up with tokens that nobody attends to, which nativebert does not compute for {model.config.family}"
                )
            if device == "cpu":  # whose kernels compute no tokens that nobody attends to
                if precision != "float32":
                    raise RefusedError(
                        f"{self.reference}: queries are filled up with tokens that nobody attends to: on the CPU in precision='float32' only"
                    )
                self._masked = CpuPlan(model)
        super()._prepare(model, device, precision)

    def __repr__(self) -> str:
        return f"MultiVectorEmbedder({self.reference!r}, dimension={self.dimension}, max_tokens={self.max_tokens}, {where(self.device)}, {self.precision})"

    @overload
    def __call__(
        self,
        texts: Iterable[str],
        *,
        kind: Literal["query", "document"] = "document",
        prompt: str | None = None,
        prompt_name: str | None = None,
        return_report: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> TokenVectors: ...
    @overload
    def __call__(
        self,
        texts: Iterable[str],
        *,
        kind: Literal["query", "document"] = "document",
        prompt: str | None = None,
        prompt_name: str | None = None,
        return_report: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[TokenVectors, Report]: ...
    def __call__(
        self,
        texts: Iterable[str],
        *,
        kind: Literal["query", "document"] = "document",
        prompt: str | None = None,
        prompt_name: str | None = None,
        **options: Unpack[ReportOptions],
    ) -> Any:
        """Vectors of the tokens of texts.

        Args:
            texts: a list (tuple, array, series, iterator) of strings; a single string is taken as a list of one.
            kind: what the texts are: ``"query"`` or ``"document"``.
            prompt: text to put before each text, in place of the model's own for the kind.
            prompt_name: or the name of one of the model's own prompts.
            **options: see :class:`~nativebert.tasks.options.CallOptions`.

        Returns:
            For each text float32 ``(tokens, dimension)``, special tokens included, without those that the model leaves out.

        Raises:
            BadInputError: something that is not a string, another kind, or an unknown prompt name.
            TooLongError: a text is longer than the limit and ``too_long="error"``.
            RefusedError: ``too_long="window"`` for queries.
        """
        if kind not in ("query", "document"):
            raise BadInputError(f"kind must be 'query' or 'document', not {kind!r}")
        items, options = as_list(texts), ReportOptions(**options)
        expansion = self.config.expansion if kind == "query" else None
        limit = self._limit(kind, options.get("max_tokens"))
        mark = self.tokenizer.token_to_id(self.config.marks.get(kind, "")) if self.config.marks.get(kind) else None
        prefix = self._prefix(kind, mark, prompt, prompt_name)
        options["max_tokens"] = limit if mark is None else limit - 1
        out: TokenVectors = []
        with Call(self, items, options) as call:
            if kind == "query" and call.options.too_long == "window":
                raise RefusedError("queries are not read in windows: pass too_long='truncate' or 'error'")
            for chunk in call.chunks():
                given = [prefix + text if isinstance(text, str) else text for text in chunk.items] if prefix else chunk.items
                ids = self.tokenizer.ids_batch(as_single_items(given, chunk.start), first=chunk.start).ids
                windows = self._filled(of_ids(chunk, ids), mark, 0 if expansion is None else expansion.length)
                compute = self.plan.hidden if expansion is None or expansion.attend else self._hidden_unattended
                rows = self._token_rows(windows, chunk, compute)
                out += self._vectors(windows, rows, kind, int(mark is not None))
        return call.returned(out)

    def queries(self, texts: Iterable[str], **options: Any) -> Any:
        """A call with ``kind="query"``."""
        return self(texts, kind="query", **options)

    def documents(self, texts: Iterable[str], **options: Any) -> Any:
        """A call with ``kind="document"``."""
        return self(texts, kind="document", **options)

    def similarity(
        self, queries: Sequence[NDArray[np.float32]], documents: Sequence[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Scores of each document for each query, float32 ``(queries, documents)``.

        Args:
            queries, documents: vectors of their tokens.

        Raises:
            BadInputError: what is not a table of numbers, or another width.
        """
        out = np.empty((len(queries), len(documents)), np.float32)
        for start, scores in self._scores(queries, documents):
            out[:, start : start + scores.shape[1]] = scores
        return out

    def rank(
        self, queries: Sequence[NDArray[np.float32]], documents: Sequence[NDArray[np.float32]], top_k: int = 10
    ) -> list[list[dict[str, Any]]]:
        """The best documents for each query.

        Args:
            queries, documents: vectors of their tokens.
            top_k: so many for each query.

        Returns:
            For each query ``{"document": index, "score": float}``, the best first; of equal scores the earlier document.

        Raises:
            BadInputError: as :meth:`similarity`, or ``top_k`` below 1.
        """
        keep = at_least(1, "top_k", top_k)
        best = [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in queries]
        for start, scores in self._scores(queries, documents):
            for n, row in enumerate(scores):
                values = np.concatenate([best[n][0], row])
                numbers = np.concatenate([best[n][1], np.arange(start, start + len(row))])
                order = np.argsort(-values, kind="stable")[:keep]
                best[n] = values[order], numbers[order]
        return [
            [{"document": d, "score": s} for s, d in zip(values.tolist(), numbers.tolist(), strict=True)]
            for values, numbers in best
        ]

    # -- the steps of a call

    def _limit(self, kind: str, asked: int | None) -> int:
        """Most tokens of a text."""
        expansion = self.config.expansion
        if kind == "query" and expansion is not None and expansion.fixed:
            return expansion.length
        own = self.config.query_length if kind == "query" else self.config.document_length
        limit = self.max_tokens if asked is None and own is None else own if asked is None else asked
        assert limit is not None
        return (
            max(limit, expansion.length) if kind == "query" and expansion is not None else min(limit, self.encoder.max_tokens)
        )

    def _prefix(self, kind: str, mark: int | None, prompt: str | None, name: str | None) -> str:
        """The text before each text: of the call, of the kind, and the kind's mark where it is not a token."""
        if prompt is None and name is None and kind in (self.config.prompts or {}):
            name = kind
        text = sentence.prompt_text(self.config.prompts, self.config.default_prompt, prompt, name)
        own = self.config.marks.get(kind, "")
        return text if mark is not None or prompt is not None else own + text.removeprefix(own)

    def _filled(self, windows: Windows, mark: int | None, length: int) -> Windows:
        """Sequences with their mark after the first special tokens, filled up to a length."""
        head = len(self.tokenizer.frame[0])
        ids = windows.ids if mark is None else [[*row[:head], mark, *row[head:]] for row in windows.ids]
        if length and self._mask is not None:
            ids = [[*row, *[self._mask] * (length - len(row))] for row in ids]
        return replace(windows, tokens=Ragged.of(ids))

    def _hidden_unattended(self, batch: Packed) -> Tensor:
        """Hidden states where no token attends to those that a query was filled up with, which stand after its last special token."""
        real = batch.ids.ne(-1 if self._mask is None else self._mask)
        attended = torch.ones_like(real)
        for start, end in zip(batch.cu_seqlens[:-1].tolist(), batch.cu_seqlens[1:].tolist(), strict=True):
            last = int(real[start:end].nonzero()[-1])
            attended[start + last + 1 : end] = False
        plan = self.plan if self._masked is None else self._masked
        return plan.hidden(replace(batch, attention_mask=attended))

    def _vectors(self, windows: Windows, rows: list[Tensor], kind: str, marks: int) -> TokenVectors:
        """Vectors of each text's tokens: of windows those that they own, and the special tokens of the first and last."""
        prefix, suffix = map(len, self.tokenizer.frame)
        ids = [torch.tensor(row) for row in windows.ids]
        starts = windows.starts.tolist()
        found = []
        for first, end in zip(starts, [*starts[1:], len(rows)], strict=True):
            if end - first == 1:
                states, tokens = rows[first], ids[first]
            else:
                parts = [
                    slice(prefix + marks + w.own_start - w.start, prefix + marks + w.own_end - w.start)
                    for w in windows.spans[first:end]
                ]
                states, tokens = (
                    torch.cat([of[first][: prefix + marks], *(of[first + n][part] for n, part in enumerate(parts)), of[end - 1][len(of[end - 1]) - suffix :]])
                    for of in (rows, ids)
                )  # fmt: skip
            keep = np.ones(len(tokens), bool)
            if kind in self.config.skip:
                keep = ~np.isin(tokens.numpy(), self._skip)
            vectors = states.float().numpy()
            for apply in self._finish:
                vectors = apply(vectors)
            found.append(np.ascontiguousarray(vectors[keep]))
        return found

    def _scores(
        self, queries: Sequence[NDArray[np.float32]], documents: Sequence[NDArray[np.float32]]
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The first document of each block, and the scores of the block's documents, ``(queries, block)``."""
        for name, vectors in (("queries", queries), ("documents", documents)):
            if any(not isinstance(x, np.ndarray) or x.ndim != 2 or x.shape[1] != self.dimension for x in vectors):
                raise BadInputError(
                    f"{name} must be arrays of shape (tokens, {self.dimension}), one for each text: embed texts first"
                )
        longest = max((len(q) for q in queries), default=0)
        start = 0
        while start < len(documents):
            stop, tokens = start, 0
            while stop < len(documents) and (
                stop == start or (tokens + len(documents[stop])) * max(longest, 1) <= SCORES_AT_ONCE
            ):
                tokens += len(documents[stop])
                stop += 1
            block = documents[start:stop]
            yield start, self._block(queries, block)
            start = stop

    def _block(self, queries: Sequence[NDArray[np.float32]], documents: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        lengths = np.array([len(d) for d in documents])
        full = np.flatnonzero(lengths)
        joined = np.concatenate([d for d in documents if len(d)]) if len(full) else np.empty((0, self.dimension), np.float32)
        bounds = np.cumsum(lengths[full]) - lengths[full]
        out = np.zeros((len(queries), len(documents)), np.float32)
        for n, query in enumerate(queries):
            if len(full) and len(query):
                most = np.maximum.reduceat(query @ joined.T, bounds, axis=1)  # (query's tokens, documents)
                out[n, full] = most.sum(0) / (len(query) if self.config.mean else 1)
        return out
