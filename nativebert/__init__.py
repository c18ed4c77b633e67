"""BERT-family encoders. ``import nativebert as nb`` is fast: torch is imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nativebert import train
    from nativebert.config import NewHead
    from nativebert.errors import NativeBertError
    from nativebert.loading import load
    from nativebert.search import paraphrase_mining, semantic_search
    from nativebert.tasks.answer import Answerer
    from nativebert.tasks.classify import Classifier
    from nativebert.tasks.embed import Embedder
    from nativebert.tasks.fill import MaskFiller
    from nativebert.tasks.multivector import MultiVectorEmbedder
    from nativebert.tasks.rank import Ranker
    from nativebert.tasks.sparse import SparseEmbedder
    from nativebert.tasks.static import StaticEmbedder
    from nativebert.tasks.tag import Tagger
    from nativebert.tasks.zeroshot import ZeroShot
    from nativebert.text.tokenizer import Tokenizer

__version__ = "0.1.0"

_HOME = {
    "load": "nativebert.loading",
    "Answerer": "nativebert.tasks.answer",
    "Classifier": "nativebert.tasks.classify",
    "Embedder": "nativebert.tasks.embed",
    "MaskFiller": "nativebert.tasks.fill",
    "MultiVectorEmbedder": "nativebert.tasks.multivector",
    "Ranker": "nativebert.tasks.rank",
    "SparseEmbedder": "nativebert.tasks.sparse",
    "StaticEmbedder": "nativebert.tasks.static",
    "Tagger": "nativebert.tasks.tag",
    "ZeroShot": "nativebert.tasks.zeroshot",
    "paraphrase_mining": "nativebert.search",
    "semantic_search": "nativebert.search",
    "Tokenizer": "nativebert.text.tokenizer",
    "NativeBertError": "nativebert.errors",
    "NewHead": "nativebert.config",
}

__all__ = [
    "Answerer",
    "Classifier",
    "Embedder",
    "MaskFiller",
    "MultiVectorEmbedder",
    "NativeBertError",
    "NewHead",
    "Ranker",
    "SparseEmbedder",
    "StaticEmbedder",
    "Tagger",
    "Tokenizer",
    "ZeroShot",
    "load",
    "paraphrase_mining",
    "semantic_search",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "train":
        return importlib.import_module("nativebert.train")
    if name not in _HOME:
        raise AttributeError(f"module 'nativebert' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, "train"])
