"""``pipeline(task, model)``: the native tasks by the calls, and with the results, of transformers' pipelines."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from os import PathLike
from types import GeneratorType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

import nativebert.hf.models as models
from nativebert.errors import BadInput, NativeBertWarning, Refused, outside
from nativebert.hf.arguments import checked, offline, whole_number
from nativebert.hf.config import PreTrainedConfig
from nativebert.hf.models import PreTrainedModel
from nativebert.hf.states import States, device_name, hub_token, precision_name
from nativebert.hf.tokenizer import AutoTokenizer, PreTrainedTokenizerBase
from nativebert.hub import Snapshot
from nativebert.loading import open_snapshot
from nativebert.nn.model import Model
from nativebert.tasks.answer import Answerer
from nativebert.tasks.base import Call, Scores, Task, listed
from nativebert.tasks.classify import Classifier
from nativebert.tasks.embed import Embedder
from nativebert.tasks.fill import MaskFiller
from nativebert.tasks.tag import Tagger
from nativebert.tasks.zeroshot import ZeroShot
from nativebert.text.tokenizer import Encoding

_GENERATION = "nativebert has encoders only, which write no text; use transformers for it"
_OTHER_MEDIA = "nativebert reads text only; use transformers for it"
_REFUSED_TASKS = {
    **dict.fromkeys(("text-generation", "text2text-generation", "summarization", "translation", "conversational", "any-to-any"), _GENERATION),
    "decision": _GENERATION,
    "table-question-answering": "models of tables are not carried; use transformers for it",
    **dict.fromkeys(
        "document-question-answering visual-question-answering vqa image-to-text image-text-to-text image-to-image image-classification "
        "image-feature-extraction image-segmentation object-detection keypoint-matching depth-estimation video-classification mask-generation "
        "audio-classification automatic-speech-recognition text-to-audio text-to-speech zero-shot-image-classification "
        "zero-shot-audio-classification zero-shot-object-detection".split(),
        _OTHER_MEDIA,
    ),
}  # fmt: skip
_STREAM = 256  # items of a data set that are read at once


class Pipeline:
    """What all pipelines do alike. Made by :func:`pipeline`; called with one text, a list, a data set or a generator.

    Args:
        model: a folder, a Hub id, a :class:`~nativebert.hub.Snapshot`, or a model of :mod:`nativebert.hf`.
        tokenizer: in place of the model's own: a folder, a Hub id, or a tokenizer of :mod:`nativebert.hf`.
        config: a config of :mod:`nativebert.hf`, whose labels are used.
        task: what the pipeline is called.
        device: ``"cpu"``, ``"cuda:1"``, a number (-1 is the CPU), a ``torch.device``; None for the best there is.
        dtype: of the encoder; scores are float32 always. None and ``"auto"`` are float32, or what a model that is passed has.
        where: ``revision``, ``token``, ``local_files_only`` and the like, for the files.
        **settings: arguments of a call, for all calls.

    Attributes:
        model, tokenizer: those of :mod:`nativebert.hf`.
        native: the task of nativebert that does the work.
    """

    auto: ClassVar[str]  # the class of its models
    carried: ClassVar[frozenset[str]] = frozenset()  # arguments of a call
    instead: ClassVar[Mapping[str, str]] = {}  # those that are not carried -> what to do
    framework = "pt"

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        config: Any = None,
        *,
        task: str = "",
        device: Any = None,
        dtype: Any = None,
        where: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.task = task
        where = dict(where or {})
        if not isinstance(model, PreTrainedModel):
            if not isinstance(model, (str, PathLike, Snapshot)):
                raise BadInput(
                    f"model must be a folder, a name or a model of nativebert.hf, not a {type(model).__module__}.{type(model).__name__}"
                )
            more = {} if config is None else {"config": config}
            model = getattr(models, self.auto).from_pretrained(model, dtype="float32", **more, **where)
        elif dtype in (None, "auto"):
            dtype = model.dtype
        snapshot = model.native.snapshot
        if tokenizer is None and snapshot is None:
            raise BadInput("this model comes without a tokenizer: pass tokenizer=")
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            named = {name: value for name, value in where.items() if name != "revision"}  # that is the model's
            tokenizer = AutoTokenizer.from_pretrained(snapshot if tokenizer is None else tokenizer, **named)
        self.model: PreTrainedModel = model
        self.tokenizer: PreTrainedTokenizerBase = tokenizer
        self._batch = int(settings.pop("batch_size", None) or 1)
        settings.pop("num_workers", None)
        limit = min(tokenizer.model_max_length, model.native.config.max_tokens)
        options = {"device": device_name(device), "precision": precision_name(dtype), "max_tokens": limit}
        self.native = self._native(_as_asked(model, tokenizer), options)
        self._settings = self._checked(settings)

    def _native(self, model: Model, options: dict[str, Any]) -> Task:
        """The native task."""
        raise NotImplementedError

    def _run(self, items: list[Any], given: Mapping[str, Any]) -> list[Any]:
        """The results of some items."""
        raise NotImplementedError

    def __call__(self, inputs: Any = None, *args: Any, **settings: Any) -> Any:
        """Results of one item, a list, a data set or a generator: a result, a list, or an iterator of them.

        Args:
            inputs: the items.
            *args: none, but where the class says so.
            **settings: arguments of the task, over those that the pipeline was made with. ``batch_size`` and ``num_workers`` do nothing for
                lists: batches are made by tokens, and do not change the result.

        Raises:
            BadInput: an item that the task cannot read, or an unknown argument.
            Refused: an argument that is not carried.
        """
        if args:
            raise BadInput(f"the {self.task} pipeline takes its inputs and nothing else without a name")
        if inputs is None:
            raise BadInput("pass a text, or a list of texts")
        batch = settings.pop("batch_size", None) or self._batch
        settings.pop("num_workers", None)
        given = {**self._settings, **self._checked(settings)}
        if isinstance(inputs, GeneratorType):
            return self._stream(inputs, given, whole_number("batch_size", batch))
        if isinstance(inputs, Dataset):
            rows = (inputs[n] for n in range(len(inputs))) if hasattr(inputs, "__len__") else iter(inputs)
            return self._stream(rows, given, _STREAM)
        if self._alone(inputs, given):
            return self._run([inputs], given)[0]
        return self._run(listed(inputs), given)

    predict = transform = __call__

    def _alone(self, inputs: Any, given: Mapping[str, Any]) -> bool:
        """Is this one item, and not several?"""
        return isinstance(inputs, (str, Mapping))

    def _stream(self, items: Iterator[Any], given: Mapping[str, Any], size: int) -> Iterator[Any]:
        while some := list(islice(items, size)):
            yield from self._run(some, given)

    def _checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        for name, value in settings.items():
            if name in self.instead and value is not None and value is not False:
                raise Refused(f"the {self.task} pipeline does not carry {name}=: {self.instead[name]}")
        known = {name: value for name, value in settings.items() if name not in self.instead}
        checked(f"the {self.task} pipeline", known, self.carried)
        return known

    def _limited(self, given: Mapping[str, Any]) -> Any:
        """The native task, with what ``truncation`` and ``max_length`` ask for."""
        task = copy.copy(self.native)
        if given.get("max_length") is not None:
            task.max_tokens = task._limit(whole_number("max_length", given["max_length"]))
        truncation = given.get("truncation")
        if truncation is False or truncation == "do_not_truncate":
            task.too_long = "error"
        elif truncation not in (None, True, "longest_first", "only_first"):
            raise Refused(f"truncation={truncation!r} is not carried: use True, or False to refuse long texts")
        return task

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return torch.device(self.native.device)

    @property
    def dtype(self) -> torch.dtype:
        """What the encoder computes in."""
        return getattr(torch, self.native.precision)  # type: ignore[no-any-return]

    torch_dtype = dtype

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:
        """Write model and tokenizer to a folder."""
        self.model.save_pretrained(save_directory, **options)
        self.tokenizer.save_pretrained(save_directory)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.native!r})"


def _as_asked(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Model:
    """The native model, of the same weights, with this tokenizer and with what was changed of the config."""
    native = copy.copy(model.native)
    native.__dict__["tokenizer"] = tokenizer.native
    changed = {
        name: value for name, value in model.config.changes().items() if name in ("id2label", "label2id", "problem_type")
    }
    if changed:
        names = {int(number): str(name) for number, name in model.config.id2label.items()}
        labels = tuple(names[number] for number in sorted(names))
        said = {**native.config.source, **changed}
        native.config = replace(native.config, labels=labels, problem_type=model.config.problem_type or "", source=said)
    return native


_TOKENIZING = frozenset({"truncation", "max_length", "padding"})
_READ_IN_WINDOWS = "long texts: the native task reads them in windows with too_long='window'"


class TextClassificationPipeline(Pipeline):
    """``"text-classification"``, ``"sentiment-analysis"``: :class:`nativebert.Classifier`.

    An item is a text, or ``{"text": ..., "text_pair": ...}``. Its result is ``{"label", "score"}``, or with ``top_k`` a list of them, best
    first (all of them for ``top_k=None``); a text alone without ``top_k`` in the call gives that in a list.

    Arguments: ``top_k``; ``function_to_apply``, ``"softmax"``, ``"sigmoid"`` or ``"none"``; ``truncation``, ``max_length``. A long text is cut
    with a warning, and refused with ``truncation=False``.
    """

    auto = "AutoModelForSequenceClassification"
    carried = frozenset({"top_k", "function_to_apply"}) | _TOKENIZING
    instead: ClassVar[Mapping[str, str]] = {
        "return_all_scores": "pass top_k=None",
        "stride": "nativebert.Classifier(model, too_long='window') reads long texts whole",
        "add_special_tokens": "special tokens belong to the model",
        "return_tensors": "results are lists; nativebert.Classifier(model).scores(texts) gives an array",
    }

    def _native(self, model: Model, options: dict[str, Any]) -> Task:
        return Classifier(model, problem=self._problem(None), **options)

    def _problem(self, asked: Any) -> str:
        """What is done with the outputs."""
        name = getattr(asked, "value", asked)
        if name is not None and str(name).lower() != "default":
            problems = {"softmax": "single", "sigmoid": "multi", "none": "regression"}
            if str(name).lower() not in problems:
                raise BadInput(f"function_to_apply must be one of {', '.join(problems)}, not {asked!r}")
            return problems[str(name).lower()]
        kind = self.model.config.problem_type
        if kind == "regression":
            return "regression"
        return "multi" if kind == "multi_label_classification" or self.model.config.num_labels == 1 else "single"

    def __call__(self, inputs: Any = None, *args: Any, **settings: Any) -> Any:
        """See the class."""
        found = super().__call__(inputs, *args, **settings)
        return [found] if isinstance(inputs, str) and "top_k" not in settings else found

    def _run(self, items: list[Any], given: Mapping[str, Any]) -> list[Any]:
        task = self._limited(given)
        task.problem = self._problem(given.get("function_to_apply"))
        items = [_text_or_pair(n, item) for n, item in enumerate(items)]
        scores = np.empty((len(items), len(task.labels)), np.float32)
        for kind in (str, tuple):
            which = [n for n, item in enumerate(items) if isinstance(item, kind)]
            if kind is tuple and which and given.get("truncation") == "only_first":
                raise Refused("truncation='only_first' is not carried for pairs: use True, which takes from the longer text")
            if which:
                scores[which] = task.scores([items[n] for n in which])
        if "top_k" not in given:
            best = scores.argmax(1).tolist() if len(items) else []
            return [{"label": task.labels[n], "score": float(row[n])} for n, row in zip(best, scores)]
        top_k = None if given["top_k"] is None else whole_number("top_k", given["top_k"])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k].tolist()
        return [[{"label": task.labels[n], "score": float(row[n])} for n in best] for best, row in zip(order, scores)]


def _text_or_pair(n: int, item: Any) -> str | tuple[str, str]:
    if isinstance(item, Mapping):
        text, pair = item.get("text"), item.get("text_pair")
        if text is None or set(item) - {"text", "text_pair"}:
            raise BadInput(f"an item must be a text or have the keys 'text' and 'text_pair', not {', '.join(map(repr, item))}")
        item = text if pair is None else (text, pair)
    elif isinstance(item, (list, tuple)):
        if len(item) == 1 and isinstance(item[0], (list, tuple)) and len(item[0]) == 2:  # an old way to write a pair
            return item[0][0], item[0][1]
        raise BadInput('pass a pair as {"text": ..., "text_pair": ...}')
    if not isinstance(item, (str, tuple)):
        raise BadInput(f"text {n} must be a string, not {type(item).__name__}")
    return item


class _TokenTagger(Tagger):
    """A Tagger that gives probabilities of tokens."""

    def probabilities(self, texts: list[str]) -> list[tuple[Encoding, Scores]]:
        """The tokens of each text, and the labels' probabilities ``(tokens, labels)`` of those that came from the text and were not cut."""
        found: list[tuple[Encoding, Scores]] = []
        with Call(self, texts, None) as call:
            for here in call.chunks():
                encodings = self.tokenizer.encode_batch(texts[here], first=here.start)
                found += zip(encodings, self._probabilities(encodings, here, call), strict=True)
        call.report()
        return found


class TokenClassificationPipeline(Pipeline):
    """``"token-classification"``, ``"ner"``: :class:`nativebert.Tagger`.

    A text gives a list of ``{"entity", "score", "index", "word", "start", "end"}``, one for each token, or of ``{"entity_group", "score", "word",
    "start", "end"}``, one for each entity, where ``aggregation_strategy`` is not ``"none"``.

    Arguments: ``aggregation_strategy``, ``"none"``, ``"simple"``, ``"first"``, ``"average"`` or ``"max"``; ``ignore_labels``; ``stride``;
    ``is_split_into_words``, for lists of words. A long text is read whole, in windows that share ``stride`` tokens.
    """

    auto = "AutoModelForTokenClassification"
    carried = frozenset(
        {"aggregation_strategy", "ignore_labels", "stride", "is_split_into_words", "delimiter", "grouped_entities"}
    )
    instead: ClassVar[Mapping[str, str]] = {
        "offset_mapping": "offsets are those of the tokenizer",
        "ignore_subwords": "pass aggregation_strategy='first'",
        **dict.fromkeys(("truncation", "max_length"), _READ_IN_WINDOWS + ", which is how it is done here: leave it out"),
    }

    def _native(self, model: Model, options: dict[str, Any]) -> Task:
        return _TokenTagger(model, **options)

    def _alone(self, inputs: Any, given: Mapping[str, Any]) -> bool:
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

    def _run(self, items: list[Any], given: Mapping[str, Any]) -> list[Any]:
        how = given.get("aggregation_strategy")
        how = "simple" if how is None and given.get("grouped_entities") else "none" if how is None else how
        how = str(getattr(how, "value", how)).lower()
        if how not in ("none", "simple", "first", "average", "max"):
            raise BadInput(f"aggregation_strategy must be 'none', 'simple', 'first', 'average' or 'max', not {how!r}")
        task: Any = self.native
        if given.get("stride") is not None:
            if how == "none":
                raise BadInput("stride needs an aggregation_strategy other than 'none'")
            task = copy.copy(task)
            task.stride = whole_number("stride", given["stride"])
        if given.get("is_split_into_words"):
            space = " " if given.get("delimiter") is None else given["delimiter"]
            if not space.isspace():
                raise Refused("delimiter must be white space: words are read as running text")
            if not all(isinstance(item, list) for item in items):
                raise BadInput("with is_split_into_words=True every item must be a list of words")
            items = [space.join(words) for words in items]
        for n, item in enumerate(items):
            if not isinstance(item, str):
                raise BadInput(
                    f"text {n} must be a string, not {type(item).__name__}; for lists of words pass is_split_into_words=True"
                )
        ignore = given.get("ignore_labels")
        ignore = ("O",) if ignore is None else ignore
        return [
            [one for one in self._entities(text, e, p, how) if one.get("entity", one.get("entity_group")) not in ignore]
            for text, (e, p) in zip(items, task.probabilities(items))
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
        mark = getattr(self.tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None)
        unknown, tokens, offsets, ids, found = self.tokenizer.unk_token_id, e.tokens, e.offsets, e.ids, []
        for place in e.own[:count]:
            word, (start, end) = tokens[place], offsets[place]
            inside = word.startswith(mark) if mark else start > 0 and " " not in text[start - 1 : start + 1]
            if ids[place] == unknown:
                word, inside = text[start:end], False
            found.append({"index": place, "word": word, "start": start, "end": end, "inside": inside})
        return found


def _tag(label: str) -> tuple[bool, str]:
    """Whether a label begins an entity, and its type."""
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label


class QuestionAnsweringPipeline(Pipeline):
    """``"question-answering"``, as in transformers 4: :class:`nativebert.Answerer`.

    Called with ``question=`` and ``context=`` (texts or lists), or with ``{"question": ..., "context": ...}`` or a list of those. Each gives
    ``{"score", "start", "end", "answer"}``, or with ``top_k`` above 1 a list of them.

    Arguments: ``top_k``; ``doc_stride``, ``max_seq_len`` (at most 384 unless said), ``max_answer_len``; ``handle_impossible_answer``;
    ``align_to_words``.
    """

    auto = "AutoModelForQuestionAnswering"
    carried = frozenset(
        "top_k topk doc_stride max_answer_len max_seq_len handle_impossible_answer align_to_words padding".split()
    )
    instead: ClassVar[Mapping[str, str]] = {
        "max_question_len": "a question is never cut: shorten it",
        **dict.fromkeys(("truncation", "max_length"), "pass max_seq_len; long contexts are read in windows"),
    }

    def _native(self, model: Model, options: dict[str, Any]) -> Task:
        return Answerer(model, **options)

    def __call__(self, inputs: Any = None, *args: Any, **settings: Any) -> Any:
        """See the class."""
        question, context = settings.pop("question", None), settings.pop("context", None)
        for name in ("data", "X"):
            inputs = settings.pop(name, inputs)
        if args and all(isinstance(item, str) for item in (inputs, *args)):
            question, context, args, inputs = inputs, args[0], args[1:], None
        if inputs is None:
            if question is None or context is None:
                raise BadInput("pass question= and context=")
            several = isinstance(question, (list, tuple))
            contexts = list(context) if isinstance(context, (list, tuple)) else [context] * (len(question) if several else 1)
            questions = list(question) if several else [question] * len(contexts)
            if len(questions) != len(contexts):
                raise BadInput(
                    f"there are {len(questions)} questions and {len(contexts)} contexts: pass as many of both, or one context"
                )
            inputs = [{"question": q, "context": c} for q, c in zip(questions, contexts)]
        if isinstance(inputs, (list, tuple)) and len(inputs) == 1:
            inputs = inputs[0]
        return super().__call__(inputs, *args, **settings)

    def _run(self, items: list[Any], given: Mapping[str, Any]) -> list[Any]:
        pairs = []
        for n, item in enumerate(items):
            if not isinstance(item, Mapping) or set(item) != {"question", "context"}:
                raise BadInput(f"item {n} must have the keys 'question' and 'context'")
            for name, text in item.items():
                if not isinstance(text, str) or not text:
                    raise BadInput(f"the {name} of item {n} must be a text that is not empty, not {text!r}")
            pairs.append((item["question"], item["context"]))
        task: Any = copy.copy(self.native)
        longest = given.get("max_seq_len")
        task.max_tokens = min(task.max_tokens, 384) if longest is None else task._limit(whole_number("max_seq_len", longest))
        task.stride = (
            min(task.max_tokens // 2, 128)
            if given.get("doc_stride") is None
            else whole_number("doc_stride", given["doc_stride"])
        )
        task.max_answer_tokens = _positive("max_answer_len", given.get("max_answer_len"), 15)
        task.align_to_words = given.get("align_to_words") is not False
        top_k = _positive("top_k", given.get("top_k") or given.get("topk"), 1)
        found = task(
            [q for q, _ in pairs], [c for _, c in pairs], top_k=top_k, no_answer=bool(given.get("handle_impossible_answer"))
        )
        names = ("score", "start", "end", "answer")
        ordered = [
            [{name: one[name] for name in names} for one in ([answer] if isinstance(answer, dict) else answer)]
            for answer in found
        ]
        return [answers[0] if len(answers) == 1 else answers for answers in ordered]


def _positive(name: str, value: Any, usual: int) -> int:
    number = usual if value is None else whole_number(name, value)
    if number < 1:
        raise BadInput(f"{name} must be at least 1, not {value}")
    return number


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
                warnings.warn(said if pieces else f"{said}, and is left out", NativeBertWarning, stacklevel=outside())
            if number is not None:
                found.add(number)
        if not found:
            raise BadInput("no target is in the vocabulary: name at least one")
        return np.array(sorted(found), np.int64)


class FillMaskPipeline(Pipeline):
    """``"fill-mask"``: :class:`nativebert.MaskFiller`.

    A text gives a list of ``{"score", "token", "token_str", "sequence"}``, or one such list for each mask if it has several. ``sequence`` is the
    text as the tokenizer writes its tokens.

    Arguments: ``top_k``, ``targets``; ``tokenizer_kwargs`` with ``truncation`` and ``max_length``.
    """

    auto = "AutoModelForMaskedLM"
    carried = frozenset({"top_k", "targets", "tokenizer_kwargs"})

    def _native(self, model: Model, options: dict[str, Any]) -> Task:
        return _Filler(model, **options)

    def __call__(self, inputs: Any = None, *args: Any, **settings: Any) -> Any:
        """See the class."""
        found = super().__call__(inputs, *args, **settings)
        return found[0] if isinstance(inputs, list) and len(inputs) == 1 else found

    def _run(self, items: list[Any], given: Mapping[str, Any]) -> list[Any]:
        tokenizing = dict(given.get("tokenizer_kwargs") or {})
        checked("the fill-mask pipeline's tokenizer_kwargs", tokenizing, _TOKENIZING)
        task = self._limited(tokenizing)
        filled = task(items, top_k=_positive("top_k", given.get("top_k"), 5), targets=given.get("targets"))
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


class _States(States):
    """An encoder alone."""

    def __init__(self, model: Model, *, device: str, precision: str, max_tokens: int) -> None:
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
    carried = frozenset({"return_tensors", "tokenize_kwargs"}) | _TOKENIZING

    def _native(self, model: Model, options: dict[str, Any]) -> Task:
        return _States(model, **options)

    def _run(self, items: list[Any], given: Mapping[str, Any]) -> list[Any]:
        tokenizing = dict(given.get("tokenize_kwargs") or {})
        checked("the feature-extraction pipeline's tokenize_kwargs", tokenizing, _TOKENIZING)
        states: list[Tensor] = self._limited({**given, **tokenizing}).states(items)
        return [x[None] if given.get("return_tensors") else [x.tolist()] for x in states]


class ZeroShotClassificationPipeline(Pipeline):
    """``"zero-shot-classification"``: :class:`nativebert.ZeroShot`.

    A text gives ``{"sequence", "labels", "scores"}``, best label first.

    Arguments: ``candidate_labels``, a list or a text with commas, also without its name; ``hypothesis_template``; ``multi_label``.
    """

    auto = "AutoModelForSequenceClassification"
    carried = frozenset({"candidate_labels", "hypothesis_template", "multi_label"})
    instead: ClassVar[Mapping[str, str]] = {"multi_class": "pass multi_label, its new name"}

    def _native(self, model: Model, options: dict[str, Any]) -> Task:
        return ZeroShot(model, **options)

    def __call__(self, inputs: Any = None, *args: Any, **settings: Any) -> Any:
        """See the class."""
        inputs = settings.pop("sequences", inputs)
        if len(args) == 1 and "candidate_labels" not in settings:
            settings["candidate_labels"], args = args[0], ()
        return super().__call__(inputs, *args, **settings)

    def _run(self, items: list[Any], given: Mapping[str, Any]) -> list[Any]:
        if given.get("candidate_labels") is None:
            raise BadInput("pass candidate_labels=, a list of labels")
        task: Any = self.native
        template = given.get("hypothesis_template") or "This example is {}."
        found = task(items, given["candidate_labels"], multi_label=bool(given.get("multi_label")), hypothesis=template)
        return [{"sequence": one["text"], "labels": one["labels"], "scores": one["scores"]} for one in found]


class SentenceSimilarityPipeline(Pipeline):
    """``"sentence-similarity"``, a task of the Hub that transformers has no pipeline for: :class:`nativebert.Embedder`.

    Called with ``{"source_sentence": text, "sentences": [text, ...]}``; gives the similarities, a list of float.
    """

    auto = "AutoModel"

    def _native(self, model: Model, options: dict[str, Any]) -> Task:
        del options["max_tokens"]  # what the sentence-transformers files say
        return Embedder(model, **options)

    def _run(self, items: list[Any], given: Mapping[str, Any]) -> list[Any]:
        task: Any = self.native
        found = []
        for item in items:
            if not isinstance(item, Mapping) or set(item) != {"source_sentence", "sentences"}:
                raise BadInput("pass {'source_sentence': a text, 'sentences': a list of texts}")
            vectors = task([item["source_sentence"], *listed(item["sentences"], "sentences")])
            found.append(task.similarity(vectors[:1], vectors[1:])[0].tolist() if len(vectors) > 1 else [])
        return found


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
        Refused: a task, a model or an argument that is not carried.
        NativeBertError: the model cannot be had, or has no head for the task.
    """
    if framework not in (None, "pt"):
        raise Refused(f"framework={framework!r} is not carried: torch is the only one; leave it out")
    for name in ("feature_extractor", "image_processor", "video_processor", "processor"):
        if settings.pop(name, None) is not None:
            raise Refused(f"pipeline does not carry {name}=: {_OTHER_MEDIA}")
    for name in ("use_fast", "trust_remote_code", "binary_output"):
        settings.pop(name, None)
    inner = dict(model_kwargs or {})
    checked("pipeline(model_kwargs=...)", inner, ("dtype", "torch_dtype", "device_map", "attn_implementation"))
    if inner.get("attn_implementation") not in (None, "eager", "sdpa"):
        raise Refused(f"attn_implementation must be 'eager' or 'sdpa' (the same here), not {inner['attn_implementation']!r}")
    name = _task(task, model, revision, token, local_files_only)
    if model is None:
        if tokenizer is not None:
            raise BadInput("a tokenizer without a model: pass model= too")
        model, usual = _default(name)
        revision = usual if revision is None else revision
        warnings.warn(
            f"no model was given: {model}{f' at revision {revision}' if revision else ''} is used, as in transformers. Name model and revision.",
            NativeBertWarning,
            stacklevel=2,
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
            raise BadInput("name a task or a model: pipeline('text-classification')")
        if isinstance(model, PreTrainedModel):
            end = model.end
        else:
            snapshot = open_snapshot(
                model, revision=revision, token=hub_token(token), offline=offline({"local_files_only": local}), weights=False
            )
            saved = (snapshot.read_json("config.json") or {}).get("architectures") or [""]
            end = next((end for end in _OF_ARCHITECTURE if str(saved[0]).endswith(end)), "")
        if end not in _OF_ARCHITECTURE:
            raise BadInput(f"the model does not say what it is for: name the task, one of {', '.join(PIPELINES)}")
        return _OF_ARCHITECTURE[end]
    name = ALIASES.get(task, task)
    if name in PIPELINES:
        return name
    if advice := _REFUSED_TASKS.get("translation" if name.startswith("translation_") else name):
        raise Refused(f"the task {task!r} is not carried: {advice}")
    raise BadInput(f"there is no task {task!r}; there are {', '.join([*PIPELINES, *ALIASES])}")


def _default(name: str) -> tuple[str, str | None]:
    if name == "zero-shot-classification":
        raise Refused(
            "transformers' model for zero-shot-classification, facebook/bart-large-mnli, is no encoder: pass an encoder that was trained for "
            "natural language inference, as model='FacebookAI/roberta-large-mnli' or 'cross-encoder/nli-distilroberta-base'"
        )
    return DEFAULTS[name]


__all__ = ["ALIASES", "DEFAULTS", "PIPELINES", "Pipeline", "pipeline", *(kind.__name__ for kind in PIPELINES.values())]
