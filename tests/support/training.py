"""Small training runs for tests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from classifiers import classifier
from models import WORDS

import nativebert as nb
from nativebert.loading import LoadedModel
from nativebert.train.classification import Classification
from nativebert.train.encode import encode_texts
from nativebert.train.loop import Callback, TrainingLoop, TrainOutput
from nativebert.train.objective import Sequences
from nativebert.train.options import TrainingOptions
from nativebert.train.parameters import parameter_groups, set_dropout
from nativebert.train.reference import ReferenceStep

GOOD, BAD = ["deep", "power", "learning"], ["cat", "dog", "mat"]


def reviews(count: int, seed: int = 0, longest: int = 12) -> tuple[list[str], list[int]]:
    """Texts of random words, and whether most of their telling words are good."""
    r = random.Random(seed)
    texts, labels = [], []
    for _ in range(count):
        label = r.randint(0, 1)
        words = r.choices(WORDS, k=r.randint(1, longest)) + r.choices(GOOD if label else BAD, k=3)
        r.shuffle(words)
        texts.append(" ".join(words))
        labels.append(label)
    return texts, labels


def labelled(model: LoadedModel, texts: Sequence[str], labels: Sequence[Any]) -> Sequences:
    """Texts and labels as sequences."""
    encoded = encode_texts(model, texts, limit=60)
    return Sequences(encoded.ids, encoded.segments, {"labels": labels})


def options(**changes: Any) -> TrainingOptions:
    """Of a short run without dropout, evaluations and checkpoints."""
    quiet = {
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "warmup_steps": 0.0,
        "batch_size": 8,
    }
    return TrainingOptions(**{**quiet, "learning_rate": 1e-3, "max_steps": 12, "logging_steps": 1, **changes})  # type: ignore[arg-type]


def folder(where: Path, family: str = "bert", labels: Sequence[str] = ("bad", "good")) -> Path:
    """A tiny classifier of random weights."""
    torch.manual_seed(0)
    return classifier(where, family, list(labels))


def run(
    model_folder: Path,
    output: Path | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    resume: bool | str | Path = False,
    dropout: float = 0.0,
    step: type[Any] = ReferenceStep,
    count: int = 60,
    precision: str = "float32",
    **changes: Any,
) -> tuple[LoadedModel, TrainOutput]:
    """A run on :func:`reviews`."""
    model = nb.load(model_folder, precision=precision).train()
    set_dropout(model, dropout)
    settings = options(**changes)
    torch.manual_seed(settings.seed)
    work = Classification(model, labelled(model, *reviews(count)), labelled(model, *reviews(20, seed=1)), settings)
    groups = parameter_groups(model, settings.weight_decay, settings.layer_decay)
    loop = TrainingLoop(work, step(model, groups, seed=settings.seed), settings, output, callbacks)
    return model, loop.run(resume)


def losses(result: TrainOutput) -> list[float]:
    """The loss of each line of the log."""
    return [line["loss"] for line in result.state.log_history if "loss" in line]


def same_bits(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Whether all parameters are equal to the last bit."""
    theirs = dict(b.named_parameters())
    return all(torch.equal(p, theirs[name]) for name, p in a.named_parameters())
