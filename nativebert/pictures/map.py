"""Vectors as points on a plane: what is near each other in many dimensions, as well as two or three can show it."""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nativebert.checks import at_least, is_number, whole
from nativebert.errors import BadInputError, NativeBertError
from nativebert.pictures.figure import check_target, framed, new_figure, plain, write_figure, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind people can tell apart (https://jfly.uni-koeln.de/color/), without yellow, too pale for a point
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
GREY = "#b0b0b0"
# Where there are more labels than colours, the shape changes: (matplotlib's name, plotly's name)
SHAPES = (("o", "circle"), ("^", "diamond"), ("s", "square"), ("X", "x"))
MOST_LABELS = len(COLOURS) * len(SHAPES)
MOST_SHAPES = 3000  # points of a page that are shapes; more are drawn by WebGL
MOST_NAMED = 40  # points of a drawing that has its texts beside them
_BESIDE = ((7, 0, "left", "center"), (-7, 0, "right", "center"), (0, 7, "center", "bottom"), (0, -7, "center", "top"))

# plotly's own page has a button that sends the data to a server of its maker
_CONFIG = {"displaylogo": False, "responsive": True, "scrollZoom": True, "showSendToCloud": False, "plotlyServerURL": ""}
_HEAD = """<head>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'unsafe-inline' 'unsafe-eval' data: blob:">
<title>@TITLE@</title>
<style>
:root { color-scheme: light dark; }
body { margin: 0; font: 15px/1.4 system-ui, sans-serif; display: flex; flex-direction: column; height: 100vh; height: 100dvh; }
@media (prefers-color-scheme: dark) { body { background: #14171c; color: #e6e9ed; } }
header { display: flex; flex-wrap: wrap; gap: .4rem 1rem; align-items: center; padding: .6rem .8rem 0; }
h1 { font-size: 1rem; margin: 0; flex: 1 1 12rem; min-width: 0; overflow-wrap: anywhere; }
input { font: inherit; padding: .2rem .5rem; width: 14rem; max-width: 100%; box-sizing: border-box; }
body > div { flex: 1; min-height: 0; }
</style>"""
_HEADER = """<body>
<header><h1>@TITLE@</h1><input type="search" placeholder="search texts and labels" aria-label="search texts and labels"><output></output></header>"""
# Points that do not match fade; what plotly draws in has no dark mode of its own.
_SCRIPT = """<script>
const map = document.getElementById("map"), search = document.querySelector("input"), found = document.querySelector("output");
const bare = map.data.map(trace => trace.hovertext.map(text => text.replace(/<[^>]*>/g, " ").toLowerCase()));
search.addEventListener("input", () => {
  const wanted = search.value.trim().toLowerCase();
  const fits = bare.map(texts => texts.map(text => text.includes(wanted)));
  Plotly.restyle(map, {"marker.opacity": fits.map(of => wanted ? of.map(fit => fit ? 1 : .06) : .85)});
  found.textContent = wanted ? `${fits.flat().filter(Boolean).length} of ${fits.flat().length}` : "";
});
// A text stands beside its point where it covers no other text and no point; zooming in makes room for more.
function name() {
  const frame = map.querySelector(".nsewdrag")?.getBoundingClientRect(), gap = 1;
  const covers = (a, b) => a.left < b.right + gap && b.left < a.right + gap && a.top < b.bottom && b.top < a.bottom;
  const taken = [...map.querySelectorAll(".points path")].map(point => point.getBoundingClientRect());
  for (const text of map.querySelectorAll(".textpoint text")) {
    const box = text.getBoundingClientRect();
    const fits = box.left >= frame.left && box.right <= frame.right && box.top >= frame.top && !taken.some(other => covers(box, other));
    text.style.visibility = fits ? "visible" : "hidden";
    if (fits) taken.push(box);
  }
}
map.on("plotly_afterplot", name);
const dark = matchMedia("(prefers-color-scheme: dark)"), black = map.data.map((trace, i) => i).filter(i => map.data[i].marker.color === "#000000");
function paint() {
  const ink = dark.matches ? "#e6e9ed" : "#1b1f24", line = dark.matches ? "#343b44" : "#e5e9ee", look = {"font.color": ink};
  for (const axis of Object.keys(map.layout).filter(name => /^[xy]axis/.test(name))) look[axis + ".gridcolor"] = line;
  for (const axis of map.layout.scene ? ["xaxis", "yaxis", "zaxis"] : []) look[`scene.${axis}.gridcolor`] = line;
  Plotly.relayout(map, look);
  if (black.length) Plotly.restyle(map, {"marker.color": dark.matches ? "#ffffff" : "#000000"}, black);
}
dark.addEventListener("change", paint);
paint();
if (innerWidth < 600) Plotly.relayout(map, {"legend.orientation": "h", "legend.y": -.2, "margin.l": 40, "margin.r": 10});
if (matchMedia("(hover: none)").matches) Plotly.relayout(map, {"dragmode": "pan"});
</script>
</body>"""

Points = NDArray[np.float64]


@dataclass(frozen=True)
class MapPicture:
    """Points to draw.

    Attributes:
        points: float64 ``(n, dimensions)``.
        explained: the share of the vectors' variance that each dimension shows; None for a method that is not linear.
        labels: of each point, or None.
        texts: of each point, or None.
        method: ``"pca"`` or ``"umap"``.
        title: a line above the points.
    """

    points: Points
    explained: tuple[float, ...] | None
    labels: tuple[Any, ...] | None
    texts: tuple[str, ...] | None
    method: str
    title: str = ""

    def __repr__(self) -> str:
        labels = (
            "" if self.labels is None else f", {'labels on a scale' if self.continuous else f'{len(set(self.labels))} labels'}"
        )
        return f"MapPicture({len(self.points):,} points, {self.points.shape[1]} dimensions by {self.method}{labels})"

    def _repr_html_(self) -> str | None:
        return framed(self.html, 560)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the picture.

        Args:
            path: ``.html`` for a page in which one can zoom, point at a point to read its text, and switch labels off and on; it needs no
                network, and holds the library that draws it (5 MB). ``.png``, ``.svg`` or ``.pdf`` for a drawing.

        Raises:
            BadInputError: another ending, or a place that cannot be written to.
            NativeBertError: matplotlib, or for a page plotly, is not installed (extra ``plot``).
        """
        target = check_target(path)
        if target.suffix.lower() == ".html":
            write_page(target, self.html())
        else:
            write_figure(target, self._figure())

    @property
    def axes(self) -> list[str]:
        """A title for each dimension."""
        if self.explained is None:
            return [f"{self.method.upper()} {i + 1}" for i in range(self.points.shape[1])]
        of = " of the variance" if self.points.shape[1] == 2 else ""
        return [f"component {i + 1} ({share:.1%}{of})" for i, share in enumerate(self.explained)]

    @property
    def continuous(self) -> bool:
        """Are the labels numbers, so that they become a scale of colours and not groups?"""
        return self.labels is not None and all(isinstance(label, float) for label in self.labels)

    def groups(self) -> list[tuple[str, NDArray[np.int64], str, int]]:
        """Points of one look: ``(name, indices, colour, shape)``. Where there are too many labels, the rarest of them are grey together."""
        names = [None if label is None else str(label) for label in self.labels or [""] * len(self.points)]
        where: dict[str | None, list[int]] = {}
        for i, name in enumerate(names):
            where.setdefault(name, []).append(i)
        without = where.pop(None, [])
        order = [name for name, _ in Counter(n for n in names if n is not None).most_common()]
        shown, rest = sorted(order[:MOST_LABELS], key=_natural), order[MOST_LABELS:]
        looks = [(name, np.array(where[name]), COLOURS[i % len(COLOURS)], i // len(COLOURS)) for i, name in enumerate(shown)]
        if rest:
            looks.append((f"{len(rest)} other labels", np.array(sorted(i for name in rest for i in where[name])), GREY, 0))
        if without:
            looks.append(("no label", np.array(without), GREY, 0))
        return looks

    def html(self) -> str:
        """The page that :meth:`save` writes.

        Raises:
            NativeBertError: plotly (extra ``plot``) is not installed.
        """
        try:
            import plotly.graph_objects as go
        except ImportError:
            raise NativeBertError("HTML pages require plotly: pip install 'nativebert[plot]'") from None
        solid = self.points.shape[1] == 3
        size = _size(len(self.points)) * (0.8 if solid else 1.3)
        looks: list[tuple[str, NDArray[np.int64], dict[str, Any]]]
        if self.continuous:
            values = np.array(self.labels, float)
            there, none = np.flatnonzero(~np.isnan(values)), np.flatnonzero(np.isnan(values))
            bar = {"thickness": 14, "outlinewidth": 0}
            looks = [
                ("", there, {"color": values[there], "colorscale": "Viridis", "colorbar": bar}),
                ("no label", none, {"color": GREY}),
            ]
        else:
            looks = [(name, at, {"color": colour, "symbol": SHAPES[shape][1]}) for name, at, colour, shape in self.groups()]
        named = self.texts is not None and len(self.points) <= MOST_NAMED
        figure = go.Figure()
        for name, at, look in looks:
            if not len(at):
                continue
            kind = go.Scatter3d if solid else go.Scattergl if len(self.points) > MOST_SHAPES else go.Scatter
            trace = kind(
                **dict(zip("xyz", self.points[at].T)),
                mode="markers+text" if named else "markers",
                text=[html.escape(_cut(self.texts[i], 32)) for i in at.tolist()] if named and self.texts else None,
                textposition="top center",
                textfont={"size": 11},
                marker={"size": size, "opacity": 0.85, "line": {"width": 0}, **look},
                name=html.escape(_cut(name, 40)),
                hovertext=[self._words(i) for i in at.tolist()],
                hoverinfo="text",
            )
            figure.add_trace(trace)
        titles = [{"title": {"text": title}, "zeroline": False} for title in self.axes]
        if solid:
            figure.update_layout(
                scene={**dict(zip(("xaxis", "yaxis", "zaxis"), titles)), "camera": {"eye": {"x": 1.5, "y": 1.5, "z": 1.2}}}
            )
        else:
            figure.update_layout(xaxis=titles[0], yaxis={**titles[1], "scaleanchor": "x"})
        figure.update_layout(
            template="plotly_white",
            paper_bgcolor="rgba(0,0,0,0)",
            modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#8a939d", "activecolor": "#0072B2"},
            plot_bgcolor="rgba(0,0,0,0)",
            showlegend=self.labels is not None and not self.continuous,
            legend={"itemsizing": "constant"},
            margin={"l": 60, "r": 20, "t": 30, "b": 60},
            hoverlabel={"align": "left", "bgcolor": "white", "font": {"color": "#1b1f24"}},
        )
        page: str = figure.to_html(include_plotlyjs=True, div_id="map", config=_CONFIG)
        title = html.escape(self.title or "Map of vectors")
        page = page.replace("<head>", _HEAD.replace("@TITLE@", title), 1).replace(
            "<body>", _HEADER.replace("@TITLE@", title), 1
        )
        head, _, tail = page.rpartition("</body>")
        return head + _SCRIPT + tail

    def _words(self, i: int) -> str:
        """Tooltip of a point. Texts come from strangers, and plotly reads tags in them."""
        parts = []
        if self.labels is not None:
            label = self.labels[i]
            parts.append(f"<b>{html.escape('no label' if _missing(label) else _cut(str(label), 80))}</b>")
        if self.texts is not None:
            parts.append("<br>".join(html.escape(line) for line in _lines(self.texts[i])))
        return "<br>".join(parts) or f"row {i}"

    def _figure(self) -> Figure:
        solid = self.points.shape[1] == 3
        figure = new_figure(8.0, 6.0)
        axes: Any = figure.add_subplot(projection="3d" if solid else None)
        look = {"s": _size(len(self.points)) ** 2, "alpha": 0.85, "linewidths": 0}
        if self.continuous:
            values = np.array(self.labels, float)
            none = np.isnan(values)
            if none.any():
                axes.scatter(*self.points[none].T, color=GREY, label="no label", **look)
            if not none.all():
                shown = axes.scatter(*self.points[~none].T, c=values[~none], cmap="viridis", **look)
                figure.colorbar(shown, ax=axes, shrink=0.7, pad=0.1 if solid else 0.02)
        else:
            for name, at, colour, shape in self.groups():
                axes.scatter(*self.points[at].T, color=colour, marker=SHAPES[shape][0], label=_cut(name, 30), **look)
        for title, name in zip(self.axes, "xyz"):
            axes.set(**{f"{name}label": title})
        if not solid:
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_aspect("equal", adjustable="datalim")
        if axes.get_legend_handles_labels()[0] and self.labels is not None:
            legend = figure.legend(
                loc="outside right upper", frameon=False, fontsize=9, markerscale=max(1, 6 / _size(len(self.points)))
            )
            plain(legend.get_texts())
        if self.texts is not None and len(self.points) <= MOST_NAMED and not solid:
            _name(figure, axes, self.points, self.texts)
        return figure


def map(
    vectors: ArrayLike,
    labels: Sequence[Any] | None = None,
    texts: Sequence[str] | None = None,
    *,
    method: str = "pca",
    seed: int = 0,
    dimensions: int = 2,
    scale: bool | None = None,
    title: str = "",
) -> MapPicture:
    """Put vectors on a plane.

    Args:
        vectors: ``(n, width)``.
        labels: of each vector; None, or NaN among numbers, for one that has none.
        texts: of each vector.
        method: ``"pca"``, principal components (Pearson 1901), which keep distances as well as a plane can and always give the same; or
            ``"umap"`` (McInnes et al. 2018, arXiv:1802.03426), by cosine, which keeps neighbours together and makes distances between groups
            say little; it needs the package umap-learn.
        seed: of UMAP.
        dimensions: 2 or 3.
        scale: whether the labels are a scale of colours and not groups; None for numbers that are not whole, as clusters' are.
        title: a line above the points.

    Raises:
        BadInputError: wrong shapes or lengths, too few vectors, numbers that are not finite, or an unknown method.
        NativeBertError: umap-learn is needed and not installed.
    """
    try:
        x = np.asarray(vectors, np.float64)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"vectors are not a numeric array: {error}") from None
    if whole(dimensions) not in (2, 3):
        raise BadInputError(f"a map has 2 or 3 dimensions, not {dimensions!r}")
    dimensions, seed = int(dimensions), at_least(0, "seed", seed)
    if x.ndim != 2 or len(x) < 2 or x.shape[1] < dimensions:
        raise BadInputError(
            f"a map needs at least 2 vectors of dimension {dimensions} or more, not an array of shape {x.shape}"
        )
    if not np.isfinite(x).all():
        raise BadInputError(f"row {int((~np.isfinite(x)).any(1).argmax())} of the vectors contains NaN or infinity: remove it")
    for name, values in (("labels", labels), ("texts", texts)):
        if values is not None and len(values) != len(x):
            raise BadInputError(f"there are {len(values):,} {name} for {len(x):,} vectors: the numbers must be equal")
    explained = None
    if method == "pca":
        points, explained = _pca(x, dimensions)
    elif method == "umap":
        points = _umap(x, dimensions, seed)
    else:
        raise BadInputError(f"method must be 'pca' or 'umap', not {method!r}")
    return MapPicture(
        points,
        explained,
        None if labels is None else _clean(labels, scale),
        None if texts is None else tuple(str(text) for text in texts),
        method,
        title,
    )


def _pca(x: Points, dimensions: int) -> tuple[Points, tuple[float, ...]]:
    """Principal components by singular values; the largest weight of each is positive, so that no picture is a mirror image of another."""
    x = x - x.mean(0)
    _, size, directions = np.linalg.svd(x, full_matrices=False)
    largest = np.abs(directions).argmax(1)
    directions = directions * np.sign(directions[np.arange(len(directions)), largest])[:, None]
    total = float((size**2).sum())
    shares = (size**2 / total if total else size * 0).tolist()[:dimensions]
    return x @ directions[:dimensions].T, tuple(shares)


def _umap(x: Points, dimensions: int, seed: int) -> Points:
    try:
        import umap
    except ImportError:
        raise NativeBertError("method='umap' requires umap-learn: pip install umap-learn, or use method='pca'") from None
    if len(x) < dimensions + 3:
        raise BadInputError(f"UMAP needs at least {dimensions + 3} vectors, not {len(x)}: use method='pca'")
    neighbours = min(15, len(x) - 1)
    reducer = umap.UMAP(n_components=dimensions, n_neighbors=neighbours, metric="cosine", random_state=seed, n_jobs=1)
    return np.asarray(reducer.fit_transform(x), np.float64)


def _clean(labels: Sequence[Any], scale: bool | None) -> tuple[Any, ...]:
    """Labels as floats if they are a scale; else as they are, with None where one is missing."""
    listed = [label.item() if isinstance(label, np.generic) else label for label in labels]
    missing = [_missing(label) for label in listed]
    numbers = [is_number(label) for label in listed]
    numeric = not all(missing) and all(number or none for number, none in zip(numbers, missing))
    if scale and not numeric:
        raise BadInputError("scale=True needs labels that are numbers")
    if numeric and (scale or (scale is None and not all(isinstance(label, int) for label in listed if not _missing(label)))):
        return tuple(math.nan if none else float(label) for label, none in zip(listed, missing))
    return tuple(None if none else str(label) if isinstance(label, float) else label for label, none in zip(listed, missing))


def _missing(label: Any) -> bool:
    return label is None or bool(label != label)


def _size(count: int) -> float:
    """Diameter of a point, in typographic points; smaller where there are many."""
    return min(7.0, max(2.5, 100 / math.sqrt(count)))


def _natural(name: str) -> list[str | int]:
    """Sort key that puts "cluster 10" after "cluster 9"."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _cut(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _lines(text: str, width: int = 70, most: int = 8) -> list[str]:
    lines = textwrap.wrap(text, width) or [""]
    return lines if len(lines) <= most else [*lines[:most], "…"]


def _name(figure: Figure, axes: Any, points: Points, texts: Sequence[str]) -> None:
    """Write each text beside its point where it covers no other text and no point; where it would, it is left out."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    at = axes.transData.transform(points)
    frame = axes.get_window_extent()
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in at]
    for point, text in zip(points, texts):
        for x, y, across, up in _BESIDE:
            note = axes.annotate(
                _cut(text, 32), point, (x, y), textcoords="offset points", ha=across, va=up, fontsize=8, color="0.25"
            )
            plain([note])
            box = note.get_window_extent()
            if frame.x0 <= box.x0 and box.x1 <= figure.bbox.x1 - 5 and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            note.remove()
