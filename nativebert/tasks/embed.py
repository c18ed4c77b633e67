"""Sentence vectors: texts in, one float32 vector for each out. Token and word vectors, of any layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from os import PathLike
from typing import Any, ClassVar, Literal, Unpack, overload

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nativebert import adapters, sentence
from nativebert.checks import at_least, whole
from nativebert.engine import where
from nativebert.errors import Assumed, BadInputError, TooLongError, warn
from nativebert.hub import Snapshot
from nativebert.nn.model import Model
from nativebert.nn.packed import Packed
from nativebert.nn.pool import POOLS
from nativebert.tasks import steps
from nativebert.tasks.base import Task
from nativebert.tasks.call import Call, Chunk, as_list, as_single_items
from nativebert.tasks.options import CallOptions, ReportOptions, TaskOptions
from nativebert.tasks.results import Report, TokenVectors, WordVectors
from nativebert.tasks.windows import Windows, of_ids, tokenized_ahead
from nativebert.text.tokenizer import Encoding

Vectors = NDArray[np.float32]


class Embedder(Task):
    """Sentence vectors from a BERT-family encoder.

    Pooling, normalisation, prompts and length limit are read from the model's sentence-transformers files; what none of them says is
    assumed with a warning (:class:`nativebert.errors.Assumed`). On the CPU in fp32, what a text gives is the same to the last bit
    whatever it is batched with.

    Args:
        model: a folder, a Hub id (``owner/name`` or ``owner/name@revision``), a :class:`~nativebert.hub.Snapshot`, or a
            :class:`~nativebert.nn.model.Model`.
        pooling: mode or modes to use in place of what the files say (see :data:`nativebert.nn.pool.POOLS`).
        normalize: True or False in place of what the files say about a final normalisation to unit length.
        truncate_dim: how many numbers of each vector to keep, in place of what the files say; for models that were trained for it.
        task: of a model that has an adapter for each task (jinaai/jina-embeddings-v3: ``"retrieval.query"``, ``"retrieval.passage"``, ``"separation"``,
            ``"classification"``, ``"text-matching"``), the one whose adapter is merged into the weights, and whose instruction is put before each text
            unless a call says otherwise. None for the weights without an adapter, and no instruction.
        **options: see :class:`~nativebert.tasks.options.TaskOptions`. ``too_long="window"`` takes the mean of the windows' pooled vectors,
            weighted by their tokens.

    Attributes:
        config: what the model's sentence-transformers files say: prompts, the measure of similarity, and more.
        pooling: the pooling modes, whose vectors are concatenated.
        steps: what follows pooling.
        normalize: whether vectors are normalised to unit length.
        truncate_dim: how many numbers of each vector are kept; None for all.
        dimension: numbers of a vector.
        task: the task whose adapter is merged; None for none.
        tasks: those that the model has adapters for; empty for nearly all models.

    Raises:
        NativeBertError: one of its kinds, for a model that cannot be had or is not understood.
    """

    def __init__(
        self,
        model: str | PathLike[str] | Snapshot | Model,
        *,
        pooling: str | Sequence[str] | None = None,
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        task: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        self._adapter = task
        super().__init__(model, **options)
        if pooling is None:
            for note in self.config.assumed:
                warn(f"{self.reference}: {note}. Pass pooling= to choose.", Assumed)
        self.pooling: tuple[str, ...] = self.config.pooling if pooling is None else tuple(as_list(pooling, "pooling"))
        if not self.pooling or any(mode not in POOLS for mode in self.pooling):
            raise BadInputError(f"pooling must be one or more of {', '.join(POOLS)}, not {pooling!r}")
        self._prefix, self._suffix = self.tokenizer.frame
        chain = [step for step in self.config.then if normalize is None or step != "normalize"]
        if truncate_dim is not None:
            truncate = sentence.Truncate(at_least(1, "truncate_dim", truncate_dim))
            chain = [*(step for step in chain if not isinstance(step, sentence.Truncate)), truncate]
        self.steps = (*chain, "normalize") if normalize else tuple(chain)
        self.normalize = "normalize" in self.steps
        self.truncate_dim = next((step.width for step in self.steps if isinstance(step, sentence.Truncate)), None)
        self._finish, self.dimension = self._steps()

    _prepared: ClassVar[frozenset[str]] = Task._prepared | {"_finish"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._finish, _ = self._steps()

    def _steps(self) -> tuple[list[steps.Apply], int]:
        """Steps after pooling, and the width of the resulting vectors."""
        width, chain = self.encoder.width * len(self.pooling), []
        for step in self.steps:
            apply, width = steps.make(step, width, self.snapshot)
            chain.append(apply)
        return chain, width

    def _read_settings(self) -> None:
        config = sentence.read(self.snapshot) if self.snapshot else sentence.SentenceConfig()
        if (found := self._task_adapters) is not None:
            prompts = {**(config.prompts or {}), **found.prompts}
            config = replace(
                config, prompts=prompts, default_prompt=self.task if self.task in prompts else config.default_prompt
            )
        self.config, self._file_settings = config, config.transformer

    @property
    def task(self) -> str | None:
        """The task whose adapter is merged into the weights; None for none."""
        return self._adapter

    @property
    def tasks(self) -> tuple[str, ...]:
        """Those that the model has adapters for; empty for nearly all models."""
        return adapters.names(self._task_adapters)

    def __repr__(self) -> str:
        done = [" + ".join(self.pooling), *(step if step == "normalize" else type(step).__name__ for step in self.steps)]
        task = f", task={self.task!r}" if self.task else ""
        return f"Embedder({self.reference!r}{task}, dimension={self.dimension}, max_tokens={self.max_tokens}, {', '.join(done)}, {where(self.device)}, {self.precision})"

    @overload
    def __call__(
        self,
        texts: Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        include_prompt: bool | None = None,
        as_tensor: Literal[False] = False,
        return_report: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> Vectors: ...
    @overload
    def __call__(
        self,
        texts: Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        include_prompt: bool | None = None,
        as_tensor: Literal[False] = False,
        return_report: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[Vectors, Report]: ...
    @overload
    def __call__(
        self,
        texts: Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        include_prompt: bool | None = None,
        as_tensor: Literal[True],
        return_report: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> Tensor: ...
    @overload
    def __call__(
        self,
        texts: Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        include_prompt: bool | None = None,
        as_tensor: Literal[True],
        return_report: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[Tensor, Report]: ...
    def __call__(
        self,
        texts: Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        include_prompt: bool | None = None,
        as_tensor: bool = False,
        **options: Unpack[ReportOptions],
    ) -> Any:
        """Vectors of texts.

        Args:
            texts: a list (tuple, array, series, iterator) of strings; a single string is taken as a list of one.
            prompt: text to put before each text.
            prompt_name: or the name of one of the model's own prompts (``embedder.config.prompts``).
            include_prompt: whether the prompt's tokens are pooled too; None for what the model's files say.
            as_tensor: return a torch tensor on the CPU in place of a numpy array.
            **options: see :class:`~nativebert.tasks.options.CallOptions`.

        Returns:
            float32 ``(n, dimension)``, in the order of ``texts``.

        Raises:
            BadInputError: something that is not a string, or an unknown prompt name.
            TooLongError: a text is longer than ``max_tokens`` and ``too_long="error"``.
        """
        items = as_list(texts)
        prefix = self.prompt_text(prompt, prompt_name)
        # tokens of the prompt by itself, with the special tokens before it
        prompt_len = len(self.tokenizer.ids_batch([prefix]).ids[0]) - len(self._suffix) if prefix else 0
        skip = prompt_len if include_prompt is False or (include_prompt is None and not self.config.include_prompt) else 0
        out = np.empty((len(items), self.dimension), np.float32)
        with Call(self, items, options) as call:
            if prompt_len + len(self._suffix) >= call.options.max_tokens:
                raise TooLongError(
                    f"the prompt alone takes {prompt_len} of {call.options.max_tokens} tokens and leaves no room for text; shorten it"
                )
            for chunk, windows in tokenized_ahead(call, prefix):
                rows = out[chunk.rows]
                if len(windows) == len(rows):
                    self._pool(windows, skip, chunk, rows, self.finish)
                else:
                    pooled = np.empty((len(windows), self.encoder.width * len(self.pooling)), np.float32)
                    self._pool(windows, skip, chunk, pooled)
                    rows[:] = self.finish(_combine(pooled, windows, call.windows[chunk.rows]))
        return call.returned(torch.from_numpy(out) if as_tensor else out)

    def finish(self, pooled: Vectors) -> Vectors:
        """Pooled vectors ``(n, H * modes)`` -> float32 ``(n, dimension)``, by :attr:`steps`."""
        for apply in self._finish:
            pooled = apply(pooled)
        return pooled

    @overload
    def tokens(
        self,
        texts: Iterable[str],
        *,
        layers: int | Sequence[int] = -1,
        return_report: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> list[TokenVectors]: ...
    @overload
    def tokens(
        self,
        texts: Iterable[str],
        *,
        layers: int | Sequence[int] = -1,
        return_report: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[list[TokenVectors], Report]: ...
    def tokens(self, texts: Iterable[str], *, layers: int | Sequence[int] = -1, **options: Unpack[ReportOptions]) -> Any:
        """A vector for each token of texts, special tokens left out. Pooling and what follows it play no part.

        Args:
            texts: as for a call.
            layers: which hidden states: 0 after the embeddings, 1 after the first layer, -1 after the last. Several are averaged.
            **options: as for a call.

        Returns:
            For each text ``{"tokens": list of str, "offsets": list of (start, end) characters, "vectors": float32 (tokens, width)}``.
            Of a text in windows, each token's vector is from the window in which it stands farther from an edge.

        Raises:
            BadInputError: something that is not a string, or a layer that the model does not have.
            TooLongError: a text is longer than ``max_tokens`` and ``too_long="error"``.
        """
        return self._vectors_of_tokens(texts, layers, options, words=False)

    @overload
    def words(
        self,
        texts: Iterable[str],
        *,
        layers: int | Sequence[int] = -1,
        return_report: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> list[WordVectors]: ...
    @overload
    def words(
        self,
        texts: Iterable[str],
        *,
        layers: int | Sequence[int] = -1,
        return_report: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[list[WordVectors], Report]: ...
    def words(self, texts: Iterable[str], *, layers: int | Sequence[int] = -1, **options: Unpack[ReportOptions]) -> Any:
        """A vector for each word of texts: the mean of its tokens' vectors. A word is what the tokenizer splits text into before it looks
        for tokens, without white space; with most tokenizers, punctuation is words of its own.

        Args:
            texts, layers, **options: as for :meth:`tokens`.

        Returns:
            For each text ``{"words": list of str, "offsets": list of (start, end) characters, "vectors": float32 (words, width)}``.

        Raises:
            BadInputError, TooLongError: as :meth:`tokens`.
        """
        return self._vectors_of_tokens(texts, layers, options, words=True)

    def similarity(self, a: Vectors | Tensor, b: Vectors | Tensor | None = None) -> Vectors:
        """Similarity of each vector of ``a`` to each of ``b``, by the model's own measure (``config.similarity``).

        Args:
            a: ``(n, dimension)``; a single vector counts as one row.
            b: ``(m, dimension)``; None for ``a`` itself.

        Returns:
            float32 ``(n, m)``; larger is more similar (distances are negative, as in sentence-transformers).

        Raises:
            BadInputError: what is not a table of numbers, or two of different widths.
        """
        try:
            x, y = (torch.from_numpy(np.array(v, np.float32, ndmin=2)) for v in (a, a if b is None else b))
        except (TypeError, ValueError):
            raise BadInputError("vectors must be numeric with shape (n, dimension): embed texts first") from None
        if x.dim() != 2 or y.dim() != 2 or x.shape[1] != y.shape[1]:
            raise BadInputError(
                f"vectors of shape {tuple(x.shape)} and {tuple(y.shape)} cannot be compared: both must have shape (n, dimension)"
            )
        measure = self.config.similarity
        if measure in ("cosine", "dot"):
            if measure == "cosine":
                x, y = F.normalize(x, dim=1), F.normalize(y, dim=1)
            scores = x @ y.T
        else:
            scores = -torch.cdist(x, y, p=2.0 if measure == "euclidean" else 1.0)
        result: Vectors = scores.numpy()
        return result

    def prompt_text(self, prompt: str | None = None, name: str | None = None) -> str:
        """The text put before each text, by the ``prompt`` and ``prompt_name`` of a call; empty for nothing.

        Raises:
            BadInputError: both, an unknown name, or what is not a string.
        """
        return sentence.prompt_text(self.config.prompts, self.config.default_prompt, prompt, name)

    lead = prompt_text  # its old name

    # -- the steps of a call

    def _pool(
        self, windows: Windows, skip: int, chunk: Chunk, out: Vectors, finish: Callable[[Vectors], Vectors] | None = None
    ) -> None:
        """Write to ``out`` the pooled vectors of sequences, in their order, or what ``finish`` makes of them. The first ``skip`` tokens of each
        text are left out: those of the prompt, and the special ones before it."""

        def pooled(batch: Packed, skip: int = 0) -> Tensor:
            return self.plan.pooled(batch, self.pooling, skip)

        if not skip:
            self._sequence_rows(windows, chunk, pooled, out, finish=finish)
            return
        special = len(self._prefix)
        skips = special + np.maximum(0, skip - special - windows.bounds[:, 0])
        for own_skip in set(skips.tolist()):  # one value, except for windows of texts with a prompt
            indices = np.flatnonzero(skips == own_skip)
            part = windows.select(indices)
            out[indices] = self._sequence_rows(part, chunk, partial(pooled, skip=own_skip), out[indices], finish=finish)

    def _vectors_of_tokens(self, texts: Iterable[str], layers: int | Sequence[int], options: ReportOptions, words: bool) -> Any:
        chosen = self._layers(layers)

        def mean_of_layers(batch: Packed) -> Tensor:
            states = self.plan.states(batch)
            return torch.stack([states[layer] for layer in chosen]).float().mean(0)  # (T, H)

        results: list[dict[str, Any]] = []
        with Call(self, as_list(texts), options) as call:
            for chunk in call.chunks():
                encodings = self.tokenizer.encode_batch(as_single_items(chunk.items, chunk.start), first=chunk.start)
                windows = of_ids(chunk, [e.ids for e in encodings])
                vectors = windows.merge(self._token_rows(windows, chunk, mean_of_layers), len(encodings))
                results += [
                    (_words if words else _tokens)(text, e, x.numpy())
                    for text, e, x in zip(chunk.items, encodings, vectors, strict=True)
                ]
        like = {
            "words" if words else "tokens": [""],
            "offsets": [(0, 0)],
            "vectors": np.zeros((1, self.encoder.width), np.float32),
        }
        return call.results(results, like)

    def _layers(self, layers: int | Sequence[int]) -> list[int]:
        most = len(self.encoder.layers)
        numbers = []
        for value in list(layers) if isinstance(layers, Iterable) else [layers]:
            layer = whole(value)
            if layer is None or not -most - 1 <= layer <= most:
                raise BadInputError(f"layers must be among 0 (the embeddings) to {most} (or -1 for the last), not {value!r}")
            numbers.append(layer)
        if not numbers:
            raise BadInputError("layers is empty: name at least one, such as -1 for the last")
        return numbers


def _combine(pooled: Vectors, windows: Windows, counts: NDArray[np.int64]) -> Vectors:
    """One vector for each text: the mean of its windows' vectors, weighted by their tokens; ``counts`` windows each."""
    if len(windows) == len(counts):
        return pooled
    starts = np.cumsum(counts) - counts
    rows = []
    for start, n in zip(starts.tolist(), counts.tolist()):
        x = pooled[start : start + n]
        if n > 1:
            weight = np.array([[w.end - w.start] for w in windows.spans[start : start + n]], np.float32)
            x = (x * weight).sum(0, keepdims=True) / weight.sum()
        rows.append(x)
    return np.concatenate(rows)


def _tokens(text: str, e: Encoding, x: Vectors) -> dict[str, Any]:
    indices, tokens, offsets = e.own[: len(x)], e.tokens, e.offsets
    return {"tokens": [tokens[i] for i in indices], "offsets": [offsets[i] for i in indices], "vectors": x}


def _words(text: str, e: Encoding, x: Vectors) -> dict[str, Any]:
    indices, offsets, words = e.own, e.offsets, e.word_ids
    spans, means = [], []
    for _, group in groupby(range(len(x)), key=lambda n: words[indices[n]]):
        tokens = list(group)
        start, end = offsets[indices[tokens[0]]][0], offsets[indices[tokens[-1]]][1]
        # a byte-level tokenizer counts white space to the word after it, or as a word of its own
        if word := text[start:end].strip():
            start = text.index(word, start)
            spans.append((start, start + len(word)))
            means.append(x[tokens].mean(0))
    return {"words": [text[a:b] for a, b in spans], "offsets": spans, "vectors": np.stack(means) if means else x[:0]}
