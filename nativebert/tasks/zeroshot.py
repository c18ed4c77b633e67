"""Zero-shot classification: labels that the model was never trained on, each put to a model of entailment as a sentence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal, NamedTuple, Unpack, overload

import numpy as np

from nativebert.checks import whole
from nativebert.engine import where
from nativebert.errors import BadInputError, RefusedError
from nativebert.hub import Snapshot
from nativebert.nn.model import Model
from nativebert.nn.packed import Ragged
from nativebert.tasks.base import Task
from nativebert.tasks.call import Call, Chunk, as_list, as_single_items
from nativebert.tasks.classify import over_windows
from nativebert.tasks.options import CallOptions, ReportOptions, TaskOptions
from nativebert.tasks.results import Labels, Report, Results
from nativebert.tasks.scores import Scores, softmax
from nativebert.tasks.windows import Windows, to_windows
from nativebert.text.tokenizer import Tokenizer


class ZeroShot(Task):
    """Zero-shot classification with labels of your own (Yin et al. 2019, arXiv:1909.00161).

    The model is one of natural language inference: it reads a text together with "This example is <label>." and says whether the one
    entails the other.

    Args:
        model: a folder, a Hub id, a :class:`~nativebert.hub.Snapshot`, or a loaded model with the head ``"classify"``.
        entailment: the model's output for "entailment", counted from 0; None for the one whose name in the config begins with "entail".
        contradiction: its output for "contradiction"; None for the one whose name begins with "contradict", or, of two outputs, the
            other one.
        **options: see :class:`~nativebert.tasks.options.TaskOptions`; ``max_tokens`` is of a text with a label's sentence.
            ``too_long="truncate"`` cuts the end of the text, never the label; ``"window"`` reads all of it in overlapping windows, the same
            ones for every label, and takes the mean of the windows' scores.

    Raises:
        RefusedError: the config does not say which output is entailment, and ``entailment`` was not given.
        NativeBertError: one of its other kinds, for a model that cannot be had, is not understood, or has no classifier.
    """

    head = "classify"

    def __init__(
        self,
        model: str | PathLike[str] | Snapshot | Model,
        *,
        entailment: int | None = None,
        contradiction: int | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(model, **options)
        entails = self._output("entailment", entailment)
        if entails is None:
            raise RefusedError(
                f"{self._outputs()}: none is named 'entailment'. A model of natural language inference is needed; if this is one, pass "
                "entailment= and contradiction=, its outputs counted from 0"
            )
        contradicts = self._output("contradiction", contradiction)
        if contradicts is None and len(self.encoder.labels) == 2:
            contradicts = 1 - entails
        if contradicts == entails:
            raise BadInputError(f"entailment and contradiction are both output {entails}: they must be two")
        self.entailment, self.contradiction = entails, contradicts
        self._frame = PairFrame.of(self.tokenizer)

    def __repr__(self) -> str:
        return f"ZeroShot({self.reference!r}, max_tokens={self.max_tokens}, {where(self.device)}, {self.precision})"

    @overload
    def __call__(
        self,
        texts: Iterable[str],
        labels: Iterable[str] | str,
        *,
        multi_label: bool = False,
        hypothesis: str = "This example is {}.",
        return_report: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> Results[Labels]: ...
    @overload
    def __call__(
        self,
        texts: Iterable[str],
        labels: Iterable[str] | str,
        *,
        multi_label: bool = False,
        hypothesis: str = "This example is {}.",
        return_report: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[Results[Labels], Report]: ...
    def __call__(
        self,
        texts: Iterable[str],
        labels: Iterable[str] | str,
        *,
        multi_label: bool = False,
        hypothesis: str = "This example is {}.",
        **options: Unpack[ReportOptions],
    ) -> Any:
        """Scores of each label for each text.

        Args:
            texts: a list (tuple, array, series, iterator) of strings; a single string is taken as a list of one.
            labels: the labels; a single string is split at its commas.
            multi_label: False where exactly one label is right: scores are a softmax over the labels. True where several or none may be:
                each is scored by itself, entailment against contradiction. So is a label that is the only one.
            hypothesis: the sentence that is put to the model, with ``{}`` in the place of the label.
            **options: see :class:`~nativebert.tasks.options.CallOptions`. A report counts tokens of a text once, together with the longest
                label.

        Returns:
            For each text, in order: ``{"text": str, "labels": list of str, "scores": list of float}``, best label first; of equal scores,
            the one that was given first.

        Raises:
            BadInputError: a text that is not a string; no labels, the same one twice, or one that leaves no room for text; a hypothesis without ``{}``.
            RefusedError: ``multi_label``, or one label, and the config does not say which output is contradiction.
            TooLongError: a text is longer than ``max_tokens`` and ``too_long="error"``.
        """
        names = _labels(labels)
        several = multi_label or len(names) == 1
        if several and self.contradiction is None:
            raise RefusedError(
                f"{self._outputs()}: none is named 'contradiction', and labels by themselves are scored against it: "
                "pass contradiction= to ZeroShot, an output counted from 0"
            )
        sentences = _hypotheses(hypothesis, names)
        hypotheses = self.tokenizer.ids_batch(sentences, special_tokens=False).ids
        longest = max(range(len(names)), key=lambda n: len(hypotheses[n]))
        items = as_list(texts)
        results: list[dict[str, Any]] = []
        with Call(self, items, options, copies=len(names)) as call:
            needed, limit = len(self._frame) + len(hypotheses[longest]), call.options.max_tokens
            if needed >= limit:
                raise BadInputError(
                    f"the label {names[longest]!r} in its sentence takes {needed} of {limit} tokens and leaves no room for text: shorten it"
                )
            for chunk in call.chunks():
                single = as_single_items(chunk.items, chunk.start)
                # every text is tokenised once, whatever the number of labels
                premises = self.tokenizer.ids_batch(single, special_tokens=False, first=chunk.start).ids
                scores = self._scores(premises, hypotheses, several, chunk)
                order = np.argsort(-scores, axis=1, kind="stable")
                values = np.take_along_axis(scores, order, axis=1)
                results += [
                    {"text": text, "labels": [names[n] for n in best], "scores": row}
                    for text, best, row in zip(single, order.tolist(), values.tolist(), strict=True)
                ]
        return call.results(results, {"text": "", "labels": [""], "scores": [0.0]})

    # -- the steps of a call

    def _scores(self, premises: list[list[int]], hypotheses: list[list[int]], several: bool, chunk: Chunk) -> Scores:
        """Scores ``(texts, labels)`` of texts and labels as token ids."""
        frame, longest = self._frame, max(hypotheses, key=len)
        start = len(frame.prefix.ids)
        # errors and counts are those of each text with the label that leaves it the least room
        ids = Ragged.of([frame.ids(premise, longest) for premise in premises])
        ends = start + np.array([len(premise) for premise in premises])
        windows = to_windows(chunk, ids, None, lambda n: (start, ends[n]))
        logits = self._logits(self._pair(windows, premises, hypotheses, chunk), chunk)  # (windows * labels, C)
        logits = logits.view(len(windows), len(hypotheses), -1)
        if several:
            scores = softmax(logits[..., [self.contradiction, self.entailment]])[..., 1]
        else:
            scores = softmax(logits[..., self.entailment])
        return over_windows(scores, windows.starts, "mean")

    def _pair(self, windows: Windows, premises: list[list[int]], hypotheses: list[list[int]], chunk: Chunk) -> Windows:
        """Premise and hypothesis pairs of each text with every label; labels vary fastest."""
        frame, options = self._frame, chunk.call.options
        segmented = self.encoder.segments > 1 and frame.segmented
        ids, segments = [], []
        for n, span in zip(windows.text, windows.spans, strict=True):
            for hypothesis in hypotheses:
                if options.too_long == "window":  # the same windows for every label
                    premise = premises[n][span.start : span.end]
                else:  # as much as this label leaves room for, as in the reference
                    premise = premises[n][: options.max_tokens - len(frame) - len(hypothesis)]
                ids.append(frame.ids(premise, hypothesis))
                if segmented:
                    segments.append(frame.segments(premise, hypothesis))
        tokens, types = Ragged.of(ids), Ragged.of(segments) if segmented else None
        owners, bounds, prefix_lens = (
            np.repeat(of_window, len(hypotheses), axis=0) for of_window in (windows.owners, windows.bounds, windows.prefix_lens)
        )
        return Windows(tokens, types, owners, bounds, prefix_lens)

    def _output(self, name: str, index: int | None) -> int | None:
        """The output of that name: the caller's choice first, then the config's ``label2id`` and ``id2label``."""
        begin, count = {"entailment": "entail", "contradiction": "contradict"}[name], len(self.encoder.labels)
        if index is not None:
            output = whole(index)
            if output is None or not 0 <= output < count:
                raise BadInputError(f"{name} must be an output between 0 and {count - 1}, not {index!r}")
            return output
        ids = self.encoder.source.get("label2id")
        outputs = {n for label, n in ids.items() if label.lower().startswith(begin)} if isinstance(ids, dict) else set()
        outputs |= {n for n, label in enumerate(self.encoder.labels) if label.lower().startswith(begin)}
        if len(outputs) > 1 or not all(type(n) is int and 0 <= n < count for n in outputs):
            raise RefusedError(
                f"{self._outputs()}, label2id {ids}: these do not agree on which output is {name!r}; pass {name}=, counted from 0"
            )
        return outputs.pop() if outputs else None

    def _outputs(self) -> str:
        return f"{self.reference} has the outputs {', '.join(map(repr, self.encoder.labels))}"


class Part(NamedTuple):
    """Special tokens that stand together: their ids and segments."""

    ids: list[int]
    types: list[int]


@dataclass(frozen=True)
class PairFrame:
    """Special tokens that the tokenizer's template puts around and between two texts, to build pairs from tokenized texts.

    Attributes:
        prefix, separator, suffix: the special tokens.
        first, second: segments of the two texts.
    """

    prefix: Part
    separator: Part
    suffix: Part
    first: int
    second: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> PairFrame:
        e = tokenizer.encode("a", "a")
        a, b = ([i for i, text in enumerate(e.sequence_ids) if text == which] for which in (0, 1))
        edges = (slice(0, a[0]), slice(a[-1] + 1, b[0]), slice(b[-1] + 1, None))
        prefix, separator, suffix = (Part(e.ids[edge], e.type_ids[edge]) for edge in edges)
        return cls(prefix, separator, suffix, e.type_ids[a[0]], e.type_ids[b[0]])

    def __len__(self) -> int:
        return len(self.prefix.ids) + len(self.separator.ids) + len(self.suffix.ids)

    @property
    def segmented(self) -> bool:
        """Whether any token of a pair has a segment other than 0."""
        return any(self.segments([0], [0]))

    def ids(self, a: list[int], b: list[int]) -> list[int]:
        """The ids of a pair."""
        return [*self.prefix.ids, *a, *self.separator.ids, *b, *self.suffix.ids]

    def segments(self, a: list[int], b: list[int]) -> list[int]:
        """Their segments."""
        return [*self.prefix.types, *[self.first] * len(a), *self.separator.types, *[self.second] * len(b), *self.suffix.types]


def _labels(labels: Any) -> list[str]:
    names = [part.strip() for part in labels.split(",")] if isinstance(labels, str) else as_list(labels, "labels")
    if isinstance(labels, str):
        names = [name for name in names if name]  # a comma too many
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise BadInputError(f"a label must be a string that is not empty, not {name!r}")
    if not names:
        raise BadInputError("no labels: give at least one")
    if twice := next((name for n, name in enumerate(names) if name in names[:n]), None):
        raise BadInputError(f"the label {twice!r} is given twice: each copy would take half of its score")
    return list(map(str, names))


def _hypotheses(hypothesis: str, names: list[str]) -> list[str]:
    try:
        if isinstance(hypothesis, str) and hypothesis.format("a") != hypothesis.format("b"):
            return [hypothesis.format(name) for name in names]
    except (LookupError, ValueError, AttributeError):
        pass
    raise BadInputError(f"hypothesis must be a sentence with {{}} in the place of the label, not {hypothesis!r}")
