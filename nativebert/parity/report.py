"""The result of a comparison with transformers: each step's difference and its limit, and the verdict in words."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

from nativebert.io.write import check_ending, output_file


@dataclass(frozen=True)
class Step:
    """One tensor that both models computed.

    Attributes:
        name: ``embeddings``, ``layers.3.attention`` (its weights), ``layers.3``, ``pooler``, ``logits.classify``; or an operation by our name.
        kind: ``output``, which the verdict is about, or ``operation``, which says where it comes from.
        max_abs: largest absolute difference from the reference in float64, over all real tokens.
        relative: that, over the reference's largest value.
        ulp: that, in units in the last place of the reference's largest value, in the precision that was compared.
        cosine: least cosine between two rows.
        own: the reference's own largest difference, in the same precision.
        allowed: the most that ``max_abs`` may be.
        local: of an operation: how far it is from the reference's on the very input that ours had, whatever came before.
        local_allowed: the most that ``local`` may be.
    """

    name: str
    kind: str
    max_abs: float
    relative: float
    ulp: float
    cosine: float
    own: float
    allowed: float
    local: float = 0.0
    local_allowed: float = 0.0

    @property
    def passed(self) -> bool:
        return self.max_abs <= self.allowed and self.local <= self.local_allowed  # False for NaN


@dataclass(frozen=True)
class Report:
    """The result of :func:`nativebert.parity.check.check`.

    Attributes:
        steps: outputs and operations, in the order of execution.
        weights: parameters whose values differ from the reference's, with the largest difference.
        settings: settings that differ between the two configs: name -> (ours, the reference's).
        tokens: texts whose token ids differ.
        facts: revision, hashes, versions, device, and what was run.
    """

    steps: tuple[Step, ...]
    weights: dict[str, float]
    settings: dict[str, tuple[str, str]]
    tokens: tuple[str, ...]
    facts: dict[str, str]

    def _repr_html_(self) -> str | None:
        from nativebert.pictures.figure import framed

        return framed(self.html, 720)

    @property
    def passed(self) -> bool:
        outputs = [step for step in self.steps if step.kind == "output"]
        differs = self.weights or self.tokens or self.settings
        return bool(outputs) and all(step.passed for step in outputs) and not differs

    @property
    def first(self) -> Step | None:
        """The first operation beyond its limit, or else the first such output."""
        off = [step for step in self.steps if not step.passed]
        return next((step for step in off if step.kind == "operation"), off[0] if off else None)

    @property
    def worst(self) -> Step:
        """The output that is nearest to its limit, or farthest beyond."""
        return max(
            (s for s in self.steps if s.kind == "output"),
            key=lambda s: s.max_abs / s.allowed if s.max_abs == s.max_abs else math.inf,
        )

    def verdict(self) -> str:
        """The verdict and its reasons, one per line."""
        if self.passed:
            worst = self.worst
            return (
                f"PASS: the same model. Nearest to its limit: {worst.name}, {worst.max_abs:.1e} of {worst.allowed:.1e} allowed."
            )
        lines = []
        if self.first is not None:
            s = self.first
            off, most = (s.max_abs, s.allowed) if s.local <= s.local_allowed else (s.local, s.local_allowed)
            alone = "" if s.local <= s.local_allowed else " by itself, given the same input"
            lines.append(f"the first {s.kind} that diverges is {s.name}: {off:.1e}{alone}, where {most:.1e} is allowed")
        elif not self.steps:
            lines.append("the two cannot be run on the same tokens")
        lines += [f"weights differ: {name} by up to {most:.1e}" for name, most in list(self.weights.items())[:8]]
        if len(self.weights) > 8:
            lines.append(f"and {len(self.weights) - 8} more tensors")
        settings = list(self.settings.items())
        lines += [f"settings differ: {name} is {ours}, in the reference {theirs}" for name, (ours, theirs) in settings[:8]]
        if len(settings) > 8:
            lines.append(f"and {len(settings) - 8} more settings")
        lines += [f"token ids differ: {text[:60]!r}" for text in self.tokens[:3]]
        return "FAIL: " + "\n      ".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return {
            "passed": self.passed,
            "verdict": self.verdict(),
            "facts": self.facts,
            "weights": self.weights,
            "settings": {k: list(v) for k, v in self.settings.items()},
            "tokens": list(self.tokens),
            "steps": [{**asdict(step), "passed": step.passed} for step in self.steps],
        }

    def json(self) -> str:
        """:meth:`as_dict` as JSON text."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False)

    def html(self) -> str:
        """The report as a page: the verdict, charts of the error by layer, and every output and operation with its limit."""
        from nativebert.parity.page import page

        return page(self)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the page, which needs no network, to an ``.html`` file.

        Raises:
            BadInputError: another ending, or a place that cannot be written to.
        """
        check_page(path)
        with output_file(os.fspath(path)) as file:
            file.write(self.html().encode())


def check_page(path: str | PathLike[str]) -> None:
    """Before the work: can a page be written to ``path``? Raises :class:`BadInputError`."""
    check_ending(os.fspath(path), (".html",), "report.html")


def __getattr__(name: str) -> Any:
    # The names of version 0.1, for one version more.
    if name in ("check", "TEXTS"):
        from nativebert.parity import check

        return getattr(check, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
