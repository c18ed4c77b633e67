"""``from sentence_transformers import util``: similarities, search and paraphrase mining on vectors."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nativebert import search
from nativebert.checks import whole_number
from nativebert.errors import BadInputError, RefusedError
from nativebert.hf import unsupported


def __getattr__(name: str) -> Any:
    if name in unsupported.UTIL:
        raise AttributeError(f"nativebert.hf.util does not support {name}: {unsupported.UTIL[name]}")
    raise AttributeError(f"module 'nativebert.hf.util' has no attribute {name!r}")


# ---- similarities


def _tensor(x: Any) -> Tensor:
    """Vectors in whatever they come, at least in float32."""
    if isinstance(x, (list, tuple)) and x and isinstance(x[0], (Tensor, np.ndarray)):
        x = torch.stack([_tensor(row) for row in x])
    made: Tensor = (
        x
        if isinstance(x, Tensor)
        else torch.from_numpy(np.require(x, requirements="W"))
        if isinstance(x, np.ndarray)
        else torch.tensor(x)
    )
    return made.float() if made.is_floating_point() and torch.finfo(made.dtype).bits < 32 else made


def _rows(x: Any) -> Tensor:
    """``(n, width)``; a single vector is one row."""
    made = _tensor(x)
    return made[None] if made.dim() == 1 else made


def normalize_embeddings(embeddings: Tensor) -> Tensor:
    """Vectors of unit length, of the same shape."""
    return F.normalize(embeddings, dim=-1)


def truncate_embeddings(embeddings: Any, truncate_dim: int | None) -> Any:
    """The first ``truncate_dim`` numbers of each vector; all for None."""
    return embeddings[..., : None if truncate_dim is None else whole_number("truncate_dim", truncate_dim)]


def cos_sim(a: Any, b: Any) -> Tensor:
    """Cosine of each vector of ``a`` with each of ``b``.

    Args:
        a, b: ``(n, width)`` and ``(m, width)``: tensors, arrays or lists; a single vector counts as one row.

    Returns:
        ``(n, m)``.
    """
    return normalize_embeddings(_rows(a)) @ normalize_embeddings(_rows(b)).T


def pytorch_cos_sim(a: Any, b: Any) -> Tensor:
    """Old name of :func:`cos_sim`."""
    return cos_sim(a, b)


def dot_score(a: Any, b: Any) -> Tensor:
    """Product of each vector of ``a`` with each of ``b``, ``(n, m)``; arguments as of :func:`cos_sim`."""
    return _rows(a) @ _rows(b).T


def euclidean_sim(a: Any, b: Any) -> Tensor:
    """Negative Euclidean distance of each vector of ``a`` to each of ``b``, ``(n, m)``; arguments as of :func:`cos_sim`."""
    return -torch.cdist(_rows(a), _rows(b), 2.0)


def manhattan_sim(a: Any, b: Any) -> Tensor:
    """Negative Manhattan distance of each vector of ``a`` to each of ``b``, ``(n, m)``; arguments as of :func:`cos_sim`."""
    return -torch.cdist(_rows(a), _rows(b), 1.0)


def pairwise_cos_sim(a: Any, b: Any) -> Tensor:
    """Cosine of each vector of ``a`` with its counterpart in ``b``, ``(n,)``; a number for two single vectors."""
    return pairwise_dot_score(normalize_embeddings(_tensor(a)), normalize_embeddings(_tensor(b)))


def pairwise_dot_score(a: Any, b: Any) -> Tensor:
    """Product of each vector of ``a`` with its counterpart in ``b``, ``(n,)``."""
    return (_tensor(a) * _tensor(b)).sum(-1)


def pairwise_euclidean_sim(a: Any, b: Any) -> Tensor:
    """Negative Euclidean distance of each vector of ``a`` to its counterpart in ``b``, ``(n,)``."""
    return -(_tensor(a) - _tensor(b)).square().sum(-1).sqrt()


def pairwise_manhattan_sim(a: Any, b: Any) -> Tensor:
    """Negative Manhattan distance of each vector of ``a`` to its counterpart in ``b``, ``(n,)``."""
    return -(_tensor(a) - _tensor(b)).abs().sum(-1)


_MEASURES: dict[str, tuple[Callable[[Any, Any], Tensor], Callable[[Any, Any], Tensor]]] = {
    "cosine": (cos_sim, pairwise_cos_sim),
    "dot": (dot_score, pairwise_dot_score),
    "euclidean": (euclidean_sim, pairwise_euclidean_sim),
    "manhattan": (manhattan_sim, pairwise_manhattan_sim),
}


class SimilarityFunction(Enum):
    """The measures of similarity."""

    COSINE = "cosine"
    DOT_PRODUCT = "dot"
    DOT = "dot"  # an alias  # noqa: PIE796
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"

    @staticmethod
    def to_similarity_fn(similarity_function: str | SimilarityFunction) -> Callable[[Any, Any], Tensor]:
        """The function of a measure that compares all with all."""
        return _MEASURES[measure_name(similarity_function)][0]

    @staticmethod
    def to_similarity_pairwise_fn(similarity_function: str | SimilarityFunction) -> Callable[[Any, Any], Tensor]:
        """The function of a measure that compares each with its counterpart."""
        return _MEASURES[measure_name(similarity_function)][1]

    @staticmethod
    def possible_values() -> list[str]:
        """The names of the measures."""
        return list(_MEASURES)


def measure_name(given: str | SimilarityFunction) -> str:
    """``"cosine"`` and similar, of a name or a :class:`SimilarityFunction`.

    Raises:
        BadInputError: there is no such measure.
    """
    name = given.value if isinstance(given, SimilarityFunction) else given
    if name not in _MEASURES:
        raise BadInputError(f"the similarity must be one of {', '.join(_MEASURES)}, not {given!r}")
    return str(name)


# ---- search


def _measure(score_function: Callable[[Any, Any], Tensor]) -> str:
    """The native name of what a function of this module computes."""
    if score_function is pytorch_cos_sim:
        return "cosine"
    for name, (function, _) in _MEASURES.items():
        if score_function is function:
            return name
    raise RefusedError(
        f"score_function must be one of {', '.join(f.__name__ for f, _ in _MEASURES.values())} of nativebert.hf.util, not "
        f"{getattr(score_function, '__name__', score_function)}: compute other scores as a table, and torch.topk of it"
    )


def _blocks(**sizes: Any) -> None:
    """Check the sizes of blocks. What they ask for is memory, and search is flat in that without them."""
    for name, size in sizes.items():
        if whole_number(name, size) < 1:
            raise BadInputError(f"{name} must be at least 1, not {size}")


def semantic_search(
    query_embeddings: Any,
    corpus_embeddings: Any,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500000,
    top_k: int = 10,
    score_function: Callable[[Any, Any], Tensor] = cos_sim,
) -> list[list[dict[str, Any]]]:
    """The nearest vectors of a corpus for each query; see :func:`nativebert.semantic_search`.

    Args:
        query_embeddings, corpus_embeddings: ``(n, width)`` and ``(m, width)``; a single query counts as one row.
        query_chunk_size, corpus_chunk_size: do nothing here.
        top_k: how many to return for each query.
        score_function: :func:`cos_sim`, :func:`dot_score`, :func:`euclidean_sim` or :func:`manhattan_sim`.

    Returns:
        For each query ``{"corpus_id": row, "score": float}``, best first.

    Raises:
        BadInputError: see :func:`nativebert.semantic_search`.
        RefusedError: another ``score_function``.
    """
    _blocks(query_chunk_size=query_chunk_size, corpus_chunk_size=corpus_chunk_size)
    measure = _measure(score_function)
    queries, corpus = (_rows(x) for x in (query_embeddings, corpus_embeddings))
    if not corpus.numel():  # also the (0,) that encode gives for no text at all
        return [[] for _ in range(len(queries) if queries.numel() else 0)]
    if not queries.numel():
        return []
    found = search.semantic_search(queries, corpus, top_k=whole_number("top_k", top_k), measure=measure)
    return [[{"corpus_id": hit["index"], "score": hit["score"]} for hit in hits] for hits in found]


def paraphrase_mining_embeddings(
    embeddings: Any,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100000,
    max_pairs: int = 500000,
    top_k: int = 100,
    score_function: Callable[[Any, Any], Tensor] = cos_sim,
) -> list[list[Any]]:
    """The most similar pairs among vectors; see :func:`nativebert.paraphrase_mining`.

    Args:
        embeddings: ``(n, width)``.
        query_chunk_size, corpus_chunk_size: do nothing here.
        max_pairs: how many pairs to return.
        top_k: how many neighbours of each vector to look at.
        score_function: as of :func:`semantic_search`.

    Returns:
        ``[score, first, second]`` with ``first < second``, best first.

    Raises:
        BadInputError, RefusedError: as of :func:`semantic_search`.
    """
    _blocks(query_chunk_size=query_chunk_size, corpus_chunk_size=corpus_chunk_size)
    measure, vectors = _measure(score_function), _rows(embeddings)
    if not vectors.numel():
        return []
    pairs = search.paraphrase_mining(
        vectors, top_k=whole_number("top_k", top_k), max_pairs=whole_number("max_pairs", max_pairs), measure=measure
    )
    return [[pair["score"], pair["first"], pair["second"]] for pair in pairs]


def paraphrase_mining(
    model: Any,
    sentences: list[str],
    show_progress_bar: bool = False,
    batch_size: int = 32,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100000,
    max_pairs: int = 500000,
    top_k: int = 100,
    score_function: Callable[[Any, Any], Tensor] = cos_sim,
    truncate_dim: int | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> list[list[Any]]:
    """The most similar pairs among texts.

    Args:
        model: a :class:`~nativebert.hf.sentence.SentenceTransformer`.
        sentences: the texts.
        show_progress_bar, batch_size, truncate_dim, prompt_name, prompt: as of its ``encode``.
        query_chunk_size, corpus_chunk_size, max_pairs, top_k, score_function: as of :func:`paraphrase_mining_embeddings`.

    Returns:
        ``[score, first, second]`` with ``first < second``, best first.
    """
    vectors = model.encode(
        sentences, show_progress_bar=show_progress_bar, batch_size=batch_size, convert_to_tensor=True,
        truncate_dim=truncate_dim, prompt_name=prompt_name, prompt=prompt,
    )  # fmt: skip
    return paraphrase_mining_embeddings(vectors, query_chunk_size, corpus_chunk_size, max_pairs, top_k, score_function)


def batch_to_device(batch: dict[str, Any], target_device: Any) -> dict[str, Any]:
    """Move the tensors of a dictionary to a device, in place."""
    for name, value in batch.items():
        if isinstance(value, Tensor):
            batch[name] = value.to(target_device)
    return batch
