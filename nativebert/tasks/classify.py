"""Classification: texts, or pairs of texts, in; labels with scores out."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nativebert.checks import at_least
from nativebert.errors import BadInputError, RefusedError
from nativebert.hub import Snapshot
from nativebert.tasks.base import Call, Scores, Task, listed, sigmoid, softmax
from nativebert.tasks.results import Report, Results

if TYPE_CHECKING:
    from nativebert.nn.model import Model

Problem = Literal["single", "multi", "regression"]
_PROBLEMS: dict[str, Problem] = {
    "single_label_classification": "single", "multi_label_classification": "multi", "regression": "regression",
}  # fmt: skip


class Classifier(Task):
    """Labels of texts, or of pairs of texts, from a sequence-classification model.

    Args:
        model: a folder, a Hub id, a :class:`~nativebert.hub.Snapshot`, or a loaded model with the head ``"classify"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        precision: ``"float32"``, ``"bfloat16"``, ``"float16"`` or, on the CPU, ``"int8"``: of the encoder. Logits and scores are float32 always.
        batch_tokens: most tokens in one batch; None chooses by device. It changes the speed, not the result.
        too_long: what happens to a text of more tokens than ``max_tokens``: ``"truncate"`` cuts its end (of a pair: takes from the longer
            text until both are equally long), with one warning per call that counts them; ``"window"`` reads all of it in overlapping
            windows (of a pair: over the second text); ``"error"`` raises.
        combine: how a text's score of a label follows from those of its windows: ``"mean"``, each window counting the same, or ``"max"``,
            the highest: "somewhere in the text". Scores of exclusive labels add up to more than 1 under ``"max"``.
        max_tokens: most tokens of a text or pair, special tokens included; None for what the model's files say.
        stride: tokens that neighbouring windows share.
        problem: what :attr:`problem` says, in place of what the model's config says.
        revision, offline, token: as of :func:`nativebert.load`.

    Attributes:
        labels: names of the classes, from ``id2label``; ``LABEL_0``, ``LABEL_1``, ... where the config names none.
        problem: ``"single"``: exactly one label holds, and scores are a softmax; ``"multi"``: each label holds or not, and each score is a
            sigmoid; ``"regression"``: the raw outputs. From ``problem_type``; where that is absent, ``"multi"`` for one output and
            ``"single"`` for several, as transformers does.

    Raises:
        NativeBertError: one of its kinds, for a model that cannot be had, is not understood, or has no classifier.
    """

    def __init__(
        self,
        model: str | PathLike[str] | Snapshot | Model,
        *,
        device: str = "auto",
        precision: str = "float32",
        batch_tokens: int | None = None,
        too_long: str = "truncate",
        combine: str = "mean",
        max_tokens: int | None = None,
        stride: int = 64,
        problem: str | None = None,
        revision: str | None = None,
        offline: bool | None = None,
        token: str | None = None,
    ) -> None:
        if combine not in ("mean", "max"):
            raise BadInputError(f"combine must be 'mean' or 'max', not {combine!r}")
        if problem is not None and problem not in get_args(Problem):
            raise BadInputError(f"problem must be one of {', '.join(map(repr, get_args(Problem)))}, not {problem!r}")
        super().__init__(
            model, head="classify", device=device, precision=precision, batch_tokens=batch_tokens, too_long=too_long,
            max_tokens=max_tokens, stride=stride, revision=revision, offline=offline, token=token,
        )  # fmt: skip
        self.combine, self.labels = combine, self.encoder.labels
        usual: Problem = "multi" if len(self.labels) == 1 else "single"
        self.problem = cast(Problem, problem) if problem else _PROBLEMS.get(self.encoder.problem_type, usual)
        if self.problem == "single" and len(self.labels) == 1:
            raise RefusedError(
                f"{self.reference} has one label, which as the only one of its kind would score 1 for every text: "
                "pass problem='multi' for how likely it is, or 'regression' for the raw output"
            )

    def __repr__(self) -> str:
        names = ", ".join(self.labels[:5]) + (", ..." if len(self.labels) > 5 else "")
        return f"Classifier({self.reference!r}, {self.problem}: {names}; max_tokens={self.max_tokens}, {self.device}, {self.precision})"

    def __call__(
        self,
        texts: Iterable[str] | Iterable[tuple[str, str]],
        *,
        top_k: int | None = 1,
        threshold: float | None = None,
        return_report: bool = False,
        progress: bool | None = None,
    ) -> Any:
        """Labels of texts, best first.

        Args:
            texts: a list (tuple, array, series, iterator) of strings, or of pairs ``(text, text)``; a single string is taken as a list of one.
            top_k: how many labels of each text; None for all.
            threshold: give all labels that score at least this, however many they are, in place of the ``top_k`` best.
            return_report: return ``(results, Report)``.
            progress: show a progress bar; None shows one on a terminal for work that takes more than two seconds.

        Returns:
            For each text, in order: ``{"label": str, "score": float}`` where ``top_k`` is 1, else a list of them, best first; of equal
            scores, the label that the model has first. The scores are those of :meth:`scores`.

        Raises:
            BadInputError: something that is neither a string nor a pair of them, a ``top_k`` below 1, or a ``threshold`` that is no number.
            TooLongError: a text is longer than ``max_tokens`` and ``too_long="error"``; or, of a pair in windows, the first text leaves no room.
        """
        top_k = labels_asked(top_k)
        if threshold is not None and not (isinstance(threshold, (int, float, np.number)) and threshold == threshold):
            raise BadInputError(f"threshold must be a number, not {threshold!r}")
        scores, report = self._scores(texts, progress)
        found: list[Any]
        if threshold is not None:
            found = [
                [one for one in best if one["score"] >= threshold]
                for best in best_labels(scores, self.labels, len(self.labels))
            ]
        else:
            found = best_labels(scores, self.labels, top_k)
            if top_k == 1:
                found = [best[0] for best in found]
        one = {"label": "", "score": 0.0}
        results = Results(found, report, one if threshold is None and top_k == 1 else [one])
        return (results, report) if return_report else results

    def scores(
        self,
        texts: Iterable[str] | Iterable[tuple[str, str]],
        *,
        return_report: bool = False,
        progress: bool | None = None,
    ) -> Any:
        """The score of every label, as an array: probabilities, or the raw outputs of a regression.

        Args:
            texts, return_report, progress: as for a call.

        Returns:
            float32 ``(n, C)``, columns in the order of :attr:`labels`.

        Raises:
            BadInputError, TooLongError: as a call.
        """
        scores, report = self._scores(texts, progress)
        return (scores, report) if return_report else scores

    def _scores(self, texts: Any, progress: bool | None) -> tuple[Scores, Report]:
        items = listed(texts)
        out = np.empty((len(items), len(self.labels)), np.float32)
        fit = self._fit_texts if not items or isinstance(items[0], str) else self._fit_pairs
        with Call(self, items, progress) as call:
            for here in call.chunks():
                pieces = fit(items[here], here, call)
                out[here] = over_windows(self._apply(self._logits(pieces, here, call)), pieces.starts, self.combine)
        return out, call.report()

    def _apply(self, logits: Tensor) -> Scores:
        if self.problem == "single":
            return softmax(logits)
        return sigmoid(logits) if self.problem == "multi" else logits.numpy()


def labels_asked(top_k: Any) -> int | None:
    """How many labels to give, or None for all; anything else is refused."""
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
