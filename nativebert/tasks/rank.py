"""Cross-encoders: how well two texts go together, read as one pair by one model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nativebert.engine import choose_device, prepare
from nativebert.engine.cpu import HeadPlan
from nativebert.errors import BadInput, Refused, TooLong, Truncated
from nativebert.hub import Snapshot
from nativebert.loading import load, open_snapshot
from nativebert.nn.packed import Packed
from nativebert.tasks.embed import BATCH_TOKENS
from nativebert.text.pack import plan

if TYPE_CHECKING:
    from nativebert.nn.model import Model

# The last part of the class path that sentence-transformers writes down -> our name
_SCORES = {"Sigmoid": "sigmoid", "Identity": None}


class Ranker:
    """Scores of text pairs by a sequence-classification model (a cross-encoder of sentence-transformers).

    A model with one output gives one score a pair, through a sigmoid unless its config says otherwise
    (``sentence_transformers.activation_fn``); a model with several gives its raw outputs, as sentence-transformers does. A pair that is
    too long loses tokens from its longer text until both are equally long, with one warning per call that counts them.

    Args:
        model: a folder, a Hub id, a :class:`~nativebert.hub.Snapshot`, or a loaded model with the head ``"classify"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"``: of the encoder. Scores are float32 always.
        batch_tokens: most tokens in one batch; None chooses by device. It changes the speed, not the result.
        too_long: ``"truncate"`` or ``"error"``.
        revision, offline, token: as of :func:`nativebert.load`.

    Raises:
        NativeBertError: one of its kinds, for a model that cannot be had, is not understood, or has no classifier.
    """

    def __init__(
        self,
        model: str | PathLike[str] | Snapshot | Model,
        *,
        device: str = "auto",
        precision: str = "float32",
        batch_tokens: int | None = None,
        too_long: str = "truncate",
        revision: str | None = None,
        offline: bool | None = None,
        token: str | None = None,
    ) -> None:
        if too_long not in ("truncate", "error"):
            raise BadInput(f"too_long must be 'truncate' or 'error' for pairs, not {too_long!r}")
        if batch_tokens is not None and batch_tokens < 1:
            raise BadInput(f"batch_tokens must be at least 1, not {batch_tokens}")
        target = choose_device(device)
        if isinstance(model, (str, PathLike, Snapshot)):
            model = load(open_snapshot(model, revision=revision, offline=offline, token=token), head="classify")
        if model.tasks != ("classify",):
            raise BadInput("a Ranker needs a model with the head 'classify': nb.load(..., head='classify')")
        self.reference, self.too_long = model.reference, too_long
        self.batch_tokens = batch_tokens or BATCH_TOKENS.get(target.type, 8192)
        self.tokenizer, self.outputs = model.tokenizer, model.config.heads["classify"].classes
        self.max_tokens = min(self.tokenizer.max_length or model.config.max_tokens, model.config.max_tokens)
        self._after, self._segments = model.position_pad, model.config.segments > 1
        self._plan = prepare(model, target, precision)
        self._head = HeadPlan(model, "classify", _scoring(model.config.source, self.outputs))

    def __repr__(self) -> str:
        return f"Ranker({self.reference!r}, outputs={self.outputs}, max_tokens={self.max_tokens}, {self._plan.device})"

    def __call__(self, pairs: Iterable[tuple[str, str]]) -> NDArray[np.float32]:
        """Scores of pairs.

        Args:
            pairs: ``(text, text)``, in any number.

        Returns:
            float32 ``(n,)`` for a model with one output, else ``(n, outputs)``, in the order of ``pairs``.

        Raises:
            BadInput: something that is not a pair of strings.
            TooLong: a pair is longer than ``max_tokens`` and ``too_long="error"``.
        """
        listed = [tuple(pair) if isinstance(pair, (list, tuple)) else pair for pair in pairs]
        for n, pair in enumerate(listed):
            if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
                raise BadInput(f"pair {n} must be two strings, not {str(pair)[:60]!r}")
        out = np.empty((len(listed), self.outputs), np.float32)
        if listed:
            ids, kinds = self._tokens(listed)
            for rows in plan(np.fromiter(map(len, ids), np.int64, len(ids)), self.batch_tokens):
                segments = [kinds[i] for i in rows] if self._segments else None
                packed = Packed.of([ids[i] for i in rows], segments, after=self._after)
                out[rows] = self._head.run(self._plan.run(packed), packed).numpy()
        return out[:, 0] if self.outputs == 1 else out

    def rank(self, query: str, documents: Iterable[str], *, top_k: int | None = None) -> list[dict[str, Any]]:
        """Documents by their score with a query, best first.

        Args:
            query: the one text.
            documents: the others.
            top_k: how many to return; None for all.

        Returns:
            ``{"index": place in documents, "score": float, "text": the document}`` each; equal scores keep their order.

        Raises:
            Refused: the model has more than one output, so none of them is the score.
        """
        if self.outputs != 1:
            raise Refused(
                f"{self.reference} has {self.outputs} outputs for each pair, and none of them is the score to rank by"
            )
        texts = list(documents)
        scores = self([(query, text) for text in texts])
        best = np.argsort(-scores, kind="stable")[:top_k].tolist()
        return [{"index": i, "score": float(scores[i]), "text": texts[i]} for i in best]

    def _tokens(self, pairs: list[Any]) -> tuple[list[list[int]], list[list[int]]]:
        found = self.tokenizer.ids_batch(pairs)
        ids, kinds = found.ids, found.type_ids or [[0] * len(row) for row in found.ids]
        long = [n for n, row in enumerate(ids) if len(row) > self.max_tokens]
        if long and self.too_long == "error":
            raise TooLong(
                f"pair {long[0]} has {len(ids[long[0]])} tokens and the limit is {self.max_tokens} ({len(long)} pairs are too long)"
            )
        lost = 0
        for n in long:
            lost += len(ids[n]) - self.max_tokens
            ids[n], kinds[n] = self._shortened(*pairs[n])
        if long:
            warnings.warn(
                f"{len(long):,} of {len(pairs):,} pairs are longer than {self.max_tokens} tokens and were cut: {lost:,} tokens were left "
                "out, from the longer text of each. Shorten them, or pass too_long='error' to refuse.",
                Truncated,
                stacklevel=4,
            )
        return ids, kinds

    def _shortened(self, first: str, second: str) -> tuple[list[int], list[int]]:
        """A pair cut to the limit, tokens taken from the longer text first (``longest_first`` of the tokenizers library)."""
        e = self.tokenizer.encode(first, second)
        own = [[place for place, text in enumerate(e.sequence_ids) if text == which] for which in (0, 1)]
        room = self.max_tokens - (len(e) - len(own[0]) - len(own[1]))
        short, long = sorted(map(len, own))
        short = min(short, room // 2)
        long = min(long, room - short)
        keep = (short, long) if len(own[0]) <= len(own[1]) else (long, short)
        gone = {place for places, kept in zip(own, keep, strict=True) for place in places[kept:]}
        at = [place for place in range(len(e)) if place not in gone]
        return [e.ids[place] for place in at], [e.type_ids[place] for place in at]


def _scoring(config: Mapping[str, Any], outputs: int) -> str | None:
    """The activation of the scores, by our name, as sentence-transformers chooses it."""
    said = config.get("sentence_transformers")
    path = said.get("activation_fn") if isinstance(said, dict) else None
    path = path or config.get("sbert_ce_default_activation_function")
    if path is None:
        return "sigmoid" if outputs == 1 else None
    name = str(path).rpartition(".")[2]
    if not str(path).startswith("torch.nn.") or name not in _SCORES:
        raise Refused(f"config.json: the scores' activation is {path!r}; nativebert knows torch.nn's {', '.join(_SCORES)}")
    return _SCORES[name]
