"""Templates: match, fill, unifies; and the index of many."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weights_map import BadRuleError, Template
from weights_map.template import Index

SEGMENTS = ["a", "b", "0", "1", "01", "weight"]
NAMES = [".".join(parts) for length in (1, 2, 3) for parts in product([*SEGMENTS, "7"], repeat=length)]


@st.composite
def templates(draw: st.DrawFn) -> Template:
    parts = draw(st.lists(st.sampled_from([*SEGMENTS, "{}"]), min_size=1, max_size=3))
    return Template(".".join("{x%d}" % n if part == "{}" else part for n, part in enumerate(parts)))  # noqa: UP031


@given(templates(), st.lists(st.integers(0, 10**17), min_size=3, max_size=3))
def test_matching_undoes_filling(template: Template, values: list[int]) -> None:
    bindings = dict(zip(template.slots, values))
    assert template.match(template.fill(bindings)) == bindings


@given(templates(), st.sampled_from(NAMES))
def test_filling_undoes_matching(template: Template, name: str) -> None:
    bindings = template.match(name)
    assert bindings is None or template.fill(bindings) == name


@given(templates(), templates())
@settings(deadline=None)
def test_two_templates_unify_exactly_if_some_name_matches_both(a: Template, b: Template) -> None:
    shared = [name for name in NAMES if a.match(name) is not None and b.match(name) is not None]
    assert a.unifies(b) == b.unifies(a) == bool(shared)


@given(st.lists(templates(), max_size=8), st.sampled_from(NAMES))
@settings(deadline=None)
def test_an_index_refuses_overlapping_templates_and_finds_matching_ones(templates: list[Template], name: str) -> None:
    index: Index[str] = Index()
    kept: list[Template] = []
    for template in templates:
        clash = index.add(template, template.text)
        assert (clash is not None) == any(template.unifies(other) for other in kept)
        if clash is None:
            kept.append(template)
    matching = [(template, template.text) for template in kept if template.match(name) is not None]
    assert ([entry] if (entry := index.find(name)) else []) == matching


@pytest.mark.parametrize(
    "name", ["layers.01.w", "layers.-1.w", "layers.²", "layers.².w", "layers..w", "layers.1.w.", "layers.1", ""]
)
def test_a_slot_is_one_canonical_integer(name: str) -> None:
    assert Template("layers.{i}.w").match(name) is None


def test_a_number_too_long_for_int_is_no_integer() -> None:
    assert Template("layers.{i}.w").match(f"layers.{'9' * 5000}.w") is None


def test_a_fan_gives_one_template_each() -> None:
    assert [t.text for t in Template.expand("l.{i}.{q,k,v}.weight")] == [f"l.{{i}}.{x}.weight" for x in "qkv"]
    assert Template.expand("plain") == (Template("plain"),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a..b", "empty segment"),
        ("", "empty segment"),
        ("a.{i}.{i}", "used twice"),
        ("a.{i", "neither a slot"),
        ("a.x{i}", "neither a slot"),
        ("a.{1}", "neither a slot"),
        ("a.{}", "neither a slot"),
        ("a.{q,k}", "Template.expand"),
    ],
)
def test_a_bad_template_is_refused(text: str, expected: str) -> None:
    with pytest.raises(BadRuleError, match=expected):
        Template(text)


@pytest.mark.parametrize(("text", "expected"), [("{a,b}.{c,d}", "2 fans"), ("{a,a}.w", "twice")])
def test_a_bad_fan_is_refused(text: str, expected: str) -> None:
    with pytest.raises(BadRuleError, match=expected):
        Template.expand(text)


def test_fill_needs_every_slot() -> None:
    with pytest.raises(BadRuleError, match="no value for slot"):
        Template("a.{i}").fill({})
