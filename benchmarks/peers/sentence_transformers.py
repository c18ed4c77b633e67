"""sentence-transformers as it is used. It sorts by length itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Floats, Peer

if TYPE_CHECKING:
    from benchmarks.models import ModelFiles


class SentenceTransformers(Peer):
    name = title = "sentence-transformers"
    requires, modules = ("sentence-transformers",), ("sentence_transformers",)
    modes = ("vectors",)
    torch = True

    def __init__(self, model: ModelFiles, threads: int, precision: str, variant: str) -> None:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.set_num_threads(threads)
        super().__init__(model, threads, precision, variant)
        self.encoder = SentenceTransformer(str(model.folder), device="cpu", local_files_only=True)

    def vectors(self, texts: list[str], batch: int) -> Floats:
        found: Floats = self.encoder.encode(texts, batch_size=batch, show_progress_bar=False)
        return found

    def order(self, texts: list[str], lengths: list[int]) -> NDArray[np.int64]:
        return np.argsort([-len(text) for text in texts], kind="stable")  # by characters
