"""Losses of sentence embeddings, by the names of sentence-transformers; what they compute stands in :mod:`nativebert.train.contrastive`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from nativebert.errors import BadInputError, RefusedError
from nativebert.train.contrastive import PairLoss, cosent, cosine_similarity, matryoshka, multiple_negatives, triplet


class EmbeddingLoss:
    """Base of the losses here.

    Attributes:
        pair_loss: of the vectors of a batch's columns, and its scores.
        mini_batch_size: rows that are computed at a time; None for whole batches.
    """

    pair_loss: PairLoss
    mini_batch_size: int | None = None

    def __init__(self, model: Any = None) -> None:
        self.model = model


class MultipleNegativesRankingLoss(EmbeddingLoss):
    """Each anchor's own text among all of the batch (arXiv:1705.00652).

    Args:
        model: the SentenceTransformer.
        scale: what the cosines are multiplied by.
        similarity_fct: None, or sentence-transformers' ``cos_sim``: the cosine; others are refused.
    """

    def __init__(self, model: Any = None, scale: float = 20.0, similarity_fct: Any = None) -> None:
        super().__init__(model)
        if similarity_fct is not None and getattr(similarity_fct, "__name__", "") != "cos_sim":
            raise RefusedError(f"{type(self).__name__} does not support similarity_fct=: leave it out, for the cosine")
        self.pair_loss = partial(multiple_negatives, scale=scale)


class CachedMultipleNegativesRankingLoss(MultipleNegativesRankingLoss):
    """The same for batches that are larger than memory (GradCache, arXiv:2101.06983): vectors are computed twice, ``mini_batch_size`` rows at a
    time."""

    def __init__(
        self, model: Any = None, scale: float = 20.0, similarity_fct: Any = None, mini_batch_size: int = 32, **more: Any
    ) -> None:
        super().__init__(model, scale, similarity_fct)
        if unknown := [name for name, value in more.items() if value and name != "show_progress_bar"]:
            raise RefusedError(f"CachedMultipleNegativesRankingLoss does not support {unknown[0]}=")
        self.mini_batch_size = mini_batch_size


class CosineSimilarityLoss(EmbeddingLoss):
    """Squared difference of each pair's cosine and its score (arXiv:1908.10084)."""

    pair_loss = staticmethod(cosine_similarity)


class CoSENTLoss(EmbeddingLoss):
    """The order of the pairs' cosines should be that of their scores (https://kexue.fm/archives/8847).

    Args:
        model: the SentenceTransformer.
        scale: what the cosines are multiplied by.
    """

    def __init__(self, model: Any = None, scale: float = 20.0) -> None:
        super().__init__(model)
        self.pair_loss = partial(cosent, scale=scale)


class TripletLoss(EmbeddingLoss):
    """An anchor should be nearer to its positive than to its negative, in Euclidean distance (arXiv:1908.10084).

    Args:
        model: the SentenceTransformer.
        triplet_margin: by how much.
    """

    def __init__(self, model: Any = None, triplet_margin: float = 5.0) -> None:
        super().__init__(model)
        self.pair_loss = partial(triplet, margin=triplet_margin)


class MatryoshkaLoss(EmbeddingLoss):
    """The sum of another loss over vectors cut to several widths (arXiv:2205.13147).

    Args:
        model: the SentenceTransformer.
        loss: the other.
        matryoshka_dims: the widths.
    """

    def __init__(self, model: Any = None, loss: EmbeddingLoss | None = None, matryoshka_dims: Sequence[int] = ()) -> None:
        super().__init__(model)
        if loss is None or not matryoshka_dims:
            raise BadInputError("MatryoshkaLoss needs a loss and matryoshka_dims")
        self.pair_loss, self.mini_batch_size = matryoshka(loss.pair_loss, list(matryoshka_dims)), loss.mini_batch_size
