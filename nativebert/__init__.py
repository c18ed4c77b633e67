"""BERT-family encoders: embeddings, classification, tagging, answers, ranking, masks; and their fine-tuning.

    >>> import nativebert as nb
    >>> embed = nb.Embedder("sentence-transformers/all-MiniLM-L6-v2")  # or a folder
    >>> vectors = embed(["A man is eating food.", "A man eats something."])
    >>> vectors.shape
    (2, 384)
    >>> round(float(embed.similarity(vectors)[0, 1]), 2)
    0.87

A task is a class, made once and called with texts: Embedder, Classifier, Tagger, Answerer, Ranker, ZeroShot, MaskFiller. nb.train fine-tunes,
nb.load gives a model as a torch module, nb.hf has the calls of transformers and sentence-transformers, and `nativebert --help` is the command
line. `import nativebert` is fast: torch is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nativebert import errors, hf, pictures, train
    from nativebert.config import NewHead
    from nativebert.errors import NativeBertError
    from nativebert.jobs.job import Job
    from nativebert.jobs.stream import with_results
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
    "Job": "nativebert.jobs.job",
    "with_results": "nativebert.jobs.stream",
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
    "Job",
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
    "errors",
    "hf",
    "load",
    "paraphrase_mining",
    "pictures",
    "semantic_search",
    "train",
    "with_results",
]
_MODULES = ("errors", "hf", "pictures", "train")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        if name != "errors":
            _check_installed()
        return importlib.import_module(f"nativebert.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'nativebert' has no attribute {name!r}{_hint(name)}", name=name)
    _check_installed()
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def _check_installed() -> None:
    from nativebert.errors import check_installed

    check_installed()


def _hint(name: str) -> str:
    """What may have been meant."""
    if name.startswith(("Auto", "Bert", "DistilBert", "Roberta")) or name in (
        "pipeline",
        "SentenceTransformer",
        "CrossEncoder",
        "Trainer",
    ):
        return f": nativebert.hf has the names of transformers and sentence-transformers, such as nativebert.hf.{name}"
    near = {public.lower(): public for public in __all__}.get(name.lower().replace("_", "")) or _near(name)
    return f": did you mean {near}?" if near else ""


def _near(name: str) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, __all__, 1, 0.75)), None)


def __dir__() -> list[str]:
    # not what this file imports: completion in a notebook, and R's names(), show it
    return sorted([*(name for name in globals() if name.startswith("__")), *__all__])
