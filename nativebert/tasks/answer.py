"""Extractive question answering: a question and a text (the context) in, the stretch of the text that answers out."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from os import PathLike
from typing import Any, ClassVar, Literal, NamedTuple, Unpack, overload

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from nativebert.checks import at_least
from nativebert.engine import where
from nativebert.errors import BadInputError
from nativebert.hub import Snapshot
from nativebert.nn.model import Model
from nativebert.nn.packed import Ragged
from nativebert.tasks.base import Task
from nativebert.tasks.call import Call, as_list
from nativebert.tasks.options import CallOptions, ReportOptions, TaskOptions
from nativebert.tasks.results import Answer, Report, Results
from nativebert.tasks.scores import highest
from nativebert.tasks.windows import Windows, to_windows
from nativebert.text.tokenizer import Encoding
from nativebert.text.window import Window

Logits = NDArray[np.float64]


class Answerer(Task):
    """Answers to questions, each a stretch of its context, by a question-answering model (a span head, as for SQuAD).

    An answer from token ``i`` to token ``j`` scores ``p_start(i) * p_end(j)``: two softmaxes, over the tokens of the context and the
    first token of the sequence, which stands for "no answer" (Devlin et al. 2019, arXiv:1810.04805, sections 4.2 and 4.3). For a context
    that fits into one window these are the scores and the answers of the question-answering pipeline of transformers 4. A longer one is
    read in windows, and both softmaxes run over all of its windows together, so that scores of different windows can be compared: the
    best answer is the one with the highest sum of logits, as in Devlin's ``run_squad.py``.

    Args:
        model: a folder, a Hub id, a :class:`~nativebert.hub.Snapshot`, or a loaded model with the head ``"answer"``.
        max_answer_tokens: the longest answer.
        align_to_words: extend answers to whole words, which is right where words are divided by spaces. Turn it off for languages that
            write without them, when the tokenizer does not split them: whole sentences are words there.
        **options: see :class:`~nativebert.tasks.options.TaskOptions`; ``max_tokens`` is of a question with its context, or a window of it.
            ``too_long="window"``, the default, reads the whole context in overlapping windows, each with the question before it;
            ``"truncate"`` cuts the end of the context, never the question. ``stride`` is 128 unless said otherwise.

    Raises:
        NativeBertError: one of its kinds, for a model that cannot be had, is not understood, or has no span head.
    """

    head = "answer"
    noun = "pair"
    defaults: ClassVar[TaskOptions] = {"too_long": "window", "stride": 128}

    def __init__(
        self,
        model: str | PathLike[str] | Snapshot | Model,
        *,
        max_answer_tokens: int = 15,
        align_to_words: bool = True,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(model, **options)
        self.max_answer_tokens = at_least(1, "max_answer_tokens", max_answer_tokens)
        self.align_to_words = align_to_words

    def __repr__(self) -> str:
        return f"Answerer({self.reference!r}, max_tokens={self.max_tokens}, max_answer_tokens={self.max_answer_tokens}, {where(self.device)})"

    @overload
    def __call__(  # type: ignore[overload-overlap]  # 1 is a whole number, too
        self,
        questions: str | Iterable[str],
        contexts: str | Iterable[str],
        *,
        top_k: Literal[1] = 1,
        no_answer: bool = False,
        max_answer_tokens: int | None = None,
        align_to_words: bool | None = None,
        return_report: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> Results[Answer]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # 1 is a whole number, too
        self,
        questions: str | Iterable[str],
        contexts: str | Iterable[str],
        *,
        top_k: Literal[1] = 1,
        no_answer: bool = False,
        max_answer_tokens: int | None = None,
        align_to_words: bool | None = None,
        return_report: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[Results[Answer], Report]: ...
    @overload
    def __call__(
        self,
        questions: str | Iterable[str],
        contexts: str | Iterable[str],
        *,
        top_k: int,
        no_answer: bool = False,
        max_answer_tokens: int | None = None,
        align_to_words: bool | None = None,
        return_report: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> Results[list[Answer]]: ...
    @overload
    def __call__(
        self,
        questions: str | Iterable[str],
        contexts: str | Iterable[str],
        *,
        top_k: int,
        no_answer: bool = False,
        max_answer_tokens: int | None = None,
        align_to_words: bool | None = None,
        return_report: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[Results[list[Answer]], Report]: ...
    def __call__(
        self,
        questions: str | Iterable[str],
        contexts: str | Iterable[str],
        *,
        top_k: int = 1,
        no_answer: bool = False,
        max_answer_tokens: int | None = None,
        align_to_words: bool | None = None,
        **options: Unpack[ReportOptions],
    ) -> Any:
        """Answers to questions.

        Args:
            questions: one for each context; a single string is asked of every context.
            contexts: the texts that hold the answers; a single string belongs to every question.
            top_k: how many answers to give.
            no_answer: let "no answer" be one of the candidates: for models that were trained to say so, as on SQuAD 2.0.
            max_answer_tokens, align_to_words: in place of the task's own.
            **options: see :class:`~nativebert.tasks.options.CallOptions`.

        Returns:
            For each pair, in order: ``{"answer": str, "score": float, "start": int, "end": int}`` where ``top_k`` is 1, else a list of at
            most ``top_k`` of them, best first. ``answer`` is ``context[start:end]``, to the character, without white space around it.
            "No answer" is ``{"answer": "", "score": float, "start": 0, "end": 0}``; it is also what a context without any token gets.

        Raises:
            BadInputError: something that is not a string, lists of unequal lengths, or a ``top_k`` below 1.
            TooLongError: a pair is longer than ``max_tokens`` and ``too_long="error"``, or its question leaves no room for the context.
        """
        top_k = at_least(1, "top_k", top_k)
        longest = self.max_answer_tokens
        if max_answer_tokens is not None:
            longest = at_least(1, "max_answer_tokens", max_answer_tokens)
        by_words = self.align_to_words if align_to_words is None else align_to_words
        pairs = _pairs(questions, contexts)
        results: list[Any] = []
        with Call(self, pairs, options) as call:
            for chunk in call.chunks():
                encodings = self.tokenizer.encode_batch(chunk.items, first=chunk.start)
                tokens = [_context(e) for e in encodings]
                types = Ragged.of([e.type_ids for e in encodings]) if self.encoder.segments > 1 else None
                sliding = partial(np.take, np.array(tokens).T, axis=1)
                windows = to_windows(chunk, Ragged.of([e.ids for e in encodings]), types, sliding)
                spans_of = _spans(windows, self._token_logits(windows, chunk), longest)
                for (_, context), e, (first, _), spans in zip(chunk.items, encodings, tokens, spans_of, strict=True):
                    answers = _answers(context, e, first, spans, top_k, no_answer, by_words)
                    results.append(answers[0] if top_k == 1 else answers)
        one = {"answer": "", "score": 0.0, "start": 0, "end": 0}
        return call.results(results, one if top_k == 1 else [one])


def _answers(
    context: str, e: Encoding, first: int, spans: _Spans, top_k: int, no_answer: bool, by_words: bool
) -> list[dict[str, Any]]:
    """The best answers in a context, whose tokens begin at ``first``; extended to whole words, ``by_words``.

    Different spans can be the same answer (ignoring case), once they are extended to words, or where a name stands
    twice. Such count as one, where the best of them stands, and their scores add up. As in transformers, that is done with the
    best ``2 * top_k + 10`` spans; unlike there, where too few answers are left, more spans are searched for further ones.
    """
    wanted, done = 2 * top_k + 10 if by_words else top_k, 0
    by_text: dict[str, dict[str, Any]] = {}
    while True:
        best, complete = spans.best(wanted), set(by_text)
        for i, j, score in best[done:]:
            start, end = _characters(e, first + i, by_words)[0], _characters(e, first + j, by_words)[1]
            text = context[start:end]
            start, text = start + len(text) - len(text.lstrip()), text.strip()
            key = text.lower()
            if not text or key in complete:  # a token may stand for white space
                continue
            same = by_text.setdefault(key, {"answer": text, "score": 0.0, "start": start, "end": start + len(text)})
            same["score"] += score
        if len(by_text) >= top_k or len(best) < wanted:
            break
        wanted, done = 2 * wanted, wanted
    answers = list(by_text.values())
    if no_answer or not answers:
        answers.append({"answer": "", "score": spans.null, "start": 0, "end": 0})
    answers = sorted(answers, key=lambda one: -one["score"])[:top_k]
    # rounded: without the bits that hang on the order of summation
    return [{**one, "score": float(np.float32(one["score"]))} for one in answers]


def _characters(e: Encoding, token: int, by_words: bool) -> tuple[int, int]:
    """First and last-plus-one character of the word that a token belongs to, or of the token alone."""
    word = e.raw.token_to_word(token) if by_words else None
    characters = e.raw.token_to_chars(token) if word is None else e.raw.word_to_chars(word, 1)
    assert characters is not None  # every token of a text has some
    return characters


class _Spans(NamedTuple):
    """Candidate spans of one context, collected over its windows.

    Attributes:
        parts: for each window its span, the start logits of the tokens that it owns, and the end logits of these and of those after them
            in which an answer may end.
        total: logarithm of what a span's ``exp(start logit + end logit)`` is divided by: the product of the two softmaxes' sums.
        null: score of there being no answer.
        longest: most tokens of an answer.
    """

    parts: list[tuple[Window, Logits, Logits]]
    total: float
    null: float
    longest: int

    @classmethod
    def of(cls, read: list[tuple[Window, Logits, Logits]], longest: int) -> _Spans:
        """Build from each window's logits ``(tokens, 2)`` and those of the sequence's first token, ``(2,)``.

        An answer begins in a token that its window owns, and may end beyond. So each token has one start logit; as its end logit the
        sum takes the highest of the windows in which an answer may end there. The null logits are those of the window where their sum is
        lowest, as for SQuAD 2.0 in ``run_squad.py``: there is no answer if there is none in any window.
        """
        parts = []
        count = read[-1][0].own_end
        starts, ends = np.empty(count), np.full(count, -np.inf)
        for w, x, _ in read:
            stop = min(w.end, w.own_end + longest - 1)
            start, end = x[w.own_start - w.start : w.own_end - w.start, 0], x[w.own_start - w.start : stop - w.start, 1]
            starts[w.own_start : w.own_end] = start
            np.maximum(ends[w.own_start : stop], end, out=ends[w.own_start : stop])
            parts.append((w, start, end))
        null = min((first for _, _, first in read), key=np.sum)
        total = _log_sum_exp(starts, null[0]) + _log_sum_exp(ends, null[1])
        return cls(parts, total, float(np.exp(null[0] + null[1] - total)), longest)

    def best(self, k: int) -> list[tuple[int, int, float]]:
        """The ``k`` best spans: first token, last token, score. Of equal ones, the one that begins and then ends first."""
        candidates, scores = [], []
        for w, start, end in self.parts:
            if not len(start):
                continue
            last = np.full(len(start) + self.longest - 1, -np.inf)
            last[: len(end)] = end[: len(last)]
            sums = (start[:, None] + sliding_window_view(last, self.longest)).ravel()  # (tokens, lengths)
            indices = highest(sums, k)
            candidates.append(np.stack((w.own_start + indices // self.longest, indices % self.longest), 1))
            scores.append(sums[indices])
        if not candidates:
            return []
        spans, sums = np.concatenate(candidates), np.concatenate(scores)
        order = np.lexsort((spans[:, 1], spans[:, 0], -sums))[:k]
        return [
            (i, i + more, float(np.exp(score - self.total)))
            for (i, more), score in zip(spans[order].tolist(), sums[order].tolist(), strict=True)
            if score > -np.inf
        ]


def _spans(windows: Windows, logits: list[Tensor], longest: int) -> Iterable[_Spans]:
    """The spans of each context."""
    for begin, end in pairwise([*windows.starts.tolist(), len(windows)]):
        read = []
        for n in range(begin, end):
            w, prefix, x = windows.spans[n], windows.prefix_len[n], logits[n].double().numpy()
            read.append((w, x[prefix : prefix + w.end - w.start], x[0]))
        yield _Spans.of(read, longest)


def _log_sum_exp(logits: Logits, one: float) -> float:
    """``log(sum(exp(logits)) + exp(one))``."""
    most = max(float(logits.max(initial=-np.inf)), one)
    return most + float(np.log(np.exp(logits - most).sum() + np.exp(one - most)))


def _context(e: Encoding) -> tuple[int, int]:
    """First and last-plus-one token of the second text of a pair; of an empty one, the end."""
    texts = e.sequence_ids
    count = texts.count(1)
    start = texts.index(1) if count else len(texts)
    return start, start + count


def _pairs(questions: Any, contexts: Any) -> list[tuple[str, str]]:
    pairs = as_list(questions, "questions"), as_list(contexts, "contexts")
    for name, texts in zip(("question", "context"), pairs):
        for n, text in enumerate(texts):
            if not isinstance(text, str):
                raise BadInputError(f"{name} {n} must be a string, not {type(text).__name__}")
    first, second = pairs
    if isinstance(questions, str):
        first = first * len(second)
    elif isinstance(contexts, str):
        second = second * len(first)
    if len(first) != len(second):
        raise BadInputError(
            f"there are {len(first)} questions and {len(second)} contexts: pass as many of both, or a single string"
        )
    return list(zip(first, second))
