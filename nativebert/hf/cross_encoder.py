"""``from sentence_transformers.cross_encoder import CrossEncoder``, with the other import line."""

from nativebert.hf.sentence import CrossEncoder

__all__ = ["CrossEncoder"]
