"""Every task, and every object of nativebert.hf, with a call of it: for what must hold of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hf_checkpoints import make

import nativebert as nb
from nativebert import hf

TEXTS = [
    "The ferry leaves at half past nine.",
    "Rain.",
    "",
    "Anna paid Acme in Oslo. " * 12,
    "A cat sat on the quay in Bergen.",
]
QUESTION = "When does it leave?"
MASKED = ["The [MASK] leaves at [MASK].", "[MASK]"]
TASKS = ("embed", "classify", "tag", "answer", "fill", "rank", "choose")
PIPELINES = {
    "text-classification": "sentiment", "ner": "ner", "feature-extraction": "bert", "fill-mask": "mlm", "zero-shot-classification": "nli",
    "sentence-similarity": "minilm",
}  # fmt: skip
DOOR = ("SentenceTransformer", "CrossEncoder", "AutoTokenizer", *PIPELINES)


class Made(NamedTuple):
    """Something that can be called, and how."""

    made: Any
    call: Callable[[Any], Any]

    def result(self, other: Any = None) -> Any:
        """What it, or another that should be its equal, gives."""
        return self.call(self.made if other is None else other)


def native(folders: dict[str, str], precision: str = "float32", names: Sequence[str] = TASKS) -> dict[str, Made]:
    """The seven tasks, or some, by name."""
    how: dict[str, Any] = {"device": "cpu", "precision": precision}
    makers: dict[str, Callable[[], Made]] = {
        "embed": lambda: Made(nb.Embedder(folders["minilm"], **how), _embed),
        "classify": lambda: Made(nb.Classifier(folders["sentiment"], max_tokens=24, too_long="window", **how), _classify),
        "tag": lambda: Made(nb.Tagger(folders["ner"], **how), _on_texts),
        "answer": lambda: Made(nb.Answerer(folders["qa"], **how), _answer),
        "fill": lambda: Made(nb.MaskFiller(folders["mlm"], **how), _fill),
        "rank": lambda: Made(nb.Ranker(folders["cross"], **how), _rank),
        "choose": lambda: Made(nb.ZeroShot(folders["nli"], **how), _choose),
    }
    return {name: makers[name]() for name in names}


def door(folders: dict[str, str], names: Sequence[str] = DOOR) -> dict[str, Made]:
    """The objects of :mod:`nativebert.hf`, or some, by name."""
    makers: dict[str, Callable[[], Made]] = {
        "SentenceTransformer": lambda: Made(hf.SentenceTransformer(folders["minilm"], device="cpu"), _encode),
        "CrossEncoder": lambda: Made(hf.CrossEncoder(folders["cross"], device="cpu"), _predict),
        "AutoTokenizer": lambda: Made(hf.AutoTokenizer.from_pretrained(folders["bert"]), _tokenize),
    }
    calls = {"fill-mask": _fill_pipeline, "zero-shot-classification": _choose_pipeline, "sentence-similarity": _similar}
    for task, name in PIPELINES.items():
        makers[task] = partial(_pipeline, task, folders[name], calls.get(task, _on_texts))
    return {name: makers[name]() for name in names}


def _pipeline(task: str, folder: str, call: Callable[[Any], Any]) -> Made:
    return Made(hf.pipeline(task, folder, device="cpu"), call)


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, arrays within lists too."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def folders(root: Path) -> dict[str, str]:
    """The models, made in a folder."""
    return make(root)


# Calls by name, so that spawned processes find them.


def _embed(task: Any) -> Any:
    return task(TEXTS)


def _classify(task: Any) -> Any:
    return [dict(one) for one in task(TEXTS)]


def _on_texts(task: Any) -> Any:
    return list(task(TEXTS))


def _answer(task: Any) -> Any:
    return list(task([QUESTION] * len(TEXTS), TEXTS))


def _fill(task: Any) -> Any:
    return list(task(MASKED))


def _rank(task: Any) -> Any:
    return task([(QUESTION, text) for text in TEXTS])


def _choose(task: Any) -> Any:
    return list(task(TEXTS[:2], ["travel", "weather"]))


def _encode(model: Any) -> Any:
    return model.encode(TEXTS)


def _predict(model: Any) -> Any:
    return model.predict([(QUESTION, text) for text in TEXTS])


def _tokenize(tokenizer: Any) -> Any:
    return dict(tokenizer(TEXTS, padding=True, truncation=True, max_length=12))


def _fill_pipeline(pipe: Any) -> Any:
    return list(pipe(MASKED))


def _choose_pipeline(pipe: Any) -> Any:
    return list(pipe(TEXTS[:2], candidate_labels=["travel", "weather"]))


def _similar(pipe: Any) -> Any:
    return pipe({"source_sentence": TEXTS[0], "sentences": TEXTS[1:]})
