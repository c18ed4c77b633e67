"""What every execution plan offers, and what plans have in common: heads, batch sizes, the check for finite numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import isfinite
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nativebert.config import Head as HeadSpec
from nativebert.errors import NotFiniteError
from nativebert.nn.heads import READS, mean_tokens
from nativebert.nn.packed import Packed
from nativebert.nn.pool import pool

# Tokens of a batch, by device. Larger ones gain nothing on a CPU (their activations leave the cache) and fill a GPU.
BATCH_TOKENS = {"cpu": 2048, "cuda": 65536, "mps": 16384}

LOGITS_AT_ONCE = 2**24  # numbers: of token logits that are only wanted by their maximum, this many exist at a time


class NonFiniteStates(ArithmeticError):
    """Hidden states hold infinities or NaN, and no logits were computed of them.

    Attributes:
        states: those of the tokens ``(T, H)``, or of the sequences ``(B, H)``.
    """

    def __init__(self, states: Tensor) -> None:
        super().__init__("hidden states are infinite or NaN")
        self.states = states


class PreparedHead(Protocol):
    """A head, with the pooler if it reads one, prepared for a device, in float32.

    Attributes:
        spec: what the head is.
    """

    spec: HeadSpec

    def logits(self, x: Tensor) -> Tensor:
        """Hidden states that the head reads (of tokens, of first tokens, means), float32 ``(n, H)`` -> float32 ``(n, C)``."""


class ExecutionPlan(ABC):
    """A model, its heads included, prepared for one device and precision.

    It keeps copies of what it needs: prepare again after changing the model's weights. Batches come from the CPU
    (:class:`~nativebert.nn.packed.Packed`); results are on the plan's device.

    Attributes:
        device: where it runs, and where its results are.
        precision: of the encoder, one of :data:`nativebert.engine.PRECISIONS`; heads are float32.
        backend: what computes, for people: ``"C kernels (zen5)"``, ``"oneDNN"``, ``"torch"``.
        min_rows: rows that a matrix product has at least; smaller batches are filled up to them.
        batch_tokens: tokens of a batch with which it is fast.
        heads: the prepared heads, by task.
    """

    device: torch.device
    precision: str
    backend: str
    min_rows: int = 1
    batch_tokens: int
    heads: Mapping[str, PreparedHead]

    @abstractmethod
    def hidden(self, batch: Packed) -> Tensor:
        """Hidden states of the last layer, ``(T, H)``.

        Raises:
            TooLongError, BadInputError: a position, token id or token type id is beyond its table; of all methods here.
        """

    @abstractmethod
    def states(self, batch: Packed) -> list[Tensor]:
        """Hidden states after the embeddings and after each layer, ``(T, H)`` each; the last is what :meth:`hidden` gives."""

    @torch.inference_mode()
    def pooled(self, batch: Packed, modes: tuple[str, ...], skip: int = 0) -> Tensor:
        """One vector for each sequence, float32 ``(B, H * len(modes))``: see :func:`nativebert.nn.pool.pool`."""
        return pool(self.hidden(batch), batch, modes, skip)

    @torch.inference_mode()
    def logits(self, batch: Packed, task: str, *, reduce: str | None = None) -> Tensor:
        """Logits of a head.

        Args:
            batch: the tokens.
            task: the head's task.
            reduce: ``"max"``, for a head on tokens: the maximum over each sequence's tokens, by class. The logits of all tokens, ``(T, C)``,
                then never exist at once: ``C`` is the vocabulary for masked-LM heads, whose maxima are what sparse encoders need.

        Returns:
            Float32 ``(T, C)`` for a head on tokens; ``(B, C)`` for a head on sequences, and with ``reduce``, where a sequence without tokens
            has minus infinity.

        Raises:
            NonFiniteStates: the hidden states overflow the precision.
            NotFiniteError: the head itself gives infinities or NaN.
        """
        spec = self.heads[task].spec
        on = spec.on
        if reduce not in (None, "max") or (reduce and on != "tokens"):
            raise ValueError(f"reduce must be None, or 'max' for a head on tokens, not {reduce!r} for {task!r}")
        first = on in ("first", "pooled")
        # pooled() by the first token: a plan need not compute what no head reads
        x = self.pooled(batch, ("cls",)) if first else self.hidden(batch).float()
        if not is_finite(x):
            raise NonFiniteStates(x)
        if on == "mean":
            x = READS[on](x, batch.to(x.device))
        if reduce is None:
            logits = self._head_logits(task, x)
            return mean_tokens(logits, batch.to(x.device)) if on == "late" else logits
        cu_seqlens = batch.cu_seqlens.to(x.device)
        owner = torch.arange(len(batch.lengths), device=x.device).repeat_interleave(cu_seqlens.diff(), output_size=len(x))
        out = x.new_full((len(batch.lengths), spec.classes), -torch.inf)
        rows = max(self.min_rows, LOGITS_AT_ONCE // spec.classes)
        for part, sequences in zip(torch.split(x, rows), torch.split(owner, rows)):
            logits = self._head_logits(task, part)
            out.scatter_reduce_(0, sequences[:, None].expand_as(logits), logits, "amax")
        return out

    @torch.inference_mode()
    def head_logits(self, task: str, x: Tensor) -> Tensor:
        """Logits of hidden states.

        Args:
            task: the head's task.
            x: what the head reads (states of tokens, of first tokens, or means), float ``(n, H)``, on the plan's device.

        Returns:
            Float32 ``(n, C)``.

        Raises:
            NotFiniteError: they hold infinities or NaN.
        """
        return self._head_logits(task, x.float())

    def _head_logits(self, task: str, x: Tensor) -> Tensor:
        logits = self.heads[task].logits(x)
        if not is_finite(logits):
            raise self.not_finite(task)
        return logits

    def not_finite(self, task: str) -> NotFiniteError:
        """The error of a head that gives infinities or NaN."""
        return NotFiniteError(
            f"the head {self.heads[task].spec.name!r} gives infinities or NaN, in float32, of states that are finite: its weights are damaged, "
            "or too large"
        )

    def warm_up(self) -> None:  # noqa: B027 (most plans have nothing to choose)
        """Measure what is fastest on this machine, and keep it for later plans. Results never depend on it."""

    def clear_cache(self) -> None:  # noqa: B027 (most plans keep nothing)
        """Forget what was kept of earlier batches. Results never depend on it, but time does: for those who time the same texts again
        and again, and mean texts that are always new."""


def is_finite(x: Tensor) -> bool:
    """Whether all of a tensor is. On a device one sum is enough: infinity or NaN never leaves it finite (it may also overflow by itself)."""
    if (
        x.device.type == "cpu" and x.dtype == torch.float32
    ):  # one thread: torch's would wait for a core while texts are tokenised
        return int(np.count_nonzero(np.isfinite(x.numpy()))) == x.numel()
    return isfinite(x.sum(dtype=torch.float32).item()) or bool(x.isfinite().all())
