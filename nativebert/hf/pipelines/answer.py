"""Question answering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from nativebert.checks import whole_number
from nativebert.errors import BadInputError
from nativebert.hf.pipelines.base import Pipeline, positive
from nativebert.loading import LoadedModel
from nativebert.tasks.answer import Answerer
from nativebert.tasks.base import Task


class QuestionAnsweringPipeline(Pipeline):
    """``"question-answering"``, as in transformers 4: :class:`nativebert.Answerer`.

    Called with ``question=`` and ``context=`` (texts or lists), or with ``{"question": ..., "context": ...}`` or a list of those. Each gives
    ``{"score", "start", "end", "answer"}``, or with ``top_k`` above 1 a list of them.

    Arguments: ``top_k``; ``doc_stride``, ``max_seq_len`` (at most 384 unless said), ``max_answer_len``; ``handle_impossible_answer``;
    ``align_to_words``.
    """

    auto = "AutoModelForQuestionAnswering"
    supported = frozenset(
        "top_k topk doc_stride max_answer_len max_seq_len handle_impossible_answer align_to_words padding".split()
    )
    instead: ClassVar[Mapping[str, str]] = {
        "max_question_len": "a question is never cut: shorten it",
        **dict.fromkeys(("truncation", "max_length"), "pass max_seq_len; long contexts are read in windows"),
    }

    def _make_task(self, model: LoadedModel, options: dict[str, Any]) -> Task:
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
                raise BadInputError("pass question= and context=")
            several = isinstance(question, (list, tuple))
            contexts = list(context) if isinstance(context, (list, tuple)) else [context] * (len(question) if several else 1)
            questions = list(question) if several else [question] * len(contexts)
            if len(questions) != len(contexts):
                raise BadInputError(
                    f"there are {len(questions)} questions and {len(contexts)} contexts: pass as many of both, or one context"
                )
            inputs = [{"question": q, "context": c} for q, c in zip(questions, contexts)]
        if isinstance(inputs, (list, tuple)) and len(inputs) == 1:
            inputs = inputs[0]
        return super().__call__(inputs, *args, **settings)

    def _run(self, items: list[Any], arguments: Mapping[str, Any]) -> list[Any]:
        pairs = []
        for n, item in enumerate(items):
            if not isinstance(item, Mapping) or set(item) != {"question", "context"}:
                raise BadInputError(f"item {n} must have the keys 'question' and 'context'")
            for name, text in item.items():
                if not isinstance(text, str) or not text:
                    raise BadInputError(f"the {name} of item {n} must be a text that is not empty, not {text!r}")
            pairs.append((item["question"], item["context"]))
        task: Any = self.native
        limit, stride = arguments.get("max_seq_len"), arguments.get("doc_stride")
        limit = min(task.max_tokens, 384) if limit is None else whole_number("max_seq_len", limit)
        results = task(
            [question for question, _ in pairs],
            [context for _, context in pairs],
            top_k=positive("top_k", arguments.get("top_k") or arguments.get("topk"), 1),
            no_answer=bool(arguments.get("handle_impossible_answer")),
            max_answer_tokens=positive("max_answer_len", arguments.get("max_answer_len"), 15),
            align_to_words=arguments.get("align_to_words") is not False,
            max_tokens=limit,
            stride=min(limit // 2, 128) if stride is None else whole_number("doc_stride", stride),
        )
        names = ("score", "start", "end", "answer")
        ordered = [
            [{name: one[name] for name in names} for one in ([answer] if isinstance(answer, dict) else answer)]
            for answer in results
        ]
        return [answers[0] if len(answers) == 1 else answers for answers in ordered]
