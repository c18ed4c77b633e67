"""Zero-shot classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from nativebert.errors import BadInputError
from nativebert.hf.pipelines.base import Pipeline
from nativebert.loading import LoadedModel
from nativebert.tasks.base import Task
from nativebert.tasks.zeroshot import ZeroShot


class ZeroShotClassificationPipeline(Pipeline):
    """``"zero-shot-classification"``: :class:`nativebert.ZeroShot`.

    A text gives ``{"sequence", "labels", "scores"}``, best label first.

    Arguments: ``candidate_labels``, a list or a text with commas, also without its name; ``hypothesis_template``; ``multi_label``.
    """

    auto = "AutoModelForSequenceClassification"
    carried = frozenset({"candidate_labels", "hypothesis_template", "multi_label"})
    instead: ClassVar[Mapping[str, str]] = {"multi_class": "pass multi_label, its new name"}

    def _native(self, model: LoadedModel, options: dict[str, Any]) -> Task:
        return ZeroShot(model, **options)

    def __call__(self, inputs: Any = None, *args: Any, **settings: Any) -> Any:
        """See the class."""
        inputs = settings.pop("sequences", inputs)
        if len(args) == 1 and "candidate_labels" not in settings:
            settings["candidate_labels"], args = args[0], ()
        return super().__call__(inputs, *args, **settings)

    def _run(self, items: list[Any], given: Mapping[str, Any]) -> list[Any]:
        if given.get("candidate_labels") is None:
            raise BadInputError("pass candidate_labels=, a list of labels")
        task: Any = self.native
        template = given.get("hypothesis_template") or "This example is {}."
        found = task(items, given["candidate_labels"], multi_label=bool(given.get("multi_label")), hypothesis=template)
        return [{"sequence": one["text"], "labels": one["labels"], "scores": one["scores"]} for one in found]
