"""Search as a job: the nearest texts of a corpus for each row of a table of queries."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nativebert.checks import at_least
from nativebert.errors import BadInputError
from nativebert.io.files import arrow
from nativebert.search import semantic_search
from nativebert.tasks.embed import Vectors


@dataclass(frozen=True)
class Corpus:
    """Vectors to search in, all of them compared with each query.

        corpus = Corpus(embedder(texts), texts, top_k=5)
        nb.Job(embedder, "questions.parquet", "out", corpus=corpus).run()

    Attributes:
        vectors: float32 ``(m, width)``.
        texts: the ``m`` texts, which stand in the hits; None for hits without them.
        index: what stands in the hits for each vector, its number in a larger table; None for 0 to m - 1.
        top_k: hits of a query.
        measure: as of :func:`nativebert.search.semantic_search`.

    Raises:
        BadInputError: texts or numbers of another length than the vectors, or ``top_k < 1``.
    """

    vectors: Vectors
    texts: Sequence[str] | None = None
    index: Sequence[int] | None = None
    top_k: int = 10
    measure: str = "cosine"

    def __post_init__(self) -> None:
        at_least(1, "top_k", self.top_k)
        for name, values in (("texts", self.texts), ("index", self.index)):
            if values is not None and len(values) != len(self.vectors):
                raise BadInputError(
                    f"the corpus has {len(self.vectors):,} vectors and {len(values):,} {name}: their numbers must be equal"
                )

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What tells this corpus from another, as JSON."""
        digest = hashlib.sha256(np.ascontiguousarray(self.vectors, np.float32).tobytes())
        for text in self.texts or ():
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        digest.update(np.asarray(self.index if self.index is not None else [], np.int64).tobytes())
        return {"rows": len(self.vectors), "sha256": digest.hexdigest(), "top_k": self.top_k, "measure": self.measure}

    @property
    def schema(self) -> Any:
        """A column ``hits``: lists of ``index``, ``score`` and, where the corpus has texts, ``text``, best first."""
        pa = arrow()
        fields = [("index", pa.int64()), ("score", pa.float64()), *([] if self.texts is None else [("text", pa.string())])]
        return pa.schema([("hits", pa.list_(pa.struct(fields)))])

    def hits(self, queries: Vectors) -> Any:
        """Hits of queries ``(n, width)``, an Arrow array of :attr:`schema`'s type."""
        found = semantic_search(queries, self.vectors, top_k=self.top_k, measure=self.measure) if len(queries) else []
        for one in (hit for of_query in found for hit in of_query):
            n = one["index"]
            one["index"] = n if self.index is None else self.index[n]
            if self.texts is not None:
                one["text"] = self.texts[n]
        return arrow().array(found, self.schema.types[0])
