"""CTranslate2: all threads on one batch, or a batch to each thread. Before its matrix products it removes the padding again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import models
from benchmarks.peers.base import Batch, Floats, Padded

if TYPE_CHECKING:
    from benchmarks.models import ModelFiles


class CTranslate2(Padded):
    name, title = "ctranslate2", "CTranslate2"
    requires, modules = ("ctranslate2", "transformers"), ("ctranslate2", "transformers")
    precisions = ("float32", "int8")
    variants = ("1 worker", "1 worker per thread")

    def __init__(self, model: ModelFiles, threads: int, precision: str, variant: str) -> None:
        import ctranslate2

        super().__init__(model, threads, precision, variant)
        workers = 1 if variant == "1 worker" else threads
        self.encoder = ctranslate2.Encoder(
            str(converted(model, precision)),
            device="cpu",
            compute_type=precision,
            inter_threads=workers,
            intra_threads=threads // workers,
        )
        self.pool = ThreadPoolExecutor(workers) if workers > 1 else None

    @classmethod
    def make(cls, model: ModelFiles, precision: str, variant: str) -> None:
        converted(model, precision)

    def run(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Floats]]:
        yield from map(self._one, batches) if self.pool is None else self.pool.map(self._one, batches)

    def _one(self, batch: Batch) -> tuple[Batch, Floats]:
        ids = [row[:n].tolist() for row, n in zip(batch.ids, batch.mask.sum(1).tolist())]
        return batch, np.asarray(self.encoder.forward_batch(ids).last_hidden_state)


def converted(model: ModelFiles, precision: str) -> Path:
    """The model in CTranslate2's own format."""
    return models.once(model.cache / f"ctranslate2-{precision}", lambda path: _convert(model, precision, path))


def _convert(model: ModelFiles, precision: str, folder: Path) -> None:
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(model.folder)).convert(str(folder), quantization=precision)
