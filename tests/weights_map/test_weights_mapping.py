"""Rules and maps: valid and invalid ones, and that a map is a bijection."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from map_samples import World, bert, bert_tensors, encoder, put, worlds

from weights_map import (
    AmbiguousRuleError,
    BadRuleError,
    BadTensorError,
    Checkpoint,
    Template,
    UnknownNameError,
    View,
    WeightMap,
    linear,
    match,
    norm,
    table,
    tensor,
)
from weights_map.mapping import cut
from weights_map.rules import Dim, Rule

# -------------------------------------------------------------------- rules


def test_builders_give_the_rules_of_a_module() -> None:
    def described(rules: list[Rule]) -> list[tuple[str, tuple[str, ...]]]:
        return [(str(rule), rule.dims) for rule in rules]

    assert described(linear("s", "t", "O I")) == [("s.weight -> t.weight", ("O", "I")), ("s.bias -> t.bias", ("O",))]
    assert described(linear("s", "t", "O I", bias=False)) == [("s.weight -> t.weight", ("O", "I"))]
    assert described(norm("s", "t", "H")) == [("s.weight -> t.weight", ("H",)), ("s.bias -> t.bias", ("H",))]
    assert described(norm("s", "t", "H", bias=False)) == [("s.weight -> t.weight", ("H",))]
    assert described(table("s", "t", "V H")) == [("s.weight -> t.weight", ("V", "H"))]
    assert described(tensor("s", "t", "V")) == [("s -> t", ("V",))]
    split, bias = linear("s", "t.{q,k}", "2H H")
    assert (str(split), split.kind) == ("s.weight -> t.q.weight + t.k.weight", "split")
    assert bias.dims == ("2H",)
    assert tensor("s.{a,b}", "t", "H")[0].kind == "fused"
    swapped, bias = linear("s", "t.{q,k}", "2H I", transposed=True)
    assert (str(swapped), swapped.dims) == ("s.weight -> t.q.weight + t.k.weight, transposed", ("I", "2H"))
    assert (bias.dims, bias.transposed) == (("2H",), False)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: tensor("{a,b}", "{c,d}", "H"), "both sides"),
        (lambda: tensor("a.{i}", "b", "H"), "slots differ"),
        (lambda: tensor("a.{i}", "b.{j}", "H"), "slots differ"),
        (lambda: tensor("a", "{b,c}", ""), "single number"),
        (lambda: linear("a", "b", "H"), "not 2"),
        (lambda: norm("a", "b", "H H"), "not 1"),
        (lambda: tensor("a", "b", "0H"), "dimension '0H'"),
        (lambda: tensor("a", "b", "H*2"), "dimension"),
        (lambda: Rule((), (Template("a"),), ()), "empty"),
        (lambda: Rule((Template("a"),), (Template("b"),), ("H",), True), "only a single matrix"),
        (lambda: linear("{a,b}", "c", "2H H", transposed=True), "only a single matrix"),
    ],
)
def test_a_bad_rule_is_refused(make: Callable[[], object], expected: str) -> None:
    with pytest.raises(BadRuleError, match=expected):
        make()


def test_a_dimension_is_a_number_a_symbol_or_both() -> None:
    assert [Dim.parse(text).size({"H": 4}) for text in ("2", "H", "3H", "V")] == [2, 4, 12, None]


# -------------------------------------------------------------------- ambiguous and inconsistent maps


@pytest.mark.parametrize(
    ("rules", "options"),
    [
        ([tensor("a", "x", "H"), tensor("a", "y", "H")], {}),
        ([tensor("a", "x", "H"), tensor("b", "x", "H")], {}),
        ([tensor("l.{i}.w", "x.{i}", "H"), tensor("l.0.w", "y", "H")], {}),
        ([tensor("a.{i}", "x.{i}", "H"), tensor("b", "x.3", "H")], {}),
        ([tensor("l.{q,k}", "x", "H"), tensor("l.k", "y", "H")], {}),
        ([tensor("a", "x", "H"), tensor("p.a", "y", "H")], {"prefixes": ("", "p.")}),
        ([norm("n.new", "x", "H"), tensor("n.old.gamma", "y", "H")], {"spellings": {"old.gamma": "new.weight"}}),
        ([tensor("a", "x", "H")], {"derived": ["a"]}),
        ([tensor("a.{i}", "x.{i}", "H")], {"derived": ["p.a.7"], "prefixes": ("p.", "")}),
        ([tensor("a", "x", "H")], {"heads": [tensor("p.a", "y", "H")], "prefixes": ("p.",)}),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_rules_that_could_claim_one_name_are_refused(rules: list[object], options: dict[str, object], reverse: bool) -> None:
    with pytest.raises(AmbiguousRuleError) as error:
        WeightMap("m", rules[::-1] if reverse else rules, **options)  # type: ignore[arg-type]
    assert "two rules" in str(error.value)


def test_the_error_names_both_rules() -> None:
    with pytest.raises(AmbiguousRuleError, match=r"l\.0\.w.*l\.0\.w -> y.*l\.\{i\}\.w.*l\.\{i\}\.w -> x\.\{i\}"):
        WeightMap("m", [tensor("l.{i}.w", "x.{i}", "H"), tensor("l.0.w", "y", "H")])


def test_rules_that_do_not_overlap_are_allowed() -> None:
    rules = [tensor("l.{i}.w", "x.{i}", "H"), tensor("l.01.w", "y", "H"), tensor("l.w", "z", "H")]
    m = WeightMap("m", rules, heads=[tensor("l.w.b", "u", "H")], prefixes=("p.",))
    assert m.targets_of("p.l.01.w") == ("y",)
    assert m.targets_of("p.l.1.w") == ("x.1",)
    assert m.targets_of("p.l.w.b") == () != m.targets_of("l.w.b")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ties": {"x": "nowhere"}}, "no rule gives 'nowhere'"),
        ({"ties": {"nowhere": "x"}}, "no rule gives 'nowhere'"),
        ({"ties": {"x": "y", "y": "z"}}, "is tied itself"),
        ({"ties": {"x": "q"}}, "of its own"),
        ({"prefixes": ("p",)}, "must end with a dot"),
        ({"prefixes": "p."}, "list of texts"),
        ({"carried": "head.*"}, "list of texts"),
    ],
)
def test_an_inconsistent_map_is_refused(options: dict[str, object], expected: str) -> None:
    rules = [tensor(n, n, "H") for n in ("x", "y", "z")] + [tensor("s", "{q,k}", "2H")]
    with pytest.raises(BadRuleError, match=expected):
        WeightMap("m", rules, **options)  # type: ignore[arg-type]


def test_rules_may_be_nested_or_flat_but_must_be_rules() -> None:
    flat = [rule for group in encoder() for rule in group]
    assert WeightMap("m", flat).rules == WeightMap("m", [[encoder()]]).rules
    with pytest.raises(BadRuleError, match="is not a rule"):
        WeightMap("m", ["embeddings"])  # type: ignore[list-item]


def test_a_map_is_built_in_milliseconds() -> None:
    best = min(_seconds(lambda: [linear(f"a.{{i}}.s{n}", f"b.{{i}}.t{n}", "H H") for n in range(60)]) for _ in range(3))
    assert best < 0.1


def _seconds(rules: Callable[[], list[list[Rule]]]) -> float:
    start = time.perf_counter()
    WeightMap("m", rules(), prefixes=("p.", ""), spellings={"gamma": "weight"})
    return time.perf_counter() - start


# -------------------------------------------------------------------- the bijection


@given(worlds())
@settings(deadline=None, max_examples=80)
def test_sources_of_and_targets_of_are_inverse(world: World) -> None:
    m = world.map()
    for rule in m.rules:
        bindings = {"i": 3, "j": 0}
        targets = tuple(template.fill(bindings) for template in rule.targets)
        for prefix in m.prefixes:
            for target in targets:
                sources = m.sources_of(target, prefix)
                assert len(sources) == len(rule.sources)
                assert all(m.targets_of(source) == targets for source in sources)
    for name in world.tensors:
        for target in m.targets_of(name):
            claim = m.claim(name)
            assert claim is not None
            sources = m.sources_of(target, claim.form.prefix if m.takes_prefix(claim.form.rule or m.rules[0]) else None)
            new = world.spellings.get(claim.form.spelling, "")
            assert (name if not new else name[: -len(claim.form.spelling)] + new) in sources


def test_old_spellings_are_read_and_the_first_prefix_is_written() -> None:
    m = bert()
    for name in ("bert.embeddings.LayerNorm.gamma", "embeddings.LayerNorm.gamma", "embeddings.LayerNorm.weight"):
        assert m.targets_of(name) == ("embed.norm.weight",)
    assert m.sources_of("embed.norm.weight") == ("bert.embeddings.LayerNorm.weight",)
    assert m.sources_of("embed.norm.weight", "") == ("embeddings.LayerNorm.weight",)
    assert m.sources_of("head.out.bias", "bert.") == ("classifier.bias",)
    assert m.targets_of("bert.classifier.bias") == ()  # heads carry no prefix
    assert m.targets_of("xembeddings.LayerNorm.weight") == m.sources_of("nowhere") == ()
    with pytest.raises(UnknownNameError, match=r"prefix 'x\.' is none of 'bert.', ''"):
        m.sources_of("embed.norm.weight", "x.")


def test_names_for_a_new_file() -> None:
    m = WeightMap("m", [linear("l.{i}.qkv", "x.{i}.{q,k,v}", "3H H", bias=False)], prefixes=("p.", ""))
    assert m.names(["x.2.q.weight", "x.2.v.weight"], "") == dict.fromkeys(["x.2.q.weight", "x.2.v.weight"], ("l.2.qkv.weight",))
    with pytest.raises(UnknownNameError, match=r"no rule gives x\.q"):
        m.names(["x.q"])


def test_a_family_is_identified_by_the_share_of_bytes_it_covers(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(put(tmp_path / "a.safetensors", bert_tensors()))
    assert bert().covers(checkpoint) == 1.0
    assert WeightMap("other", [tensor("x", "x", "H")]).covers(checkpoint) == 0.0
    token = next(info for info in checkpoint.tensors.values() if "word" in info.name)
    half = WeightMap("half", encoder()[0], prefixes=("bert.",)).covers(checkpoint)
    assert half == pytest.approx(token.nbytes / checkpoint.nbytes, rel=0.05)


# -------------------------------------------------------------------- a new file


def _view(*shape: int) -> View:
    numbers = memoryview(bytearray(range(shape[0] * (shape[1] if len(shape) > 1 else 1))))
    return View("U8", shape, numbers)


def test_a_new_file_joins_and_cuts(tmp_path: Path) -> None:
    m = WeightMap("m", [tensor("qkv", "{q,k}", "2H H"), tensor("{up,gate}", "mlp", "2F")], prefixes=("p.", ""))
    values = {"q": _view(2, 2), "k": _view(2, 2), "mlp": _view(6)}
    m.save(values, tmp_path / "new.safetensors", prefix="", metadata={"format": "pt"})
    checkpoint = Checkpoint.open(tmp_path / "new.safetensors")
    assert {name: bytes(checkpoint.view(name).buffer) for name in checkpoint.tensors} == {
        "qkv": bytes([0, 1, 2, 3] * 2),
        "up": bytes([0, 1, 2]),
        "gate": bytes([3, 4, 5]),
    }
    assert checkpoint.tensors["qkv"].shape == (4, 2)
    assert checkpoint.metadata == {"format": "pt"}
    again = match(m, checkpoint).check().read()
    assert {name: bytes(view.buffer) for name, view in again.items()} == {n: bytes(v.buffer) for n, v in values.items()}
    with pytest.raises(BadTensorError, match="qkv: is joined from q, k; k is absent") as error:
        m.pack({"q": _view(2, 2)})
    assert error.value.names == ("k",)
    with pytest.raises(BadTensorError, match=r"mlp.*cannot be cut"):
        m.pack({"mlp": _view(5)})


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_cut_parts_are_the_whole(sizes: list[int]) -> None:
    whole = _view(sum(sizes), 2)
    parts = [part for (part,) in cut("x", whole, sizes)]
    assert [part.shape for part in parts] == [(size, 2) for size in sizes]
    assert b"".join(bytes(part.buffer) for part in parts) == bytes(whole.buffer)
