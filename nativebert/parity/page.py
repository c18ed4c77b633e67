"""A parity report on one page that needs no network and no script: verdict, error by layer, every tensor with its limit."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from nativebert.console import printable

if TYPE_CHECKING:
    from nativebert.parity.report import Report, Step

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 6, 8, 34  # margins
MOST_LISTED = 200  # tensors, settings or texts that differ

_HEADER = ("", "error / allowed", "largest error", "allowed", "error of transformers", "relative", "ULP", "1 − cosine")
_OPERATION = ("by itself: error / allowed", "largest error", "allowed")


class Bar(NamedTuple):
    """A column of a chart.

    Attributes:
        name: of the step.
        label: below the axis.
        value: its height.
        allowed: the height that it may have.
        own: height of the reference's own error; None to draw none.
        passed: is it within its limit?
    """

    name: str
    label: str
    value: float
    allowed: float
    own: float | None
    passed: bool


def page(report: Report) -> str:
    """The report as HTML, whole and self-contained."""
    title = f"{report.facts.get('model', 'model')} against transformers"
    outputs = [step for step in report.steps if step.kind == "output"]
    operations = [step for step in report.steps if step.kind == "operation"]
    body = [
        f"<header><h1>Parity: {_text(title)}</h1>{_verdict(report)}</header>",
        _cards(report, outputs, operations),
        _charts(outputs, operations),
        _section(
            "Outputs",
            _table(outputs, _HEADER),
            "What the verdict is about: each tensor that the model returns, over all real tokens. The largest error is the largest absolute "
            "difference from transformers in float64.",
        ),
        _section(
            "Operations",
            _table(operations, (*_HEADER, *_OPERATION)),
            "Where an error comes from: each linear layer and norm, compared on its output and, by itself, with the reference's operation on "
            "the same input.",
        ),
        _section("Different weights", _pairs((name, f"by up to {_number(most)}") for name, most in report.weights.items())),
        _section(
            "Different settings",
            _pairs((name, f"{ours}, in the reference {theirs}") for name, (ours, theirs) in report.settings.items()),
        ),
        _section("Texts whose token ids differ", _pairs((str(n), text) for n, text in enumerate(report.tokens, 1))),
        _section("What was compared", _pairs(report.facts.items())),
    ]
    parts = {"TITLE": _text(title), "BODY": "\n".join(part for part in body if part)}
    template = files("nativebert.parity").joinpath("report.html").read_text("utf-8")
    return re.sub("@(TITLE|BODY)@", lambda found: parts[found[1]], template)


def _verdict(report: Report) -> str:
    word, _, reasons = report.verdict().partition(": ")
    lines = [line.strip() for line in reasons.splitlines()]
    said = _text(lines[0]) if len(lines) == 1 else f"<ul>{''.join(f'<li>{_text(line)}</li>' for line in lines)}</ul>"
    return f'<div class="verdict{"" if report.passed else " bad"}"><b>{word}</b>{said}</div>'


def _cards(report: Report, outputs: Sequence[Step], operations: Sequence[Step]) -> str:
    def within(steps: Sequence[Step]) -> str:
        return f"{sum(step.passed for step in steps):,} of {len(steps):,}"

    cards = [
        ("outputs within their limit", within(outputs)),
        ("operations within their limit", within(operations)),
        ("different weights", f"{len(report.weights):,}"),
        ("different settings", f"{len(report.settings):,}"),
        ("texts with different token ids", f"{len(report.tokens):,}"),
    ]
    return f'<ul class="cards">{"".join(f"<li>{name}<b>{value}</b></li>" for name, value in cards)}</ul>'


# ---- charts


def _charts(outputs: Sequence[Step], operations: Sequence[Step]) -> str:
    attention = [step for step in outputs if step.name.endswith(".attention")]
    states = [step for step in outputs if step not in attention]
    layers: dict[str, list[Step]] = {}
    for step in operations:
        layers.setdefault(_label(step.name), []).append(step)
    worst = {label: max(steps, key=_rank) for label, steps in layers.items()}
    charts = [
        ("Hidden states and outputs", "error", [_bar(step) for step in states]),
        ("Attention weights", "error", [_bar(step) for step in attention]),
        (
            "Operations, the worst of each layer",
            "error over limit",
            [Bar(step.name, label, _share(step), 1.0, None, step.passed) for label, step in worst.items()],
        ),
    ]
    figures = "".join(
        f"<figure><figcaption><h3>{title}</h3></figcaption>{_chart(title, y_name, bars)}</figure>"
        for title, y_name, bars in charts
        if bars
    )
    if not figures:
        return ""
    bad = '<span class="bar bad">beyond its limit</span>' if any(not step.passed for step in (*outputs, *operations)) else ""
    keys = f'<span class="bar">nativebert</span>{bad}<span class="own">transformers, same precision</span><span>allowed</span>'
    return _section("Error by layer", f'<div class="keys">{keys}</div><div class="charts">{figures}</div>')


def _bar(step: Step) -> Bar:
    return Bar(step.name, _label(step.name), step.max_abs, step.allowed, step.own, step.passed)


def _label(name: str) -> str:
    """What stands below a column: the number of the layer, or the beginning of another name."""
    parts = name.split(".")
    return (
        parts[1] if parts[0] == "layers" and len(parts) > 1 else {"embeddings": "emb.", "embed": "emb."}.get(parts[0], parts[0])
    )


def _chart(title: str, y_name: str, bars: Sequence[Bar]) -> str:
    """Columns on a logarithmic scale; what is infinite or NaN goes to the top."""
    drawn = [x for bar in bars for x in (bar.value, bar.allowed, bar.own or 0.0) if 0 < x < math.inf] or [1.0]
    low, high = math.floor(math.log10(min(drawn)) - 0.3), math.ceil(math.log10(max(drawn)) + 0.05)
    bottom, step = HEIGHT - BOTTOM, (WIDTH - LEFT - RIGHT) / len(bars)

    def up(value: float) -> float:
        at = high if not value < math.inf else max(low, math.log10(value)) if value > 0 else low
        return bottom - (at - low) / (high - low) * (bottom - TOP)

    parts = []
    for power in range(low, high + 1, max(1, (high - low) // 5)):
        y = up(10.0**power)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        tick = f"1e{power}" if not -2 < power < 4 else f"{10.0**power:,.10g}"
        parts.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{tick}</text>')
    after = -1.0  # where the last label ends
    limit = []
    for n, bar in enumerate(bars):
        x, width = LEFT + n * step, min(step * 0.7, 26)
        middle, top = x + step / 2, up(bar.value)
        own = "" if bar.own is None else f", transformers {_number(bar.own)}"
        told = f"{_text(bar.name)}: {_number(bar.value)} of {_number(bar.allowed)} allowed{own}"
        bad = "" if bar.passed else " bad"
        parts.append(
            f'<rect class="bar{bad}" x="{middle - width / 2:.1f}" width="{width:.1f}" y="{top:.1f}" height="{max(bottom - top, 1):.1f}"><title>{told}</title></rect>'
        )
        if bar.own is not None:
            parts.append(
                f'<line class="own" x1="{middle - step * 0.45:.1f}" x2="{middle + step * 0.45:.1f}" y1="{up(bar.own):.1f}" y2="{up(bar.own):.1f}"/>'
            )
        limit.append(f"{x:.1f},{up(bar.allowed):.1f} {x + step:.1f},{up(bar.allowed):.1f}")
        wide = 6.5 * len(bar.label) + 4
        start, end = min(middle - wide / 2, WIDTH - wide), min(middle + wide / 2, WIDTH)
        if start > after:
            parts.append(f'<text x="{(start + end) / 2:.1f}" y="{bottom + 15}" text-anchor="middle">{_text(bar.label)}</text>')
            after = end
    parts.append(f'<polyline class="limit" points="{" ".join(limit)}"/>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 3}">{y_name} by layer</text>')
    worst = max(bars, key=lambda bar: bar.value if bar.value == bar.value else math.inf)
    label = f"{title}: at most {_number(worst.value)}, {_text(worst.name)}"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}"><title>{label}</title>{"".join(parts)}</svg>'


# ---- tables


def _table(steps: Sequence[Step], header: Sequence[str]) -> str:
    if not steps:
        return ""
    head = "".join(f'<th scope="col"{" class=number" if n else ""}>{name}</th>' for n, name in enumerate(header))
    rows = []
    for step in steps:
        cells = [
            _ratio(step.max_abs, step.allowed), _cell(step.max_abs), _cell(step.allowed), _cell(step.own), _cell(step.relative),
            f'<td class="number">{_plain(step.ulp)}</td>', _cell(max(0.0, 1 - step.cosine)),
        ]  # fmt: skip
        if step.kind == "operation":
            cells += [_ratio(step.local, step.local_allowed), _cell(step.local), _cell(step.local_allowed)]
        mark = "" if step.passed else ' class="bad"'
        rows.append(f'<tr{mark}><th scope="row">{_text(step.name)}</th>{"".join(cells)}</tr>')
    return f'<div class="scroll" tabindex="0"><table class="steps"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _cell(value: float) -> str:
    return f'<td class="number">{_number(value)}</td>'


def _ratio(value: float, allowed: float) -> str:
    """An error over its limit, with a bar behind; in words where it is beyond, as not everybody sees the colour."""
    share = _over(value, allowed)
    beyond = " differs" if not value <= allowed else ""
    width = min(share, 1.0) if share == share else 1.0
    return f'<td class="number ratio" style="--share: {width:.3f}">{_plain(share)}{beyond}</td>'


def _over(value: float, allowed: float) -> float:
    return value / allowed if allowed else (0.0 if value == 0 else math.inf if value > 0 else math.nan)


def _share(step: Step) -> float:
    """Of the two errors of an operation the one that is nearer to its limit, over that limit; NaN if one is NaN."""
    shares = _over(step.max_abs, step.allowed), _over(step.local, step.local_allowed)
    return math.nan if any(map(math.isnan, shares)) else max(shares)


def _rank(step: Step) -> float:
    share = _share(step)
    return math.inf if math.isnan(share) else share


def _pairs(facts: Iterable[tuple[str, str]]) -> str:
    listed = list(facts)
    rows = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>' for name, value in listed[:MOST_LISTED]
    )
    more = f'<p class="note">and {len(listed) - MOST_LISTED:,} more</p>' if len(listed) > MOST_LISTED else ""
    return f'<table class="facts"><tbody>{rows}</tbody></table>{more}' if rows else ""


# ---- HTML


def _section(title: str, content: str, note: str = "") -> str:
    """A section of the page; nothing without content."""
    about = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{title}</h2>{about}{content}</section>" if content else ""


def _text(text: str) -> str:
    """Text from strangers as HTML."""
    return html.escape(printable(text))


def _number(value: float) -> str:
    return f"{value:.1e}" if math.isfinite(value) else "NaN" if math.isnan(value) else "infinite"


def _plain(value: float) -> str:
    return f"{value:,.2f}" if 0 <= value < 1e6 else _number(value)
