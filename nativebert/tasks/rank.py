"""Cross-encoders: how well two texts go together, read as one pair by one model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from nativebert import sentence
from nativebert.checks import at_least
from nativebert.errors import BadInputError, RefusedError
from nativebert.hub import Snapshot
from nativebert.tasks.base import Call, Scores, Task, listed, sigmoid

if TYPE_CHECKING:
    from nativebert.nn.model import Model

# The last part of the class path that sentence-transformers writes down -> whether scores go through a sigmoid
_SIGMOID = {"Sigmoid": True, "Identity": False}


class Ranker(Task):
    """Scores of text pairs by a sequence-classification model (a cross-encoder of sentence-transformers).

    A model with one output gives one score a pair, through a sigmoid unless its files say otherwise (``activation_fn`` in
    config_sentence_transformers.json or config.json); a model with several gives its raw outputs, as sentence-transformers does.

    Args:
        model: a folder, a Hub id, a :class:`~nativebert.hub.Snapshot`, or a loaded model with the head ``"classify"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        precision: ``"float32"``, ``"bfloat16"``, ``"float16"`` or, on the CPU, ``"int8"``: of the encoder. Scores are float32 always.
        batch_tokens: most tokens in one batch; None chooses by device. It changes the speed, not the result.
        too_long: what happens to a pair of more tokens than ``max_tokens``: ``"truncate"`` takes tokens from the longer text until both are
            equally long, with one warning per call that counts them; ``"window"`` slides over the second text, and each output is the
            highest of all windows; ``"error"`` raises.
        max_tokens: most tokens of a pair, special tokens included; None for what the model's files say.
        stride: tokens that neighbouring windows share.
        revision, offline, token: as of :func:`nativebert.load`.

    Attributes:
        outputs: how many numbers the model gives for a pair.

    Raises:
        NativeBertError: one of its kinds, for a model that cannot be had, is not understood, or has no classifier.
    """

    noun = "pair"

    def __init__(
        self,
        model: str | PathLike[str] | Snapshot | Model,
        *,
        device: str = "auto",
        precision: str = "float32",
        batch_tokens: int | None = None,
        too_long: str = "truncate",
        max_tokens: int | None = None,
        stride: int = 64,
        revision: str | None = None,
        offline: bool | None = None,
        token: str | None = None,
    ) -> None:
        super().__init__(
            model, head="classify", device=device, precision=precision, batch_tokens=batch_tokens, too_long=too_long,
            max_tokens=max_tokens, stride=stride, revision=revision, offline=offline, token=token,
        )  # fmt: skip
        self.outputs = self.encoder.heads["classify"].classes
        saved = _as_saved(self.snapshot) if self.snapshot else {}
        self._sigmoid = _through_sigmoid(saved, self.encoder.source, self.outputs)

    def _read_settings(self) -> None:
        if self.snapshot and self.snapshot.modules():  # else the reference reads no such file
            self._file_asks = sentence.transformer(self.snapshot, "sequence-classification")

    def __repr__(self) -> str:
        return f"Ranker({self.reference!r}, outputs={self.outputs}, max_tokens={self.max_tokens}, {self.device})"

    def __call__(self, pairs: Iterable[tuple[str, str]], *, return_report: bool = False, progress: bool | None = None) -> Any:
        """Scores of pairs.

        Args:
            pairs: ``(text, text)``, in any number.
            return_report: return ``(scores, Report)``.
            progress: show a progress bar; None shows one on a terminal for work that takes more than two seconds.

        Returns:
            float32 ``(n,)`` for a model with one output, else ``(n, outputs)``, in the order of ``pairs``.

        Raises:
            BadInputError: something that is not a pair of strings.
            TooLongError: a pair is longer than ``max_tokens`` and ``too_long="error"``, or its first text leaves no room for a window.
        """
        items = [
            tuple(pair) if isinstance(pair, (list, tuple)) else pair for pair in listed(pairs, "pairs", "pairs of strings")
        ]
        for n, pair in enumerate(items):
            if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
                raise BadInputError(f"pair {n} must be two strings, not {str(pair)[:60]!r}")
        scores, report = self._scores(items, progress)
        scores = scores[:, 0] if self.outputs == 1 else scores
        return (scores, report) if return_report else scores

    def rank(self, query: str, documents: Iterable[str], *, top_k: int | None = None) -> list[dict[str, Any]]:
        """Documents by their score with a query, best first.

        Args:
            query: the one text.
            documents: the others; a single string is taken as a list of one.
            top_k: how many to return; None for all.

        Returns:
            ``{"index": place in documents, "score": float, "text": the document}`` each; equal scores keep their order.

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
        texts = listed(documents, "documents")
        scores = self([(query, text) for text in texts])
        best = np.argsort(-scores, kind="stable")[:top_k].tolist()
        return [{"index": i, "score": float(scores[i]), "text": texts[i]} for i in best]

    def _scores(self, pairs: list[tuple[str, str]], progress: bool | None) -> Any:
        out = np.empty((len(pairs), self.outputs), np.float32)
        with Call(self, pairs, progress) as call:
            for here in call.chunks():
                pieces = self._fit_pairs(pairs[here], here, call)
                logits = self._logits(pieces, here, call)
                scores: Scores = sigmoid(logits) if self._sigmoid else logits.numpy()
                out[here] = np.maximum.reduceat(scores, pieces.starts)  # of each pair's windows
        return out, call.report()


def _as_saved(snapshot: Snapshot) -> Mapping[str, Any]:
    """What config_sentence_transformers.json says.

    Raises:
        RefusedError: the files ask for something that would change the scores and that is not computed.
    """
    for module in snapshot.modules():
        if not str(module.get("type", "")).endswith(".Transformer"):
            raise RefusedError(
                f"{snapshot.reference} has a module {module.get('type')!r}; nativebert knows cross-encoders that are one Transformer"
            )
    saved = sentence.settings(snapshot)
    if saved.get("model_type") not in (None, "CrossEncoder"):
        return {}  # of a model of vectors, which a classifier was made of: the reference leaves it unread, too
    default = saved.get("default_prompt_name")
    if default is not None and (saved.get("prompts") or {}).get(default):
        raise RefusedError(
            f"{snapshot.reference} puts the prompt {default!r} before its texts unless told otherwise, and nativebert's cross-encoders have no "
            "prompts: put it there yourself, and take default_prompt_name out of config_sentence_transformers.json in a copy of the folder"
        )
    return saved


def _through_sigmoid(saved: Mapping[str, Any], config: Mapping[str, Any], outputs: int) -> bool:
    """Whether scores go through a sigmoid, as sentence-transformers decides it, by its own file before config.json."""
    said = config.get("sentence_transformers")
    paths = (
        saved.get("activation_fn"),
        said.get("activation_fn") if isinstance(said, dict) else None,
        config.get("sbert_ce_default_activation_function"),
    )
    path = next((path for path in paths if path), None)
    if path is None:
        return outputs == 1
    name = str(path).rpartition(".")[2]
    if not str(path).startswith("torch.nn.") or name not in _SIGMOID:
        raise RefusedError(
            f"the model's files say that scores go through {path!r}; nativebert knows torch.nn's {', '.join(_SIGMOID)}"
        )
    return _SIGMOID[name]
