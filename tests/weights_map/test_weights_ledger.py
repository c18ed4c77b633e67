"""The ledger: each name in one row, its status, and the texts of errors."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from map_samples import DIMS, Blob, World, bert, bert_tensors, encoder, heads, put, put_shards, worlds

from weights_map import Checkpoint, Ledger, MismatchError, Row, UnknownNameError, WeightMap, linear, match, tensor
from weights_map.rows import LOADED

quick = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def ledger_of(tmp_path: Path) -> Any:
    def make(tensors: Mapping[str, Blob], map: WeightMap | None = None, **options: Any) -> Ledger:
        return match(map or bert(), Checkpoint.open(put(tmp_path / "m.safetensors", tensors)), **options)

    return make


def row_of(ledger: Ledger, name: str) -> Row:
    (row,) = ledger.find(name)
    return row


def names(layers: int = 3) -> list[str]:
    """The parameters of an encoder with a pooler."""
    parameters = ["embed.token.weight", "embed.position.weight", "pool.dense.weight", "pool.dense.bias"]
    modules = ["embed.norm"] + [f"layers.{i}.{m}" for i in range(layers) for m in ("attn.q", "mlp.down", "mlp_norm")]
    return parameters + [f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias")]


# -------------------------------------------------------------------- properties


@given(world=worlds())
@quick
def test_every_name_is_in_exactly_one_row(tmp_path: Path, world: World) -> None:
    ledger = match(world.map(), Checkpoint.open(put(tmp_path / "w.safetensors", world.tensors)), world.wanted, world.dims)
    sources = Counter(source for row in ledger.rows for source in row.sources)
    assert sources == Counter(list(world.tensors))
    targets = Counter(target for row in ledger.rows for target in row.targets)
    assert not [target for target, count in targets.items() if count > 1]
    assert set(world.wanted or ()) <= set(targets)


@given(world=worlds(), seed=st.integers(0, 99))
@quick
def test_the_order_of_rules_does_not_matter(tmp_path: Path, world: World, seed: int) -> None:
    checkpoint = Checkpoint.open(put(tmp_path / "w.safetensors", world.tensors))
    shuffled = [random.Random(seed).sample(rules, len(rules)) for rules in (world.rules, world.heads)]
    one = match(world.map(), checkpoint, world.wanted, world.dims)
    other = match(world.map(*shuffled), checkpoint, world.wanted, world.dims)
    assert (one.rows, one.dims, one.prefix) == (other.rows, other.dims, other.prefix)


@given(world=worlds())
@quick
def test_read_gives_the_bytes_of_the_wanted_parameters(tmp_path: Path, world: World) -> None:
    ledger = match(world.map(), Checkpoint.open(put(tmp_path / "w.safetensors", world.tensors)), world.wanted, world.dims)
    values = ledger.read()
    for row in ledger.rows:
        if row.status not in LOADED:
            assert not set(row.targets) & set(values)
        elif set(row.targets) <= set(values):
            parts = b"".join(world.tensors[source].data for source in row.sources)
            if row.rule.endswith(", transposed"):
                parts = bytes(ledger.checkpoint.view(row.sources[0]).transposed().buffer)
            assert b"".join(bytes(values[target].buffer) for target in row.targets) == parts
            dtypes = {world.tensors[source].dtype for source in row.sources}
            assert {values[target].dtype for target in row.targets} == dtypes == {row.dtype}
    assert world.wanted is None or set(values) <= set(world.wanted)


# -------------------------------------------------------------------- statuses


@pytest.mark.parametrize("prefix", ["bert.", ""])
@pytest.mark.parametrize("gamma", [False, True])
def test_a_file_that_fits(ledger_of: Any, prefix: str, gamma: bool) -> None:
    ledger = ledger_of(bert_tensors(prefix=prefix, gamma=gamma), wanted=names(), dims=DIMS)
    assert ledger.check().rows == ledger.rows
    assert {row.status for row in ledger.rows} == {"loaded"}
    assert ledger.dims == DIMS
    assert ledger.prefix == prefix
    assert set(ledger.read()) == set(names())
    row = row_of(ledger, "layers.1.mlp_norm.weight")
    assert (row.prefix, row.spelling) == (prefix, "LayerNorm.gamma" if gamma else "")
    assert row.rule == "encoder.layer.{i}.output.LayerNorm.weight -> layers.{i}.mlp_norm.weight"


def test_dims_are_the_most_frequent_sizes_so_one_wrong_tensor_is_detected(ledger_of: Any) -> None:
    tensors = bert_tensors()
    tensors["bert.pooler.dense.weight"] = Blob.of((4, 6))
    ledger = ledger_of(tensors)
    assert ledger.dims == DIMS
    row = row_of(ledger, "pool.dense.weight")
    assert (row.status, row.note) == ("shape", "file has 4 x 6, the file's other tensors say H=4")


def test_dims_of_the_config_are_cross_checked(ledger_of: Any) -> None:
    ledger = ledger_of(bert_tensors(), dims={**DIMS, "V": 9}, wanted=names())
    row = row_of(ledger, "embed.token.weight")
    assert (row.status, row.note) == ("shape", "file has 11 x 4, config says V=9")
    assert Counter(row.status for row in ledger.rows)["shape"] == 1
    assert "embed.token.weight" not in ledger.read()
    with pytest.raises(MismatchError, match=r"config says V=9"):
        ledger.check()
    assert "embed.token.weight" not in ledger.check(shape=["embed.*"]).read()


def test_a_tied_vote_does_not_depend_on_the_order_of_the_file(ledger_of: Any) -> None:
    tensors = {"x": Blob.of((2,)), "y": Blob.of((3,))}
    pair = WeightMap("pair", [tensor("x", "x", "N"), tensor("y", "y", "N")])
    reversed_tensors = dict(reversed(tensors.items()))
    assert ledger_of(tensors, pair).dims == ledger_of(reversed_tensors, pair).dims == {"N": 3}


@pytest.mark.parametrize("shape", [(11,), (11, 4, 1), ()])
def test_another_rank_is_another_shape(ledger_of: Any, shape: tuple[int, ...]) -> None:
    tensors = bert_tensors() | {"bert.embeddings.word_embeddings.weight": Blob.of(shape)}
    assert row_of(ledger_of(tensors), "embed.token.weight").status == "shape"


def test_layers_that_the_model_does_not_have_are_unexpected(ledger_of: Any) -> None:
    ledger = ledger_of(bert_tensors(3), wanted=names(2), dims=DIMS)
    row = row_of(ledger, "layers.2.attn.q.weight")
    assert (row.status, row.note) == ("unexpected", "the model has no such parameter")
    with pytest.raises(MismatchError, match="6 unexpected"):
        ledger.check()


def test_an_omitted_part_is_carried(ledger_of: Any) -> None:
    tensors = bert_tensors() | {"classifier.weight": Blob.of((2, 4)), "classifier.bias": Blob.of((2,))}
    wanted = [name for name in names() if not name.startswith("pool")]
    ledger = ledger_of(tensors, wanted=wanted).check()
    assert row_of(ledger, "pool.dense.weight").status == row_of(ledger, "classifier.bias").status == "carried"
    assert set(ledger.read()) == set(wanted)
    assert "head.out.bias" in ledger_of(tensors).read()  # None wants all


def test_derived_and_unknown_tensors(ledger_of: Any) -> None:
    tensors = bert_tensors() | {"bert.embeddings.position_ids": Blob.of((1, 5), "I64"), "extra": Blob.of((1,))}
    ledger = ledger_of(tensors, wanted=names())
    assert row_of(ledger, "bert.embeddings.position_ids").status == "derived"
    assert row_of(ledger, "extra") == Row(
        "unexpected", ("extra",), (), (1,), "F32", note="no rule of map 'bert' matches this name"
    )
    with pytest.raises(MismatchError, match="1 unexpected"):
        ledger.check()
    assert row_of(ledger.check(unexpected="ext*"), "extra").status == "unexpected"


def test_missing_becomes_new_only_if_the_caller_allows_it(ledger_of: Any) -> None:
    ledger = ledger_of(bert_tensors(), wanted=[*names(), "head.out.weight", "head.out.bias", "head.lm.out.bias"], dims={"C": 3})
    row = row_of(ledger, "head.out.weight")
    assert (row.status, row.shape, row.note) == ("missing", (3, 4), "the file lacks classifier.weight")
    assert row_of(ledger, "head.lm.out.bias").shape == (11,)
    with pytest.raises(MismatchError, match="3 missing"):
        ledger.check()
    with pytest.raises(MismatchError, match="1 missing"):
        ledger.check(new=["head.out.*"])
    assert row_of(ledger.check(new=["head.*"]), "head.out.weight").status == "new"
    assert row_of(ledger, "head.out.weight").status == "missing"  # a ledger does not change


def test_a_parameter_that_no_rule_gives(ledger_of: Any) -> None:
    row = row_of(ledger_of(bert_tensors(), wanted=[*names(), "layers.0.gate"]), "layers.0.gate")
    assert (row.status, row.shape, row.note) == ("missing", None, "no rule of map 'bert' gives this parameter")


@pytest.mark.parametrize(
    "second", ["bert.embeddings.LayerNorm.gamma", "embeddings.LayerNorm.weight", "embeddings.LayerNorm.gamma"]
)
@pytest.mark.parametrize("first", [False, True])
def test_a_second_copy_is_never_silently_dropped(ledger_of: Any, second: str, first: bool) -> None:
    extra = {second: Blob.of((4,), seed="other")}
    tensors = extra | bert_tensors() if first else bert_tensors() | extra
    ledger = ledger_of(tensors, wanted=names())
    row = row_of(ledger, second)
    assert (row.status, row.targets) == ("unexpected", ())
    assert "a second copy of 'bert.embeddings.LayerNorm.weight'" in row.note
    assert bytes(ledger.read()["embed.norm.weight"].buffer) == tensors["bert.embeddings.LayerNorm.weight"].data
    with pytest.raises(MismatchError, match="second copy"):
        ledger.check()


QKV = WeightMap("m", [linear("l.{i}.qkv", "l.{i}.{q,k,v}", "3H H"), tensor("l.{i}.{up,gate}", "l.{i}.both", "2F H")])


def test_one_tensor_is_cut_and_two_are_joined(ledger_of: Any) -> None:
    tensors = {
        "l.0.qkv.weight": Blob.of((6, 2)),
        "l.0.qkv.bias": Blob.of((6,)),
        "l.0.gate": Blob.of((3, 2), seed=1),
        "l.0.up": Blob.of((5, 2)),
    }
    ledger = ledger_of(tensors, QKV)
    assert [row.status for row in ledger.rows] == ["split", "split", "fused"]
    assert ledger.dims == {"H": 2, "F": 4}
    values = ledger.read()
    assert values["l.0.k.weight"].shape == (2, 2)
    assert bytes(values["l.0.k.weight"].buffer) == tensors["l.0.qkv.weight"].data[16:32]
    assert values["l.0.both"].shape == (8, 2)
    assert bytes(values["l.0.both"].buffer) == tensors["l.0.up"].data + tensors["l.0.gate"].data
    values["l.0.k.weight"].buffer[:] = b"\7" * 16
    assert bytes(ledger.checkpoint.view("l.0.qkv.weight").buffer[16:32]) == b"\7" * 16  # cut without a copy


@pytest.mark.parametrize(
    ("tensors", "target", "status", "note"),
    [
        ({"l.0.up": Blob.of((3, 2))}, "l.0.both", "missing", "the file lacks l.0.gate"),
        (
            {"l.0.up": Blob.of((3, 2)), "l.0.gate": Blob.of((3, 2), "F16")},
            "l.0.both",
            "shape",
            "parts of different dtypes: F32, F16",
        ),
        (
            {"l.0.up": Blob.of((3, 2)), "l.0.gate": Blob.of((3, 1))},
            "l.0.both",
            "shape",
            "parts that cannot be joined: 3 x 2, 3 x 1",
        ),
        ({"l.0.up": Blob.of(()), "l.0.gate": Blob.of(())}, "l.0.both", "shape", "parts that cannot be joined: (), ()"),
        (
            {"l.0.qkv.weight": Blob.of((7, 2))},
            "l.0.q.weight",
            "shape",
            "file has 7 x 2, the file's other tensors say H=2 and the map 3H",
        ),
    ],
)
def test_what_cannot_be_cut_or_joined(ledger_of: Any, tensors: dict[str, Blob], target: str, status: str, note: str) -> None:
    row = row_of(ledger_of(tensors, QKV), target)
    assert (row.status, row.note) == (status, note)
    assert set(row.sources) == set(tensors)


def test_a_cut_tensor_of_which_the_model_has_a_part(ledger_of: Any) -> None:
    tensors = {"l.0.qkv.weight": Blob.of((6, 2))}
    ledger = ledger_of(tensors, QKV, wanted=["l.0.q.weight", "l.0.v.weight"])
    assert set(ledger.check().read()) == {"l.0.q.weight", "l.0.v.weight"}
    assert row_of(ledger, "l.0.k.weight").note == "the model has only l.0.q.weight, l.0.v.weight"


# -------------------------------------------------------------------- ties

TOKEN, DECODER = "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"


def test_tied_by_omission(ledger_of: Any) -> None:
    ledger = ledger_of(bert_tensors(), wanted=[*names(), "head.lm.out.weight"]).check()
    row = row_of(ledger, "head.lm.out.weight")
    assert (row.status, row.sources, row.shape) == ("tied", (), (11, 4))
    assert ledger.ties() == {"head.lm.out.weight": "embed.token.weight"}
    assert "head.lm.out.weight" not in ledger.read()
    values = ledger.read(tied=True)
    assert values["head.lm.out.weight"] is values["embed.token.weight"]


def test_tied_by_equal_bytes_or_untied(ledger_of: Any) -> None:
    tensors = bert_tensors()
    wanted = [*names(), "head.lm.out.weight"]
    same = ledger_of(tensors | {DECODER: tensors[TOKEN]}, wanted=wanted).check()
    assert row_of(same, DECODER).status == "tied"
    assert same.ties() and "head.lm.out.weight" not in same.read()  # noqa: PT018
    for other in (Blob.of((11, 4), seed="other"), Blob("I32", (11, 4), tensors[TOKEN].data)):
        ledger = ledger_of(tensors | {DECODER: other}, wanted=wanted).check()
        assert row_of(ledger, DECODER).status == "untied"
        assert ledger.ties() == {}
        assert bytes(ledger.read()["head.lm.out.weight"].buffer) == other.data


def test_a_tie_to_an_absent_tensor_is_missing(ledger_of: Any) -> None:
    tensors = bert_tensors()
    del tensors[TOKEN]
    ledger = ledger_of(tensors, wanted=[*names(), "head.lm.out.weight"])
    assert row_of(ledger, "head.lm.out.weight").status == "missing"
    only = ledger_of(bert_tensors(), wanted=["head.lm.out.weight"])
    assert row_of(only, "head.lm.out.weight").status == "missing"  # it shares a tensor that the model does not have


def test_a_repeated_tensor_that_the_model_does_not_name(ledger_of: Any) -> None:
    bias, other = Blob.of((11,), seed=1), Blob.of((11,), seed=2)
    wanted = [*names(), "head.lm.out.weight", "head.lm.out.bias"]
    tensors = bert_tensors() | {"cls.predictions.bias": bias, "cls.predictions.decoder.bias": bias}
    ledger = ledger_of(tensors, wanted=wanted).check()
    assert row_of(ledger, "cls.predictions.decoder.bias").status == "tied"
    assert set(ledger.ties()) == {"head.lm.out.weight"}
    ledger = ledger_of(tensors | {"cls.predictions.decoder.bias": other}, wanted=wanted)
    assert row_of(ledger, "cls.predictions.decoder.bias").status == "unexpected"
    ledger = ledger_of(tensors | {"cls.predictions.decoder.bias": other}, wanted=names())
    assert row_of(ledger, "cls.predictions.decoder.bias").status == "carried"  # with the rest of its head


def test_an_untied_decoder_of_a_head_left_out_is_carried(ledger_of: Any) -> None:
    ledger = ledger_of(bert_tensors() | {DECODER: Blob.of((11, 4), seed="other")}, wanted=names()).check()
    assert row_of(ledger, DECODER).status == "carried"


# -------------------------------------------------------------------- texts


def test_the_error_is_short_and_gives_advice(ledger_of: Any) -> None:
    tensors = bert_tensors(30)
    tensors["bert.encoder.layer.2.attention.self.qery.weight"] = tensors.pop("bert.encoder.layer.2.attention.self.query.weight")
    with pytest.raises(MismatchError) as error:
        ledger_of(tensors, wanted=[*names(20), "head.out.weight"], dims=DIMS).check()
    message = str(error.value)
    assert "61 unexpected" in message and "2 missing" in message  # noqa: PT018
    assert "did you mean 'bert.encoder.layer.2.attention.self.qery.weight'" in message
    assert "bert.encoder.layer.{20-29}.output.dense.bias" in message
    assert all(f"check({status}=[pattern])" in message for status in ("new", "unexpected"))
    assert len(message.splitlines()) < 30
    assert isinstance(error.value.ledger, Ledger)


def test_explain_lists_all_facts(ledger_of: Any, tmp_path: Path) -> None:
    tensors = bert_tensors(gamma=True)
    ledger = ledger_of(tensors, wanted=[*names(), "head.out.bias"])
    source = "bert.encoder.layer.2.output.LayerNorm.gamma"
    text = ledger.explain("layers.2.mlp_norm.weight")
    assert text == ledger.explain(source)
    info = ledger.checkpoint.tensors[source]
    for words in [
        "status     loaded",
        "encoder.layer.{i}.output.LayerNorm.weight -> layers.{i}.mlp_norm.weight",
        f"{source}: F32, shape 4",
        f"{info.start} to {info.end} of {tmp_path / 'm.safetensors'}",
        "'bert.' stands before",
        "'LayerNorm.gamma' for 'LayerNorm.weight'",
    ]:
        assert words in text
    assert "the file lacks classifier.bias" in ledger.explain("head.out.bias")
    with pytest.raises(UnknownNameError, match=r"did you mean 'layers\.2\.mlp_norm\.weight'"):
        ledger.explain("layers.2.mlp_nrom.weight")


def test_a_name_on_both_sides_is_explained_twice(ledger_of: Any) -> None:
    swap = WeightMap("swap", [tensor("a", "b", "H"), tensor("b", "a", "H")])
    text = ledger_of({"a": Blob.of((2,)), "b": Blob.of((2,), seed=1)}, swap).explain("a")
    assert "a -> b" in text and "b -> a" in text  # noqa: PT018


def test_rows_of_shards_follow_the_files(tmp_path: Path) -> None:
    tensors = list(bert_tensors().items())
    checkpoint = Checkpoint.open(put_shards(tmp_path, [dict(tensors[:7]), dict(tensors[7:])]))
    ledger = match(WeightMap("bert", encoder(), heads=heads(), prefixes=("bert.", "")), checkpoint, names(), DIMS).check()
    assert [row.sources[0] for row in ledger.rows] == [name for name, _ in tensors]
    assert {target: bytes(view.buffer) for target, view in ledger.read().items()} == {
        row.targets[0]: dict(tensors)[row.sources[0]].data for row in ledger.rows
    }
