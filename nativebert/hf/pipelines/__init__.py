"""``pipeline(task, model)``: the native tasks by the calls, and with the results, of transformers' pipelines.

A file for each task, named as in nativebert/tasks; base.py is what they share.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

from nativebert.errors import BadInputError, NativeBertWarning, RefusedError, warn
from nativebert.hf import unsupported
from nativebert.hf.arguments import check_attention, checked, offline
from nativebert.hf.config import PreTrainedConfig
from nativebert.hf.models import PreTrainedModel
from nativebert.hf.pipelines.answer import QuestionAnsweringPipeline
from nativebert.hf.pipelines.base import Pipeline
from nativebert.hf.pipelines.classify import TextClassificationPipeline
from nativebert.hf.pipelines.embed import FeatureExtractionPipeline, SentenceSimilarityPipeline
from nativebert.hf.pipelines.fill import FillMaskPipeline
from nativebert.hf.pipelines.tag import TokenClassificationPipeline
from nativebert.hf.pipelines.zeroshot import ZeroShotClassificationPipeline
from nativebert.hf.states import hub_token
from nativebert.loading import open_snapshot

PIPELINES: dict[str, type[Pipeline]] = {
    "text-classification": TextClassificationPipeline,
    "token-classification": TokenClassificationPipeline,
    "question-answering": QuestionAnsweringPipeline,
    "fill-mask": FillMaskPipeline,
    "feature-extraction": FeatureExtractionPipeline,
    "zero-shot-classification": ZeroShotClassificationPipeline,
    "sentence-similarity": SentenceSimilarityPipeline,
}
ALIASES = {"sentiment-analysis": "text-classification", "ner": "token-classification"}
# As in transformers 5.23; question-answering as in 4.57.
DEFAULTS = {
    "text-classification": ("distilbert/distilbert-base-uncased-finetuned-sst-2-english", "714eb0f"),
    "token-classification": ("dbmdz/bert-large-cased-finetuned-conll03-english", "4c53496"),
    "question-answering": ("distilbert/distilbert-base-cased-distilled-squad", "564e9b5"),
    "fill-mask": ("distilbert/distilroberta-base", "fb53ab8"),
    "feature-extraction": ("distilbert/distilbert-base-cased", "6ea8117"),
    "sentence-similarity": ("sentence-transformers/all-MiniLM-L6-v2", None),
}
_OF_ARCHITECTURE = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForPreTraining": "fill-mask",
    "Model": "feature-extraction",
}


def pipeline(
    task: str | None = None,
    model: Any = None,
    config: Any = None,
    tokenizer: Any = None,
    *,
    framework: str | None = None,
    revision: str | None = None,
    token: Any = None,
    device: Any = None,
    device_map: Any = None,
    dtype: Any = None,
    torch_dtype: Any = None,
    model_kwargs: Mapping[str, Any] | None = None,
    pipeline_class: type[Pipeline] | None = None,
    local_files_only: bool | None = None,
    **settings: Any,
) -> Any:
    """A pipeline for a task.

    Args:
        task: one of :data:`PIPELINES` or :data:`ALIASES`; None for what the model was saved as.
        model: a folder, a Hub id, or a model of :mod:`nativebert.hf`; None for the model that transformers takes, with a warning.
        config, tokenizer: in place of the model's own; see :class:`Pipeline`.
        framework: ``"pt"``.
        revision, token, local_files_only: for the Hub.
        device, device_map: where to run; see :class:`Pipeline`.
        dtype, torch_dtype: of the encoder; see :class:`Pipeline`.
        model_kwargs: ``dtype``, ``device_map`` and ``attn_implementation`` may stand there too.
        pipeline_class: a class of this module, in place of the task's.
        **settings: arguments of the task, for all calls.

    Returns:
        A :class:`Pipeline`.

    Raises:
        RefusedError: a task, a model or an argument that is not supported.
        NativeBertError: the model cannot be had, or has no head for the task.
    """
    if framework not in (None, "pt"):
        raise RefusedError(f"framework={framework!r} is not supported: torch is the only one; leave it out")
    for name in ("feature_extractor", "image_processor", "video_processor", "processor"):
        if settings.pop(name, None) is not None:
            raise RefusedError(f"pipeline does not support {name}=: {unsupported.OTHER_MEDIA}")
    for name in ("use_fast", "trust_remote_code", "binary_output"):
        settings.pop(name, None)
    inner = dict(model_kwargs or {})
    checked("pipeline(model_kwargs=...)", inner, ("dtype", "torch_dtype", "device_map", "attn_implementation"))
    check_attention("pipeline", inner)
    name = _task(task, model, revision, token, local_files_only)
    if model is None:
        if tokenizer is not None:
            raise BadInputError("a tokenizer without a model: pass model= too")
        model, usual = _default(name)
        revision = usual if revision is None else revision
        warn(
            f"no model was given: {model}{f' at revision {revision}' if revision else ''} is used, as in transformers. Name model and revision.",
            NativeBertWarning,
        )
    where: dict[str, Any] = {"revision": revision, "token": hub_token(token), "local_files_only": local_files_only}
    where = {key: value for key, value in where.items() if value is not None}
    mapped = inner.get("device_map") if device_map is None else device_map
    if isinstance(mapped, Mapping) and set(mapped) == {""}:
        mapped = mapped[""]
    elif mapped in ("auto", "balanced", "balanced_low_0", "sequential"):
        mapped = None
    if isinstance(config, (str, PathLike)):
        config = PreTrainedConfig.from_pretrained(config)
    chosen = [value for value in (dtype, torch_dtype, inner.get("dtype"), inner.get("torch_dtype")) if value is not None]
    kind = PIPELINES[name] if pipeline_class is None else pipeline_class
    return kind(
        model, tokenizer, config, task=name, device=mapped if device is None else device, dtype=chosen[0] if chosen else None, where=where,
        **settings,
    )  # fmt: skip


def _task(task: str | None, model: Any, revision: Any, token: Any, local: Any) -> str:
    """The name of a task, its alias resolved; where there is none, what the model was saved as."""
    if task is None:
        if model is None:
            raise BadInputError("name a task or a model: pipeline('text-classification')")
        if isinstance(model, PreTrainedModel):
            end = model.end
        else:
            snapshot = open_snapshot(
                model, revision=revision, token=hub_token(token), offline=offline({"local_files_only": local}), weights=False
            )
            saved = (snapshot.read_json("config.json") or {}).get("architectures") or [""]
            end = next((end for end in _OF_ARCHITECTURE if str(saved[0]).endswith(end)), "")
        if end not in _OF_ARCHITECTURE:
            raise BadInputError(f"the model does not say what it is for: name the task, one of {', '.join(PIPELINES)}")
        return _OF_ARCHITECTURE[end]
    name = ALIASES.get(task, task)
    if name in PIPELINES:
        return name
    if advice := unsupported.TASKS.get("translation" if name.startswith("translation_") else name):
        raise RefusedError(f"the task {task!r} is not supported: {advice}")
    raise BadInputError(f"there is no task {task!r}; there are {', '.join([*PIPELINES, *ALIASES])}")


def _default(name: str) -> tuple[str, str | None]:
    if name == "zero-shot-classification":
        raise RefusedError(
            "transformers' model for zero-shot-classification, facebook/bart-large-mnli, is not an encoder: pass an encoder that was trained for "
            "natural language inference, as model='FacebookAI/roberta-large-mnli' or 'cross-encoder/nli-distilroberta-base'"
        )
    return DEFAULTS[name]


__all__ = ["ALIASES", "DEFAULTS", "PIPELINES", "Pipeline", "pipeline", *(kind.__name__ for kind in PIPELINES.values())]
