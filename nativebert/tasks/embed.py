"""Sentence vectors: texts in, one float32 vector for each out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nativebert import sentence
from nativebert.engine import choose_device, prepare
from nativebert.errors import Assumed, BadInput, TooLong, Truncated
from nativebert.hub import Snapshot
from nativebert.loading import load, open_snapshot
from nativebert.nn.packed import Packed
from nativebert.nn.pool import POOLS, pool
from nativebert.tasks import steps
from nativebert.text.pack import plan
from nativebert.text.window import check_policy, windows

if TYPE_CHECKING:
    from nativebert.nn.model import Model

# Tokens in one batch. Larger ones gain nothing on a CPU (their activations leave the cache) and fill a GPU.
BATCH_TOKENS = {"cpu": 2048, "cuda": 65536, "mps": 16384}

# Texts that are tokenised and sorted together: enough for well-filled batches, few enough to keep memory flat.
_CHUNK = 16384

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class EmbedReport:
    """What a call did.

    Attributes:
        tokens: tokens of each text that the model saw, special tokens included, ``(n,)``.
        cut: tokens of each text that were left out, ``(n,)``.
        windows: windows that each text was read in, ``(n,)``; 1 unless ``too_long="window"``.
        batches: batches that were run.
        seconds: wall time of the call.
        model, device, precision: what ran, and where.
    """

    tokens: NDArray[np.int64]
    cut: NDArray[np.int64]
    windows: NDArray[np.int64]
    batches: int
    seconds: float
    model: str
    device: str
    precision: str

    def __str__(self) -> str:
        n, used, cut = len(self.tokens), int(self.tokens.sum()), int(self.cut.sum())
        left = f", {cut:,} cut off in {int((self.cut > 0).sum()):,} texts" if cut else ", none cut off"
        rate = f" ({used / self.seconds:,.0f} tokens/s)" if self.seconds > 0 else ""
        return f"{n:,} texts, {used:,} tokens{left}; {self.seconds:.2f} s{rate} with {self.model} on {self.device}, {self.precision}"


class Embedder:
    """Sentence vectors from a BERT-family encoder.

    Pooling, normalisation, prompts and length limit are read from the model's sentence-transformers files; what none of them says is
    assumed with a warning (:class:`nativebert.errors.Assumed`). On the CPU in fp32, what a text gives is the same to the last bit
    whatever it is batched with.

    Args:
        model: a folder, a Hub id (``owner/name`` or ``owner/name@revision``), a :class:`~nativebert.hub.Snapshot`, or a
            :class:`~nativebert.nn.model.Model`.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"``: of the encoder. Vectors are float32 always.
        batch_tokens: most tokens in one batch; None chooses by device. It changes the speed, not the result.
        too_long: what happens to a text of more tokens than ``max_tokens``: ``"truncate"`` cuts it, and says so in one warning
            per call; ``"window"`` reads all of it in overlapping windows and takes the token-weighted mean of their pooled
            vectors; ``"error"`` raises.
        max_tokens: most tokens of a text, special tokens included; None for what the model's files say.
        overlap: tokens that neighbouring windows share.
        pooling: mode or modes to use in place of what the files say (see :data:`nativebert.nn.pool.POOLS`).
        normalize: True or False in place of what the files say about a final normalisation to unit length.
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
        overlap: int = 64,
        pooling: str | Sequence[str] | None = None,
        normalize: bool | None = None,
        revision: str | None = None,
        offline: bool | None = None,
        token: str | None = None,
    ) -> None:
        target = choose_device(device)
        self.device, self.precision = str(target), precision
        self.too_long, self.overlap = check_policy(too_long), overlap
        if batch_tokens is not None and batch_tokens < 1:
            raise BadInput(f"batch_tokens must be at least 1, not {batch_tokens}")
        self.batch_tokens = batch_tokens or BATCH_TOKENS.get(target.type, 8192)
        snapshot: Snapshot | None
        if isinstance(model, (str, PathLike, Snapshot)):
            snapshot = open_snapshot(model, revision=revision, offline=offline, token=token)
            model = load(snapshot, head=None)
        else:
            snapshot = model.snapshot
        self.reference, self.snapshot = model.reference, snapshot
        config = sentence.read(snapshot) if snapshot else sentence.SentenceConfig()
        if pooling is None:
            for note in config.assumed:
                warnings.warn(f"{model.reference}: {note}. Pass pooling= to choose.", Assumed, stacklevel=2)
        self.config = config
        self.pooling = config.pooling if pooling is None else (pooling,) if isinstance(pooling, str) else tuple(pooling)
        if not self.pooling or any(mode not in POOLS for mode in self.pooling):
            raise BadInput(f"pooling must be one or more of {', '.join(POOLS)}, not {pooling!r}")
        self.tokenizer = model.tokenizer
        if config.lowercase:
            self.tokenizer = self.tokenizer.lowercased()
        self.max_tokens = self._limit(max_tokens, model)
        self._prefix, self._suffix = self.tokenizer.frame
        if self.max_tokens <= len(self._prefix) + len(self._suffix):
            raise BadInput(
                f"max_tokens={self.max_tokens} leaves no room for text beside {len(self._prefix) + len(self._suffix)} special tokens"
            )
        self._after = model.position_pad
        self._plan = prepare(model, target, precision)
        self.steps = [step for step in config.then if normalize is None or step != "normalize"]
        if normalize:
            self.steps.append("normalize")
        self.dimension = model.config.width * len(self.pooling)
        self._then: list[steps.Apply] = []
        for step in self.steps:
            apply, self.dimension = steps.make(step, self.dimension, snapshot)
            self._then.append(apply)

    def _limit(self, asked: int | None, model: Model) -> int:
        most = model.config.max_tokens
        if asked is not None:
            if not 1 <= asked <= most:
                raise BadInput(f"max_tokens must be between 1 and the model's {most} positions, not {asked}")
            return asked
        return min(self.config.max_tokens or self.tokenizer.max_length or most, most)

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
            return_report: return ``(vectors, EmbedReport)``.
            as_tensor: return a torch tensor on the CPU in place of a numpy array.
            progress: show a progress bar; None shows one on a terminal for work that takes more than two seconds.

        Returns:
            float32 ``(n, dimension)``, in the order of ``texts``.

        Raises:
            BadInput: something that is not a string, or an unknown prompt name.
            TooLong: a text is longer than ``max_tokens`` and ``too_long="error"``.
        """
        began = time.perf_counter()
        listed = _listed(texts)
        lead = self._prompt(prompt, prompt_name)
        leading = self._lead_tokens(lead) if lead else 0
        if leading + len(self._suffix) >= self.max_tokens:
            raise TooLong(
                f"the prompt alone takes {leading} of {self.max_tokens} tokens and leaves no room for text; shorten it"
            )
        skip = 0 if self.config.include_prompt else leading
        out = np.empty((len(listed), self.dimension), np.float32)
        used, cut, parts = (np.zeros(len(listed), np.int64) for _ in range(3))
        batches = 0
        with _Progress(len(listed), progress) as bar:
            for start in range(0, len(listed), _CHUNK):
                here = slice(start, min(start + _CHUNK, len(listed)))
                ids = self._tokenize(listed[here], lead, start)
                pieces, starts = self._fit(ids, start, used[here], cut[here], parts[here])
                pooled, n = self._pool(pieces, self._skips(starts, skip), bar, parts[here])
                out[here] = self._finish(_combine(pooled, pieces, parts[here], len(self._prefix) + len(self._suffix)))
                batches += n
        if cut.any():
            self._warn(used, cut)
        vectors: Any = torch.from_numpy(out) if as_tensor else out
        if not return_report:
            return vectors
        took = time.perf_counter() - began
        return vectors, EmbedReport(used, cut, parts, batches, took, self.reference, self.device, self.precision)

    def similarity(self, a: Vectors | Tensor, b: Vectors | Tensor | None = None) -> Vectors:
        """How similar each vector of ``a`` is to each of ``b``, by the model's own measure (``config.similarity``).

        Args:
            a: ``(n, dimension)``; a single vector counts as one row.
            b: ``(m, dimension)``; None for ``a`` itself.

        Returns:
            float32 ``(n, m)``; larger is more similar (distances are negative, as in sentence-transformers).
        """
        x, y = (torch.as_tensor(np.atleast_2d(np.asarray(v, np.float32))) for v in (a, a if b is None else b))
        measure = self.config.similarity
        if measure in ("cosine", "dot"):
            if measure == "cosine":
                x, y = F.normalize(x, dim=1), F.normalize(y, dim=1)
            scores = x @ y.T
        else:
            scores = -torch.cdist(x, y, p=2.0 if measure == "euclidean" else 1.0)
        result: Vectors = scores.numpy()
        return result

    # -- the steps of a call

    def _prompt(self, prompt: str | None, name: str | None) -> str:
        known = self.config.prompts or {}
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

    def _lead_tokens(self, lead: str) -> int:
        """Tokens of the prompt by itself, with the special tokens before it."""
        return len(self.tokenizer.ids_batch([lead]).ids[0]) - len(self._suffix)

    def _tokenize(self, texts: list[str], lead: str, first: int) -> list[list[int]]:
        if lead:
            texts = [lead + text if isinstance(text, str) else text for text in texts]
        return self.tokenizer.ids_batch(texts, first=first).ids

    def _fit(
        self, ids: list[list[int]], first: int, used: NDArray[np.int64], cut: NDArray[np.int64], parts: NDArray[np.int64]
    ) -> tuple[list[list[int]], NDArray[np.int64]]:
        """Each text as one or more sequences of at most ``max_tokens`` ids, and where in its text each begins; fills in the three
        counts."""
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        used[:], parts[:] = np.minimum(lengths, self.max_tokens), 1
        long = np.flatnonzero(lengths > self.max_tokens).tolist()
        if not long:
            return ids, np.zeros(len(ids), np.int64)
        if self.too_long == "error":
            raise TooLong(
                f"text {first + long[0]} has {lengths[long[0]]} tokens and the limit is {self.max_tokens} "
                f"({len(long)} texts are too long). Shorten them, or pass too_long='window' or 'truncate'."
            )
        head, tail = len(self._prefix), len(self._suffix)
        room = self.max_tokens - head - tail
        if self.too_long == "truncate":
            cut[:] = lengths - used
            for i in long:
                ids[i] = ids[i][: head + room] + self._suffix
            return ids, np.zeros(len(ids), np.int64)
        pieces: list[list[int]] = []
        starts: list[int] = []
        over = set(long)
        for i, row in enumerate(ids):
            if i not in over:
                pieces.append(row)
                starts.append(0)
                continue
            content = row[head : len(row) - tail]
            spans = windows(len(content), room, self.overlap)
            pieces += [self._prefix + content[w.start : w.end] + self._suffix for w in spans]
            starts += [w.start for w in spans]
            used[i], parts[i] = lengths[i], len(spans)
        return pieces, np.array(starts, np.int64)

    def _skips(self, starts: NDArray[np.int64], skip: int) -> NDArray[np.int64]:
        """Leading tokens that each sequence leaves out: the special ones, and what it holds of the prompt."""
        if not skip:
            return np.zeros(len(starts), np.int64)
        head = len(self._prefix)
        return head + np.maximum(0, skip - head - starts)

    def _pool(
        self, pieces: list[list[int]], skips: NDArray[np.int64], bar: _Progress, parts: NDArray[np.int64]
    ) -> tuple[Tensor, int]:
        """Pooled vectors of sequences, in their order, and how many batches that took."""
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        batches: list[NDArray[np.int64]] = []
        skip_of: list[int] = []
        for skip in np.unique(skips).tolist():  # one value, but for windows of texts with a prompt
            of = np.flatnonzero(skips == skip)
            batches += [of[rows] for rows in plan(lengths[of], self.batch_tokens)]
            skip_of += [skip] * (len(batches) - len(skip_of))
        pooled: list[Tensor] = []
        done = 0.0
        for rows, skip in zip(batches, skip_of, strict=True):
            packed = Packed.of([pieces[i] for i in rows], after=self._after)
            pooled.append(pool(self._plan.run(packed), packed, self.pooling, skip).cpu())
            done += len(rows) * len(parts) / len(pieces)
            bar.reach(int(done))
        bar.settle(len(parts))
        if not batches:
            return torch.empty(0, 0), 0
        order = torch.from_numpy(np.concatenate(batches))
        out = torch.cat(pooled)
        return torch.empty_like(out).index_copy_(0, order, out), len(batches)

    @torch.inference_mode()
    def _finish(self, x: Tensor) -> NDArray[np.float32]:
        for apply in self._then:
            x = apply(x)
        result: NDArray[np.float32] = x.numpy()
        return result

    def _warn(self, used: NDArray[np.int64], cut: NDArray[np.int64]) -> None:
        lost, whole = int(cut.sum()), int(cut.sum() + used.sum())
        warnings.warn(
            f"{int((cut > 0).sum()):,} of {len(cut):,} texts are longer than {self.max_tokens} tokens and were cut: {lost:,} of "
            f"{whole:,} tokens ({lost / whole:.1%}) were left out. Pass too_long='window' to read all of them, 'error' to refuse.",
            Truncated,
            stacklevel=3,
        )


def _listed(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, (bytes, dict)) or not isinstance(texts, Iterable):
        raise BadInput(f"texts must be a list of strings, not {type(texts).__name__}")
    return list(texts)


def _combine(pooled: Tensor, pieces: list[list[int]], parts: NDArray[np.int64], special: int) -> Tensor:
    """One vector a text: the mean of its windows' vectors, weighted by their tokens."""
    if len(pieces) == len(parts):
        return pooled
    starts = np.cumsum(parts) - parts
    rows = []
    for start, n in zip(starts.tolist(), parts.tolist()):
        x = pooled[start : start + n]
        if n > 1:
            weight = torch.tensor([len(pieces[start + k]) - special for k in range(n)], dtype=x.dtype)[:, None]
            x = (x * weight).sum(0, keepdim=True) / weight.sum()
        rows.append(x)
    return torch.cat(rows)


class _Progress:
    """A bar on stderr: from tqdm, which huggingface_hub brings."""

    def __init__(self, total: int, show: bool | None) -> None:
        from tqdm.auto import tqdm

        # disable=None: not where stderr is no terminal
        self._bar = tqdm(
            total=total, unit="text", delay=2, leave=False, disable=None if show is None else not show, name="nativebert"
        )
        self._base = 0

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def reach(self, done: int) -> None:
        """``done`` texts of the present chunk are finished."""
        self._bar.update(self._base + done - self._bar.n)

    def settle(self, chunk: int) -> None:
        """The present chunk is finished."""
        self._base += chunk
        self._bar.update(self._base - self._bar.n)
