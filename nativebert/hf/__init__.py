"""Drop-in names of transformers and sentence-transformers: change a script's import line, and run it.

    from nativebert.hf import AutoModel, AutoTokenizer          # from transformers import ...
    transformers <- import("nativebert.hf")                     # in R, through reticulate

It translates arguments, and refuses by name those it does not support. See docs/hf.md.
"""

from __future__ import annotations

import importlib
import logging as _logging
import random
import re
import warnings
from typing import Any

from nativebert.errors import NativeBertWarning, RefusedError, check_installed

check_installed()
from nativebert.arch import families  # noqa: E402
from nativebert.hf import unsupported  # noqa: E402
from nativebert.text.tokenizer import BUILT_FROM  # noqa: E402

_PIPELINES = (
    "TextClassification", "TokenClassification", "QuestionAnswering", "FillMask", "FeatureExtraction", "ZeroShotClassification",
)  # fmt: skip
_TRAINING = {
    "training_arguments": "TrainingArguments",
    "trainer": "Trainer",
    "trainer_utils": "EvalPrediction IntervalStrategy SaveStrategy",
    "trainer_callback": (
        "TrainerCallback TrainerState TrainerControl ExportableState CallbackHandler DefaultFlowCallback ProgressCallback PrinterCallback "
        "EarlyStoppingCallback"
    ),
    "data_collator": (
        "DataCollatorWithPadding DataCollatorForTokenClassification DataCollatorForLanguageModeling DataCollatorForMultipleChoice "
        "DefaultDataCollator default_data_collator"
    ),
    "optimization": (
        "SchedulerType get_scheduler get_linear_schedule_with_warmup get_cosine_schedule_with_warmup get_constant_schedule "
        "get_cosine_with_hard_restarts_schedule_with_warmup get_polynomial_decay_schedule_with_warmup get_inverse_sqrt_schedule "
        "get_constant_schedule_with_warmup"
    ),
}
_HOME = {
    "BatchEncoding": "encoding",
    **dict.fromkeys(("AutoTokenizer", "PreTrainedTokenizerFast", "PreTrainedTokenizerBase"), "tokenizer"),
    **{f"{kind}{fast}": "tokenizer" for kind in BUILT_FROM for fast in ("", "Fast")},
    **dict.fromkeys(("AutoConfig", "PreTrainedConfig", *(f"{known.stem}Config" for known in families())), "config"),
    **{f"{known.stem}{end}": "models" for known in families() for end in known.classes},
    **{f"AutoModel{end.removeprefix('Model')}": "models" for known in families() for end in known.classes},
    "PreTrainedModel": "models",
    "ModelOutput": "outputs",
    "pipeline": "pipelines",
    **{f"{task}Pipeline": "pipelines" for task in _PIPELINES},
    **dict.fromkeys(("SentenceTransformer", "util"), "sentence"),
    "CrossEncoder": "cross_encoder",
    "SparseEncoder": "sparse_encoder",
    "SimilarityFunction": "util",
    **dict.fromkeys(
        (
            "SentenceTransformerTrainer",
            "SentenceTransformerTrainingArguments",
            "InputExample",
            "BatchSamplers",
            "SentenceTransformerModelCardData",
        ),
        "sentence_trainer",
    ),
    **{name: home for home, names in _TRAINING.items() for name in names.split()},
}
_OLD = {"PretrainedConfig": "PreTrainedConfig"}
__all__ = [*_HOME, "logging", "set_seed"]  # fetched when first used


class NotSupportedError(RefusedError, ImportError):
    """A name of transformers that nativebert does not have; the message says what to use."""


NotCarried = NotSupportedError  # the name until 0.2


def __getattr__(name: str) -> Any:
    name = _OLD.get(name, name)
    if name == "__version__":
        return importlib.import_module("nativebert").__version__
    if name in ("losses", "evaluation"):
        return importlib.import_module(f"nativebert.hf.{name}")
    if name not in _HOME:
        for pattern, advice in unsupported.NAMES.items():
            if re.fullmatch(pattern, name):
                raise NotSupportedError(f"nativebert.hf does not support {name}: {advice}")
        if name[:1].isupper():
            raise NotSupportedError(
                f"nativebert.hf does not support {name}. {_instead(name)}; dir(nativebert.hf) lists all that it has"
            )
        raise AttributeError(f"module 'nativebert.hf' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"nativebert.hf.{_HOME[name]}"), name)
    return value


def _instead(name: str) -> str:
    """What a name that is not here may have meant."""
    from difflib import get_close_matches

    if end := re.search(r"(Model|For[A-Z][A-Za-z]+)$", name):
        families = sorted(
            known.removesuffix("Model")
            for known in _HOME
            if known.endswith("Model") and not known.startswith(("Auto", "PreTrained"))
        )
        return (
            f"It has {end[0]} of the families {', '.join(families)}"
            if end[0] == "Model"
            else f"Of models it has the families {', '.join(families)}"
        )
    near = get_close_matches(name, _HOME, 3, 0.6)
    return f"The nearest names are {', '.join(near)}" if near else "It has no name like it"


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])


def set_seed(seed: int) -> None:
    """Seed the random numbers of Python, numpy and torch."""
    import numpy
    import torch

    random.seed(int(seed))
    numpy.random.seed(int(seed))
    torch.manual_seed(int(seed))


class logging:
    """``logging.set_verbosity_error()`` and similar: whether nativebert's warnings are shown."""

    @staticmethod
    def set_verbosity_error() -> None:
        """Show no warnings of nativebert."""
        warnings.simplefilter("ignore", NativeBertWarning)

    @staticmethod
    def set_verbosity_warning() -> None:
        """Show the warnings of nativebert."""
        warnings.simplefilter("default", NativeBertWarning)

    get_logger = staticmethod(_logging.getLogger)
    set_verbosity_info = set_verbosity_debug = set_verbosity_warning
