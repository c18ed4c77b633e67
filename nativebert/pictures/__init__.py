"""Pictures of what a model does: ``attention`` (what looks at what) and ``map`` (vectors as points). matplotlib and plotly are in the extra ``plot``."""

from nativebert.pictures.attention import AttentionPicture, attention
from nativebert.pictures.map import MapPicture, map

__all__ = ["AttentionPicture", "MapPicture", "attention", "map"]
