"""Text classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from nativebert.checks import whole_number
from nativebert.errors import BadInputError, RefusedError
from nativebert.hf.pipelines.base import TOKENIZING, Pipeline
from nativebert.loading import LoadedModel
from nativebert.tasks.base import Task
from nativebert.tasks.classify import Classifier


class TextClassificationPipeline(Pipeline):
    """``"text-classification"``, ``"sentiment-analysis"``: :class:`nativebert.Classifier`.

    An item is a text, or ``{"text": ..., "text_pair": ...}``. Its result is ``{"label", "score"}``, or with ``top_k`` a list of them, best
    first (all of them for ``top_k=None``); a text alone without ``top_k`` in the call gives that in a list.

    Arguments: ``top_k``; ``function_to_apply``, ``"softmax"``, ``"sigmoid"`` or ``"none"``; ``truncation``, ``max_length``. A long text is cut
    with a warning, and refused with ``truncation=False``.
    """

    auto = "AutoModelForSequenceClassification"
    supported = frozenset({"top_k", "function_to_apply"}) | TOKENIZING
    instead: ClassVar[Mapping[str, str]] = {
        "return_all_scores": "pass top_k=None",
        "stride": "nativebert.Classifier(model, too_long='window') reads long texts whole",
        "add_special_tokens": "special tokens belong to the model",
        "return_tensors": "results are lists; nativebert.Classifier(model).scores(texts) gives an array",
    }

    def _make_task(self, model: LoadedModel, options: dict[str, Any]) -> Task:
        return Classifier(model, problem=self._problem(None), **options)

    def _problem(self, asked: Any) -> str:
        """What is done with the outputs."""
        name = getattr(asked, "value", asked)
        if name is not None and str(name).lower() != "default":
            problems = {"softmax": "single", "sigmoid": "multi", "none": "regression"}
            if str(name).lower() not in problems:
                raise BadInputError(f"function_to_apply must be one of {', '.join(problems)}, not {asked!r}")
            return problems[str(name).lower()]
        kind = self.model.config.problem_type
        if kind == "regression":
            return "regression"
        return "multi" if kind == "multi_label_classification" or self.model.config.num_labels == 1 else "single"

    def __call__(self, inputs: Any = None, *args: Any, **settings: Any) -> Any:
        """See the class."""
        results = super().__call__(inputs, *args, **settings)
        return [results] if isinstance(inputs, str) and "top_k" not in settings else results

    def _run(self, items: list[Any], arguments: Mapping[str, Any]) -> list[Any]:
        task: Any = self.native
        options, problem = self._call_options(arguments), self._problem(arguments.get("function_to_apply"))
        items = [_text_or_pair(n, item) for n, item in enumerate(items)]
        scores = np.empty((len(items), len(task.labels)), np.float32)
        for kind in (str, tuple):
            indices = [n for n, item in enumerate(items) if isinstance(item, kind)]
            if kind is tuple and indices and arguments.get("truncation") == "only_first":
                raise RefusedError(
                    "truncation='only_first' is not supported for pairs: use True, which takes from the longer text"
                )
            if indices:
                scores[indices] = task.scores([items[n] for n in indices], problem=problem, **options)
        if "top_k" not in arguments:
            best = scores.argmax(1).tolist() if len(items) else []
            return [{"label": task.labels[n], "score": float(row[n])} for n, row in zip(best, scores)]
        top_k = None if arguments["top_k"] is None else whole_number("top_k", arguments["top_k"])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k].tolist()
        return [[{"label": task.labels[n], "score": float(row[n])} for n in best] for best, row in zip(order, scores)]


def _text_or_pair(n: int, item: Any) -> str | tuple[str, str]:
    if isinstance(item, Mapping):
        text, pair = item.get("text"), item.get("text_pair")
        if text is None or set(item) - {"text", "text_pair"}:
            raise BadInputError(
                f"an item must be a text or have the keys 'text' and 'text_pair', not {', '.join(map(repr, item))}"
            )
        item = text if pair is None else (text, pair)
    elif isinstance(item, (list, tuple)):
        if len(item) == 1 and isinstance(item[0], (list, tuple)) and len(item[0]) == 2:  # an old way to write a pair
            return item[0][0], item[0][1]
        raise BadInputError('pass a pair as {"text": ..., "text_pair": ...}')
    if not isinstance(item, (str, tuple)):
        raise BadInputError(f"text {n} must be a string, not {type(item).__name__}")
    return item
