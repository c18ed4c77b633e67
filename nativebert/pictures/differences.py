"""Bar chart of the differences between two models, step by step, with the limit of each and the reference's own error."""

from __future__ import annotations

import os
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from nativebert.errors import BadInputError
from nativebert.io.write import check_ending
from nativebert.pictures.figure import DRAWN, new_figure, plain, write_figure


class Step(Protocol):
    """One bar: a step of the two models.

    Attributes:
        name: below the bar.
        max_abs: height of the bar: largest absolute difference from the reference.
        allowed: its limit.
        own: the reference's own error in the same precision.
        passed: whether the difference is within the limit.
    """

    @property
    def name(self) -> str: ...
    @property
    def max_abs(self) -> float: ...
    @property
    def allowed(self) -> float: ...
    @property
    def own(self) -> float: ...
    @property
    def passed(self) -> bool: ...


def check_plot(path: str | PathLike[str]) -> None:
    """Check that a plot can be drawn to ``path``, before the work.

    Raises:
        BadInputError: an unknown ending, or a file that cannot be written.
        NativeBertError: matplotlib (extra ``plot``) is not installed.
    """
    new_figure(1, 1)
    check_ending(os.fspath(path), DRAWN, "differences.png")


def plot(steps: Sequence[Step], title: str, path: str | PathLike[str]) -> None:
    """Draw the differences, in the order of ``steps``, on a logarithmic scale.

    Raises:
        BadInputError: no steps, an unknown ending, or a file that cannot be written.
        NativeBertError: matplotlib (extra ``plot``) is not installed.
    """
    check_plot(path)
    if not steps:
        raise BadInputError("there is nothing to draw: the two could not be run on the same tokens")
    top = 1e3 * max(step.allowed for step in steps)  # height of what is infinitely far off
    floor = max(1e-12, 0.1 * min(max(step.own, 1e-9) for step in steps))

    def height(value: float) -> float:
        return min(max(value, floor), top) if value == value else top

    figure = new_figure(max(6.0, 0.28 * len(steps) + 2), 4.4)
    axes: Any = figure.subplots()
    for passed, colour, label in ((True, "#2a7f62", "nativebert"), (False, "#c0392b", "nativebert, too far off")):
        columns = [n for n, step in enumerate(steps) if step.passed is passed]
        if columns:
            axes.bar(columns, [height(steps[n].max_abs) for n in columns], color=colour, label=label)
    axes.plot([height(s.own) for s in steps], "_", color="black", markersize=9, label="transformers, same precision")
    axes.plot([height(s.allowed) for s in steps], color="0.5", linestyle="--", label="allowed")
    axes.set_yscale("log")
    axes.set_ylim(floor, 3 * max(height(max(s.max_abs, s.allowed)) for s in steps))
    axes.set_xlim(-0.7, len(steps) - 0.3)
    axes.set_xticks(range(len(steps)), [s.name for s in steps], rotation=90, fontsize=8)
    axes.set_ylabel("largest difference from float64")
    axes.spines[["top", "right"]].set_visible(False)
    plain([figure.suptitle(title, fontsize=11)])
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    write_figure(Path(path), figure)
