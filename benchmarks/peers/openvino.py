"""OpenVINO: one stream with all threads, or two that share them; int8 by nncf, calibrated on 100 texts that are not timed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import models
from benchmarks.peers.base import Batch, Floats, Padded, padded
from benchmarks.workloads import sentences

if TYPE_CHECKING:
    from benchmarks.models import ModelFiles


class OpenVino(Padded):
    name, title = "openvino", "OpenVINO"
    requires = ("openvino", "nncf", "onnx", "onnxruntime", "onnxscript", "transformers")
    modules = ("openvino", "nncf", "onnx", "transformers")
    precisions = ("float32", "int8")
    variants = ("1 stream", "2 streams")

    def __init__(self, model: ModelFiles, threads: int, precision: str, variant: str) -> None:
        import openvino

        super().__init__(model, threads, precision, variant)
        self.streams = int(variant.split()[0])
        how = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": self.streams, "INFERENCE_PRECISION_HINT": "f32"}
        self.compiled = openvino.Core().compile_model(str(intermediate(model, precision)), "CPU", how)
        self.request = self.compiled.create_infer_request()
        self.queue = openvino.AsyncInferQueue(self.compiled, self.streams) if self.streams > 1 else None

    @classmethod
    def make(cls, model: ModelFiles, precision: str, variant: str) -> None:
        intermediate(model, precision)

    def forward(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        found: Floats = self.request.infer(given(self.model, ids, mask), share_inputs=True)[
            0
        ]  # a copy: the next run overwrites
        return found

    def run(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Floats]]:
        if self.queue is None:
            yield from super().run(batches)
            return
        done: list[tuple[Batch, Floats]] = []
        self.queue.set_callback(lambda request, batch: done.append((batch, request.get_output_tensor().data.copy())))
        for batch in batches:
            self.queue.start_async(given(self.model, batch.ids, batch.mask), batch)
        self.queue.wait_all()
        yield from done


def given(model: ModelFiles, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> dict[str, Any]:
    """What the model takes in, by name."""
    return dict(zip(models.inputs(model), (ids, mask, np.zeros_like(ids))))


def intermediate(model: ModelFiles, precision: str) -> Path:
    """The model in OpenVINO's own format: an .xml with its .bin beside it."""
    folder = model.cache / f"openvino-{precision}"
    return models.once(folder, lambda path: _convert(model, precision, path)) / "model.xml"


def _convert(model: ModelFiles, precision: str, folder: Path) -> None:
    import nncf
    import openvino

    network = openvino.convert_model(str(models.onnx(model, "plain")))
    if precision == "int8":
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(model.folder / "tokenizer.json"))
        tokenizer.no_padding()
        ids = [e.ids for e in tokenizer.encode_batch(sentences(100, model.folder, seed=1))]
        examples = [given(model, batch.ids, batch.mask) for batch in padded(ids, 1)]
        network = nncf.quantize(
            network, nncf.Dataset(examples), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(examples)
        )
    folder.mkdir()
    openvino.save_model(network, str(folder / "model.xml"), compress_to_fp16=False)
