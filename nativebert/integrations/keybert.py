"""KeyBERT: what ``KeyBERT(model=...)`` takes.

KeyBERT takes an object that it does not know, an Embedder too, for a wish for its multilingual default model, and says nothing.
"""

from __future__ import annotations

from nativebert.integrations.common import Backend, missing

try:
    from keybert.backend import BaseEmbedder
except ImportError as error:
    raise missing("keybert", error) from error


class NativeBertBackend(Backend, BaseEmbedder):
    __doc__ = Backend.__doc__
