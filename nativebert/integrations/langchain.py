"""LangChain: ``Embeddings`` for its vector stores, and a reranker for what they find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nativebert.integrations.common import DEFAULT_MODEL, missing, prepared
from nativebert.tasks.embed import Embedder
from nativebert.tasks.rank import Ranker

try:
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.embeddings import Embeddings
    from pydantic import Field, PrivateAttr
except ImportError as error:
    raise missing("langchain-core", error) from error

_OF_DOCUMENTS = ("document", "passage", "corpus")


class NativeBertEmbeddings(Embeddings):
    """Vectors of documents and of queries.

    Queries get the model's prompt named ``"query"``, documents the first that it has of ``"document"``, ``"passage"`` and ``"corpus"``, as
    ``encode_query`` and ``encode_document`` of sentence-transformers are described; without such a prompt, none.

    Args:
        model: an :class:`~nativebert.Embedder`; or a folder, or a model on the Hub.
        query_prompt: text to put before each query, in place of the model's prompt.
        document_prompt: text to put before each document, in place of the model's prompt.
        **options: of the Embedder that is made of ``model``.

    Attributes:
        embedder: the Embedder.
        query_prompt, document_prompt: what is put before; may be changed.
    """

    def __init__(
        self, model: Any = DEFAULT_MODEL, *, query_prompt: str | None = None, document_prompt: str | None = None, **options: Any
    ) -> None:
        self.embedder = prepared(Embedder, model, options)
        prompts = self.embedder.config.prompts or {}
        of_documents = next((prompts[name] for name in _OF_DOCUMENTS if name in prompts), "")
        self.query_prompt = prompts.get("query", "") if query_prompt is None else query_prompt
        self.document_prompt = of_documents if document_prompt is None else document_prompt

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each text."""
        vectors: list[list[float]] = self.embedder(texts, prompt=self.document_prompt).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        vector: list[float] = self.embedder([text], prompt=self.query_prompt)[0].tolist()
        return vector


class NativeBertReranker(BaseDocumentCompressor):
    """Documents by their score with the query, best first, by a cross-encoder.

    Each comes back as a copy with ``metadata["relevance_score"]``.

    Args:
        model: a :class:`~nativebert.Ranker`; or a folder, or a model on the Hub.
        top_n: how many documents to keep; None for all.
        options: of the Ranker that is made of ``model``.
    """

    model: Any
    top_n: int | None = Field(None, ge=1)
    options: dict[str, Any] = Field(default_factory=dict)

    _ranker: Ranker = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Load the model."""
        self._ranker = prepared(Ranker, self.model, self.options)

    def compress_documents(self, documents: Sequence[Document], query: str, callbacks: Any = None) -> list[Document]:
        """The ``top_n`` best of the documents.

        Args:
            documents: what a retriever found.
            query: what was looked for.
            callbacks: none is called.
        """
        best = self._ranker.rank(query, [document.page_content for document in documents], top_k=self.top_n)
        return [_scored(documents[one["index"]], one["score"]) for one in best]


def _scored(document: Document, score: float) -> Document:
    return document.model_copy(update={"metadata": {**document.metadata, "relevance_score": score}})
