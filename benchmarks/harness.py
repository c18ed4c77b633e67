"""Timing that holds on a machine whose speed drifts: contenders take turns in random order, and only ratios within a round count."""

from __future__ import annotations

import csv
import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

K = TypeVar("K")

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Attributes:
        name: for the table.
        run: does the whole work once. If it gives seconds, these are what counts, and not what the call took.
        setting: the setting it runs at (its best one, where there was a choice).
        warm: what to run, untimed, just before each timed run.
    """

    name: str
    run: Callable[[], object]
    setting: str = ""
    warm: Callable[[], object] | None = None


def best_setting(make: Callable[[int], Callable[[], object]], choices: list[int]) -> int:
    """The choice with the shortest of two runs, after one to warm up."""
    took = {}
    for choice in choices:
        run = make(choice)
        run()
        took[choice] = min(_seconds(run) for _ in range(2))
    return min(took, key=lambda choice: took[choice])


def sweep(runs: Mapping[K, Callable[[], object]], short: float = 1.0) -> K:
    """The fastest of several settings: each once, then the two fastest again, if they are ``short`` enough that one run proves little."""
    took = {key: _seconds(run) for key, run in runs.items()}
    for key in sorted(took, key=lambda key: took[key])[:2]:
        for _ in range(2 if len(runs) > 1 and took[key] < short else 0):
            took[key] = min(took[key], _seconds(runs[key]))
    return min(took, key=lambda key: took[key])


def interleave(
    contenders: list[Contender], rounds: int, seed: int = 0, *, uncounted: int = 1, rest: float = 0.0
) -> dict[str, list[float]]:
    """Seconds of each contender in each round.

    Args:
        contenders: in each round they run in another random order.
        rounds: that are counted.
        seed: of the orders.
        uncounted: rounds that come first and do not count.
        rest: seconds of rest before each, for the waiting threads of the one before to fall asleep.
    """
    order = random.Random(seed)
    seconds: dict[str, list[float]] = {c.name: [] for c in contenders}
    for number in range(uncounted + rounds):
        for contender in order.sample(contenders, len(contenders)):
            time.sleep(rest)
            if contender.warm is not None:
                contender.warm()
            took = _seconds(contender.run)
            if number >= uncounted:
                seconds[contender.name].append(took)
    return seconds


def ratios(seconds: dict[str, list[float]], base: str) -> dict[str, tuple[float, float, float]]:
    """How many times longer than ``base`` each took, round by round: least, median, most."""
    found = {}
    for name, times in seconds.items():
        each = [t / b for t, b in zip(times, seconds[base], strict=True)]
        found[name] = (min(each), statistics.median(each), max(each))
    return found


def show(contenders: list[Contender], seconds: dict[str, list[float]], base: str) -> None:
    """Print the median of each contender, and its ratio to ``base`` with the range over the rounds."""
    for name, (least, median, most) in ratios(seconds, base).items():
        setting = next(c.setting for c in contenders if c.name == name)
        print(f"{name:24} {statistics.median(seconds[name]):8.3f} s   x{median:.2f}  ({least:.2f} to {most:.2f})   {setting}")


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    import os

    cpu = ""
    if (info := Path("/proc/cpuinfo")).exists():
        cpu = next(
            (line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")), ""
        )
    found = {"python": platform.python_version(), "system": platform.platform(), "cpu": cpu, "cores": str(os.cpu_count())}
    for package in ("nativebert", "torch", "transformers", "sentence-transformers", "tokenizers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def save(name: str, contenders: list[Contender], seconds: dict[str, list[float]], base: str, work: dict[str, object]) -> Path:
    """Write the figures as CSV, and all that goes with them as JSON; returns the CSV's path."""
    RESULTS.mkdir(exist_ok=True)
    compared = ratios(seconds, base)
    path = RESULTS / f"{name}.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            ["contender", "setting", "median_seconds", f"times_{base}_min", f"times_{base}_median", f"times_{base}_max"]
        )
        for c in contenders:
            rows.writerow(
                [c.name, c.setting, f"{statistics.median(seconds[c.name]):.4f}", *(f"{r:.3f}" for r in compared[c.name])]
            )
    facts = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "work": work, "machine": machine(), "seconds": seconds}
    path.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
    return path


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    found = run()
    return found if isinstance(found, float) else time.perf_counter() - began
