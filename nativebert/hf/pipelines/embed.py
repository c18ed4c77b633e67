"""Feature extraction and sentence similarity: states of tokens, and vectors compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nativebert.errors import BadInputError
from nativebert.hf.arguments import checked
from nativebert.hf.pipelines.base import TOKENIZING, Pipeline
from nativebert.loading import LoadedModel
from nativebert.tasks.base import Task
from nativebert.tasks.call import as_list
from nativebert.tasks.embed import Embedder


class FeatureExtractionPipeline(Pipeline):
    """``"feature-extraction"``: the state of every token after the last layer, special tokens included.

    A text gives nested lists ``1 x tokens x width``, or with ``return_tensors=True`` a tensor of that shape. :class:`nativebert.Embedder` gives
    vectors of texts, and its ``tokens`` and ``words`` those of tokens and words.

    Arguments: ``return_tensors``; ``truncation``, ``max_length``, also in ``tokenize_kwargs``.
    """

    auto = "AutoModel"
    supported = frozenset({"return_tensors", "tokenize_kwargs"}) | TOKENIZING

    def _make_task(self, model: LoadedModel, options: dict[str, Any]) -> Task:
        return Task(model, **options)

    def _run(self, items: list[Any], arguments: Mapping[str, Any]) -> list[Any]:
        tokenizing = dict(arguments.get("tokenize_kwargs") or {})
        checked("the feature-extraction pipeline's tokenize_kwargs", tokenizing, TOKENIZING)
        states = self.native.states(items, **self._call_options({**arguments, **tokenizing}))
        return [x[None] if arguments.get("return_tensors") else [x.tolist()] for x in states]


class SentenceSimilarityPipeline(Pipeline):
    """``"sentence-similarity"``, a task of the Hub that transformers has no pipeline for: :class:`nativebert.Embedder`.

    Called with ``{"source_sentence": text, "sentences": [text, ...]}``; gives the similarities, a list of float.
    """

    auto = "AutoModel"

    def _make_task(self, model: LoadedModel, options: dict[str, Any]) -> Task:
        del options["max_tokens"]  # what the sentence-transformers files say
        return Embedder(model, **options)

    def _run(self, items: list[Any], arguments: Mapping[str, Any]) -> list[Any]:
        task: Any = self.native
        similarities = []
        for item in items:
            if not isinstance(item, Mapping) or set(item) != {"source_sentence", "sentences"}:
                raise BadInputError("pass {'source_sentence': a text, 'sentences': a list of texts}")
            vectors = task([item["source_sentence"], *as_list(item["sentences"], "sentences")])
            similarities.append(task.similarity(vectors[:1], vectors[1:])[0].tolist() if len(vectors) > 1 else [])
        return similarities
