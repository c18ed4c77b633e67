"""ONNX Runtime: the graph as exported, or fused by its transformer optimiser; int8 by its dynamic quantisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks import models
from benchmarks.peers.base import Floats, Padded

if TYPE_CHECKING:
    from benchmarks.models import ModelFiles


class OnnxRuntime(Padded):
    name, title = "onnxruntime", "ONNX Runtime"
    requires, modules = ("onnxruntime", "onnx", "onnxscript", "transformers"), ("onnxruntime", "onnx", "transformers")
    precisions = ("float32", "int8")
    variants = ("fused", "plain")

    def __init__(self, model: ModelFiles, threads: int, precision: str, variant: str) -> None:
        import onnxruntime

        super().__init__(model, threads, precision, variant)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        path = models.onnx(model, graph(precision, variant))
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    @classmethod
    def make(cls, model: ModelFiles, precision: str, variant: str) -> None:
        models.onnx(model, graph(precision, variant))

    def forward(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        given = {"input_ids": ids, "attention_mask": mask}
        if self.model.segments:
            given["token_type_ids"] = np.zeros_like(ids)
        found: Floats = self.session.run(None, given)[0]
        return found


def graph(precision: str, variant: str) -> str:
    return variant if precision == "float32" else f"{variant}-int8"
