"""spaCy: components for vectors of texts and for entities. ``nlp.add_pipe`` finds them by name where nativebert is installed.

Annotations are read by spaCy, which checks a component's config by them.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nativebert.errors import NativeBertWarning, warn
from nativebert.integrations.common import DEFAULT_MODEL, missing, prepared
from nativebert.tasks.embed import Embedder
from nativebert.tasks.results import Entity
from nativebert.tasks.tag import Tagger

try:
    from spacy.language import Language
    from spacy.tokens import Doc, Span
    from spacy.util import minibatch
except ImportError as error:
    raise missing("spacy", error) from error

VECTOR, ENTITIES, SCORE = "nativebert_vector", "nativebert_entities", "nativebert_score"

for owner, name in ((Doc, VECTOR), (Doc, ENTITIES), (Span, SCORE)):
    owner.set_extension(name, default=None, force=True)


class _Component:
    """Documents in batches, whose texts go to the model at once."""

    def __call__(self, doc: Doc) -> Doc:
        self._annotate([doc])
        return doc

    def pipe(self, stream: Iterable[Doc], batch_size: int = 128) -> Iterator[Doc]:
        """The same for many documents."""
        for docs in minibatch(stream, size=batch_size):
            self._annotate(docs)
            yield from docs

    def _annotate(self, docs: list[Doc]) -> None:
        raise NotImplementedError


class Vectors(_Component):
    """The vector of each document, as ``doc._.nativebert_vector`` and as ``doc.vector``.

    Args:
        embedder: makes them.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    def _annotate(self, docs: list[Doc]) -> None:
        for doc, vector in zip(docs, self.embedder([doc.text for doc in docs], progress=False), strict=True):
            doc._.set(VECTOR, vector)
            with_vectors(doc)


class Entities(_Component):
    """The entities of each document, as ``doc._.nativebert_entities`` with the characters where they begin and end, and as ``doc.ents``.

    ``doc.ents`` is made of spaCy's tokens: an entity that begins or ends inside one gets all of it, and one that shares a token with an
    entity before it is not among them, which is warned of.

    Args:
        tagger: finds them.
        overwrite: take the place of entities that stand in ``doc.ents`` already; else those stay, and count as found before.
    """

    def __init__(self, tagger: Tagger, overwrite: bool = False) -> None:
        self.tagger, self.overwrite = tagger, overwrite

    def _annotate(self, docs: list[Doc]) -> None:
        results = self.tagger([doc.text for doc in docs], progress=False)
        left_out = sum([self._set(doc, entities) for doc, entities in zip(docs, results, strict=True)])
        if left_out:
            warn(
                f"{left_out:,} of {sum(map(len, results)):,} entities share a token of spaCy with another entity: doc.ents has the first of them, "
                f"doc._.{ENTITIES} has all",
                NativeBertWarning,
            )

    def _set(self, doc: Doc, entities: list[Entity]) -> int:
        """Set the entities of a document; returns how many have no place in ``doc.ents``."""
        doc._.set(ENTITIES, entities)
        spans = [] if self.overwrite else list(doc.ents)
        taken = {token.i for span in spans for token in span}
        before = len(spans)
        for entity in entities:
            span = doc.char_span(entity["start"], entity["end"], label=entity["label"], alignment_mode="expand")
            if taken.isdisjoint(places := range(span.start, span.end)):
                taken.update(places)
                span._.set(SCORE, entity["score"])
                spans.append(span)
        doc.ents = spans
        return len(entities) - (len(spans) - before)


@Language.factory("nativebert_vectors", default_config={"model": DEFAULT_MODEL, "options": {}})
def make_vectors(nlp: Language, name: str, model: str, options: dict[str, Any]) -> Vectors:
    """The component ``nativebert_vectors``: ``options`` are those of :class:`~nativebert.Embedder`."""
    return Vectors(prepared(Embedder, model, options))


@Language.factory("nativebert_entities", assigns=["doc.ents"], default_config={"overwrite": False, "options": {}})
def make_entities(nlp: Language, name: str, model: str, overwrite: bool, options: dict[str, Any]) -> Entities:
    """The component ``nativebert_entities``: ``options`` are those of :class:`~nativebert.Tagger`."""
    return Entities(prepared(Tagger, model, options), overwrite)


# -- doc.vector


def with_vectors(doc: Doc) -> Doc:
    """Let ``doc.vector`` and ``doc.similarity`` go by the vector that the component ``nativebert_vectors`` has made, again.

    spaCy keeps that vector wherever a document goes (another process, bytes, a ``DocBin`` with ``store_user_data``), but not what makes
    it the answer of ``doc.vector``, which falls back to another vector, or none.

    Args:
        doc: a document that went through the component.

    Returns:
        The same document.
    """
    doc.user_hooks.update({"vector": _vector, "has_vector": _has_vector, "similarity": _similarity})
    return doc


def _vector(doc: Doc) -> NDArray[np.float32]:
    vector: NDArray[np.float32] = doc._.get(VECTOR)
    return vector


def _has_vector(doc: Doc) -> bool:
    return doc._.get(VECTOR) is not None


def _similarity(doc: Doc, other: Any) -> float:
    norms = float(doc.vector_norm * other.vector_norm)
    return float(np.dot(doc.vector, other.vector)) / norms if norms else 0.0
