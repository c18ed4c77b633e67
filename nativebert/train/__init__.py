"""Fine-tuning. The names are loaded on first use, since they import torch."""

from __future__ import annotations

import importlib
from typing import Any

from nativebert.errors import check_installed

_HOME = {
    "classify": "nativebert.train.classification",
    "tag": "nativebert.train.tagging",
    "answer": "nativebert.train.answering",
    "continue_pretraining": "nativebert.train.masked_lm",
    "embed": "nativebert.train.embedding",
    "rank": "nativebert.train.ranking",
    "LoraOptions": "nativebert.train.lora",
    "TrainingOptions": "nativebert.train.options",
    "TrainingLoop": "nativebert.train.loop",
    "Callback": "nativebert.train.loop",
    "set_dropout": "nativebert.train.parameters",
    "freeze": "nativebert.train.parameters",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_installed()
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
