"""fastembed on a local ONNX file. It takes texts as they come, so they are handed to it sorted by length."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks import models
from benchmarks.peers.base import Floats, Peer

if TYPE_CHECKING:
    from benchmarks.models import ModelFiles


class FastEmbed(Peer):
    name = title = "fastembed"
    requires = ("fastembed", "onnx", "onnxruntime", "onnxscript", "transformers")
    modules = ("fastembed", "onnxruntime", "onnx", "transformers")
    variants = ("fused", "plain")
    modes = ("vectors",)

    def __init__(self, model: ModelFiles, threads: int, precision: str, variant: str) -> None:
        from fastembed import TextEmbedding
        from fastembed.common.model_description import ModelSource, PoolingType

        super().__init__(model, threads, precision, variant)
        name = f"local/{model.name}-{variant}"
        if all(known["model"] != name for known in TextEmbedding.list_supported_models()):
            TextEmbedding.add_custom_model(
                name, PoolingType.MEAN, True, ModelSource(hf=name), model.size[1], model_file=f"{variant}.onnx"
            )
        self.embedding = TextEmbedding(name, specific_model_path=str(folder(model, variant)), threads=threads, cuda=False)

    @classmethod
    def make(cls, model: ModelFiles, precision: str, variant: str) -> None:
        folder(model, variant)

    def vectors(self, texts: list[str], batch: int) -> Floats:
        order = self.order(texts, [])
        found = np.empty((len(texts), self.model.size[1]), np.float32)
        found[order] = list(self.embedding.embed([texts[n] for n in order], batch_size=batch))
        return found

    def order(self, texts: list[str], lengths: list[int]) -> NDArray[np.int64]:
        return np.argsort([-len(text) for text in texts], kind="stable")


def folder(model: ModelFiles, variant: str) -> Path:
    """The model's files as fastembed wants them, all in one folder."""
    graph = models.onnx(model, variant)

    def fill(path: Path) -> None:
        path.mkdir()
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            shutil.copy(model.folder / name, path)
        (path / graph.name).hardlink_to(graph)

    return models.once(model.cache / f"fastembed-{variant}", fill)
