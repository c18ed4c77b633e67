"""Classification: texts, or pairs of texts, in; labels with scores out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from os import PathLike
from typing import Any, Literal, Unpack, cast, get_args, overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nativebert.checks import at_least
from nativebert.engine import where
from nativebert.errors import BadInputError, RefusedError
from nativebert.hub import Snapshot
from nativebert.nn.model import Model
from nativebert.tasks.base import Task
from nativebert.tasks.call import Call, as_list
from nativebert.tasks.options import CallOptions, ReportOptions, TaskOptions
from nativebert.tasks.results import Label, Report, Results
from nativebert.tasks.scores import Scores, sigmoid, softmax
from nativebert.tasks.windows import of_pairs, of_texts

Problem = Literal["single", "multi", "regression"]
_PROBLEMS: dict[str, Problem] = {
    "single_label_classification": "single", "multi_label_classification": "multi", "regression": "regression",
}  # fmt: skip


class Classifier(Task):
    """Labels of texts, or of pairs of texts, from a sequence-classification model.

    Args:
        model: a folder, a Hub id, a :class:`~nativebert.hub.Snapshot`, or a loaded model with the head ``"classify"``.
        combine: how a text's score of a label follows from those of its windows: ``"mean"``, each window counting the same, or ``"max"``,
            the highest: "somewhere in the text". Scores of exclusive labels add up to more than 1 under ``"max"``.
        problem: what :attr:`problem` says, in place of what the model's config says.
        **options: see :class:`~nativebert.tasks.options.TaskOptions`. Of a pair, ``too_long="truncate"`` takes tokens from the longer text
            until both are equally long, and ``"window"`` slides over the second text.

    Attributes:
        combine: as above.
        labels: names of the classes, from ``id2label``; ``LABEL_0``, ``LABEL_1``, ... where the config names none.
        problem: ``"single"``: exactly one label holds, and scores are a softmax; ``"multi"``: each label holds or not, and each score is a
            sigmoid; ``"regression"``: the raw outputs. From ``problem_type``; where that is absent, ``"multi"`` for one output and
            ``"single"`` for several, as transformers does.

    Raises:
        NativeBertError: one of its kinds, for a model that cannot be had, is not understood, or has no classifier.
    """

    head = "classify"

    def __init__(
        self,
        model: str | PathLike[str] | Snapshot | Model,
        *,
        combine: str = "mean",
        problem: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        if combine not in ("mean", "max"):
            raise BadInputError(f"combine must be 'mean' or 'max', not {combine!r}")
        chosen = _problem(problem)
        super().__init__(model, **options)
        self.combine, self.labels = combine, self.encoder.labels
        usual: Problem = "multi" if len(self.labels) == 1 else "single"
        self.problem = chosen or _PROBLEMS.get(self.encoder.problem_type, usual)
        if self.problem == "single" and len(self.labels) == 1:
            raise RefusedError(
                f"{self.reference} has one label, which as the only one of its kind would score 1 for every text: "
                "pass problem='multi' for how likely it is, or 'regression' for the raw output"
            )

    def __repr__(self) -> str:
        names = ", ".join(self.labels[:5]) + (", ..." if len(self.labels) > 5 else "")
        return f"Classifier({self.reference!r}, {self.problem}: {names}; max_tokens={self.max_tokens}, {where(self.device)}, {self.precision})"

    @overload
    def __call__(  # type: ignore[overload-overlap]  # 1 is a whole number, too
        self,
        texts: Iterable[str] | Iterable[tuple[str, str]],
        *,
        top_k: Literal[1] = 1,
        threshold: None = None,
        problem: Problem | None = None,
        return_report: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> Results[Label]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # 1 is a whole number, too
        self,
        texts: Iterable[str] | Iterable[tuple[str, str]],
        *,
        top_k: Literal[1] = 1,
        threshold: None = None,
        problem: Problem | None = None,
        return_report: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[Results[Label], Report]: ...
    @overload
    def __call__(
        self,
        texts: Iterable[str] | Iterable[tuple[str, str]],
        *,
        top_k: int | None = 1,
        threshold: float,
        problem: Problem | None = None,
        return_report: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> Results[list[Label]]: ...
    @overload
    def __call__(
        self,
        texts: Iterable[str] | Iterable[tuple[str, str]],
        *,
        top_k: int | None = 1,
        threshold: float,
        problem: Problem | None = None,
        return_report: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[Results[list[Label]], Report]: ...
    @overload
    def __call__(
        self,
        texts: Iterable[str] | Iterable[tuple[str, str]],
        *,
        top_k: int | None,
        threshold: float | None = None,
        problem: Problem | None = None,
        return_report: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> Results[list[Label]]: ...
    @overload
    def __call__(
        self,
        texts: Iterable[str] | Iterable[tuple[str, str]],
        *,
        top_k: int | None,
        threshold: float | None = None,
        problem: Problem | None = None,
        return_report: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[Results[list[Label]], Report]: ...
    def __call__(
        self,
        texts: Iterable[str] | Iterable[tuple[str, str]],
        *,
        top_k: int | None = 1,
        threshold: float | None = None,
        problem: str | None = None,
        **options: Unpack[ReportOptions],
    ) -> Any:
        """Labels of texts, best first.

        Args:
            texts: a list (tuple, array, series, iterator) of strings, or of pairs ``(text, text)``; a single string is taken as a list of one.
            top_k: how many labels of each text; None for all.
            threshold: give all labels that score at least this, however many they are, in place of the ``top_k`` best.
            problem: in place of :attr:`problem`.
            **options: see :class:`~nativebert.tasks.options.CallOptions`.

        Returns:
            For each text, in order: ``{"label": str, "score": float}`` where ``top_k`` is 1, else a list of them, best first; of equal
            scores, the label that the model has first. The scores are those of :meth:`scores`.

        Raises:
            BadInputError: something that is neither a string nor a pair of them, a ``top_k`` below 1, or a ``threshold`` that is not a number.
            TooLongError: a text is longer than ``max_tokens`` and ``too_long="error"``; or, of a pair in windows, the first text leaves no room.
        """
        top_k = checked_top_k(top_k)
        if threshold is not None and not (isinstance(threshold, (int, float, np.number)) and threshold == threshold):
            raise BadInputError(f"threshold must be a number, not {threshold!r}")
        scores, call = self._scores(texts, problem, options)
        results: list[Any] = best_labels(scores, self.labels, top_k if threshold is None else None)
        if threshold is not None:
            results = [[one for one in best if one["score"] >= threshold] for best in results]
        elif top_k == 1:
            results = [best[0] for best in results]
        one = {"label": "", "score": 0.0}
        return call.results(results, one if threshold is None and top_k == 1 else [one])

    @overload
    def scores(
        self,
        texts: Iterable[str] | Iterable[tuple[str, str]],
        *,
        problem: Problem | None = None,
        return_report: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> Scores: ...
    @overload
    def scores(
        self,
        texts: Iterable[str] | Iterable[tuple[str, str]],
        *,
        problem: Problem | None = None,
        return_report: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[Scores, Report]: ...
    def scores(
        self, texts: Iterable[str] | Iterable[tuple[str, str]], *, problem: str | None = None, **options: Unpack[ReportOptions]
    ) -> Any:
        """The score of every label, as an array: probabilities, or the raw outputs of a regression.

        Args:
            texts, problem, **options: as for a call.

        Returns:
            float32 ``(n, C)``, columns in the order of :attr:`labels`.

        Raises:
            BadInputError, TooLongError: as a call.
        """
        scores, call = self._scores(texts, problem, options)
        return call.returned(scores)

    def _scores(self, texts: Any, problem: str | None, options: ReportOptions) -> tuple[Scores, Call]:
        items, problem = as_list(texts), _problem(problem) or self.problem
        scores_of: Callable[[Tensor], Scores] = {"single": softmax, "multi": sigmoid}.get(problem, Tensor.numpy)
        out = np.empty((len(items), len(self.labels)), np.float32)
        single = not items or isinstance(items[0], str)
        with Call(self, items, options) as call:
            for chunk in call.chunks():
                sequences = of_texts(chunk, chunk.items) if single else of_pairs(chunk)
                scores = scores_of(self._logits(sequences, chunk))
                out[chunk.rows] = over_windows(scores, sequences.starts, self.combine)
        return out, call


def _problem(problem: str | None) -> Problem | None:
    if problem is not None and problem not in get_args(Problem):
        raise BadInputError(f"problem must be one of {', '.join(map(repr, get_args(Problem)))}, not {problem!r}")
    return cast(Problem, problem)


def checked_top_k(top_k: Any) -> int | None:
    """Validated number of labels to return, or None for all."""
    return None if top_k is None else at_least(1, "top_k", top_k, ", or None for all labels")


def over_windows(scores: Scores, starts: NDArray[np.int64], combine: str) -> Scores:
    """Scores of texts from those of their windows.

    Args:
        scores: ``(windows, C)``.
        starts: the first window of each text, ``(texts,)``.
        combine: ``"mean"`` or ``"max"``.

    Returns:
        float32 ``(texts, C)``.
    """
    if len(starts) == len(scores):
        return scores
    if combine == "max":
        return cast(Scores, np.maximum.reduceat(scores, starts))
    counts = np.diff(starts, append=len(scores))
    return cast(Scores, (np.add.reduceat(scores.astype(np.float64), starts) / counts[:, None]).astype(np.float32))


def best_labels(scores: Scores, labels: tuple[str, ...], top_k: int | None) -> list[list[dict[str, Any]]]:
    """The ``top_k`` labels of each row of scores as ``{"label", "score"}``, best first; of equal scores, the first label."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    values = np.take_along_axis(scores, order, axis=1)
    return [
        [{"label": labels[n], "score": score} for n, score in zip(*row)]
        for row in zip(order.tolist(), values.tolist(), strict=True)
    ]
