"""Feature extraction and sentence similarity: states of tokens, and vectors compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nativebert.errors import BadInputError
from nativebert.hf.arguments import checked
from nativebert.hf.pipelines.base import TOKENIZING, Pipeline
from nativebert.hf.states import States
from nativebert.loading import LoadedModel
from nativebert.tasks.base import Task, listed
from nativebert.tasks.embed import Embedder


class _States(States):
    """An encoder alone."""

    def __init__(self, model: LoadedModel, *, device: str, precision: str, max_tokens: int) -> None:
        super().__init__(
            model, head=None, device=device, precision=precision, batch_tokens=None, too_long="truncate", max_tokens=max_tokens,
            stride=0, revision=None, offline=None, token=None,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"States({self.reference!r}, {self.device}, {self.precision})"


class FeatureExtractionPipeline(Pipeline):
    """``"feature-extraction"``: the state of every token after the last layer, special tokens included.

    A text gives nested lists ``1 x tokens x width``, or with ``return_tensors=True`` a tensor of that shape. :class:`nativebert.Embedder` gives
    vectors of texts, and its ``tokens`` and ``words`` those of tokens and words.

    Arguments: ``return_tensors``; ``truncation``, ``max_length``, also in ``tokenize_kwargs``.
    """

    auto = "AutoModel"
    carried = frozenset({"return_tensors", "tokenize_kwargs"}) | TOKENIZING

    def _native(self, model: LoadedModel, options: dict[str, Any]) -> Task:
        return _States(model, **options)

    def _run(self, items: list[Any], given: Mapping[str, Any]) -> list[Any]:
        tokenizing = dict(given.get("tokenize_kwargs") or {})
        checked("the feature-extraction pipeline's tokenize_kwargs", tokenizing, TOKENIZING)
        states: list[Tensor] = self._limited({**given, **tokenizing}).states(items)
        return [x[None] if given.get("return_tensors") else [x.tolist()] for x in states]


class SentenceSimilarityPipeline(Pipeline):
    """``"sentence-similarity"``, a task of the Hub that transformers has no pipeline for: :class:`nativebert.Embedder`.

    Called with ``{"source_sentence": text, "sentences": [text, ...]}``; gives the similarities, a list of float.
    """

    auto = "AutoModel"

    def _native(self, model: LoadedModel, options: dict[str, Any]) -> Task:
        del options["max_tokens"]  # what the sentence-transformers files say
        return Embedder(model, **options)

    def _run(self, items: list[Any], given: Mapping[str, Any]) -> list[Any]:
        task: Any = self.native
        found = []
        for item in items:
            if not isinstance(item, Mapping) or set(item) != {"source_sentence", "sentences"}:
                raise BadInputError("pass {'source_sentence': a text, 'sentences': a list of texts}")
            vectors = task([item["source_sentence"], *listed(item["sentences"], "sentences")])
            found.append(task.similarity(vectors[:1], vectors[1:])[0].tolist() if len(vectors) > 1 else [])
        return found
