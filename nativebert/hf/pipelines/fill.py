"""Filling in masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nativebert.errors import BadInputError, NativeBertWarning, warn
from nativebert.hf.arguments import checked
from nativebert.hf.pipelines.base import TOKENIZING, Pipeline, positive
from nativebert.loading import LoadedModel
from nativebert.tasks.base import Task
from nativebert.tasks.call import as_list
from nativebert.tasks.fill import MaskFiller


class FillMaskPipeline(Pipeline):
    """``"fill-mask"``: :class:`nativebert.MaskFiller`.

    A text gives a list of ``{"score", "token", "token_str", "sequence"}``, or one such list for each mask if it has several. ``sequence`` is the
    text as the tokenizer writes its tokens.

    Arguments: ``top_k``, ``targets``; ``tokenizer_kwargs`` with ``truncation`` and ``max_length``.
    """

    auto = "AutoModelForMaskedLM"
    supported = frozenset({"top_k", "targets", "tokenizer_kwargs"})

    def _make_task(self, model: LoadedModel, options: dict[str, Any]) -> Task:
        return MaskFiller(model, **options)

    def __call__(self, inputs: Any = None, *args: Any, **settings: Any) -> Any:
        """See the class."""
        results = super().__call__(inputs, *args, **settings)
        return results[0] if isinstance(inputs, list) and len(inputs) == 1 else results

    def _run(self, items: list[Any], arguments: Mapping[str, Any]) -> list[Any]:
        tokenizing = dict(arguments.get("tokenizer_kwargs") or {})
        checked("the fill-mask pipeline's tokenizer_kwargs", tokenizing, TOKENIZING)
        task: Any = self.native
        options, targets = self._call_options(tokenizing), arguments.get("targets")
        ids = None if targets is None else self._target_ids(as_list(targets, "targets"))
        filled = task(items, top_k=positive("top_k", arguments.get("top_k"), 5), targets=ids, **options)
        limit = options.get("max_tokens") or task.max_tokens
        return [self._sequences(text, masks, limit) for text, masks in zip(items, filled)]

    def _target_ids(self, targets: list[Any]) -> list[int]:
        """The token ids of targets, as the reference reads them: of a word that is not a token, its first piece."""
        tokenizer, ids = self.native.tokenizer, []
        for target in targets:
            number = tokenizer.token_to_id(target)
            if number is None:
                pieces = tokenizer.encode(target, special_tokens=False).ids
                message = f"the target {target!r} is not in the vocabulary"
                if pieces:
                    number = pieces[0]
                    message += f": {tokenizer.id_to_token(number)!r} is taken in its place"
                warn(message if pieces else f"{message}, and is left out", NativeBertWarning)
            if number is not None:
                ids.append(number)
        if not ids:
            raise BadInputError("no target is in the vocabulary: name at least one")
        return ids

    def _sequences(self, text: str, masks: list[list[dict[str, Any]]], limit: int) -> Any:
        ids = self.tokenizer.encode(text, truncation=True, max_length=limit)
        indices = [i for i, number in enumerate(ids) if number == self.tokenizer.mask_token_id]
        single = len(indices) == 1
        sequences = [
            [
                {
                    "score": one["score"],
                    "token": one["id"],
                    "token_str": self.tokenizer.decode([one["id"]]),
                    "sequence": self.tokenizer.decode([*ids[:i], one["id"], *ids[i + 1 :]], skip_special_tokens=single),
                }
                for one in candidates
            ]
            for i, candidates in zip(indices, masks, strict=True)
        ]
        return sequences[0] if single else sequences
