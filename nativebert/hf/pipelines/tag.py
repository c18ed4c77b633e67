"""Token classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from nativebert.checks import whole_number
from nativebert.errors import BadInputError, RefusedError
from nativebert.hf.pipelines.base import Pipeline
from nativebert.loading import LoadedModel
from nativebert.tasks.base import Task
from nativebert.tasks.scores import Scores
from nativebert.tasks.tag import Tagger
from nativebert.text.tokenizer import Encoding


class TokenClassificationPipeline(Pipeline):
    """``"token-classification"``, ``"ner"``: :class:`nativebert.Tagger`.

    A text gives a list of ``{"entity", "score", "index", "word", "start", "end"}``, one for each token, or of ``{"entity_group", "score", "word",
    "start", "end"}``, one for each entity, where ``aggregation_strategy`` is not ``"none"``.

    Arguments: ``aggregation_strategy``, ``"none"``, ``"simple"``, ``"first"``, ``"average"`` or ``"max"``; ``ignore_labels``; ``stride``;
    ``is_split_into_words``, for lists of words. A long text is read whole, in windows that share ``stride`` tokens.
    """

    auto = "AutoModelForTokenClassification"
    supported = frozenset(
        {"aggregation_strategy", "ignore_labels", "stride", "is_split_into_words", "delimiter", "grouped_entities"}
    )
    instead: ClassVar[Mapping[str, str]] = {
        "offset_mapping": "offsets are those of the tokenizer",
        "ignore_subwords": "pass aggregation_strategy='first'",
        **dict.fromkeys(
            ("truncation", "max_length"),
            "long texts: the native task reads them in windows with too_long='window', which is how it is done here: leave it out",
        ),
    }

    def _make_task(self, model: LoadedModel, options: dict[str, Any]) -> Task:
        return Tagger(model, **options)

    def _is_single(self, inputs: Any) -> bool:
        return isinstance(inputs, str)

    def __call__(self, inputs: Any = None, *args: Any, **settings: Any) -> Any:
        """See the class."""
        if (
            settings.get("is_split_into_words")
            and isinstance(inputs, (list, tuple))
            and not all(isinstance(item, list) for item in inputs)
        ):
            inputs = [list(inputs)]
        return super().__call__(inputs, *args, **settings)

    def _run(self, items: list[Any], arguments: Mapping[str, Any]) -> list[Any]:
        how = arguments.get("aggregation_strategy")
        how = "simple" if how is None and arguments.get("grouped_entities") else "none" if how is None else how
        how = str(getattr(how, "value", how)).lower()
        if how not in ("none", "simple", "first", "average", "max"):
            raise BadInputError(f"aggregation_strategy must be 'none', 'simple', 'first', 'average' or 'max', not {how!r}")
        task: Any = self.native
        stride = arguments.get("stride")
        if stride is not None:
            if how == "none":
                raise BadInputError("stride needs an aggregation_strategy other than 'none'")
            stride = whole_number("stride", stride)
        if arguments.get("is_split_into_words"):
            space = " " if arguments.get("delimiter") is None else arguments["delimiter"]
            if not space.isspace():
                raise RefusedError("delimiter must be white space: words are read as running text")
            if not all(isinstance(item, list) for item in items):
                raise BadInputError("with is_split_into_words=True every item must be a list of words")
            items = [space.join(words) for words in items]
        for n, item in enumerate(items):
            if not isinstance(item, str):
                raise BadInputError(
                    f"text {n} must be a string, not {type(item).__name__}; for lists of words pass is_split_into_words=True"
                )
        ignore = arguments.get("ignore_labels")
        ignore = ("O",) if ignore is None else ignore
        return [
            [one for one in self._entities(text, e, p, how) if one.get("entity", one.get("entity_group")) not in ignore]
            for text, (e, p) in zip(items, task.probabilities(items, stride=stride))
        ]

    def _entities(self, text: str, e: Encoding, p: Scores, how: str) -> list[dict[str, Any]]:
        """Tokens, or entities, those with labels to ignore among them."""
        labels = self.native.encoder.labels
        tokens = self._tokens(text, e, len(p))
        if how in ("first", "average", "max"):
            starts = [n for n, token in enumerate(tokens) if n == 0 or not token["inside"]]
            words = []
            for a, b in zip(starts, [*starts[1:], len(tokens)]):
                rows = p[a:b]
                row = rows.mean(0) if how == "average" else rows[0] if how == "first" else rows[rows.max(1).argmax()]
                word = self.tokenizer.convert_tokens_to_string([token["word"] for token in tokens[a:b]])
                words.append({"word": word, "start": tokens[a]["start"], "end": tokens[b - 1]["end"], "row": row})
            tokens = words
        else:
            tokens = [{**token, "row": row} for token, row in zip(tokens, p)]
        for token in tokens:
            best = int(token["row"].argmax())
            token.update(entity=labels[best], score=float(token["row"][best]))
        if how == "none":
            return [{name: token[name] for name in ("entity", "score", "index", "word", "start", "end")} for token in tokens]
        groups: list[list[dict[str, Any]]] = []
        for token in tokens:
            begins, tag = _tag(token["entity"])
            if groups and not begins and tag == _tag(groups[-1][-1]["entity"])[1]:
                groups[-1].append(token)
            else:
                groups.append([token])
        return [
            {
                "entity_group": group[0]["entity"].split("-", 1)[-1],
                "score": float(np.mean([token["score"] for token in group])),
                "word": self.tokenizer.convert_tokens_to_string([token["word"] for token in group]),
                "start": group[0]["start"],
                "end": group[-1]["end"],
            }
            for group in groups
        ]

    def _tokens(self, text: str, e: Encoding, count: int) -> list[dict[str, Any]]:
        """The tokens of a text that were read, and whether each goes on with the word before it.

        Where the vocabulary does not mark that (all but WordPiece), words are what stands between spaces, as in the reference.
        """
        mark = getattr(self.tokenizer.native.model, "continuing_subword_prefix", None)
        unknown, tokens, offsets, ids, read = self.tokenizer.unk_token_id, e.tokens, e.offsets, e.ids, []
        for index in e.own[:count]:
            word, (start, end) = tokens[index], offsets[index]
            inside = word.startswith(mark) if mark else start > 0 and " " not in text[start - 1 : start + 1]
            if ids[index] == unknown:
                word, inside = text[start:end], False
            read.append({"index": index, "word": word, "start": start, "end": end, "inside": inside})
        return read


def _tag(label: str) -> tuple[bool, str]:
    """Whether a label begins an entity, and its type."""
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label
