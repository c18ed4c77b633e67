"""The ways to run a BERT encoder on a CPU that are compared: one small file each."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.peers.base import Peer

# name on the command line -> (module of this package, class)
NAMES = {
    "nativebert": ("nativebert", "NativeBert"),
    "transformers": ("transformers", "Transformers"),
    "compiled": ("compiled", "Compiled"),
    "sentence-transformers": ("sentence_transformers", "SentenceTransformers"),
    "onnxruntime": ("onnxruntime", "OnnxRuntime"),
    "openvino": ("openvino", "OpenVino"),
    "ctranslate2": ("ctranslate2", "CTranslate2"),
    "fastembed": ("fastembed", "FastEmbed"),
}


def get(name: str) -> type[Peer]:
    """A peer by name. Imports nothing of the runtime itself."""
    module, kind = NAMES[name]
    found: type[Peer] = getattr(importlib.import_module(f"benchmarks.peers.{module}"), kind)
    return found
