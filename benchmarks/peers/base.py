"""What a peer is; and what most have in common: padded batches of sorted texts, mean pooling. Imports no torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from benchmarks.models import ModelFiles

Floats = NDArray[np.float32]


class Peer:
    """A runtime with a model loaded.

    Attributes:
        name: on the command line and in the results.
        title: in the tables.
        requires: packages to install, as pip names them.
        modules: what they are imported as.
        precisions: of ``"float32"`` and ``"int8"``, those it can do.
        variants: settings beside the batch size that the sweep tries; the first is the usual one.
        modes: of ``"vectors"`` and ``"hidden"``, those it can do.
        torch: whether it runs on torch, whose import is then not counted as loading.
        compiles: whether the first run of a new shape takes long; it is then left out of the sweep.

    Args:
        model: what to load.
        threads: that it may use.
        precision: one of ``precisions``.
        variant: one of ``variants``.
    """

    name = title = ""
    requires: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("float32",)
    variants: tuple[str, ...] = ("",)
    modes: tuple[str, ...] = ("vectors", "hidden")
    torch = False
    compiles = False

    def __init__(self, model: ModelFiles, threads: int, precision: str, variant: str) -> None:
        self.model, self.threads, self.precision, self.variant = model, threads, precision, variant

    @classmethod
    def missing(cls) -> str:
        """Why it cannot run here and what to do about it; empty if it can."""
        absent = [module for module in cls.modules if importlib.util.find_spec(module) is None]
        return f"{cls.name} is left out: pip install {' '.join(cls.requires)}" if absent else ""

    @classmethod
    def version(cls) -> str:
        """Of the package that does the work."""
        try:
            return version(cls.requires[0])
        except PackageNotFoundError:
            return ""

    @classmethod
    def make(cls, model: ModelFiles, precision: str, variant: str) -> None:
        """Write the files it reads, if they are not there yet. Not counted as loading."""

    def batches(self, choices: tuple[int, ...]) -> tuple[int, ...]:
        """What the sweep tries, where texts in a batch are not what it counts in."""
        return choices

    def setting(self, batch: int) -> str:
        """How it runs, for the table."""
        return f"batch {batch}" + (f", {self.variant}" if self.variant else "")

    def vectors(self, texts: list[str], batch: int) -> Floats:
        """Text to vector: ``(n, H)``, mean over the tokens, unit length, in the order of the texts."""
        raise NotImplementedError

    def hidden(self, ids: list[list[int]], batch: int) -> list[Any]:
        """Token ids to the last hidden states: ``(tokens, H)`` for each text, in their order."""
        raise NotImplementedError

    def forget(self) -> None:
        """Called before each round, untimed: forget what rounds before have left behind of these texts."""

    def padding(self, texts: list[str], lengths: list[int], batch: int) -> float:
        """Share of the cells of its batches that hold no token."""
        ordered = np.array(lengths)[self.order(texts, lengths)]
        cells = sum(int(part.max()) * len(part) for part in np.split(ordered, range(batch, len(ordered), batch)))
        return 1 - sum(lengths) / cells

    def order(self, texts: list[str], lengths: list[int]) -> NDArray[np.int64]:
        """In which order texts go into batches: the longest first."""
        return np.argsort(-np.array(lengths), kind="stable")


class Batch(NamedTuple):
    """Texts of about the same length, padded.

    Attributes:
        rows: which texts.
        ids, mask: int64 ``(B, L)``.
    """

    rows: NDArray[np.int64]
    ids: NDArray[np.int64]
    mask: NDArray[np.int64]


class Padded(Peer):
    """A peer that takes padded batches. All of these get the same tokenizer, the same sorted batches and the same pooling: what is compared is
    the runtime."""

    def __init__(self, model: ModelFiles, threads: int, precision: str, variant: str) -> None:
        from tokenizers import Tokenizer

        super().__init__(model, threads, precision, variant)
        self.tokenizer = Tokenizer.from_file(str(model.folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(model.limit)

    def forward(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        """``(B, L)`` -> ``(B, L, H)``"""
        raise NotImplementedError

    def run(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Floats]]:
        """Each batch with its hidden states, in any order."""
        for batch in batches:
            yield batch, self.forward(batch.ids, batch.mask)

    def vectors(self, texts: list[str], batch: int) -> Floats:
        ids = [e.ids for e in self.tokenizer.encode_batch_fast(texts)]
        out = np.empty((len(texts), self.model.size[1]), np.float32)
        for part, x in self.run(padded(ids, batch)):
            pooled = np.matmul(part.mask[:, None, :].astype(np.float32), x)[:, 0]  # a sum: unit length makes it a mean
            out[part.rows] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return out

    def hidden(self, ids: list[list[int]], batch: int) -> list[Any]:
        out: list[Any] = [None] * len(ids)
        for part, x in self.run(padded(ids, batch)):
            for row, n in enumerate(part.rows.tolist()):
                out[n] = x[row, : len(ids[n])]
        return out


def padded(ids: list[list[int]], size: int) -> Iterator[Batch]:
    """Batches of ``size`` texts, the longest first."""
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(ids), size):
        rows = order[start : start + size]
        mask = (np.arange(lengths[rows[0]]) < lengths[rows][:, None]).astype(np.int64)
        filled = np.zeros_like(mask)
        filled[mask.astype(bool)] = np.concatenate([ids[n] for n in rows])
        yield Batch(rows, filled, mask)
