"""Quality of a precision: the same texts through a model in two precisions, and the difference of the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nativebert.errors import BadInputError
from nativebert.loading import open_snapshot
from nativebert.parity.check import TEXTS
from nativebert.tasks.classify import Classifier
from nativebert.tasks.embed import Embedder, Vectors

Pair = tuple[str, str, float]


@dataclass(frozen=True)
class Quality:
    """The result of :func:`check`; what does not apply to the model is None.

    Attributes:
        texts: how many texts were compared.
        cosine_mean, cosine_min: cosine between the two vectors of each text, in float64.
        ranks: Spearman's correlation between the similarities of all pairs of texts, once by each model's vectors; None for one text.
        pairs: how many pairs with a score were given.
        spearman: Spearman's correlation between those scores and the cosine of each pair's vectors, for the reference and for the
            other, times 100.
        labels: share of the texts with the same label.
        scores: the largest absolute difference of a label's score.
        facts: models, precisions, device.
    """

    texts: int
    cosine_mean: float | None
    cosine_min: float | None
    ranks: float | None
    pairs: int
    spearman: tuple[float, float] | None
    labels: float | None
    scores: float | None
    facts: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return asdict(self)


def check(
    model: str | PathLike[str],
    *,
    against: str | PathLike[str] | None = None,
    precision: str = "int8",
    device: str = "cpu",
    texts: Sequence[str] | None = None,
    pairs: Sequence[Pair] | None = None,
    revision: str | None = None,
    offline: bool | None = None,
) -> Quality:
    """Compare a model in some precision with a reference in float32.

    Args:
        model: a folder, or a name on the Hub. A classifier is compared by its labels, every other model by its sentence vectors.
        against: the reference; the same model unless said otherwise. A folder written with ``precision="int8"`` is compared with what
            it was made from.
        precision: of ``model``.
        device: of both.
        texts: what to run; 32 built-in ones by default.
        pairs: pairs of texts with a score of how similar they are (of people, as in STS-B): is the order still the same?
        revision, offline: as of :func:`nativebert.load`.

    Raises:
        BadInputError: pairs for a classifier, or fewer than three, or scores that are all the same.
        NativeBertError: one of its kinds, for a model that cannot be had.
    """
    items = list(texts or TEXTS)
    kind: Any = Classifier if _classifies(model, revision, offline) else Embedder
    if kind is Classifier and pairs:
        raise BadInputError("this model is a classifier: pairs with scores require an embedding model")
    reference = kind(model if against is None else against, device=device, revision=revision, offline=offline)
    other = kind(model, device=device, precision=precision, revision=revision, offline=offline)
    facts = {
        "model": str(model),
        "precision": f"{precision} on {other.device}",
        "against": f"{reference.reference} in float32",
        "texts": f"{len(items):,}",
    }
    if kind is Classifier:
        return _of_labels(reference, other, items, facts)
    a, b = reference(items), other(items)
    cosine = _cosine(a, b)
    spearman = None
    if pairs:
        if len(pairs) < 3 or len({score for _, _, score in pairs}) < 2:
            raise BadInputError("at least three pairs with different scores are needed for a rank correlation")
        facts["pairs"] = f"{len(pairs):,}"
        scores = np.array([score for _, _, score in pairs])
        spearman = (
            100 * rank_correlation(_similar(reference, pairs), scores),
            100 * rank_correlation(_similar(other, pairs), scores),
        )
    return Quality(
        len(items), float(cosine.mean()), float(cosine.min()), _ranks(a, b), len(pairs or ()), spearman, None, None, facts
    )


def _classifies(model: str | PathLike[str], revision: str | None, offline: bool | None) -> bool:
    snapshot = open_snapshot(model, revision=revision, offline=offline)
    named = (snapshot.read_json("config.json") or {}).get("architectures")
    return isinstance(named, list) and any(str(name).endswith("ForSequenceClassification") for name in named)


def _of_labels(reference: Classifier, other: Classifier, items: list[str], facts: dict[str, str]) -> Quality:
    a, b = reference.scores(items), other.scores(items)
    same = float((a.argmax(1) == b.argmax(1)).mean())
    return Quality(len(items), None, None, None, 0, None, same, float(np.abs(a - b).max()), facts)


def _similar(embedder: Embedder, pairs: Sequence[Pair]) -> NDArray[np.float64]:
    return _cosine(embedder([one for one, _, _ in pairs]), embedder([two for _, two, _ in pairs]))


def _cosine(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    x, y = a.astype(np.float64), b.astype(np.float64)
    cosine: NDArray[np.float64] = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    return cosine


def _ranks(a: Vectors, b: Vectors, most: int = 1000) -> float | None:
    """Rank correlation of the similarities of all pairs, among the first texts."""
    if len(a) < 3:
        return None
    of_pairs = np.triu_indices(min(len(a), most), 1)
    x, y = ((v / np.linalg.norm(v, axis=1, keepdims=True))[:most] for v in (a, b))
    return rank_correlation((x @ x.T)[of_pairs], (y @ y.T)[of_pairs])


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Spearman's correlation: Pearson's of the ranks, where equal numbers share the mean of theirs."""
    return float(np.corrcoef(_rank(a), _rank(b))[0, 1])


def _rank(values: NDArray[Any]) -> NDArray[np.float64]:
    _, which, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(count) - (count - 1) / 2)[which]
    return ranks
