"""nativebert itself: the Embedder for text to vector, its prepared engine for ids to hidden states. Packed batches by tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.peers.base import Floats, Peer
from nativebert.engine import PRECISIONS

if TYPE_CHECKING:
    from benchmarks.models import ModelFiles


class NativeBert(Peer):
    name = title = "nativebert"
    requires = ("nativebert",)
    precisions = ("float32", "int8") if "int8" in PRECISIONS else ("float32",)
    torch = True

    def __init__(self, model: ModelFiles, threads: int, precision: str, variant: str) -> None:
        import torch

        import nativebert as nb

        torch.set_num_threads(threads)
        super().__init__(model, threads, precision, variant)
        self.embedder = nb.Embedder(model.folder, device="cpu", precision=precision)

    @classmethod
    def version(cls) -> str:
        import nativebert

        return nativebert.__version__

    def batches(self, choices: tuple[int, ...]) -> tuple[int, ...]:
        return (1,) if choices == (1,) else (16384,)  # the larger the better: threads wait for each other at a batch's end only

    def setting(self, batch: int) -> str:
        return "" if batch == 1 else f"{batch} tokens"

    def vectors(self, texts: list[str], batch: int) -> Floats:
        vectors: Floats = self.embedder(texts, batch_tokens=batch)
        return vectors

    def hidden(self, ids: list[list[int]], batch: int) -> list[Any]:
        from nativebert.text.batching import batches_by_length

        out: list[Any] = [None] * len(ids)
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        for rows in batches_by_length(lengths, batch):
            packed = self.embedder.pack([ids[n] for n in rows])
            for n, x in zip(rows.tolist(), self.embedder.plan.hidden(packed).split(packed.lengths)):
                out[n] = x.numpy()
        return out

    def forget(self) -> None:
        self.embedder.plan.clear_cache()

    def padding(self, texts: list[str], lengths: list[int], batch: int) -> float:
        return float(self.embedder(texts, batch_tokens=batch, return_report=True)[1].padding)
