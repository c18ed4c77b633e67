"""The base class of all tasks: a model with its tokenizer, options and execution plan; sequences in, numbers out."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nativebert.engine import Precision, choose_device, precision_name, prepare
from nativebert.engine.fetch import Fetch
from nativebert.engine.plan import NonFiniteStates, is_finite
from nativebert.errors import Assumed, BadInputError, NotFiniteError, OutOfMemoryError, RefusedError, warn
from nativebert.hub import Snapshot
from nativebert.loading import LoadedModel, load, open_snapshot
from nativebert.nn.model import Model
from nativebert.nn.packed import Packed, Ragged
from nativebert.pickling import ModelFiles, PassedModel
from nativebert.sentence import TransformerConfig
from nativebert.tasks import hints
from nativebert.tasks.call import Call, Chunk, as_list
from nativebert.tasks.options import (
    CALL_OPTIONS,
    DEFAULTS,
    TASK_OPTIONS,
    CallOptions,
    Options,
    ReportOptions,
    TaskOptions,
    check,
)
from nativebert.tasks.results import Report
from nativebert.tasks.windows import Windows, of_texts
from nativebert.text.batching import batches_by_length
from nativebert.text.tokenizer import Tokenizer

Compute = Callable[[Packed], Tensor]  # a batch -> (T, ...) of its tokens, or (B, ...) of its sequences

FINISHED_ROWS = 256  # results of sequences that are finished together: few enough for the processor's cache
_SHRINKING = Lock()


class Task:
    """A model prepared for one task; by itself, for hidden states. The public tasks say what goes in and what comes out.

    A task does not change: its settings are read-only, and a copy of it is the task itself. What may differ in a call is passed to it.

    Args:
        model: a folder, a Hub id (``owner/name`` or ``owner/name@revision``), a :class:`~nativebert.hub.Snapshot`, or a
            :class:`~nativebert.nn.model.Model` with the task's head, loaded or not.
        **options: see :class:`~nativebert.tasks.options.TaskOptions`.

    Attributes:
        reference: the model, as its user wrote it.
        snapshot: its files; None for a model without files.
        encoder: its config.
        tokenizer: its tokenizer.
        plan: its execution plan.
        file_max_tokens: what the model's files say of ``max_tokens``.

    Raises:
        NativeBertError: one of its kinds, for a model that cannot be had, is not understood, or has no such head.
    """

    head: ClassVar[str | None] = None  # the task of the model's head; None for the encoder alone
    noun: ClassVar[str] = "text"  # what messages call one item
    defaults: ClassVar[TaskOptions] = {}  # where they are not those of all tasks
    _adapter: str | None = None  # to merge, of a model that has one for each task

    def __init__(self, model: str | PathLike[str] | Snapshot | Model, **options: Unpack[TaskOptions]) -> None:
        if unknown := options.keys() - TASK_OPTIONS:
            name = min(unknown)
            call = inspect.signature(type(self).__call__).parameters.keys() if callable(self) else set()
            known = TASK_OPTIONS | inspect.signature(type(self)).parameters.keys()
            hint = hints.of_argument(name, known, CALL_OPTIONS | call, hints.CALLED)
            raise TypeError(f"{type(self).__name__}() got an unexpected keyword argument {name!r}{hint}")
        settings = DEFAULTS | self.defaults | options
        device, precision = str(choose_device(settings["device"])), precision_name(settings["precision"])
        checked = check(settings["too_long"], settings["stride"], settings["batch_tokens"])  # before the model is loaded
        by_files = isinstance(model, (str, PathLike, Snapshot))
        if isinstance(model, (str, PathLike, Snapshot)):
            snapshot = open_snapshot(
                model,
                revision=settings["revision"],
                offline=settings["offline"],
                token=settings["token"],
                base=settings["base"],
            )
            model = load(snapshot, head=self.head, adapter=self._adapter)
        if not isinstance(model, Model):
            raise BadInputError(f"model must be a folder, a name on the Hub or a loaded model, not {type(model).__name__}")
        if self.head is not None and self.head not in model.tasks:
            have = ", ".join(map(repr, model.tasks)) or "none"
            raise BadInputError(
                f"{type(self).__name__} needs a model with the head {self.head!r}, and this one has {have}: nb.load(..., head={self.head!r})"
            )
        model = LoadedModel.of(model)
        if self._adapter not in (None, model.adapter):
            raise BadInputError(
                f"task={self._adapter!r} needs the model's files, and a loaded model was passed: nb.load(..., adapter={self._adapter!r}), or pass the folder"
            )
        self._adapter, self._task_adapters = model.adapter, model.task_adapters
        self.reference, self.snapshot, self.encoder = model.reference, model.snapshot, model.config
        self._origin = ModelFiles.of(model) if by_files else PassedModel(model)
        self._read_settings()
        self._prepare(model, device, precision)
        if settings["warmup"]:
            self.plan.warm_up()
        positions = self.encoder.max_tokens
        self.file_max_tokens = min(self._file_settings.max_tokens or self.tokenizer.max_length or positions, positions)
        limit = self.file_max_tokens if settings["max_tokens"] is None else settings["max_tokens"]
        batch_tokens = checked.pop("batch_tokens") or self.plan.batch_tokens
        self._options = Options(
            device=device, precision=precision, max_tokens=limit, batch_tokens=batch_tokens, positions=positions,
            special_tokens=self.tokenizer.n_special(), **checked,
        )  # fmt: skip
        dtype = self._file_settings.dtype
        if "precision" not in options and dtype not in (None, "float32"):
            warn(
                f"{self.reference}: its files ask for {dtype}, and float32 is computed. Pass precision={dtype!r} for the other.",
                Assumed,
            )

    def _prepare(self, model: LoadedModel, device: str, precision: str) -> None:
        """Make tokenizer and plan."""
        settings, snapshot = self._file_settings, self.snapshot
        tokenizer = (
            Tokenizer.from_folder(snapshot.tokenizer, settings.tokenizer)
            if settings.tokenizer and snapshot
            else model.tokenizer
        )
        self.tokenizer = tokenizer.lowercased() if settings.lowercase else tokenizer
        release: Callable[[], None] | None = None
        if isinstance(self._origin, ModelFiles):  # nobody else has this model: what is copied need not stay in memory
            assert model.ledger is not None
            release = model.ledger.checkpoint.release
        heads = () if self.head is None else (self.head,)
        self.plan = prepare(model, device, precision, heads=heads, on_copied=release)
        if release is not None:
            release()

    _file_settings = TransformerConfig()  # of tasks that sentence-transformers has, what its files say of the encoder

    def _read_settings(self) -> None:
        """Read what the task needs of the model's other files."""

    # -- settings

    @property
    def options(self) -> Options:
        """The options that hold where a call does not say otherwise."""
        return self._options

    @property
    def device(self) -> str:
        """Device that the model runs on."""
        return self._options.device

    @property
    def precision(self) -> Precision:
        """Precision of the encoder's computations."""
        return self._options.precision

    @property
    def max_tokens(self) -> int:
        """Maximum tokens of a sequence."""
        return self._options.max_tokens

    @property
    def too_long(self) -> str:
        """Handling of texts longer than ``max_tokens``."""
        return self._options.too_long

    @property
    def stride(self) -> int:
        """Tokens that neighbouring windows share."""
        return self._options.stride

    @property
    def batch_tokens(self) -> int:
        """Maximum tokens of a batch; fewer than it was made with, where the device's memory did not hold so many."""
        return self._options.batch_tokens

    def shrink_batches(self, tokens: int) -> None:
        """Batches of at most so many tokens in all later calls, of all threads."""
        with _SHRINKING:
            if tokens < self._options.batch_tokens:
                self._options = replace(self._options, batch_tokens=tokens)

    if not TYPE_CHECKING:  # which knows that properties are read-only

        def __setattr__(self, name: str, value: Any) -> None:
            if not name.startswith("_") and (name in TASK_OPTIONS or hasattr(self, name)):
                kind, parameter = type(self).__name__, inspect.signature(type(self)).parameters.get(name)
                advice = f"make another {kind}"
                if name in TASK_OPTIONS or (parameter is not None and parameter.kind is parameter.KEYWORD_ONLY):
                    advice = f"pass {name}= to {kind}(...){' or to the call' if name in CALL_OPTIONS else ''}"
                raise AttributeError(f"{kind}.{name} is fixed when the {kind} is made: {advice}")
            super().__setattr__(name, value)

    # -- copies, pickles

    _prepared: ClassVar[frozenset[str]] = frozenset({"plan", "tokenizer"})  # what is made again where a pickle arrives

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """State for pickling: the settings, and the location of the model's files, or its weights if it was passed as a model.

        Raises:
            RefusedError: the passed model's weights are not those any more that the task was made with.
        """
        return {name: value for name, value in self.__dict__.items() if name not in self._prepared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the task again.

        Raises:
            NativeBertError: the model's files are not there, or are those of another model now.
        """
        self.__dict__.update(state)
        model = self._origin.load()
        if model.config != self.encoder:
            raise RefusedError(
                f"{self.reference} has another config.json now than when the task was pickled: make the task again"
            )
        self._prepare(model, self.device, self.precision)

    if not TYPE_CHECKING:  # for checkers, what is not there is not there

        def __getattr__(self, name: str) -> Any:
            hint = hints.of_attribute(name, dir(type(self)))
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}", name=name, obj=self)

    # -- sequences to numbers

    @overload
    def states(
        self, texts: Iterable[str], *, return_report: Literal[False] = False, **options: Unpack[CallOptions]
    ) -> list[Tensor]: ...
    @overload
    def states(
        self, texts: Iterable[str], *, return_report: Literal[True], **options: Unpack[CallOptions]
    ) -> tuple[list[Tensor], Report]: ...
    def states(self, texts: Iterable[str], **options: Unpack[ReportOptions]) -> Any:
        """Hidden states of the last layer for every token of texts, special tokens included.

        Args:
            texts: strings; a single string is taken as a list of one.
            **options: see :class:`~nativebert.tasks.options.CallOptions`. Of a text in windows, each token has its
                states from the window in which it stands farther from an edge.

        Returns:
            float32 ``(tokens, H)`` on the CPU for each text.

        Raises:
            BadInputError: something that is not a string.
            TooLongError: a text is longer than ``max_tokens`` and ``too_long="error"``.
        """
        prefix, suffix = map(len, self.tokenizer.frame)
        out: list[Tensor] = []
        with Call(self, as_list(texts), options) as call:
            for chunk in call.chunks():
                sequences = of_texts(chunk, chunk.items)
                rows = self._token_rows(sequences, chunk, self.plan.hidden)
                starts = sequences.starts.tolist()
                for first, end, states in zip(
                    starts, [*starts[1:], len(rows)], sequences.merge(rows, len(starts)), strict=True
                ):
                    last = rows[end - 1]
                    out.append(torch.cat([rows[first][:prefix], states, last[len(last) - suffix :]]))
        return call.returned(out)

    def pack(self, ids: Ragged | Sequence[Sequence[int]], segments: Ragged | Sequence[Sequence[int]] | None = None) -> Packed:
        """A batch of token ids, and of token type ids as long each, for :attr:`plan`."""
        return Packed.of(ids, segments, position_pad_id=self.encoder.position_pad_id)

    def _run(
        self, sequences: Windows, chunk: Chunk, compute: Compute | None = None, *, checked: bool = False
    ) -> Iterator[tuple[NDArray[np.int64], Packed, Tensor]]:
        """Compute sequences, batch by batch: indices of a batch's sequences, the batch, and its hidden states ``(T, H)`` or what
        ``compute`` makes of it; ``checked`` says that it refuses states that are not finite itself."""
        compute, call = compute or self.plan.hidden, chunk.call
        done, waiting = 0, deque(batches_by_length(sequences.lengths, call.options.batch_tokens))
        running: deque[tuple[NDArray[np.int64], Packed, Fetch]] = deque()
        ahead = self.plan.device.type == "cuda"  # one more batch is packed and launched while one is computed
        while waiting or running:
            if waiting and len(running) <= ahead:
                rows = waiting.popleft()
                types = sequences.token_types
                batch = self.pack(sequences.tokens.take(rows), None if types is None else types.take(rows))
                try:
                    computed = self._run_or_halve(compute, batch, call)
                except BadInputError:
                    self._check_vocabulary(sequences, chunk)
                    raise
                except NonFiniteStates as error:
                    raise self._overflow(error.states, batch, sequences, rows, chunk) from None
                if computed is not None:
                    running.append((rows, batch, Fetch(computed, ahead=bool(waiting))))
                    continue
                left = np.concatenate([rows, *waiting])
                waiting = deque(left[batch] for batch in batches_by_length(sequences.lengths[left], call.options.batch_tokens))
                continue
            rows, batch, fetch = running.popleft()
            out = fetch.result()
            if not checked and not is_finite(out):
                raise self._overflow(out, batch, sequences, rows, chunk)
            yield rows, batch, out
            done += len(rows)
            call.count_batch(sum(batch.lengths), self.plan.min_rows, chunk.start + done * len(chunk.items) / len(sequences))

    def _run_or_halve(self, compute: Compute, batch: Packed, call: Call) -> Tensor | None:
        """``compute(batch)``, or None where the device's memory does not hold it: then batches are half as large from now on.

        Raises:
            OutOfMemoryError: it does not hold a single sequence.
        """
        try:
            return compute(batch)
        except RuntimeError as error:
            # MPS has no class of its own for it
            if not isinstance(error, torch.OutOfMemoryError) and "out of memory" not in str(error):
                raise
            tokens = sum(batch.lengths)
            if len(batch.lengths) == 1:
                raise OutOfMemoryError(
                    f"{self.device} has no room for one {self.noun} of {tokens:,} tokens: free its memory, or choose a lower max_tokens, a "
                    "precision of 16 bits or another device"
                ) from error
            call.shrink_batches(max(1, tokens // 2))
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()  # only now: until here the error held what the batch had come to
        return None

    def _token_rows(self, sequences: Windows, chunk: Chunk, compute: Compute, *, checked: bool = False) -> list[Tensor]:
        """Results of ``compute`` per token: float32 ``(tokens, ...)`` on the CPU for each sequence."""
        out: list[Tensor] = [torch.empty(0)] * len(sequences)
        for rows, batch, x in self._run(sequences, chunk, compute, checked=checked):
            for n, states in zip(rows.tolist(), torch.split(x.float().cpu(), list(batch.lengths)), strict=True):
                out[n] = states
        return out

    def _sequence_rows(
        self,
        sequences: Windows,
        chunk: Chunk,
        compute: Compute,
        out: NDArray[np.float32],
        *,
        finish: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
        checked: bool = False,
    ) -> NDArray[np.float32]:
        """Write to ``out``, ``(sequences, width)``, the results of ``compute`` per sequence, or what ``finish`` makes of those; return it."""
        for rows, _, x in self._run(sequences, chunk, compute, checked=checked):
            results = x.cpu().numpy()
            for start in range(0, len(rows), FINISHED_ROWS):
                part = slice(start, start + FINISHED_ROWS)
                out[rows[part]] = results[part] if finish is None else finish(results[part])
        return out

    def _logits(self, sequences: Windows, chunk: Chunk) -> Tensor:
        """Logits of a head on sequences, float32 ``(sequences, C)`` on the CPU."""
        assert self.head is not None
        classes = self.encoder.heads[self.head].classes
        compute = partial(self.plan.logits, task=self.head)
        out = np.empty((len(sequences), classes), np.float32)
        return torch.from_numpy(self._sequence_rows(sequences, chunk, compute, out, checked=True))

    def _token_logits(self, sequences: Windows, chunk: Chunk) -> list[Tensor]:
        """Logits of a head on tokens, float32 ``(tokens, C)`` on the CPU for each sequence."""
        assert self.head is not None
        return self._token_rows(sequences, chunk, partial(self.plan.logits, task=self.head), checked=True)

    # -- errors

    def _overflow(
        self, states: Tensor, batch: Packed, sequences: Windows, rows: NDArray[np.int64], chunk: Chunk
    ) -> NotFiniteError:
        """The error for states of a batch, of its tokens ``(T, ...)`` or its sequences ``(B, ...)``, that are not finite."""
        overflowed = (~states.isfinite()).flatten(1).any(1).cpu().numpy()
        ends = np.arange(1, len(states) + 1) if len(states) == len(batch.lengths) else np.cumsum(batch.lengths)
        texts = {sequences.text[n] for n in rows[np.unique(np.searchsorted(ends, np.flatnonzero(overflowed), side="right"))]}
        first, more = chunk.start + min(texts), f" (and of {len(texts) - 1} more in its batch)" if len(texts) > 1 else ""
        advice = {
            "float16": "float16 ends at 65,504: choose bfloat16, which has the range of float32, or float32",
            "float32": "no precision is wider: the weights are damaged, or were made for another config.json",
        }.get(self.precision, "choose float32")
        return NotFiniteError(
            f"what {self.reference} computes of {self.noun} {first}{more} in {self.precision} overflows: hidden states are infinite or NaN, and "
            f"any result would be wrong. Precision: {advice}."
        )

    def _check_vocabulary(self, sequences: Windows, chunk: Chunk) -> None:
        """Name the text and the token whose id has no row in the model's table, if there is one: asked only when the model refused."""
        for text, ids in zip(sequences.text, sequences.ids):
            for number in ids:
                if number >= self.encoder.vocab_size:
                    raise BadInputError(
                        f"{self.noun} {chunk.start + text} holds {self.tokenizer.id_to_token(number)!r}, whose id {number} is beyond the model's "
                        f"table of {self.encoder.vocab_size} tokens: the tokenizer's files are of another model, or have tokens that it was "
                        "not trained with. Take the tokenizer of this model, or leave that token out of the text."
                    )
