"""Pictures of what a model does: ``attention`` (what looks at what) and ``map`` (vectors as points). matplotlib and plotly are in the extra ``plot``."""

from nativebert.errors import check_installed

check_installed()
from nativebert.pictures.attention import AttentionPicture, attention  # noqa: E402
from nativebert.pictures.map import MapPicture, map  # noqa: E402

__all__ = ["AttentionPicture", "MapPicture", "attention", "map"]
