"""Dotted names with slots, ``layers.{i}.attn.q.weight``, and an index of many of them.

A template consists of whole segments, so a map can be checked: a name matches in at most one way, :meth:`Template.fill` is the inverse of
:meth:`Template.match`, and comparing two templates segment by segment decides whether any name matches both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from weights_map.errors import BadRuleError

# No leading zeros ("07" and "7" would be two names of one layer), and at most 18 digits.
_INTEGER = re.compile(r"0|[1-9][0-9]{0,17}")
_SLOT = re.compile(r"\{([A-Za-z_]\w*)\}")
_FAN = re.compile(r"\{([^{},]+(?:,[^{},]+)+)\}")

Segment = str | None
"""A segment of a pattern: its text, or None for a slot."""

T = TypeVar("T")


def is_integer(segment: str) -> bool:
    """Whether a slot matches this segment."""
    return _INTEGER.fullmatch(segment) is not None


@dataclass(frozen=True)
class Template:
    """A dotted name in which a segment ``{i}`` stands for any one non-negative integer.

    Args:
        text: segments joined by dots; each slot name at most once.

    Raises:
        BadRuleError: an empty segment, an unmatched brace, a slot used twice, or a fan (see :meth:`expand`).
    """

    text: str
    pattern: tuple[Segment, ...] = field(init=False, repr=False, compare=False)
    slots: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pattern: list[Segment] = []
        slots: list[str] = []
        for segment in self.text.split("."):
            if slot := _SLOT.fullmatch(segment):
                if slot[1] in slots:
                    raise BadRuleError(f"template {self.text!r}: slot {segment} is used twice; give each its own name")
                slots.append(slot[1])
                pattern.append(None)
            elif _FAN.fullmatch(segment):
                raise BadRuleError(f"template {self.text!r}: {segment} is a fan; write Template.expand({self.text!r})")
            elif not segment:
                raise BadRuleError(f"template {self.text!r}: empty segment; segments are separated by single dots")
            elif "{" in segment or "}" in segment:
                raise BadRuleError(f"template {self.text!r}: {segment!r} is neither a slot {{i}} nor plain text")
            else:
                pattern.append(segment)
        object.__setattr__(self, "pattern", tuple(pattern))
        object.__setattr__(self, "slots", tuple(slots))

    @staticmethod
    def expand(text: str) -> tuple[Template, ...]:
        """The templates of a text with at most one fan: ``"a.{q,k}.w"`` gives ``a.q.w`` and ``a.k.w``."""
        segments = text.split(".")
        fans = [n for n, segment in enumerate(segments) if _FAN.fullmatch(segment)]
        if not fans:
            return (Template(text),)
        if len(fans) > 1:
            raise BadRuleError(f"template {text!r}: {len(fans)} fans; at most one is allowed")
        at = fans[0]
        choices = segments[at][1:-1].split(",")
        if len(set(choices)) < len(choices):
            raise BadRuleError(f"template {text!r}: fan {segments[at]} names one choice twice")
        return tuple(Template(".".join([*segments[:at], choice, *segments[at + 1 :]])) for choice in choices)

    def match(self, name: str) -> dict[str, int] | None:
        """The slots' values in ``name``, or None if the name does not match."""
        parts = name.split(".")
        if len(parts) != len(self.pattern):
            return None
        values = []
        for segment, part in zip(self.pattern, parts):
            if segment is None:
                if not is_integer(part):
                    return None
                values.append(int(part))
            elif segment != part:
                return None
        return dict(zip(self.slots, values))

    def fill(self, bindings: Mapping[str, int]) -> str:
        """The name with the slots replaced by their values: the inverse of :meth:`match`."""
        if absent := [slot for slot in self.slots if slot not in bindings]:
            raise BadRuleError(f"template {self.text!r}: no value for slot {{{absent[0]}}}")
        values = (str(bindings[slot]) for slot in self.slots)
        return ".".join(next(values) if segment is None else segment for segment in self.pattern)

    def unifies(self, other: Template) -> bool:
        """Whether some name matches both templates."""
        return len(self.pattern) == len(other.pattern) and all(map(_overlap, self.pattern, other.pattern))

    def __str__(self) -> str:
        return self.text


def _overlap(a: Segment, b: Segment) -> bool:
    if a is None:
        return b is None or is_integer(b)
    return a == b or (b is None and is_integer(a))


class _Node(Generic[T]):
    def __init__(self) -> None:
        self.children: dict[Segment, _Node[T]] = {}
        self.entry: tuple[Template, T] | None = None

    def overlapping(self, segment: Segment) -> Iterator[_Node[T]]:
        if segment is None:
            yield from (child for key, child in self.children.items() if _overlap(segment, key))
            return
        if (child := self.children.get(segment)) is not None:
            yield child
        if (slot := self.children.get(None)) is not None and is_integer(segment):
            yield slot


class Index(Generic[T]):
    """A trie of templates with values: lookup time does not depend on their number."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, template: Template, value: T) -> tuple[Template, T] | None:
        """Add a template; if one that overlaps it is there already, return that entry instead."""
        if (clash := next(self._walk(template.pattern), None)) is not None:
            return clash
        node = self._root
        for segment in template.pattern:
            node = node.children.setdefault(segment, _Node())
        node.entry = (template, value)
        return None

    def find(self, name: str) -> tuple[Template, T] | None:
        """The entry whose template matches the name; there is at most one."""
        return next(self._walk(name.split(".")), None)

    def _walk(self, pattern: Sequence[Segment]) -> Iterator[tuple[Template, T]]:
        nodes = [self._root]
        for segment in pattern:
            nodes = [child for node in nodes for child in node.overlapping(segment)]
        return (node.entry for node in nodes if node.entry is not None)
