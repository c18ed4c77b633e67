"""What every task does alike: open the model, tokenise, cut or window long texts, run batches, count, report."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nativebert.engine import choose_device, prepare
from nativebert.engine.cpu import MIN_ROWS, CpuPlan, HeadPlan, is_finite
from nativebert.engine.fetch import Fetch
from nativebert.engine.native import NativePlan
from nativebert.errors import (
    Assumed,
    BadInput,
    NotFinite,
    OutOfMemory,
    Refused,
    SmallerBatches,
    TooLong,
    Truncated,
    heard,
    warn,
)
from nativebert.hub import Snapshot
from nativebert.loading import load, open_snapshot
from nativebert.nn.packed import Packed
from nativebert.pickling import ModelFiles, Referred
from nativebert.sentence import TransformerConfig
from nativebert.tasks.results import Report
from nativebert.text.pack import plan
from nativebert.text.tokenizer import Ids, Tokenizer
from nativebert.text.window import Window, check_policy, windows
from nativebert.whole import at_least, whole

if TYPE_CHECKING:
    from nativebert.nn.model import Model
    from nativebert.text.tokenizer import Tokenizer

# Tokens in one batch. Larger ones gain nothing on a CPU (their activations leave the cache) and fill a GPU.
BATCH_TOKENS = {"cpu": 2048, "cuda": 65536, "mps": 16384}

# The kernels take a batch through the cache in chunks, and threads wait for each other at its end only: the larger the better. But C hears
# no Ctrl-C and moves no progress bar, so a batch is at most these multiplications, some two seconds of two cores, and these tokens.
_MOST_PRODUCTS, _MOST_TOKENS = 1.8e11, 2**14

# Texts, and characters, that are tokenised and sorted together: enough for well-filled batches, few enough to keep memory flat.
_CHUNK, _CHUNK_CHARACTERS = 2**14, 2**21

Scores = NDArray[np.float32]


def softmax(logits: Tensor) -> Scores:
    """Probabilities over the last axis, computed in float64, so that the float32 result does not depend on the batch.

    Args:
        logits: ``(..., C)``.

    Returns:
        float32 ``(..., C)``.
    """
    x = logits.double().numpy()
    x = np.exp(x - x.max(-1, keepdims=True, initial=-np.inf))
    probabilities: Scores = (x / x.sum(-1, keepdims=True)).astype(np.float32)
    return probabilities


def sigmoid(logits: Tensor) -> Scores:
    """A probability for each logit by itself, computed in float64; float32 ``(..., C)``."""
    probabilities: Scores = (0.5 * (1 + np.tanh(logits.double().numpy() / 2))).astype(np.float32)
    return probabilities


def highest(scores: NDArray[Any], k: int) -> NDArray[np.intp]:
    """The places of the ``k`` highest of ``scores``, ``(n,)``, best first; of equal ones the first. All places where ``k`` is larger."""
    if k < len(scores):
        chosen = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    else:
        chosen = np.arange(len(scores))
    return chosen[np.argsort(-scores[chosen], kind="stable")[:k]]


class Pieces(NamedTuple):
    """Texts as sequences that fit the model.

    Attributes:
        ids: token ids of each sequence, special tokens included.
        segments: as long each, or None for all zeros.
        text: which text each sequence came from, counted from the first of the chunk.
        windows: the stretch of its text that each holds, in tokens of that text (of the one that slides, where a pair was windowed; of
            the whole sequence, for other pairs).
        lead: tokens that stand before that stretch.
    """

    ids: list[list[int]]
    segments: list[list[int]] | None
    text: list[int]
    windows: list[Window]
    lead: list[int]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence, ``(pieces,)``."""
        return np.fromiter(map(len, self.ids), np.int64, len(self.ids))

    @property
    def starts(self) -> NDArray[np.int64]:
        """The first sequence of each text, ``(texts,)``; every text has at least one, and they stand in the order of the texts."""
        return np.flatnonzero(np.diff(self.text, prepend=-1))

    def some(self, which: NDArray[np.int64]) -> Pieces:
        """Some of the sequences, in their order."""
        if len(which) == len(self.ids):
            return self
        rows = which.tolist()
        segments = None if self.segments is None else [self.segments[n] for n in rows]
        ids, text = [self.ids[n] for n in rows], [self.text[n] for n in rows]
        return Pieces(ids, segments, text, [self.windows[n] for n in rows], [self.lead[n] for n in rows])

    def join(self, rows: Sequence[Tensor], texts: int) -> list[Tensor]:
        """Something about each token of the sequences, as something about each token of the texts: from the window that owns it.

        Args:
            rows: ``(tokens, ...)`` for each sequence.
            texts: how many texts there are.

        Returns:
            ``(tokens of the text, ...)`` for each text, without special tokens and without what was cut.
        """
        parts: list[list[Tensor]] = [[] for _ in range(texts)]
        for x, n, w, lead in zip(rows, self.text, self.windows, self.lead, strict=True):
            parts[n].append(x[lead + w.own_start - w.start : lead + w.own_end - w.start])
        return [torch.cat(own) if len(own) > 1 else own[0] for own in parts]


class Call:
    """One call of a task: what it counts, and its progress bar.

    Args:
        task: whose call it is.
        items: texts, pairs of texts, or lists of words.
        progress: whether to show a bar; None decides by time and terminal.
        copies: how many times an item is read, each time beside something else.
    """

    def __init__(self, task: Task, items: Sequence[Any], progress: bool | None, copies: int = 1) -> None:
        self._task, self._began, self._items, self._copies = task, time.perf_counter(), items, copies
        self.count = count = len(items)
        self.used, self.cut, self.windows = (np.zeros(count, np.int64) for _ in range(3))
        self.batches = self._rows = self._filled = 0
        self._bar, self._batch_tokens = Progress(count, progress), task.batch_tokens

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def chunks(self) -> Iterator[slice]:
        """Stretches of the items that are worked on one after the other: short enough for all that the tokenizer says about a text (some
        100 bytes a token), long enough for well-filled batches."""
        start = stop = weight = 0
        for item in self._items:
            size = _characters(item) * self._copies
            if stop > start and (stop - start == _CHUNK or weight + size > _CHUNK_CHARACTERS):
                yield slice(start, stop)
                self._bar.reach(stop)
                start, weight = stop, 0
            stop, weight = stop + 1, weight + size
        if stop > start:
            yield slice(start, stop)
            self._bar.reach(stop)

    def ran(self, rows: int, fewest: int) -> None:
        """A batch of so many rows was computed, by a plan that fills up to ``fewest``."""
        self.batches += 1
        self._rows += max(rows, fewest)
        self._filled += max(0, fewest - rows)

    def reach(self, done: float) -> None:
        """So many texts are done."""
        self._bar.reach(int(done))

    def report(self) -> Report:
        """What was done; with a warning where texts were cut, and where batches had to be smaller."""
        task = self._task
        if task.batch_tokens < self._batch_tokens:
            warn(
                f"the memory of {task.device} does not hold batches of {self._batch_tokens:,} tokens: they now have at most "
                f"{task.batch_tokens:,}, here and in later calls. Pass batch_tokens={task.batch_tokens} to begin there.",
                SmallerBatches,
            )
        if self.cut.any():
            lost, whole = int(self.cut.sum()), int(self.cut.sum() + self.used.sum())
            long = int((self.cut > 0).sum())
            are, were = ("is", "was") if long == 1 else ("are", "were")
            warn(
                f"{long:,} of {self.count:,} {task.noun}s {are} longer than {task.max_tokens} tokens and {were} cut: {lost:,} of "
                f"{whole:,} tokens ({lost / whole:.1%}) were left out. Pass too_long='window' to read all of them, 'error' to refuse.",
                Truncated,
            )
        share = self._filled / self._rows if self._rows else 0.0
        took = time.perf_counter() - self._began
        return Report(self.used, self.cut, self.windows, self.batches, share, took, task.reference, task.device, task.precision)


def _characters(item: Any) -> int:
    """Of a text, a pair of texts, a list of words; what is none of them is told elsewhere."""
    return len(item) if isinstance(item, str) else sum(map(_characters, item)) if isinstance(item, (tuple, list)) else 0


class _Passed:
    """A model that somebody made a task of: kept for the task's pickles, while it has the weights that the task has."""

    def __init__(self, model: Model) -> None:
        self._model, self._weights = model, _digest(model)

    def load(self) -> Model:
        """The model."""
        return self._model

    def __getstate__(self) -> dict[str, Any]:
        if _digest(self._model) != self._weights:
            raise Refused(
                "the weights of this task's model were changed since the task was made of it, and only the model still has weights to pickle: "
                "make the task anew from the model, or from a folder that the model was saved to"
            )
        return {**self.__dict__, "_model": Referred(self._model)}


def _digest(model: Model) -> list[tuple[int, float]]:
    """Something about each of a model's tensors that changes with its numbers."""
    tensors = (tensor.detach().cpu() for tensor in model.state_dict().values())
    return [(int(torch.hash_tensor(t).item()), t.sum(dtype=torch.float64).item()) for t in tensors]


class Task:
    """A model made ready for one task. The public tasks say what goes in and what comes out.

    Args:
        model: a folder, a Hub id (``owner/name`` or ``owner/name@revision``), a :class:`~nativebert.hub.Snapshot`, or a
            :class:`~nativebert.nn.model.Model` with the head.
        head: the head's task; None for the encoder alone.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        precision: ``"float32"``, ``"bfloat16"``, ``"float16"`` or, on the CPU, ``"int8"``: of the encoder. The head is computed in float32 always.
        batch_tokens: most tokens in one batch; None chooses by device. It changes the speed, not the result. A GPU whose memory does not hold
            such a batch gets smaller ones, with a warning (:class:`~nativebert.errors.SmallerBatches`).
        too_long: what happens to a text of more tokens than ``max_tokens``: ``"truncate"``, ``"window"`` or ``"error"``.
        max_tokens: most tokens of a text, special tokens included; None for what the model's files say.
        stride: tokens that neighbouring windows share; more than half a window is half a window.
        revision: branch, tag or commit on the Hub.
        offline: True to touch no network; None for the environment's ``HF_HUB_OFFLINE``.
        token: Hub token; None for the one that is logged in.

    Raises:
        NativeBertError: one of its kinds, for a model that cannot be had, is not understood, or has no such head.
    """

    noun = "text"  # what messages call one item

    def __init__(
        self,
        model: str | PathLike[str] | Snapshot | Model,
        *,
        head: str | None,
        device: str,
        precision: str,
        batch_tokens: int | None,
        too_long: str,
        max_tokens: int | None,
        stride: int,
        revision: str | None,
        offline: bool | None,
        token: str | None,
    ) -> None:
        target = choose_device(device)
        self.device, self.precision = str(target), precision
        tokens = None if batch_tokens is None else at_least(1, "batch_tokens", batch_tokens)
        self.too_long, self.stride = check_policy(too_long), at_least(0, "stride", stride)
        mine = isinstance(model, (str, PathLike, Snapshot))
        if isinstance(model, (str, PathLike, Snapshot)):
            model = load(open_snapshot(model, revision=revision, offline=offline, token=token), head=head)
        if not isinstance(model, torch.nn.Module):
            raise BadInput(f"model must be a folder, a name on the Hub or a loaded model, not {type(model).__name__}")
        if head is not None and head not in model.tasks:
            have = ", ".join(map(repr, model.tasks)) or "none"
            raise BadInput(
                f"{type(self).__name__} needs a model with the head {head!r}, and this one has {have}: nb.load(..., head={head!r})"
            )
        self.reference, self.snapshot, self.encoder = model.reference, model.snapshot, model.config
        self._after, self._segments = model.position_pad, model.config.segments > 1
        self._task = head
        self._origin = ModelFiles.of(model) if mine else _Passed(model)
        self._read_settings()
        self._prepare(model)
        self.tokenizer = self._files_tokenizer
        self.max_tokens = self._limit(max_tokens)
        self._advise_precision()
        self.batch_tokens = tokens or self._usual_batch(target.type)

    def _prepare(self, model: Model) -> None:
        """Make the plan of encoder and head."""
        release: Callable[[], None] | None = None
        if isinstance(self._origin, ModelFiles):  # nobody else has this model: what is copied need not stay in memory
            assert model.ledger is not None
            release = model.ledger.checkpoint.release
        self._files_tokenizer = self._tokenizer_of(model)
        self._plan = prepare(model, self.device, self.precision, after=release)
        self._fewest = MIN_ROWS if isinstance(self._plan, CpuPlan) else 1
        self._head = None if self._task is None else HeadPlan(model, self._task)
        if release is not None:
            release()

    def _read_settings(self) -> None:
        """Take what a task needs from the model's other files."""

    _file_asks = TransformerConfig()  # of tasks that sentence-transformers has, what its files say of the encoder

    def _tokenizer_of(self, model: Model) -> Tokenizer:
        """The tokenizer that goes with the model."""
        said, snapshot = self._file_asks, self.snapshot
        made = Tokenizer.from_folder(snapshot.encoder, said.tokenizer) if said.tokenizer and snapshot else model.tokenizer
        return made.lowercased() if said.lowercase else made

    def _advise_precision(self) -> None:
        """Where the files ask for fewer bits than are computed, say so."""
        if self.precision == "float32" and (asked := self._file_asks.dtype) not in (None, "float32"):
            warn(
                f"{self.reference}: its files ask for {asked}, and float32 is computed. Pass precision={asked!r} for the other.",
                Assumed,
            )

    # -- copies, pickles

    # what is made again where a pickle arrives, and what copies have in common, for nobody changes it
    _prepared: ClassVar[frozenset[str]] = frozenset({"_plan", "_fewest", "_head", "_files_tokenizer"})
    _shared: ClassVar[frozenset[str]] = frozenset({"tokenizer", "snapshot", "encoder", "_origin"})

    def __copy__(self) -> Self:
        return self._twin(self.__dict__)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        own = {
            name: copy.deepcopy(value, memo)
            for name, value in self.__dict__.items()
            if name not in self._shared | self._prepared
        }
        return self._twin(self.__dict__ | own)

    def _twin(self, state: dict[str, Any]) -> Self:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(state)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: the settings, and of the model where its files are, or its weights if it was passed as a model.

        Raises:
            Refused: the passed model's weights are not those any more that the task was made with.
        """
        left_out = self._prepared | ({"tokenizer"} if self.tokenizer is self._files_tokenizer else set())
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the task anew.

        Raises:
            NativeBertError: the model's files are not there, or are those of another model now.
        """
        self.__dict__.update(state)
        model = self._origin.load()
        if model.config != self.encoder:
            raise Refused(f"{self.reference} has another config.json now than when the task was pickled: make the task anew")
        self._prepare(model)
        if "tokenizer" not in state:
            self.tokenizer = self._files_tokenizer

    def _usual_batch(self, device: str) -> int:
        fewest = BATCH_TOKENS.get(device, 8192)
        if not isinstance(self._plan, NativePlan):
            return fewest
        products = sum(4 * self.encoder.width**2 + 2 * self.encoder.width * layer.inner for layer in self.encoder.layers)
        return max(fewest, min(_MOST_TOKENS, int(_MOST_PRODUCTS / max(products, 1))))

    def _limit(self, asked: int | None) -> int:
        """The longest sequence: what the caller asks, or else what the files say, within what the model can hold."""
        most, special = self.encoder.max_tokens, self.tokenizer.n_special()
        if asked is None:
            return min(self._file_asks.max_tokens or self.tokenizer.max_length or most, most)
        limit = whole(asked)
        if limit is None or not 1 <= limit <= most:
            raise BadInput(f"max_tokens must be between 1 and the model's {most} positions, not {asked!r}")
        if limit <= special:
            raise BadInput(f"max_tokens={limit} leaves no room for text beside {special} special tokens")
        return limit

    # -- texts to sequences

    def _ahead(self, call: Call, texts: Callable[[slice], list[str]]) -> Iterator[tuple[slice, Pieces]]:
        """Each stretch of the call's items, which are single texts, with its sequences. Where a card computes, the next stretch is
        tokenised meanwhile: the tokenizers library gives up Python's lock."""

        def tokenise(here: slice) -> Callable[[], Ids]:
            return self.tokenizer.ids_soon(singles(texts(here), here.start), first=here.start)

        stretches = call.chunks()
        here, following = next(stretches, None), next(stretches, None)
        with ThreadPoolExecutor(1) if following is not None and self.device != "cpu" else nullcontext() as thread:
            ids = None if here is None else tokenise(here)
            while here is not None and ids is not None:
                soon = None if thread is None or following is None else thread.submit(tokenise, following)
                pieces, ids = self._fit_ids(ids().ids, here, call), None  # the library's own form of them is large
                yield here, pieces
                here, following = following, None if following is None else next(stretches, None)
                ids = None if here is None else tokenise(here) if soon is None else soon.result()

    def _fit_texts(self, texts: list[str], here: slice, call: Call) -> Pieces:
        """Single texts, when only their ids matter."""
        return self._fit_ids(self.tokenizer.ids_batch(singles(texts, here.start), first=here.start).ids, here, call)

    def _fit_ids(self, ids: list[list[int]], here: slice, call: Call) -> Pieces:
        """Single texts that are tokenised already."""
        head, tail = map(len, self.tokenizer.frame)
        return self._fit(ids, None, lambda n: (head, len(ids[n]) - tail), here, call)

    def _fit_pairs(self, pairs: list[tuple[str, str]], here: slice, call: Call) -> Pieces:
        """Pairs of texts. Cutting takes from the longer text until both are equally long; windows slide over the second."""
        found = self.tokenizer.ids_batch(pairs, first=here.start)
        if found.type_ids is None and pairs:
            raise BadInput(f"{self.noun} {here.start} is a single text among pairs: give all as pairs, or none")
        return self._fit(
            found.ids, found.type_ids, lambda n: self._second(pairs[n]), here, call, lambda n: self._shortened(pairs[n])
        )

    def _second(self, pair: tuple[str, str]) -> tuple[int, int]:
        """Where the second text of a pair stands among the tokens."""
        places = [place for place, text in enumerate(self.tokenizer.encode(*pair).sequence_ids) if text == 1]
        return (places[0], places[-1] + 1) if places else (0, 0)

    def _shortened(self, pair: tuple[str, str]) -> list[int]:
        """The places of the tokens that stay when a pair is cut (``longest_first`` of the tokenizers library)."""
        e = self.tokenizer.encode(*pair)
        own = [[place for place, text in enumerate(e.sequence_ids) if text == which] for which in (0, 1)]
        room = self.max_tokens - (len(e) - len(own[0]) - len(own[1]))
        if room < 0:
            raise TooLong(
                f"a pair has {self.max_tokens - room} special tokens and the limit is {self.max_tokens}: allow more tokens"
            )
        short, long = sorted(map(len, own))
        short = min(short, room // 2)
        long = min(long, room - short)
        keep = (short, long) if len(own[0]) <= len(own[1]) else (long, short)
        gone = {place for places, kept in zip(own, keep, strict=True) for place in places[kept:]}
        return [place for place in range(len(e)) if place not in gone]

    def _fit(
        self,
        ids: list[list[int]],
        segments: list[list[int]] | None,
        sliding: Callable[[int], tuple[int, int]],
        here: slice,
        call: Call,
        shorten: Callable[[int], list[int]] | None = None,
    ) -> Pieces:
        """Sequences of at most ``max_tokens``, by the policy for long texts; counts go to ``call``.

        Args:
            ids: token ids of each text, or pair of texts, of any length.
            segments: as long each, or None.
            sliding: first and last-plus-one token of the text that gives way, for text ``n``.
            here: which of the call's texts these are.
            call: where the counts go.
            shorten: which places are kept when text ``n`` is cut; None cuts the end of what ``sliding`` says.
        """
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        most = self.max_tokens
        call.used[here], call.windows[here] = np.minimum(lengths, most), 1
        long = set(np.flatnonzero(lengths > most).tolist())
        if long and self.too_long == "error":
            n = min(long)
            raise TooLong(
                f"{self.noun} {here.start + n} has {lengths[n]} tokens and the limit is {most} ({len(long)} {self.noun}s are too long). Shorten them, or "
                "pass too_long='window' or 'truncate'."
            )
        if long and self.too_long == "truncate" and self.tokenizer.settings.get("truncation_side", "right") != "right":
            n = min(long)
            raise Refused(
                f"{self.noun} {here.start + n} has {lengths[n]} tokens and the limit is {most}, and the tokenizer's files say that long texts are cut at "
                "their beginning, which nativebert does not do. Shorten them, or pass too_long='window'."
            )
        if not self._segments or segments is None or not any(map(any, segments)):
            segments = None
        if not long and shorten is None:
            own = [sliding(n) for n in range(len(ids))]
            whole_texts = [Window(0, end - start, 0, end - start) for start, end in own]
            return Pieces(ids, segments, list(range(len(ids))), whole_texts, [start for start, _ in own])
        pieces = Pieces([], None if segments is None else [], [], [], [])

        def add(n: int, places: Iterable[int] | None, window: Window, lead: int) -> None:
            kept = None if places is None else list(places)
            pieces.ids.append(ids[n] if kept is None else [ids[n][p] for p in kept])
            if segments is not None and pieces.segments is not None:
                pieces.segments.append(segments[n] if kept is None else [segments[n][p] for p in kept])
            pieces.text.append(n)
            pieces.windows.append(window)
            pieces.lead.append(lead)

        for n, length in enumerate(lengths.tolist()):
            if shorten is not None and not (n in long and self.too_long == "window"):
                places = None
                if n in long:
                    places, call.cut[here.start + n] = shorten(n), length - most
                add(n, places, Window(0, min(length, most), 0, min(length, most)), 0)
                continue
            start, end = sliding(n)
            if n not in long:
                add(n, None, Window(0, end - start, 0, end - start), start)
                continue
            room = most - (length - (end - start))
            if room < 1:
                raise TooLong(
                    f"{self.noun} {here.start + n} has {length} tokens, and {length - (end - start)} of them must stand in every window of {most}: "
                    "shorten its first part"
                )
            spans = [Window(0, room, 0, room)]
            if self.too_long == "truncate":
                call.cut[here.start + n] = length - most
            else:
                spans = windows(end - start, room, self.stride)
                call.used[here.start + n], call.windows[here.start + n] = length, len(spans)
            for w in spans:
                add(n, [*range(start), *range(start + w.start, start + w.end), *range(end, length)], w, start)
        return pieces

    # -- sequences to numbers

    def _run(
        self, pieces: Pieces, here: slice, call: Call, compute: Callable[[Packed], Tensor] | None = None
    ) -> Iterator[tuple[NDArray[np.int64], Packed, Tensor]]:
        """Run the encoder over sequences, batch by batch: which sequences, the batch, and its hidden states ``(T, H)``, or what
        ``compute`` makes of the batch in their place."""
        compute = compute or self._plan.run
        done, waiting = 0, deque(plan(pieces.lengths, self.batch_tokens))
        running: deque[tuple[NDArray[np.int64], Packed, Fetch]] = deque()
        beside = self._plan.device.type == "cuda"  # one more batch is packed and launched while one is computed
        while waiting or running:
            if waiting and len(running) <= beside:
                rows = waiting.popleft()
                batch = self._pack(pieces, rows)
                try:
                    computed = self._fitting(compute, batch)
                except BadInput:
                    self._find_stranger(pieces, here)
                    raise
                if computed is not None:
                    running.append((rows, batch, Fetch(computed)))
                    continue
                left = np.concatenate([rows, *waiting])
                waiting = deque(left[some] for some in plan(pieces.lengths[left], self.batch_tokens))
                continue
            rows, batch, fetch = running.popleft()
            out = fetch.result()
            if not is_finite(out):
                raise self._overflow(out, batch, pieces, rows, here)
            yield rows, batch, out
            done += len(rows)
            call.ran(sum(batch.lengths), self._fewest)
            call.reach(here.start + done * (here.stop - here.start) / len(pieces.ids))

    def _overflow(self, out: Tensor, batch: Packed, pieces: Pieces, rows: NDArray[np.int64], here: slice) -> NotFinite:
        """The error for states of a batch that are not finite; ``out`` is of its tokens ``(T, ...)`` or its sequences ``(B, ...)``."""
        spoilt = (~out.isfinite()).flatten(1).any(1).cpu().numpy()
        ends = np.arange(1, len(out) + 1) if len(out) == len(batch.lengths) else np.cumsum(batch.lengths)
        texts = {pieces.text[n] for n in rows[np.unique(np.searchsorted(ends, np.flatnonzero(spoilt), side="right"))]}
        first, more = here.start + min(texts), f" (and of {len(texts) - 1} more in its batch)" if len(texts) > 1 else ""
        advice = {
            "float16": "float16 ends at 65,504: choose bfloat16, which has the range of float32, or float32",
            "float32": "no precision is wider: the weights are damaged, or were made for another config.json",
        }.get(self.precision, "choose float32")
        return NotFinite(
            f"what {self.reference} computes of {self.noun} {first}{more} in {self.precision} overflows: hidden states are infinite or NaN, and "
            f"any result would be wrong. Precision: {advice}."
        )

    def _find_stranger(self, pieces: Pieces, here: slice) -> None:
        """Name the text and the token whose id has no row in the model's table, if there is one: found only when the model refused."""
        for text, ids in zip(pieces.text, pieces.ids):
            for number in ids:
                if number >= self.encoder.vocab_size:
                    raise BadInput(
                        f"{self.noun} {here.start + text} holds {self.tokenizer.id_to_token(number)!r}, whose id {number} is beyond the model's "
                        f"table of {self.encoder.vocab_size} tokens: the tokenizer's files are of another model, or have tokens that it was "
                        "not trained with. Take the tokenizer of this model, or leave that token out of the text."
                    )

    def _fitting(self, compute: Callable[[Packed], Tensor], batch: Packed) -> Tensor | None:
        """What ``compute`` makes of the batch, or None where the device's memory does not hold it: then ``batch_tokens`` is half as large.

        Raises:
            OutOfMemory: it does not hold a single sequence.
        """
        try:
            return compute(batch)
        except RuntimeError as error:
            # MPS has no class of its own for it
            if not isinstance(error, torch.OutOfMemoryError) and "out of memory" not in str(error):
                raise
            tokens = sum(batch.lengths)
            if len(batch.lengths) == 1:
                raise OutOfMemory(
                    f"{self.device} has no room for one {self.noun} of {tokens:,} tokens: free its memory, or choose a lower max_tokens, a "
                    "precision of 16 bits or another device"
                ) from error
            self.batch_tokens = max(1, tokens // 2)
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()  # only now: until here the error held what the batch had come to
        return None

    def _layers_mean(self, layers: Sequence[int]) -> Callable[[Packed], Tensor]:
        """The mean of the hidden states of some layers, float32 ``(T, H)``."""

        def compute(batch: Packed) -> Tensor:
            states = self._plan.states(batch)
            return torch.stack([states[layer] for layer in layers]).float().mean(0)

        return compute

    def _pack(self, pieces: Pieces, rows: NDArray[np.int64]) -> Packed:
        segments = None if pieces.segments is None else [pieces.segments[n] for n in rows]
        return Packed.of([pieces.ids[n] for n in rows], segments, after=self._after)

    def _logits(self, pieces: Pieces, here: slice, call: Call) -> Tensor:
        """What the head makes of each sequence, float32 ``(pieces, C)``; for heads on sequences."""
        assert self._head is not None
        out = torch.empty(len(pieces.ids), self._head.spec.classes)
        if self._head.spec.on == "mean":
            for rows, batch, hidden in self._run(pieces, here, call):
                out[torch.from_numpy(rows)] = self._head.run(hidden, batch)
            return out
        first = partial(self._plan.pooled, modes=("cls",))  # a plan need not compute what nobody reads
        for rows, _, x in self._run(pieces, here, call, first):
            out[torch.from_numpy(rows)] = self._head.logits(x.cpu())
        return out

    def _token_logits(self, pieces: Pieces, here: slice, call: Call) -> list[Tensor]:
        """What the head makes of each token, float32 ``(tokens, C)`` for each sequence; for heads on tokens."""
        assert self._head is not None
        out: list[Tensor] = [torch.empty(0)] * len(pieces.ids)
        for rows, batch, hidden in self._run(pieces, here, call):
            for n, logits in zip(rows.tolist(), torch.split(self._head.run(hidden, batch), list(batch.lengths)), strict=True):
                out[n] = logits
        return out


def listed(texts: Any, kind: str = "texts", of: str = "strings") -> list[Any]:
    """A list of what the caller gives; a single string is a list of one.

    Raises:
        BadInput: it is nothing that holds texts.
    """
    if isinstance(texts, str):
        return [texts]
    if type(texts) is list:
        return texts.copy()
    if hasattr(texts, "to_pylist"):  # of pyarrow: its items are no strings
        texts = texts.to_pylist()
    # the items of a table are the names of its columns, and a set has no order to give results in
    table_or_number = hasattr(texts, "columns") or getattr(texts, "ndim", 1) == 0  # an array of no dimension cannot be iterated
    if isinstance(texts, (bytes, type, Mapping, Set)) or table_or_number or not isinstance(texts, Iterable):
        raise BadInput(f"{kind} must be a list of {of}, or one column of a table, not {type(texts).__name__}")
    return list(texts)


def singles(items: list[Any], first: int) -> list[Any]:
    """The items, or an error where one is a pair: a tokenizer takes pairs too. ``first`` is the number of the first item in messages."""
    for n, item in enumerate(items, first):
        if isinstance(item, (tuple, list)):
            raise BadInput(f"text {n} is a {type(item).__name__}, {str(item)[:60]}, where a single text is expected")
    return items


class Progress:
    """A bar on stderr: from tqdm, which huggingface_hub brings. Work that is done at one stroke has none, and does not pay for it."""

    def __init__(self, total: int, show: bool | None) -> None:
        self._total, self._show = total, show if heard() else False
        self._bar: Any = None

    def reach(self, done: int) -> None:
        """So many of all texts are finished."""
        if self._bar is None and done < self._total:
            from tqdm.auto import tqdm

            # disable=None: not where stderr is no terminal
            disable = None if self._show is None else not self._show
            self._bar = tqdm(total=self._total, unit="text", delay=2, leave=False, disable=disable)
        if self._bar is not None:
            with suppress(OSError, ValueError, AttributeError):  # stderr went away meanwhile: the work is what matters
                self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            with suppress(OSError, ValueError, AttributeError):
                self._bar.close()
