"""Nearest vectors and most similar pairs, exactly and in flat memory: scores are computed a block at a time, and only the best are kept.

Products are summed in float64 and the scores rounded to float32. That costs twice the time of float32, and is why equal vectors have
equal scores, and why neither scores nor order depend on where the blocks begin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

import nativebert.forking  # noqa: F401  (whoever computes with torch may be forked)
from nativebert.checks import at_least
from nativebert.errors import BadInputError

MEASURES = ("cosine", "dot", "euclidean", "manhattan")
BLOCK = 1024

_LOW = 0xFFFFFFFF  # the lower half of an int64


@torch.inference_mode()
def semantic_search(
    queries: ArrayLike | Tensor, corpus: ArrayLike | Tensor, *, top_k: int = 10, measure: str = "cosine", block: int = BLOCK
) -> list[list[dict[str, Any]]]:
    """The vectors of a corpus that are most similar to each query, all of them compared.

    Args:
        queries: ``(n, width)``, a numpy array or a torch tensor of any precision; a single vector counts as one row. Numbers are taken as
            float32.
        corpus: ``(m, width)``, as ``queries``; a memory-mapped array is read a block at a time. Work is done on the device where either is.
        top_k: how many to return for each query.
        measure: ``"cosine"``, ``"dot"``, ``"euclidean"`` or ``"manhattan"``. Of the last two the score is the negative distance.
        block: queries, and vectors of the corpus, that are compared at once. It changes speed and memory, not the result.

    Returns:
        For each query ``{"index": row of corpus, "score": float}``, best first; equal scores by index.

    Raises:
        BadInputError: wrong shapes, different widths, numbers that are not finite, an unknown measure, or ``top_k < 1``.
    """
    device = _device(queries, corpus)
    rows = _Rows.of("queries", queries, device, measure)
    known = _Rows.of("corpus", corpus, device, measure)
    if rows.width != known.width:
        raise BadInputError(f"queries have dimension {rows.width} and the corpus {known.width}: use vectors of the same model")
    top_k, block = at_least(1, "top_k", top_k), at_least(1, "block", block)
    hits: list[list[dict[str, Any]]] = []
    for start in range(0, rows.count, block):
        best = _best_of_corpus(rows.block(start, block), known, top_k, block)
        scores, indices = _read(best)
        hits += [[{"index": i, "score": s} for i, s in zip(*row)] for row in zip(indices.tolist(), scores.tolist())]
    return hits


@torch.inference_mode()
def paraphrase_mining(
    vectors: ArrayLike | Tensor,
    *,
    top_k: int | None = 100,
    max_pairs: int = 500_000,
    threshold: float | None = None,
    measure: str = "cosine",
    block: int = BLOCK,
) -> list[dict[str, Any]]:
    """The most similar pairs among vectors, each pair once.

    Args:
        vectors: ``(n, width)``, as of :func:`semantic_search`.
        top_k: a pair counts only if one of the two is among so many nearest of the other, which keeps a crowd of near copies from filling
            the list; None counts every pair, and takes half the time.
        max_pairs: how many to return. Memory grows with it, and not with ``n``.
        threshold: leave out pairs with a lower score.
        measure, block: as of :func:`semantic_search`.

    Returns:
        ``{"score": float, "first": row, "second": row}`` with ``first < second``, best first; equal scores by ``first``, then ``second``.

    Raises:
        BadInputError: as of :func:`semantic_search`.
    """
    rows = _Rows.of("vectors", vectors, _device(vectors), measure)
    max_pairs, block = at_least(1, "max_pairs", max_pairs), at_least(1, "block", block)
    top_k = None if top_k is None else at_least(1, "top_k", top_k, ", or None for all")
    if threshold is not None and not (isinstance(threshold, (int, float, np.number)) and threshold == threshold):
        raise BadInputError(f"threshold must be a number, not {threshold!r}")
    if rows.count < 2:
        return []
    best = _Pairs(max_pairs, -np.inf if threshold is None else threshold)
    for start in range(0, rows.count, block):
        queries = rows.block(start, block)
        if top_k is not None:
            nearest = _best_of_corpus(queries, rows, min(top_k, rows.count - 1), block, without=start)
            scores, others = _read(nearest)
            own = np.repeat(np.arange(start, start + len(others)), others.shape[1])
            best.add(scores.ravel(), own, others.ravel())
            continue
        for at in range(start, rows.count, block):
            table = _scores(queries, rows.block(at, block), measure).cpu().numpy()
            above = table >= best.floor
            first, second = np.nonzero(np.triu(above, 1) if at == start else above)
            best.add(table[first, second], first + start, second + at)
    best.settle()
    return [{"score": s, "first": p >> 32, "second": p & _LOW} for s, p in zip(best.score.tolist(), best.pair.tolist())]


@torch.inference_mode()
def pairwise_similarity(a: ArrayLike | Tensor, b: ArrayLike | Tensor, *, measure: str = "cosine") -> NDArray[np.float32]:
    """Similarity of each vector of ``a`` to the one of ``b`` in the same row, float32 ``(n,)``; larger is more similar.

    Args:
        a, b: ``(n, width)`` each, as of :func:`semantic_search`.
        measure: as of :func:`semantic_search`.

    Raises:
        BadInputError: as of :func:`semantic_search`, and different numbers of rows.
    """
    device = _device(a, b)
    left, right = _Rows.of("a", a, device, measure), _Rows.of("b", b, device, measure)
    if (left.count, left.width) != (right.count, right.width):
        raise BadInputError(
            f"a has {left.count} rows of {left.width} numbers and b {right.count} of {right.width}: they must be equal"
        )
    out = np.empty(left.count, np.float32)
    for start in range(0, left.count, BLOCK):
        x, y = left.block(start, BLOCK), right.block(start, BLOCK)
        if measure in ("cosine", "dot"):
            scores = (x * y).sum(1)
        else:
            scores = -torch.linalg.vector_norm(x - y, 2 if measure == "euclidean" else 1, dim=1)
        out[start : start + len(x)] = scores.cpu().numpy()
    return out


@torch.inference_mode()
def connected_groups(
    vectors: ArrayLike | Tensor, threshold: float, *, measure: str = "cosine", block: int = BLOCK
) -> NDArray[np.int64]:
    """Groups of vectors that are linked by pairs of at least a score: connected components, each pair compared.

    Args:
        vectors: ``(n, width)``, as of :func:`semantic_search`.
        threshold: the least score of a link.
        measure, block: as of :func:`semantic_search`. Memory does not grow with the number of pairs.

    Returns:
        For each vector the first row of its group, int64 ``(n,)``; its own row where it is linked to none before it.

    Raises:
        BadInputError: as of :func:`semantic_search`.
    """
    rows = _Rows.of("vectors", vectors, _device(vectors), measure)
    block = at_least(1, "block", block)
    if not (isinstance(threshold, (int, float, np.number)) and threshold == threshold):
        raise BadInputError(f"threshold must be a number, not {threshold!r}")
    first = np.arange(rows.count)

    def root(n: int) -> int:
        while first[n] != n:
            first[n] = first[first[n]]
            n = first[n]
        return n

    for start in range(0, rows.count, block):
        queries = rows.block(start, block)
        for at in range(start, rows.count, block):
            linked = _scores(queries, rows.block(at, block), measure).cpu().numpy() >= threshold
            one, other = np.nonzero(np.triu(linked, 1) if at == start else linked)
            # of many links between two groups, one joins them
            groups = np.unique(np.stack([first[one + start], first[other + at]], 1), axis=0)
            for a, b in groups[groups[:, 0] != groups[:, 1]].tolist():
                a, b = sorted((root(a), root(b)))
                first[b] = a
    return np.array([root(n) for n in range(rows.count)], np.int64)


@dataclass(frozen=True)
class _Rows:
    """Vectors wherever they are; a block of them at a time is brought to the device, in float64."""

    name: str
    source: Any
    device: torch.device
    measure: str
    count: int
    width: int

    @classmethod
    def of(cls, name: str, vectors: Any, device: torch.device, measure: str) -> _Rows:
        if measure not in MEASURES:
            raise BadInputError(f"measure must be one of {', '.join(MEASURES)}, not {measure!r}")
        if not isinstance(vectors, Tensor):
            try:
                vectors = np.asanyarray(vectors)
            except ValueError as error:
                raise BadInputError(f"{name} are not a numeric array: {error}") from None
        real = not vectors.is_complex() if isinstance(vectors, Tensor) else vectors.dtype.kind not in "bcOSUmM"
        if vectors.ndim not in (1, 2) or not vectors.shape[-1] or not real:
            raise BadInputError(
                f"{name} must be numeric with shape (n, dimension), not {vectors.dtype} of {tuple(vectors.shape)}"
            )
        vectors = vectors[None] if vectors.ndim == 1 else vectors
        return cls(name, vectors, device, measure, *vectors.shape)

    def block(self, start: int, size: int) -> Tensor:
        """``(up to size, width)``."""
        part = self.source[start : start + size]
        if not isinstance(part, Tensor):
            with np.errstate(over="ignore"):  # what float32 cannot hold is found below
                part = torch.from_numpy(np.array(part, np.float32))
        x = part.to(self.device, torch.float32).double()
        if not bool(x.isfinite().all()):
            row = start + int((~x.isfinite()).any(1).nonzero()[0])
            raise BadInputError(f"row {row} of {self.name} contains NaN or infinity: remove it, or check how it was computed")
        return F.normalize(x, dim=1) if self.measure == "cosine" else x


def _device(*sources: Any) -> torch.device:
    """The accelerator that any of them is on; else the CPU, as also for devices that know no float64."""
    devices = [x.device for x in sources if isinstance(x, Tensor) and x.device.type not in ("cpu", "mps")]
    return devices[-1] if devices else torch.device("cpu")


def _scores(a: Tensor, b: Tensor, measure: str) -> Tensor:
    """float64 ``(n, width)``, ``(m, width)`` -> float32 ``(n, m)``; larger is more similar."""
    if measure in ("cosine", "dot"):
        scores = a @ b.T
    else:  # not by a product of matrices, which loses what is near
        scores = -torch.cdist(a, b, 2.0 if measure == "euclidean" else 1.0, "donot_use_mm_for_euclid_dist")
    return scores.float() + 0.0  # no zero with a sign: keys take it for less than zero


def _best_of_corpus(queries: Tensor, corpus: _Rows, top_k: int, block: int, *, without: int | None = None) -> Tensor:
    """Keys of the best of the corpus for each query, best first, ``(n, top_k)``; ``without``: query ``i`` is its row ``without + i``."""
    best = torch.empty((len(queries), 0), dtype=torch.long, device=queries.device)
    for at in range(0, corpus.count, block):
        scores = _scores(queries, corpus.block(at, block), corpus.measure)
        if best.shape[1] == top_k:  # few queries find a better one in a late block
            rows = (scores.amax(1) > _scores_of(best[:, -1])).nonzero()[:, 0]
        else:
            rows = torch.arange(len(queries), device=queries.device)
        keys = _keys(scores[rows], at)
        if without is not None and at <= without < at + block:
            keys[torch.arange(len(rows), device=rows.device), rows + without - at] = torch.iinfo(torch.long).min
        keys = torch.cat([best[rows], keys.topk(min(top_k, keys.shape[1])).values], 1)
        keys = keys.topk(min(top_k, keys.shape[1])).values
        best = keys if len(rows) == len(best) else best.index_copy(0, rows, keys)
    return best


def _keys(scores: Tensor, first: int) -> Tensor:
    """Score and index in one integer each, ``(n, m)``: of two keys the larger has the better score, or the same and the lower index."""
    bits = scores.view(torch.int32)
    order = (
        (bits >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(bits)
    )  # as floats: those below zero are in the opposite order of their bits
    indices = torch.arange(first, first + scores.shape[1], device=scores.device)
    return order.long().bitwise_left_shift_(32).bitwise_or_(_LOW - indices)


def _scores_of(keys: Tensor) -> Tensor:
    order = (keys >> 32).int()
    return (order ^ ((order >> 31) & 0x7FFFFFFF)).view(torch.float32)


def _read(keys: Tensor) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The scores and the indices that keys were made of."""
    return _scores_of(keys).cpu().numpy(), (_LOW - (keys & _LOW)).cpu().numpy()


@dataclass
class _Pairs:
    """The best ``most`` of all pairs that were added, whichever way round and however often."""

    most: int
    floor: float  # no pair below it is among the best
    score: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    pair: NDArray[np.int64] = field(
        default_factory=lambda: np.empty(0, np.int64)
    )  # the first in the upper half, the second in the lower

    def add(self, score: NDArray[np.float32], a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
        keep = score >= self.floor
        self.score = np.concatenate([self.score, score[keep]])
        self.pair = np.concatenate([self.pair, (np.minimum(a, b) << 32 | np.maximum(a, b))[keep]])
        if len(self.score) > 2 * self.most:
            self.settle()

    def settle(self) -> None:
        """Put what there is in order, and drop what is not among the best."""
        if len(self.score) > 2 * self.most:  # a pair may be there twice
            self._take(self.score >= np.partition(self.score, -2 * self.most)[-2 * self.most])
        self._take(np.lexsort((self.pair, -self.score)))
        self._take(np.sort(np.unique(self.pair, return_index=True)[1])[: self.most])
        if len(self.score) == self.most:
            self.floor = max(self.floor, float(self.score[-1]))

    def _take(self, which: NDArray[Any]) -> None:
        self.score, self.pair = self.score[which], self.pair[which]
