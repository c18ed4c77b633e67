"""transformers, with sdpa attention where the model has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Floats, Padded

if TYPE_CHECKING:
    from benchmarks.models import ModelFiles


class Transformers(Padded):
    name, title = "transformers", "transformers (sdpa)"
    requires, modules = ("transformers",), ("transformers",)
    torch = True

    def __init__(self, model: ModelFiles, threads: int, precision: str, variant: str) -> None:
        import torch
        from transformers import AutoModel
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.set_num_threads(threads)
        super().__init__(model, threads, precision, variant)
        self.network = AutoModel.from_pretrained(model.folder).eval()  # with sdpa where there is that

    def forward(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        import torch

        with torch.inference_mode():
            given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
            found: Floats = self.network(**given).last_hidden_state.numpy()
        return found
