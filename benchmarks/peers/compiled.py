"""transformers under torch.compile, for any shape. Needs a C++ compiler."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Floats
from benchmarks.peers.transformers import Transformers

if TYPE_CHECKING:
    from benchmarks.models import ModelFiles


class Compiled(Transformers):
    name, title = "compiled", "transformers (torch.compile)"
    compiles = True

    @classmethod
    def missing(cls) -> str:
        if not any(map(shutil.which, ("g++", "c++", "clang++"))):
            return f"{cls.name} is left out: torch.compile needs a C++ compiler (g++ or clang++)"
        return super().missing()

    def __init__(self, model: ModelFiles, threads: int, precision: str, variant: str) -> None:
        import torch

        super().__init__(model, threads, precision, variant)
        # freezing makes the weights constants, which lets the compiler lay them out for its products
        self.compiled = torch.compile(self.network, dynamic=True, options={"freezing": True})

    def forward(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        import torch

        with torch.no_grad():
            found: Floats = self.compiled(
                input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)
            ).last_hidden_state.numpy()
        return found
