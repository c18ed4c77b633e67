"""Zero-shot classification: labels that the model was never trained on, each put to a model of entailment as a sentence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nativebert.checks import whole
from nativebert.errors import BadInputError, RefusedError
from nativebert.hub import Snapshot
from nativebert.tasks.base import Call, Pieces, Scores, Task, listed, singles, softmax
from nativebert.tasks.classify import over_windows
from nativebert.tasks.results import Results
from nativebert.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from nativebert.nn.model import Model


class ZeroShot(Task):
    """How well labels of your own fit texts (Yin et al. 2019, arXiv:1909.00161).

    The model is one of natural language inference: it reads a text together with "This example is <label>." and says whether the one
    entails the other.

    Args:
        model: a folder, a Hub id, a :class:`~nativebert.hub.Snapshot`, or a loaded model with the head ``"classify"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        precision: ``"float32"``, ``"bfloat16"``, ``"float16"`` or, on the CPU, ``"int8"``: of the encoder. Logits and scores are float32 always.
        batch_tokens: most tokens in one batch; None chooses by device. It changes the speed, not the result.
        too_long: what happens to a text that, with a label's sentence, has more tokens than ``max_tokens``: ``"truncate"`` cuts the end of
            the text, never the label, with one warning per call that counts them; ``"window"`` reads all of it in overlapping windows,
            the same ones for every label, and takes the mean of the windows' scores; ``"error"`` raises.
        max_tokens: most tokens of a text with a label's sentence, special tokens included; None for what the model's files say.
        stride: tokens that neighbouring windows share.
        entailment: the model's output for "entailment", counted from 0; None for the one whose name in the config begins with "entail".
        contradiction: its output for "contradiction"; None for the one whose name begins with "contradict", or, of two outputs, the
            other one.
        revision, offline, token: as of :func:`nativebert.load`.

    Raises:
        RefusedError: the config does not say which output is entailment, and ``entailment`` was not given.
        NativeBertError: one of its other kinds, for a model that cannot be had, is not understood, or has no classifier.
    """

    def __init__(
        self,
        model: str | PathLike[str] | Snapshot | Model,
        *,
        device: str = "auto",
        precision: str = "float32",
        batch_tokens: int | None = None,
        too_long: str = "truncate",
        max_tokens: int | None = None,
        stride: int = 64,
        entailment: int | None = None,
        contradiction: int | None = None,
        revision: str | None = None,
        offline: bool | None = None,
        token: str | None = None,
    ) -> None:
        super().__init__(
            model, head="classify", device=device, precision=precision, batch_tokens=batch_tokens, too_long=too_long,
            max_tokens=max_tokens, stride=stride, revision=revision, offline=offline, token=token,
        )  # fmt: skip
        entails = self._output("entailment", entailment)
        if entails is None:
            raise RefusedError(
                f"{self._outputs()}: none is named 'entailment'. A model of natural language inference is needed; if this is one, pass "
                "entailment= and contradiction=, its outputs counted from 0"
            )
        self.entailment, self.contradiction = entails, self._output("contradiction", contradiction)
        if self.contradiction is None and len(self.encoder.labels) == 2:
            self.contradiction = 1 - entails
        if self.contradiction == entails:
            raise BadInputError(f"entailment and contradiction are both output {entails}: they must be two")
        self._frame = PairFrame.of(self.tokenizer)

    def __repr__(self) -> str:
        return f"ZeroShot({self.reference!r}, max_tokens={self.max_tokens}, {self.device}, {self.precision})"

    def __call__(
        self,
        texts: Iterable[str],
        labels: Iterable[str] | str,
        *,
        multi_label: bool = False,
        hypothesis: str = "This example is {}.",
        return_report: bool = False,
        progress: bool | None = None,
    ) -> Any:
        """How well each label fits each text.

        Args:
            texts: a list (tuple, array, series, iterator) of strings; a single string is taken as a list of one.
            labels: the labels; a single string is split at its commas.
            multi_label: False where exactly one label is right: scores are a softmax over the labels. True where several or none may be:
                each is scored by itself, entailment against contradiction. So is a label that is the only one.
            hypothesis: the sentence that is put to the model, with ``{}`` in the place of the label.
            return_report: return ``(results, Report)``. Tokens of a text are counted once, together with the longest label.
            progress: show a progress bar; None shows one on a terminal for work that takes more than two seconds.

        Returns:
            For each text, in order: ``{"text": str, "labels": list of str, "scores": list of float}``, best label first; of equal scores,
            the one that was given first.

        Raises:
            BadInputError: a text that is no string; no labels, the same one twice, or one that leaves no room for text; a hypothesis without ``{}``.
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
        needed = len(self._frame) + len(hypotheses[longest])
        if needed >= self.max_tokens:
            raise BadInputError(
                f"the label {names[longest]!r} in its sentence takes {needed} of {self.max_tokens} tokens and leaves no room for text: shorten it"
            )
        items = listed(texts)
        found: list[dict[str, Any]] = []
        with Call(self, items, progress, copies=len(names)) as call:
            for here in call.chunks():
                chunk = singles(items[here], here.start)
                # every text is tokenised once, whatever the number of labels
                premises = self.tokenizer.ids_batch(chunk, special_tokens=False, first=here.start).ids
                scores = self._scores(premises, hypotheses, several, here, call)
                order = np.argsort(-scores, axis=1, kind="stable")
                values = np.take_along_axis(scores, order, axis=1)
                found += [
                    {"text": text, "labels": [names[n] for n in best], "scores": row}
                    for text, best, row in zip(chunk, order.tolist(), values.tolist(), strict=True)
                ]
        results = Results(found, call.report(), {"text": "", "labels": [""], "scores": [0.0]})
        return (results, results.report) if return_report else results

    # -- the steps of a call

    def _scores(self, premises: list[list[int]], hypotheses: list[list[int]], several: bool, here: slice, call: Call) -> Scores:
        """Scores ``(texts, labels)`` of texts and labels as token ids."""
        frame, longest = self._frame, max(hypotheses, key=len)
        start = len(frame.before.ids)
        # errors and counts are those of each text with the label that leaves it the least room
        ids = [frame.ids(premise, longest) for premise in premises]
        fitted = self._fit(ids, None, lambda n: (start, start + len(premises[n])), here, call)
        logits = self._logits(self._pair(fitted, premises, hypotheses), here, call)
        logits = logits.view(len(fitted.ids), len(hypotheses), -1)
        if several:
            scores = softmax(logits[..., [self.contradiction, self.entailment]])[..., 1]
        else:
            scores = softmax(logits[..., self.entailment])
        return over_windows(scores, fitted.starts, "mean")

    def _pair(self, fitted: Pieces, premises: list[list[int]], hypotheses: list[list[int]]) -> Pieces:
        """What is read of each text, with every label; labels run fastest."""
        frame = self._frame
        pieces = Pieces([], [] if self._segments and frame.segmented else None, [], [], [])
        for n, window in zip(fitted.text, fitted.windows, strict=True):
            for hypothesis in hypotheses:
                if self.too_long == "window":  # the same windows for every label
                    premise = premises[n][window.start : window.end]
                else:  # as much as this label leaves room for, as in the reference
                    premise = premises[n][: self.max_tokens - len(frame) - len(hypothesis)]
                pieces.ids.append(frame.ids(premise, hypothesis))
                pieces.text.append(n)
                if pieces.segments is not None:
                    pieces.segments.append(frame.segments(premise, hypothesis))
        return pieces

    def _output(self, name: str, given: int | None) -> int | None:
        """The output that is named so: the caller's word first, then the config's ``label2id`` and ``id2label``."""
        begin, count = {"entailment": "entail", "contradiction": "contradict"}[name], len(self.encoder.labels)
        if given is not None:
            output = whole(given)
            if output is None or not 0 <= output < count:
                raise BadInputError(f"{name} must be an output between 0 and {count - 1}, not {given!r}")
            return output
        by_name = self.encoder.source.get("label2id")
        found = {n for label, n in by_name.items() if label.lower().startswith(begin)} if isinstance(by_name, dict) else set()
        found |= {n for n, label in enumerate(self.encoder.labels) if label.lower().startswith(begin)}
        if len(found) > 1 or not all(type(n) is int and 0 <= n < count for n in found):
            raise RefusedError(
                f"{self._outputs()}, label2id {by_name}: these do not agree on which output is {name!r}; pass {name}=, counted from 0"
            )
        return found.pop() if found else None

    def _outputs(self) -> str:
        return f"{self.reference} has the outputs {', '.join(map(repr, self.encoder.labels))}"


class Part(NamedTuple):
    """Special tokens that stand together: their ids and segments."""

    ids: list[int]
    types: list[int]


@dataclass(frozen=True)
class PairFrame:
    """What the tokenizer's template puts around and between two texts, so that a pair can be made of texts tokenised already.

    Attributes:
        before, between, after: the special tokens.
        first, second: segments of the two texts.
    """

    before: Part
    between: Part
    after: Part
    first: int
    second: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> PairFrame:
        e = tokenizer.encode("a", "a")
        a, b = ([place for place, text in enumerate(e.sequence_ids) if text == which] for which in (0, 1))
        edges = (slice(0, a[0]), slice(a[-1] + 1, b[0]), slice(b[-1] + 1, None))
        before, between, after = (Part(e.ids[at], e.type_ids[at]) for at in edges)
        return cls(before, between, after, e.type_ids[a[0]], e.type_ids[b[0]])

    def __len__(self) -> int:
        return len(self.before.ids) + len(self.between.ids) + len(self.after.ids)

    @property
    def segmented(self) -> bool:
        """Is any token of a pair in another segment than 0?"""
        return any(self.segments([0], [0]))

    def ids(self, a: list[int], b: list[int]) -> list[int]:
        """The ids of a pair."""
        return [*self.before.ids, *a, *self.between.ids, *b, *self.after.ids]

    def segments(self, a: list[int], b: list[int]) -> list[int]:
        """Their segments."""
        return [*self.before.types, *[self.first] * len(a), *self.between.types, *[self.second] * len(b), *self.after.types]


def _labels(labels: Any) -> list[str]:
    names = [part.strip() for part in labels.split(",")] if isinstance(labels, str) else listed(labels, "labels")
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
