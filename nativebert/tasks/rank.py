"""Cross-encoders: how well two texts go together, read as one pair by one model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any, Literal, Unpack, overload

import numpy as np
import torch

from nativebert import sentence
from nativebert.checks import at_least
from nativebert.engine import where
from nativebert.errors import BadInputError, RefusedError
from nativebert.hub import Snapshot
from nativebert.nn.model import Model
from nativebert.tasks.base import Task
from nativebert.tasks.call import Call, as_list
from nativebert.tasks.options import CallOptions, ReportOptions, TaskOptions
from nativebert.tasks.results import Ranked, Report
from nativebert.tasks.scores import Scores, sigmoid
from nativebert.tasks.windows import of_pairs

_ACTIVATIONS = ("Sigmoid", "Identity")  # the last part of the class path that sentence-transformers writes down


class Ranker(Task):
    """Scores of text pairs by a sequence-classification model (a cross-encoder of sentence-transformers).

    A model with one output gives one score a pair, through a sigmoid unless its files say otherwise (``activation_fn`` in
    config_sentence_transformers.json or config.json); a model with several gives its raw outputs, as sentence-transformers does.

    Args:
        model: a folder, a Hub id, a :class:`~nativebert.hub.Snapshot`, or a loaded model with the head ``"classify"``.
        **options: see :class:`~nativebert.tasks.options.TaskOptions`. ``too_long="truncate"`` takes tokens from the longer text until both are
            equally long; ``"window"`` slides over the second text, and each output is the highest of all windows.

    Attributes:
        outputs: how many numbers the model gives for a pair.
        activation: what the outputs go through: ``"sigmoid"`` or ``"identity"``.

    Raises:
        NativeBertError: one of its kinds, for a model that cannot be had, is not understood, or has no classifier.
    """

    head = "classify"
    noun = "pair"

    def __init__(self, model: str | PathLike[str] | Snapshot | Model, **options: Unpack[TaskOptions]) -> None:
        super().__init__(model, **options)
        self.outputs = self.encoder.heads["classify"].classes
        settings = _settings(self.snapshot) if self.snapshot else {}
        self.activation = _activation(settings, self.encoder.source, self.outputs)

    def _read_settings(self) -> None:
        if self.snapshot and self.snapshot.modules():  # else the reference reads no such file
            self._file_settings = sentence.transformer(self.snapshot, "sequence-classification")

    def __repr__(self) -> str:
        return f"Ranker({self.reference!r}, outputs={self.outputs}, max_tokens={self.max_tokens}, {where(self.device)})"

    @overload
    def __call__(
        self, pairs: Iterable[tuple[str, str]], *, return_report: Literal[False] = False, **options: Unpack[CallOptions]
    ) -> Scores: ...
    @overload
    def __call__(
        self, pairs: Iterable[tuple[str, str]], *, return_report: Literal[True], **options: Unpack[CallOptions]
    ) -> tuple[Scores, Report]: ...
    def __call__(self, pairs: Iterable[tuple[str, str]], **options: Unpack[ReportOptions]) -> Any:
        """Scores of pairs.

        Args:
            pairs: ``(text, text)``, in any number.
            **options: see :class:`~nativebert.tasks.options.CallOptions`.

        Returns:
            float32 ``(n,)`` for a model with one output, else ``(n, outputs)``, in the order of ``pairs``.

        Raises:
            BadInputError: something that is not a pair of strings.
            TooLongError: a pair is longer than ``max_tokens`` and ``too_long="error"``, or its first text leaves no room for a window.
        """
        logits, call = self._logits_of(pairs, options)
        scores = self._activate(logits)
        scores = scores[:, 0] if self.outputs == 1 else scores
        return call.returned(scores)

    @overload
    def logits(
        self, pairs: Iterable[tuple[str, str]], *, return_report: Literal[False] = False, **options: Unpack[CallOptions]
    ) -> Scores: ...
    @overload
    def logits(
        self, pairs: Iterable[tuple[str, str]], *, return_report: Literal[True], **options: Unpack[CallOptions]
    ) -> tuple[Scores, Report]: ...
    def logits(self, pairs: Iterable[tuple[str, str]], **options: Unpack[ReportOptions]) -> Any:
        """The model's outputs for pairs, before :attr:`activation`.

        Args:
            pairs, **options: as for a call.

        Returns:
            float32 ``(n, outputs)``.

        Raises:
            BadInputError, TooLongError: as a call.
        """
        logits, call = self._logits_of(pairs, options)
        return call.returned(logits)

    def _activate(self, logits: Scores) -> Scores:
        return sigmoid(torch.from_numpy(logits)) if self.activation == "sigmoid" else logits

    def _logits_of(self, pairs: Any, options: ReportOptions) -> tuple[Scores, Call]:
        items = [
            tuple(pair) if isinstance(pair, (list, tuple)) else pair for pair in as_list(pairs, "pairs", "pairs of strings")
        ]
        for n, pair in enumerate(items):
            if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
                raise BadInputError(f"pair {n} must be two strings, not {str(pair)[:60]!r}")
        out: Scores = np.empty((len(items), self.outputs), np.float32)
        with Call(self, items, options) as call:
            for chunk in call.chunks():
                sequences = of_pairs(chunk)
                logits = self._logits(sequences, chunk).numpy()
                out[chunk.rows] = np.maximum.reduceat(logits, sequences.starts)  # of each pair's windows
        return out, call

    @overload
    def rank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        top_k: int | None = None,
        return_report: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> list[Ranked]: ...
    @overload
    def rank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        top_k: int | None = None,
        return_report: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[list[Ranked], Report]: ...
    def rank(self, query: str, documents: Iterable[str], *, top_k: int | None = None, **options: Unpack[ReportOptions]) -> Any:
        """Documents by their score with a query, best first.

        Args:
            query: the one text.
            documents: the others; a single string is taken as a list of one.
            top_k: how many to return; None for all.
            **options: as for a call.

        Returns:
            ``{"index": index of the document, "score": float, "text": the document}`` each; equal scores keep their order.

        Raises:
            BadInputError: a document that is not a string, or a ``top_k`` below 1.
            RefusedError: the model has more than one output, so none of them is the score.
        """
        if self.outputs != 1:
            raise RefusedError(
                f"{self.reference} has {self.outputs} outputs for each pair, and none of them is the score to rank by"
            )
        if top_k is not None:
            top_k = at_least(1, "top_k", top_k, ", or None for all documents")
        texts = as_list(documents, "documents")
        logits, call = self._logits_of([(query, text) for text in texts], options)
        scores = self._activate(logits)[:, 0]
        best = np.argsort(-scores, kind="stable")[:top_k].tolist()
        return call.returned([{"index": i, "score": float(scores[i]), "text": texts[i]} for i in best])


def _settings(snapshot: Snapshot) -> Mapping[str, Any]:
    """Settings of a cross-encoder in config_sentence_transformers.json.

    Raises:
        RefusedError: the files ask for something that would change the scores and that is not computed.
    """
    for module in snapshot.modules():
        if not str(module.get("type", "")).endswith(".Transformer"):
            raise RefusedError(
                f"{snapshot.reference} has a module {module.get('type')!r}; nativebert knows cross-encoders that are one Transformer"
            )
    settings = sentence.settings(snapshot)
    if settings.get("model_type") not in (None, "CrossEncoder"):
        return {}  # of a model of vectors, which a classifier was made of: the reference leaves it unread, too
    default = settings.get("default_prompt_name")
    if default is not None and (settings.get("prompts") or {}).get(default):
        raise RefusedError(
            f"{snapshot.reference} puts the prompt {default!r} before its texts unless told otherwise, and nativebert's cross-encoders have no "
            "prompts: put it there yourself, and take default_prompt_name out of config_sentence_transformers.json in a copy of the folder"
        )
    return settings


def _activation(settings: Mapping[str, Any], config: Mapping[str, Any], outputs: int) -> str:
    """Activation on the outputs, as sentence-transformers selects it: its own file takes precedence over config.json."""
    section = config.get("sentence_transformers")
    paths = (
        settings.get("activation_fn"),
        section.get("activation_fn") if isinstance(section, dict) else None,
        config.get("sbert_ce_default_activation_function"),
    )
    path = next((path for path in paths if path), None)
    if path is None:
        return "sigmoid" if outputs == 1 else "identity"
    name = str(path).rpartition(".")[2]
    if not str(path).startswith("torch.nn.") or name not in _ACTIVATIONS:
        raise RefusedError(
            f"the model's files say that scores go through {path!r}; nativebert knows torch.nn's {', '.join(_ACTIVATIONS)}"
        )
    return name.lower()
