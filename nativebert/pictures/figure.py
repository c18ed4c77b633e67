"""Output files and matplotlib figures, for all pictures."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nativebert.errors import BadInputError, NativeBertError
from nativebert.io.write import check_place, output_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN = (".png", ".svg", ".pdf")

# For what matplotlib's own font lacks, those of these that are installed: Chinese, Japanese, Korean, Arabic, Hindi, emoji
_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Microsoft YaHei", "Hiragino Sans GB", "WenQuanYi Micro Hei", "Arial Unicode MS"),
    *("Noto Sans Arabic", "Noto Sans Devanagari", "Noto Sans Symbols", "Noto Emoji", "Segoe UI Emoji", "Symbola", "Unifont"),
)


def check_target(path: str | PathLike[str]) -> Path:
    """The checked output path of a picture, before it is drawn. Raises :class:`BadInputError`."""
    target, endings = Path(path), (".html", *DRAWN)
    if target.suffix.lower() not in endings:
        raise BadInputError(f"unknown format of {target}: use one of the extensions {', '.join(endings)}")
    check_place(os.fspath(path), "picture.png")
    return target


def write_page(target: Path, page: str) -> None:
    """Write HTML."""
    with output_file(os.fspath(target)) as file:
        file.write(page.encode())


def framed(page: Callable[[], str], height: int) -> str | None:
    """A page inside a notebook's, which it cannot reach; None, for the ordinary repr, where it cannot be made."""
    try:
        made = page()
    except NativeBertError:
        return None
    return f'<iframe srcdoc="{html.escape(made)}" sandbox="allow-scripts" style="width:100%;height:{height}px;border:0" loading="lazy"></iframe>'


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches. It is not one of pyplot's, so no window, no global state, nothing to close."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NativeBertError("pictures require matplotlib: pip install 'nativebert[plot]'") from None
    return Figure(figsize=(width, height), layout="compressed")


def write_figure(target: Path, figure: Figure) -> None:
    """Write a figure in the format of the ending; the same picture gives the same bytes."""
    import matplotlib

    for_ever = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    ending = target.suffix.lower()
    with matplotlib.rc_context({"svg.hashsalt": "nativebert"}), output_file(os.fspath(target)) as file:
        figure.savefig(file, dpi=150, format=ending[1:], metadata=for_ever.get(ending))


def plain(texts: Iterable[Any]) -> None:
    """Show texts of matplotlib as they are written: no formula where a dollar stands, other fonts where the first lacks a letter."""
    from matplotlib.font_manager import fontManager

    there = set(fontManager.get_font_names())
    family = ["DejaVu Sans", *(name for name in _FONTS if name in there)]
    for text in texts:
        text.set_parse_math(False)
        text.set_fontfamily(family)
