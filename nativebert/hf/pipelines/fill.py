"""Filling in masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nativebert.errors import BadInputError, NativeBertWarning, warn
from nativebert.hf.arguments import checked
from nativebert.hf.pipelines.base import TOKENIZING, Pipeline, positive
from nativebert.loading import LoadedModel
from nativebert.tasks.base import Task
from nativebert.tasks.fill import MaskFiller


class _Filler(MaskFiller):
    """A MaskFiller that reads targets as the reference does."""

    def _ids(self, targets: list[Any], stands: str) -> Any:
        found = set()
        for target in targets:
            number = self.tokenizer.token_to_id(target)
            if number is None:
                pieces = self.tokenizer.encode(target, special_tokens=False).ids
                said = f"the target {target!r} is not in the vocabulary"
                if pieces:
                    number = pieces[0]
                    said += f": {self.tokenizer.id_to_token(number)!r} is taken in its place"
                warn(said if pieces else f"{said}, and is left out", NativeBertWarning)
            if number is not None:
                found.add(number)
        if not found:
            raise BadInputError("no target is in the vocabulary: name at least one")
        return np.array(sorted(found), np.int64)


class FillMaskPipeline(Pipeline):
    """``"fill-mask"``: :class:`nativebert.MaskFiller`.

    A text gives a list of ``{"score", "token", "token_str", "sequence"}``, or one such list for each mask if it has several. ``sequence`` is the
    text as the tokenizer writes its tokens.

    Arguments: ``top_k``, ``targets``; ``tokenizer_kwargs`` with ``truncation`` and ``max_length``.
    """

    auto = "AutoModelForMaskedLM"
    carried = frozenset({"top_k", "targets", "tokenizer_kwargs"})

    def _native(self, model: LoadedModel, options: dict[str, Any]) -> Task:
        return _Filler(model, **options)

    def __call__(self, inputs: Any = None, *args: Any, **settings: Any) -> Any:
        """See the class."""
        found = super().__call__(inputs, *args, **settings)
        return found[0] if isinstance(inputs, list) and len(inputs) == 1 else found

    def _run(self, items: list[Any], given: Mapping[str, Any]) -> list[Any]:
        tokenizing = dict(given.get("tokenizer_kwargs") or {})
        checked("the fill-mask pipeline's tokenizer_kwargs", tokenizing, TOKENIZING)
        task = self._limited(tokenizing)
        filled = task(items, top_k=positive("top_k", given.get("top_k"), 5), targets=given.get("targets"))
        return [self._sequences(text, masks, task.max_tokens) for text, masks in zip(items, filled)]

    def _sequences(self, text: str, masks: list[list[dict[str, Any]]], limit: int) -> Any:
        ids = self.tokenizer.encode(text, truncation=True, max_length=limit)
        places = [place for place, number in enumerate(ids) if number == self.tokenizer.mask_token_id]
        alone = len(places) == 1
        found = [
            [
                {
                    "score": one["score"],
                    "token": one["id"],
                    "token_str": self.tokenizer.decode([one["id"]]),
                    "sequence": self.tokenizer.decode([*ids[:place], one["id"], *ids[place + 1 :]], skip_special_tokens=alone),
                }
                for one in candidates
            ]
            for place, candidates in zip(places, masks, strict=True)
        ]
        return found[0] if alone else found
