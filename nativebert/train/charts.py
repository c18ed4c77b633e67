"""Charts as inline SVG, without scripts: lines, points, calibration. Colours are those of the page, by class."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nativebert.train.metrics import Calibration

Point = tuple[float, float]

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 12, 38  # margins
MOST_POINTS = 400  # of a line


def escape(text: str) -> str:
    """Text from strangers as HTML; control characters and lone surrogates, which HTML cannot have, are shown as U+FFFD."""
    return html.escape(re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text))


class Series(NamedTuple):
    """A line.

    Attributes:
        name: for the legend.
        points: by x.
        dots: whether each point is drawn.
    """

    name: str
    points: Sequence[Point]
    dots: bool = False


class Scale:
    """From numbers to places on one axis.

    Args:
        values: what must fit.
        start, end: places of the lowest and the highest.
    """

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        if low == high:
            margin = abs(low) / 2 or 1.0
            low, high = low - margin, high + margin
        self.ticks = ticks(low, high)
        self.low, self.high = min(low, self.ticks[0]), max(high, self.ticks[-1])
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers within a range, about ``count`` of them; all of the range but less than a step at each end lies between them."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def short(value: float) -> str:
    """A number, as an axis has it."""
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.10g}" if float(value).is_integer() else f"{value:.4g}"


def lines(title: str, series: Sequence[Series], x_name: str, *, best: float | None = None, zero: bool = False) -> str:
    """A chart of lines over steps.

    Args:
        title: what is drawn, for those who do not see it.
        series: the lines; points that are not finite are left out.
        x_name: of the axis below.
        best: where to draw a vertical line; None for nowhere.
        zero: whether the axis begins at 0.
    """
    drawn = [one._replace(points=[p for p in one.points if math.isfinite(p[1])]) for one in series]
    drawn = [one for one in drawn if one.points]
    if not drawn:
        return ""
    xs = [x for one in drawn for x, _ in one.points] + ([best] if best is not None else [])
    ys = [y for one in drawn for _, y in one.points]
    across = Scale(xs, LEFT, WIDTH - RIGHT)
    up = Scale([*ys, 0.0] if zero else ys, HEIGHT - BOTTOM, TOP)
    parts = [_axes(across, up, x_name, "")]
    if best is not None:
        x = across(best)
        parts.append(
            f'<line class="best" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"><title>best: step {short(best)}</title></line>'
        )
    for n, one in enumerate(drawn):
        points, averaged = _thinned(one.points)
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        name = escape(one.name + (f", means of {averaged} neighbours" if averaged > 1 else ""))
        parts.append(f'<polyline class="line s{n}" points="{path}"><title>{name}</title></polyline>')
        if one.dots or len(points) == 1:
            parts += (
                f'<circle class="dot s{n}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="3"><title>{name}: {y:.5g} at {short(x)}</title></circle>'
                for x, y in points
            )
    ends = "; ".join(f"{one.name} from {one.points[0][1]:.4g} to {one.points[-1][1]:.4g}" for one in drawn)
    keys = "".join(f'<span class="key s{n}">{escape(one.name)}</span>' for n, one in enumerate(drawn)) if len(drawn) > 1 else ""
    marked = '<span class="key best">best</span>' if best is not None else ""
    return f'<div class="keys">{keys}{marked}</div>' * bool(keys or marked) + _svg(title, ends, parts)


def scatter(title: str, x: tuple[str, NDArray[np.float64]], y: tuple[str, NDArray[np.float64]], most: int = 2000) -> str:
    """Points of two numbers each; of more than ``most``, evenly chosen ones."""
    finite = np.isfinite(x[1]) & np.isfinite(y[1])
    xs, ys = x[1][finite], y[1][finite]
    if not len(xs):
        return ""
    chosen = np.unique(np.linspace(0, len(xs) - 1, min(most, len(xs))).astype(np.int64))
    across, up = Scale(xs.tolist(), LEFT, WIDTH - RIGHT), Scale(ys.tolist(), HEIGHT - BOTTOM, TOP)
    dots = [f'<circle class="point" cx="{across(a):.1f}" cy="{up(b):.1f}" r="2.2"/>' for a, b in zip(xs[chosen], ys[chosen])]
    about = f"{len(chosen):,} of {len(xs):,} examples"
    return _svg(title, about, [_axes(across, up, x[0], y[0]), *dots]) + f'<p class="note">{about}.</p>' * (
        len(chosen) < len(xs)
    )


def reliability(title: str, found: Calibration) -> str:
    """Share of right predictions by their probability: a bar for each bin, and the diagonal, on which both are equal. The higher the share of all
    predictions that a bin has, the darker is its bar."""
    across, up = Scale([0.0, 1.0], LEFT, WIDTH - RIGHT), Scale([0.0, 1.0], HEIGHT - BOTTOM, TOP)
    bins, total = len(found.counts), max(int(found.counts.sum()), 1)
    parts = [_axes(across, up, "probability", "share right")]
    for n, (count, confidence, accuracy) in enumerate(
        zip(found.counts.tolist(), found.confidence.tolist(), found.accuracy.tolist())
    ):
        if not count:
            continue
        x, width = across(n / bins), across((n + 1) / bins) - across(n / bins)
        shade = 0.25 + 0.75 * math.sqrt(count / total)
        told = f"{n / bins:.1f} to {(n + 1) / bins:.1f}: {count:,} predictions, mean probability {confidence:.3f}, {accuracy:.3f} right"
        parts.append(
            f'<rect class="bar" x="{x + 1:.1f}" width="{width - 2:.1f}" y="{up(accuracy):.1f}" height="{up(0) - up(accuracy):.1f}" '
            f'fill-opacity="{shade:.2f}"><title>{told}</title></rect>'
        )
        parts.append(
            f'<circle class="dot s1" cx="{across(confidence):.1f}" cy="{up(accuracy):.1f}" r="3"><title>{told}</title></circle>'
        )
    parts.append(f'<line class="diagonal" x1="{across(0):.1f}" y1="{up(0):.1f}" x2="{across(1):.1f}" y2="{up(1):.1f}"/>')
    return _svg(title, f"expected calibration error {found.error:.4f}", parts)


def heat_map(title: str, labels: Sequence[str], counts: NDArray[np.int64]) -> str:
    """A matrix of many labels: a square for each count above 0, darker for a larger share of its row."""
    side = 560 / len(labels)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    parts = ['<rect class="frame" x="0" y="0" width="560" height="560"/>']
    for row, column in zip(*np.nonzero(counts)):
        told = escape(f"{labels[row]}, predicted {labels[column]}: {counts[row, column]:,}")
        kind = "right" if row == column else "wrong"
        parts.append(
            f'<rect class="{kind}" x="{column * side:.2f}" y="{row * side:.2f}" width="{side:.2f}" height="{side:.2f}" '
            f'fill-opacity="{0.2 + 0.8 * shares[row, column]:.2f}"><title>{told}</title></rect>'
        )
    right = float(counts.trace() / max(counts.sum(), 1))
    return _svg(title, f"{len(labels)} labels, {right:.1%} on the diagonal", parts, (560, 560))


def _thinned(points: Sequence[Point]) -> tuple[Sequence[Point], int]:
    """At most :data:`MOST_POINTS`: means of neighbours, and of how many."""
    size = math.ceil(len(points) / MOST_POINTS)
    if size == 1:
        return points, 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], math.fsum(y for _, y in group) / len(group)) for group in groups], size


def _axes(across: Scale, up: Scale, x_name: str, y_name: str) -> str:
    bottom = HEIGHT - BOTTOM
    parts = []
    for tick in up.ticks:
        y = up(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(tick)}</text>')
    parts += [
        f'<text x="{across(tick):.1f}" y="{bottom + 15}" text-anchor="middle">{short(tick)}</text>' for tick in across.ticks
    ]
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_name)}</text>')
    if y_name:
        middle = (TOP + bottom) / 2
        parts.append(
            f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{escape(y_name)}</text>'
        )
    return "".join(parts)


def _svg(title: str, description: str, parts: Sequence[str], size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    label = escape(f"{title}: {description}")
    return (
        f'<svg viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{label}"><title>{label}</title>{"".join(parts)}</svg>'
    )
