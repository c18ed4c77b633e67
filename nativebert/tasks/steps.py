"""Modules of a sentence-transformers folder after pooling, with their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nativebert import sentence
from nativebert.engine.cpu import MIN_ROWS, Product, by_rows
from nativebert.errors import CorruptError
from nativebert.hub import Snapshot
from nativebert.nn.activation import ACTIVATION

Vectors = NDArray[np.float32]
Apply = Callable[[Vectors], Vectors]  # (n, inward) -> (n, outward)

# Activations of a Dense module that no encoder has: torch's, with torch's own defaults
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "tanhshrink": F.tanhshrink,
    "hardtanh": F.hardtanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "logsigmoid": F.logsigmoid,
    "softshrink": F.softshrink,
    "hardshrink": F.hardshrink,
}


def make(step: sentence.Step, width: int, snapshot: Snapshot | None) -> tuple[Apply, int]:
    """A step on vectors of ``width``, and the width that it gives.

    Raises:
        CorruptError: its weights do not fit its config, or its config what comes before.
        weights_map.WeightsMapError: its weight file is damaged or holds NaN.
    """
    if step == "normalize":
        return normalize, width
    if isinstance(step, sentence.Truncate):
        keep = step.width
        return lambda x: x[:, :keep], min(width, keep)
    assert snapshot is not None  # only a folder's files can ask for anything else
    inward, outward = (step.inward, step.outward) if isinstance(step, sentence.Dense) else (step.width, step.width)
    if width != inward:
        raise CorruptError(f"{step.folder}/config.json takes vectors of {inward}, but what comes before gives {width}")
    if isinstance(step, sentence.LayerNorm):
        w = _weights(step.folder, {"norm.weight": (width,), "norm.bias": (width,)}, snapshot)
        return _by_torch(lambda x: F.layer_norm(x, (width,), w["norm.weight"], w["norm.bias"], 1e-5)), width
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (outward, inward)}
    if step.bias:
        shapes["linear.bias"] = (outward,)
    if step.residual and inward != outward:
        shapes["residual.weight"] = (outward, inward)
    w = _weights(step.folder, shapes, snapshot)
    own = step.activation in ACTIVATION  # which a product computes itself
    product = Product(w["linear.weight"], w.get("linear.bias"), step.activation if own else None)
    activation = None if own else by_rows(_ACTIVATIONS[step.activation])
    residual = Product(w["residual.weight"], None) if "residual.weight" in w else None

    def dense(x: Tensor) -> Tensor:
        filled = F.pad(x, (0, 0, 0, max(0, MIN_ROWS - len(x))))  # see MIN_ROWS: rows must not depend on their number
        y = product(filled) if activation is None else activation(product(filled))
        if step.residual:
            y = y + (filled if residual is None else residual(filled))
        return y[: len(x)]

    return _by_torch(dense), outward


def normalize(x: Vectors) -> Vectors:
    """L2 normalization; zero vectors stay zero."""
    length: Vectors = np.sqrt(np.add.reduce(x * x, 1, keepdims=True))
    return np.divide(x, np.maximum(length, 1e-12), dtype=np.float32)  # as torch.nn.functional.normalize


def _by_torch(apply: Callable[[Tensor], Tensor]) -> Apply:
    """A step on arrays that torch computes."""

    def applied(x: Vectors) -> Vectors:
        with torch.inference_mode():
            y: Vectors = apply(torch.from_numpy(x)).numpy()
        return y

    return applied


def _weights(folder: str, shapes: Mapping[str, tuple[int, ...]], snapshot: Snapshot) -> dict[str, Tensor]:
    from weights_map import Checkpoint
    from weights_map.torch import check_finite, tensor

    name = f"{folder}/model.safetensors"
    checkpoint = Checkpoint.open(snapshot.require(name))
    actual = {key: tuple(info.shape) for key, info in checkpoint.tensors.items()}
    if actual != dict(shapes):
        raise CorruptError(f"{name} holds {actual}, but its config.json asks for {dict(shapes)}")
    weights = {key: tensor(checkpoint.view(key)).float() for key in shapes}
    check_finite(weights)
    return weights
