"""Sentence vectors: texts in, one float32 vector for each out. Token and word vectors, of any layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import groupby
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nativebert import sentence
from nativebert.errors import Assumed, BadInput, TooLong, warn
from nativebert.hub import Snapshot
from nativebert.nn.pool import POOLS
from nativebert.tasks import steps
from nativebert.tasks.base import Call, Pieces, Task, listed, singles
from nativebert.tasks.results import Results
from nativebert.text.tokenizer import Encoding
from nativebert.whole import at_least, whole

if TYPE_CHECKING:
    from nativebert.nn.model import Model

Vectors = NDArray[np.float32]


class Embedder(Task):
    """Sentence vectors from a BERT-family encoder.

    Pooling, normalisation, prompts and length limit are read from the model's sentence-transformers files; what none of them says is
    assumed with a warning (:class:`nativebert.errors.Assumed`). On the CPU in fp32, what a text gives is the same to the last bit
    whatever it is batched with.

    Args:
        model: a folder, a Hub id (``owner/name`` or ``owner/name@revision``), a :class:`~nativebert.hub.Snapshot`, or a
            :class:`~nativebert.nn.model.Model`.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        precision: ``"float32"``, ``"bfloat16"``, ``"float16"`` or, on the CPU, ``"int8"``: of the encoder. Vectors are float32 always.
        batch_tokens: most tokens in one batch; None chooses by device. It changes the speed, not the result.
        too_long: what happens to a text of more tokens than ``max_tokens``: ``"truncate"`` cuts it, and says so in one warning
            per call; ``"window"`` reads all of it in overlapping windows and takes the token-weighted mean of their pooled
            vectors; ``"error"`` raises.
        max_tokens: most tokens of a text, special tokens included; None for what the model's files say.
        stride: tokens that neighbouring windows share.
        pooling: mode or modes to use in place of what the files say (see :data:`nativebert.nn.pool.POOLS`).
        normalize: True or False in place of what the files say about a final normalisation to unit length.
        truncate_dim: how many numbers of each vector to keep, in place of what the files say; for models that were trained for it.
        revision: branch, tag or commit on the Hub.
        offline: True to touch no network; None for the environment's ``HF_HUB_OFFLINE``.
        token: Hub token; None for the one that is logged in.

    Raises:
        NativeBertError: one of its kinds, for a model that cannot be had or is not understood.
    """

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
        pooling: str | Sequence[str] | None = None,
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        revision: str | None = None,
        offline: bool | None = None,
        token: str | None = None,
    ) -> None:
        super().__init__(
            model, head=None, device=device, precision=precision, batch_tokens=batch_tokens, too_long=too_long, max_tokens=max_tokens,
            stride=stride, revision=revision, offline=offline, token=token,
        )  # fmt: skip
        config = self.config
        if pooling is None:
            for note in config.assumed:
                warn(f"{self.reference}: {note}. Pass pooling= to choose.", Assumed)
        self.pooling = config.pooling if pooling is None else tuple(listed(pooling, "pooling"))
        if not self.pooling or any(mode not in POOLS for mode in self.pooling):
            raise BadInput(f"pooling must be one or more of {', '.join(POOLS)}, not {pooling!r}")
        self._prefix, self._suffix = self.tokenizer.frame
        self.steps = [step for step in config.then if normalize is None or step != "normalize"]
        if truncate_dim is not None:
            truncate_dim = at_least(1, "truncate_dim", truncate_dim)
            self.steps = [step for step in self.steps if not isinstance(step, sentence.Truncate)] + [
                sentence.Truncate(truncate_dim)
            ]
        if normalize:
            self.steps.append("normalize")
        self._make_steps()

    def _make_steps(self) -> None:
        self.dimension = self.encoder.width * len(self.pooling)
        self._then: list[steps.Apply] = []
        for step in self.steps:
            apply, self.dimension = steps.make(step, self.dimension, self.snapshot)
            self._then.append(apply)

    _prepared = Task._prepared | {"_then"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._make_steps()

    def _read_settings(self) -> None:
        self.config = sentence.read(self.snapshot) if self.snapshot else sentence.SentenceConfig()
        self._file_asks = self.config.transformer

    def __repr__(self) -> str:
        done = [" + ".join(self.pooling), *(step if step == "normalize" else type(step).__name__ for step in self.steps)]
        return f"Embedder({self.reference!r}, dimension={self.dimension}, max_tokens={self.max_tokens}, {', '.join(done)}, {self.device}, {self.precision})"

    def __call__(
        self,
        texts: Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        return_report: bool = False,
        as_tensor: bool = False,
        progress: bool | None = None,
    ) -> Any:
        """Vectors of texts.

        Args:
            texts: a list (tuple, array, series, iterator) of strings; a single string is taken as a list of one.
            prompt: text to put before each text.
            prompt_name: or the name of one of the model's own prompts (``embedder.config.prompts``).
            return_report: return ``(vectors, Report)``.
            as_tensor: return a torch tensor on the CPU in place of a numpy array.
            progress: show a progress bar; None shows one on a terminal for work that takes more than two seconds.

        Returns:
            float32 ``(n, dimension)``, in the order of ``texts``.

        Raises:
            BadInput: something that is not a string, or an unknown prompt name.
            TooLong: a text is longer than ``max_tokens`` and ``too_long="error"``.
        """
        items = listed(texts)
        lead = self.lead(prompt, prompt_name)
        leading = self._lead_tokens(lead) if lead else 0
        if leading + len(self._suffix) >= self.max_tokens:
            raise TooLong(
                f"the prompt alone takes {leading} of {self.max_tokens} tokens and leaves no room for text; shorten it"
            )
        skip = 0 if self.config.include_prompt else leading
        out = np.empty((len(items), self.dimension), np.float32)
        with Call(self, items, progress) as call:

            def led(here: slice) -> list[str]:
                chunk = items[here]
                return [lead + text if isinstance(text, str) else text for text in chunk] if lead else chunk

            for here, pieces in self._ahead(call, led):
                pooled = self._pool(pieces, self._skips(pieces, skip), here, call)
                out[here] = self._finish(_combine(pooled, pieces, call.windows[here]))
        report = call.report()
        vectors: Any = torch.from_numpy(out) if as_tensor else out
        return (vectors, report) if return_report else vectors

    def tokens(
        self,
        texts: Iterable[str],
        *,
        layers: int | Sequence[int] = -1,
        return_report: bool = False,
        progress: bool | None = None,
    ) -> Any:
        """A vector for each token of texts, special tokens left out. Pooling and what follows it play no part.

        Args:
            texts: as for a call.
            layers: which hidden states: 0 after the embeddings, 1 after the first layer, -1 after the last. Several are averaged.
            return_report: return ``(results, Report)``.
            progress: as for a call.

        Returns:
            For each text ``{"tokens": list of str, "offsets": list of (start, end) characters, "vectors": float32 (tokens, width)}``.
            Of a text in windows, each token's vector is from the window in which it stands farther from an edge.

        Raises:
            BadInput: something that is not a string, or a layer that the model does not have.
            TooLong: a text is longer than ``max_tokens`` and ``too_long="error"``.
        """
        results = self._inside(texts, layers, progress, words=False)
        return (results, results.report) if return_report else results

    def words(
        self,
        texts: Iterable[str],
        *,
        layers: int | Sequence[int] = -1,
        return_report: bool = False,
        progress: bool | None = None,
    ) -> Any:
        """A vector for each word of texts: the mean of its tokens' vectors. A word is what the tokenizer splits text into before it looks
        for tokens, without white space; with most tokenizers, punctuation is words of its own.

        Args:
            texts, layers, return_report, progress: as for :meth:`tokens`.

        Returns:
            For each text ``{"words": list of str, "offsets": list of (start, end) characters, "vectors": float32 (words, width)}``.

        Raises:
            BadInput, TooLong: as :meth:`tokens`.
        """
        results = self._inside(texts, layers, progress, words=True)
        return (results, results.report) if return_report else results

    def similarity(self, a: Vectors | Tensor, b: Vectors | Tensor | None = None) -> Vectors:
        """How similar each vector of ``a`` is to each of ``b``, by the model's own measure (``config.similarity``).

        Args:
            a: ``(n, dimension)``; a single vector counts as one row.
            b: ``(m, dimension)``; None for ``a`` itself.

        Returns:
            float32 ``(n, m)``; larger is more similar (distances are negative, as in sentence-transformers).

        Raises:
            BadInput: what is no table of numbers, or two of different widths.
        """
        try:
            x, y = (torch.as_tensor(np.atleast_2d(np.asarray(v, np.float32))) for v in (a, a if b is None else b))
        except (TypeError, ValueError):
            raise BadInput("similarity is of vectors, numbers of the shape (n, dimension): embed texts first") from None
        if x.dim() != 2 or y.dim() != 2 or x.shape[1] != y.shape[1]:
            raise BadInput(
                f"vectors of the shapes {tuple(x.shape)} and {tuple(y.shape)} cannot be compared: both must be (n, dimension)"
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

    def lead(self, prompt: str | None = None, name: str | None = None) -> str:
        """What stands before each text, by the ``prompt`` and ``prompt_name`` of a call; empty for nothing.

        Raises:
            BadInput: both, an unknown name, or what is no string.
        """
        known = self.config.prompts or {}
        for given in (prompt, name):
            if not isinstance(given, (str, type(None))):
                raise BadInput(f"prompt and prompt_name must be strings, not {given!r}")
        if prompt is not None and name is not None:
            raise BadInput("pass prompt or prompt_name, not both")
        if prompt is not None:
            return prompt
        name = self.config.default_prompt if name is None else name
        if name is None:
            return ""
        if name not in known:
            raise BadInput(f"this model has no prompt named {name!r}; it has: {', '.join(known) or 'none'}")
        return known[name]

    # -- the steps of a call

    def _lead_tokens(self, lead: str) -> int:
        """Tokens of the prompt by itself, with the special tokens before it."""
        return len(self.tokenizer.ids_batch([lead]).ids[0]) - len(self._suffix)

    def _skips(self, pieces: Pieces, skip: int) -> NDArray[np.int64]:
        """Leading tokens that each sequence leaves out: the special ones, and what it holds of the prompt."""
        if not skip:
            return np.zeros(len(pieces.ids), np.int64)
        head = len(self._prefix)
        return head + np.maximum(0, skip - head - np.array([w.start for w in pieces.windows], np.int64))

    def _pool(self, pieces: Pieces, skips: NDArray[np.int64], here: slice, call: Call) -> Vectors:
        """Pooled vectors of sequences, in their order."""
        out = np.empty((len(pieces.ids), self.encoder.width * len(self.pooling)), np.float32)
        for skip in set(skips.tolist()):  # one value, but for windows of texts with a prompt
            of = np.flatnonzero(skips == skip)
            pooled = partial(self._plan.pooled, modes=self.pooling, skip=skip)
            for rows, _, vectors in self._run(pieces.some(of), here, call, pooled):
                out[of[rows]] = vectors.cpu().numpy()
        return out

    def _finish(self, x: Vectors) -> Vectors:
        for apply in self._then:
            x = apply(x)
        return x

    def _inside(self, texts: Iterable[str], layers: int | Sequence[int], progress: bool | None, words: bool) -> Results[Any]:
        chosen = self._layers(layers)
        items = listed(texts)
        found: list[dict[str, Any]] = []
        with Call(self, items, progress) as call:
            for here in call.chunks():
                encodings = self.tokenizer.encode_batch(singles(items[here], here.start), first=here.start)
                pieces = self._fit_ids([e.ids for e in encodings], here, call)
                vectors: list[Tensor] = [torch.empty(0)] * len(pieces.ids)
                for rows, batch, hidden in self._run(pieces, here, call, self._layers_mean(chosen)):
                    for n, x in zip(rows.tolist(), torch.split(hidden.float().cpu(), list(batch.lengths)), strict=True):
                        vectors[n] = x
                joined = pieces.join(vectors, len(encodings))
                found += [
                    (_words if words else _tokens)(text, e, x.numpy()) for text, e, x in zip(items[here], encodings, joined)
                ]
        like = {
            "words" if words else "tokens": [""],
            "offsets": [(0, 0)],
            "vectors": np.zeros((1, self.encoder.width), np.float32),
        }
        return Results(found, call.report(), like)

    def _layers(self, layers: int | Sequence[int]) -> list[int]:
        most = len(self.encoder.layers)
        chosen = []
        for given in list(layers) if isinstance(layers, Iterable) else [layers]:
            layer = whole(given)
            if layer is None or not -most - 1 <= layer <= most:
                raise BadInput(f"layers must be among 0 (the embeddings) to {most} (or -1 for the last), not {given!r}")
            chosen.append(layer)
        if not chosen:
            raise BadInput("layers is empty: name at least one, such as -1 for the last")
        return chosen


def _combine(pooled: Vectors, pieces: Pieces, parts: NDArray[np.int64]) -> Vectors:
    """One vector a text: the mean of its windows' vectors, weighted by their tokens."""
    if len(pieces.ids) == len(parts):
        return pooled
    starts = np.cumsum(parts) - parts
    rows = []
    for start, n in zip(starts.tolist(), parts.tolist()):
        x = pooled[start : start + n]
        if n > 1:
            weight = np.array([[w.end - w.start] for w in pieces.windows[start : start + n]], np.float32)
            x = (x * weight).sum(0, keepdims=True) / weight.sum()
        rows.append(x)
    return np.concatenate(rows)


def _tokens(text: str, e: Encoding, x: Vectors) -> dict[str, Any]:
    own, tokens, offsets = e.own[: len(x)], e.tokens, e.offsets
    return {"tokens": [tokens[p] for p in own], "offsets": [offsets[p] for p in own], "vectors": x}


def _words(text: str, e: Encoding, x: Vectors) -> dict[str, Any]:
    own, offsets, words = e.own, e.offsets, e.word_ids
    places, means = [], []
    for _, group in groupby(range(len(x)), key=lambda n: words[own[n]]):
        run = list(group)
        start, end = offsets[own[run[0]]][0], offsets[own[run[-1]]][1]
        # a byte-level tokenizer counts white space to the word after it, or as a word of its own
        if word := text[start:end].strip():
            start = text.index(word, start)
            places.append((start, start + len(word)))
            means.append(x[run].mean(0))
    return {"words": [text[a:b] for a, b in places], "offsets": places, "vectors": np.stack(means) if means else x[:0]}
