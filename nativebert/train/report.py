"""``report.html``: a run on one page that needs no network and no script: curves, predictions, data, settings."""

from __future__ import annotations

import datetime
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import singledispatch
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from os import PathLike
from pathlib import Path
from platform import platform, python_version
from typing import Any

import numpy as np

from nativebert.io.write import output_file
from nativebert.train import charts, metrics
from nativebert.train.charts import Series, escape
from nativebert.train.data import DataReport
from nativebert.train.evaluation import Columns, Confusion, Evaluation, Examples, Reliability, Scatter

NAME = "report.html"
MOST_CELLS = 20  # labels of a confusion matrix that is written in numbers
MOST_DRAWN = 200  # labels of one that is drawn
MOST_CONFUSIONS = 20
MOST_LETTERS = 1500  # of a text
MOST_ROWS = 500  # of a table

History = Sequence[Mapping[str, Any]]


def write_report(
    folder: str | PathLike[str],
    history: History,
    evaluation: Evaluation | None,
    data: DataReport | None,
    settings: Mapping[str, Any],
    command: str,
    *,
    title: str = "Training report",
    best_step: int | None = None,
    when: datetime.datetime | None = None,
) -> Path:
    """Write ``report.html``.

    Args:
        folder: where to.
        history: the lines of the log (``loop.state.log_history``): ``loss``, ``learning_rate``, ``eval_...``, each with its ``step``.
        evaluation: predictions of the model that was saved; None without an evaluation.
        data: what was found in the training data.
        settings: of the run, by name.
        command: that it was started with.
        title: what the page is called, as the name of the model.
        best_step: step of the saved model; None for the last one.
        when: it was finished; None for now.

    Returns:
        The page's path.

    Raises:
        BadInputError: the folder cannot be written to.
        DiskFullError: no room.
    """
    at = (when or datetime.datetime.now().astimezone()).isoformat(" ", "seconds")
    content = {
        "title": title, "finished": at, "command": command, "best_step": best_step, "settings": settings, "versions": versions(),
        "metrics": _final(history, best_step), "data": None if data is None else data.as_dict(), "history": list(history),
    }  # fmt: skip
    sections = [] if evaluation is None else evaluation.sections()
    body = [
        *_curves(history, best_step),
        *(_titled(section.title, _html(section), section.note) for section in sections),
        *([] if data is None else [_titled("Data", _pairs(data.lines()), f"Training data: {data.name}.")]),
        _titled("Settings", _pairs((name, _value(value)) for name, value in sorted(settings.items()))),
        _titled("How it was run", _how(command, at, history)),
    ]
    body.insert(0, _header(title, history, best_step, re.findall('<h2 id="(.*?)">(.*?)</h2>', "".join(body))))
    # JSON as ASCII, without <, cannot end the element that it stands in
    parts = {"TITLE": escape(title), "BODY": "\n".join(body), "DATA": _json(content).replace("<", "\\u003c")}
    template = files("nativebert.train").joinpath(NAME).read_text("utf-8")
    page = re.sub("@(TITLE|BODY|DATA)@", lambda found: parts[found[1]], template)
    path = Path(folder) / NAME
    with output_file(os.fspath(path)) as file:
        file.write(page.encode())
    return path


def versions() -> dict[str, str]:
    """Versions of what a run depends on."""
    found = {"python": python_version(), "platform": platform()}
    for name in ("nativebert", "torch", "tokenizers", "safetensors", "numpy", "scikit-learn", "datasets"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


# ---- the parts of the page


def _header(title: str, history: History, best_step: int | None, anchors: Sequence[tuple[str, str]]) -> str:
    """Title, metrics, and links to the sections: their names in the page, and their titles as HTML."""
    cards = "".join(
        f"<li>{escape(_metric_title(name))}<b>{_number(value)}</b></li>" for name, value in _final(history, best_step).items()
    )
    links = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name in anchors)
    return f'<header><h1>{escape(title)}</h1><nav aria-label="Sections">{links}</nav></header><ul class="cards">{cards}</ul>'


def _curves(history: History, best_step: int | None) -> list[str]:
    """Charts of all that the log has over steps."""
    names = [name for name in dict.fromkeys(key for line in history for key in line) if name not in ("step", "epoch")]
    points = {
        name: [(float(line["step"]), float(line[name])) for line in history if name in line]
        for name in names
        if not name.startswith("train_")
    }
    evaluated = [name for name in points if name.startswith("eval_")]
    drawn = []
    losses = [Series("training", points.pop("loss", [])), Series("evaluation", points.get("eval_loss", []), dots=True)]
    drawn.append(("Loss", charts.lines("Loss", losses, "step", best=best_step)))
    for name in evaluated:
        if name != "eval_loss":
            title = _metric_title(name.removeprefix("eval_"))
            better = "higher is better" if metrics.greater_is_better(name) else "lower is better"
            line = charts.lines(title, [Series(title, points[name], dots=True)], "step", best=best_step)
            drawn.append((f"{title} ({better})", line))
    for name, title in (("learning_rate", "Learning rate"), ("grad_norm", "Norm of the gradient, before clipping")):
        drawn.append((title, charts.lines(title, [Series(title, points.get(name, []))], "step", zero=True)))
    figures = "".join(
        f"<figure><figcaption><h3>{escape(title)}</h3></figcaption>{chart}</figure>" for title, chart in drawn if chart
    )
    if not figures:
        return []
    return [_titled("Curves", f'<div class="charts">{figures}</div>' + _evaluations(history, evaluated, best_step))]


def _evaluations(history: History, names: Sequence[str], best_step: int | None) -> str:
    """A table of all evaluations."""
    lines = [line for line in history if any(name in line for name in names)]
    if not lines:
        return ""
    header = ["Step", "Epoch", *(_metric_title(name.removeprefix("eval_")) for name in names)]
    rows = [[line["step"], line.get("epoch", ""), *(line.get(name, "") for name in names)] for line in lines]
    best = [n for n, line in enumerate(lines) if line["step"] == best_step]
    return f"<details><summary>All evaluations</summary>{_table(header, rows, best)}</details>"


def _how(command: str, at: str, history: History) -> str:
    last = next((line for line in reversed(history) if "train_runtime" in line), {})
    facts = [("finished", at)]
    if last:
        facts.append(("training time", f"{last['train_runtime']:,.1f} s, evaluations and checkpoints included"))
        if "train_samples_per_second" in last:
            facts.append(("speed", f"{last['train_samples_per_second']:,.1f} examples/s"))
    return f"<pre><code>{escape(command)}</code></pre>{_pairs([*facts, *versions().items()])}"


@singledispatch
def _html(section: Any) -> str:
    """A section of an evaluation."""
    raise TypeError(f"{type(section).__name__} is not a section")


@_html.register
def _(section: Columns) -> str:
    return _table(section.header, section.rows)


@_html.register
def _(section: Scatter) -> str:
    return f"<figure>{charts.scatter(section.title, section.x, section.y)}</figure>"


@_html.register
def _(section: Reliability) -> str:
    found = section.calibration
    bins = len(found.counts)
    rows = [
        [f"{n / bins:.1f} to {(n + 1) / bins:.1f}", int(found.counts[n]), found.confidence[n], found.accuracy[n]]
        for n in range(bins)
        if found.counts[n]
    ]
    table = _table(("Probability", "Predictions", "Mean probability", "Share right"), rows)
    chart = charts.reliability(section.title, found)
    return f"<figure>{chart}</figure><details><summary>Numbers</summary>{table}</details>"


@_html.register
def _(section: Examples) -> str:
    items = []
    for example in section.examples:
        texts = "".join(f'<p class="text" dir="auto">{_shown(text)}</p>' for text in example.texts)
        facts = "".join(f'<dt>{escape(name)}</dt><dd dir="auto">{_shown(value)}</dd>' for name, value in example.facts)
        items.append(f'<li>{texts}<dl class="facts">{facts}</dl></li>')
    return f'<ol class="examples">{"".join(items)}</ol>'


@_html.register
def _(section: Confusion) -> str:
    labels, counts = section.labels, section.counts
    wrong = counts - np.diag(counts.diagonal())
    order = [divmod(int(n), len(labels)) for n in np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]]
    rows = [[labels[a], labels[b], int(wrong[a, b]), float(wrong[a, b] / counts[a].sum())] for a, b in order if wrong[a, b]]
    pairs = _table(("Label", "Predicted", "Count", "Share of the label"), rows)
    shown = f"The {len(rows)} most frequent confusions" if np.count_nonzero(wrong) > len(rows) else "Confusions"
    listed = (
        f"<details{' open' if len(labels) > MOST_CELLS else ''}><summary>{shown}</summary>{pairs}</details>" if rows else ""
    )
    if len(labels) > MOST_DRAWN:
        return f'<p class="note">The matrix of {len(labels)} labels is too large to draw.</p>{listed}'
    if len(labels) > MOST_CELLS:
        return f"<figure>{charts.heat_map(section.title, labels, counts)}</figure>{listed}"
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    head = "".join(f'<th scope="col">{_shown(label, 40)}</th>' for label in labels)
    lines = []
    for n, label in enumerate(labels):
        cells = "".join(
            f'<td class="{"right" if n == k else "wrong"}" style="--share:{shares[n, k]:.3f}">{counts[n, k]:,}</td>'
            for k in range(len(labels))
        )
        lines.append(f'<tr><th scope="row">{_shown(label, 40)}</th>{cells}</tr>')
    corner = '<td style="border: none" aria-hidden="true"></td>'
    return f'<div class="scroll" tabindex="0"><table class="confusion"><thead><tr>{corner}{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>{listed}'


# ---- HTML


def _titled(title: str, content: str, note: str = "") -> str:
    """A section of the page."""
    about = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        f'<section aria-labelledby="{_anchor(title)}"><h2 id="{_anchor(title)}">{escape(title)}</h2>{about}{content}</section>'
    )


def _anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]], best: Sequence[int] = ()) -> str:
    """A table; the first column names its rows, and numbers stand right."""
    numbers = [bool(rows) and not isinstance(rows[0][n], str) for n in range(len(header))]
    sides = [' class="number"' if number else "" for number in numbers]
    head = "".join(f'<th scope="col"{side}>{escape(name)}</th>' for name, side in zip(header, sides))
    lines = []
    for n, row in enumerate(rows[:MOST_ROWS]):
        cells = "".join(f"<td{side}>{_shown(_value(cell), 200)}</td>" for cell, side in zip(row[1:], sides[1:]))
        marked = ' class="best"' if n in best else ""
        lines.append(f'<tr{marked}><th scope="row"{sides[0]}>{_shown(_value(row[0]), 200)}</th>{cells}</tr>')
    more = f'<p class="note">{len(rows) - MOST_ROWS:,} more rows are not shown.</p>' if len(rows) > MOST_ROWS else ""
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>{more}'


def _pairs(facts: Iterable[tuple[str, str]]) -> str:
    """Names with their values."""
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{_shown(value)}</td></tr>' for name, value in facts)
    return f'<div class="scroll" tabindex="0"><table><tbody>{rows}</tbody></table></div>'


def _shown(text: str, most: int = MOST_LETTERS) -> str:
    """Text from strangers, escaped; of a long one the beginning, and how much more there is."""
    if len(text) <= most:
        return escape(text)
    return f'{escape(text[:most])}<span class="note"> … {len(text) - most:,} more characters</span>'


def _value(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return _number(float(value))
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return f"{int(value):,}"
    return value if isinstance(value, str) else "none" if value is None else str(value)


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "–" if math.isnan(value) else str(value)
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.4g}"


def _metric_title(name: str) -> str:
    metric = metrics.NAMES.get(name)
    return metric.title if metric is not None else name


def _final(history: History, best_step: int | None) -> dict[str, float]:
    """Metrics of the evaluation of the saved model: that of the best step, or the last one."""
    lines = [line for line in history if any(name.startswith("eval_") for name in line)]
    chosen = [line for line in lines if line["step"] == best_step] or lines
    return {
        name.removeprefix("eval_"): float(value) for name, value in (chosen or [{}])[-1].items() if name.startswith("eval_")
    }


def _json(content: Any) -> str:
    """JSON that every parser reads: numbers that are not finite are null."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(one) for key, one in value.items()}
        if isinstance(value, list | tuple | set | np.ndarray):
            return [plain(one) for one in value]
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value if value is None or isinstance(value, str | int | float) else str(value)

    return json.dumps(plain(content))
