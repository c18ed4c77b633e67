"""BERT encoders you can audit. ``import nativebert as nb`` is quick: torch is imported when something first needs it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nativebert.errors import NativeBertError
    from nativebert.loading import load
    from nativebert.tasks.embed import Embedder
    from nativebert.tasks.rank import Ranker
    from nativebert.text.tokenizer import Tokenizer

__version__ = "0.1.0"

_HOME = {
    "load": "nativebert.loading",
    "Embedder": "nativebert.tasks.embed",
    "Ranker": "nativebert.tasks.rank",
    "Tokenizer": "nativebert.text.tokenizer",
    "NativeBertError": "nativebert.errors",
}

__all__ = ["Embedder", "NativeBertError", "Ranker", "Tokenizer", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nativebert' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
