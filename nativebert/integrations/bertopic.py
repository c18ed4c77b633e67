"""BERTopic: what ``BERTopic(embedding_model=...)`` takes.

BERTopic takes an object that it does not know, an Embedder too, for a wish for its default model, and says nothing.
"""

from __future__ import annotations

from nativebert.integrations.common import Backend, missing

try:
    from bertopic.backend import BaseEmbedder
except ImportError as error:
    raise missing("bertopic", error) from error


class NativeBertBackend(Backend, BaseEmbedder):
    __doc__ = Backend.__doc__
