"""Saving: byte-identical if nothing changed, the same layout where possible, and atomic."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from map_samples import DIMS, Blob, World, bert, bert_tensors, encoder, put, put_shards, raw, worlds

from weights_map import (
    BadFileError,
    BadTensorError,
    Checkpoint,
    MismatchError,
    UnknownNameError,
    View,
    WeightMap,
    linear,
    match,
    tensor,
)
from weights_map.safetensors import BITS


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def data(checkpoint: Checkpoint) -> dict[str, bytes]:
    return {name: bytes(checkpoint.view(name).buffer) for name in checkpoint.tensors}


@pytest.mark.parametrize("dtype", [dtype for dtype in BITS if BITS[dtype] % 8 == 0])
def test_a_transposed_matrix(dtype: str, tmp_path: Path) -> None:
    """transformers' Conv1D: (in, out) in the file; parts are cut from the parameter's rows."""
    m = WeightMap("conv", [linear("c_attn", "{q,k,v}", "3H H", transposed=True), linear("c_fc", "up", "F H", transposed=True)])
    blobs = {"c_attn.weight": (2, 6), "c_attn.bias": (6,), "c_fc.weight": (2, 3), "c_fc.bias": (3,)}
    path = put(tmp_path / "a.safetensors", {name: Blob.of(shape, dtype, name) for name, shape in blobs.items()})
    ledger = match(m, Checkpoint.open(path)).check()
    assert ledger.dims == {"F": 3, "H": 2}
    values, size = ledger.read(), BITS[dtype] // 8
    assert {name: view.shape for name, view in values.items() if name.endswith("weight")} == {
        **dict.fromkeys(("q.weight", "k.weight", "v.weight"), (2, 2)), "up.weight": (3, 2)
    }  # fmt: skip

    def cells(view: View) -> Any:
        return np.frombuffer(view.buffer, f"V{size}").reshape(view.shape)

    rows = [cells(values[f"{name}.weight"]) for name in "qkv"]
    assert (np.concatenate(rows) == cells(ledger.checkpoint.view("c_attn.weight")).T).all()
    ledger.save(values, tmp_path / "b.safetensors")
    ledger.save({"k.weight": values["k.weight"]}, tmp_path / "c.safetensors")  # the others as the file has them
    ledger.save({"up.weight": bytes(values["up.weight"].buffer)}, tmp_path / "d.safetensors")
    m.save(values, tmp_path / "new.safetensors")
    for name in "bcd":
        assert (tmp_path / f"{name}.safetensors").read_bytes() == path.read_bytes()
    assert data(Checkpoint.open(tmp_path / "new.safetensors")) == data(ledger.checkpoint)
    ledger.save({"q.weight": values["k.weight"]}, tmp_path / "e.safetensors")
    changed = cells(Checkpoint.open(tmp_path / "e.safetensors").view("c_attn.weight"))
    assert (changed[:, :2] == changed[:, 2:4]).all()
    short = put(tmp_path / "f.safetensors", {"c_attn.weight": Blob.of((2, 5), dtype)})
    with pytest.raises(MismatchError, match="file has 2 x 5, config says H=2 and the map 3H"):
        match(m, Checkpoint.open(short), ["q.weight", "k.weight", "v.weight"], {"H": 2}).check()
    with pytest.raises(BadTensorError, match="not a matrix"):
        ledger.checkpoint.view("c_fc.bias").transposed()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(
    world=worlds(),
    metadata=st.none() | st.dictionaries(texts, texts, max_size=3),
    padding=st.integers(0, 9),
    order=st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_read_then_save_is_byte_identical(tmp_path: Path, world: World, metadata: Any, padding: int, order: Any) -> None:
    names = order.sample(list(world.tensors), len(world.tensors))
    path = put(tmp_path / "a.safetensors", world.tensors, metadata=metadata, padding=padding, header_order=names)
    ledger = match(world.map(), Checkpoint.open(path), world.wanted, world.dims)
    ledger.save(ledger.read(tied=True), tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == path.read_bytes()
    copies = {target: bytes(view.buffer) for target, view in ledger.read().items()}
    ledger.save(copies, path)  # onto the very file that is mapped
    assert path.read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "b.safetensors"]


@given(st.dictionaries(texts.filter(lambda name: name != "__metadata__"), st.sampled_from([*BITS][:-3]), max_size=6))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_names_and_dtypes_pass_through(tmp_path: Path, dtypes: dict[str, str]) -> None:
    path = put(tmp_path / "a.safetensors", {name: Blob.of((3,), dtype, name) for name, dtype in dtypes.items()})
    ledger = match(WeightMap("none", []), Checkpoint.open(path))
    assert len(ledger.rows) == len(dtypes)
    str(ledger)
    ledger.save({}, tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == path.read_bytes()


def test_a_file_of_the_library_comes_out_the_same(tmp_path: Path) -> None:
    arrays = {"embeddings.word_embeddings.weight": np.ones((3, 2), np.float16), "x": np.array(1), "e": np.zeros((0, 2))}
    safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors", {"format": "pt"})
    ledger = match(bert(), Checkpoint.open(tmp_path / "a.safetensors"))
    ledger.save(ledger.read(), tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_changed_value_keeps_its_place(tmp_path: Path) -> None:
    tensors = bert_tensors(gamma=True) | {"extra": Blob.of((3,)), "bert.embeddings.position_ids": Blob.of((5,), "I64")}
    path = put(tmp_path / "a.safetensors", tensors, metadata={"format": "pt", "ü": "\n"}, padding=5)
    ledger = match(bert(), Checkpoint.open(path), dims=DIMS)
    changed = np.arange(4, dtype=np.float32)
    ledger.save({"layers.1.mlp_norm.weight": changed}, tmp_path / "b.safetensors")
    tensors["bert.encoder.layer.1.output.LayerNorm.gamma"] = Blob("F32", (4,), changed.tobytes())
    assert (tmp_path / "b.safetensors").read_bytes() == raw(tensors, {"format": "pt", "ü": "\n"}, 5)
    assert path.read_bytes() != (tmp_path / "b.safetensors").read_bytes()


def test_changes_made_in_place_are_saved_and_the_source_stays(tmp_path: Path) -> None:
    path = put(tmp_path / "a.safetensors", bert_tensors())
    before = path.read_bytes()
    ledger = match(bert(), Checkpoint.open(path))
    values = ledger.read()
    values["embed.norm.bias"].buffer[:] = b"\1" * 16
    ledger.save(values, tmp_path / "b.safetensors")
    assert path.read_bytes() == before
    assert data(Checkpoint.open(tmp_path / "b.safetensors"))["bert.embeddings.LayerNorm.bias"] == b"\1" * 16


def test_another_dtype_or_shape_needs_a_new_header(tmp_path: Path) -> None:
    tensors = bert_tensors(gamma=True) | {"extra": Blob.of((3,), "U8")}
    checkpoint = Checkpoint.open(put(tmp_path / "a.safetensors", tensors, metadata={"k": "v"}))
    half, longer = np.zeros((11, 4), np.float16), np.ones((9, 4), np.float32)
    match(bert(), checkpoint).save({"embed.token.weight": half, "embed.position.weight": longer}, tmp_path / "b.safetensors")
    saved = Checkpoint.open(tmp_path / "b.safetensors")
    assert saved.metadata == {"k": "v"}
    assert set(saved.tensors) == set(tensors)
    token, position = "bert.embeddings.word_embeddings.weight", "bert.embeddings.position_embeddings.weight"
    assert (saved.tensors[token].dtype, saved.tensors[position].shape) == ("F16", (9, 4))
    expected = {n: b.data for n, b in tensors.items()} | {token: half.tobytes(), position: longer.tobytes()}
    assert data(saved) == expected
    assert set(safetensors.numpy.load_file(tmp_path / "b.safetensors")) == set(tensors)


@pytest.mark.parametrize("prefix", ["bert.", ""])
def test_a_new_head_is_added_under_the_files_own_prefix(tmp_path: Path, prefix: str) -> None:
    tensors = {n: b for n, b in bert_tensors(prefix=prefix).items() if "pooler" not in n}
    checkpoint = Checkpoint.open(put(tmp_path / "a.safetensors", tensors))
    targets = ["pool.dense.weight", "pool.dense.bias", "head.out.weight", "head.out.bias"]
    m = bert()
    wanted = [target for name in tensors for target in m.targets_of(name)] + targets
    ledger = match(m, checkpoint, wanted, {**DIMS, "C": 2}).check(new=["pool.*", "head.*"])
    values = {row.targets[0]: np.ones(row.shape or (), np.float32) for row in ledger.rows if row.status == "new"}
    assert set(values) == set(targets)
    ledger.save(ledger.read(), tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == checkpoint.files[0].read_bytes()  # new parameters may be left out
    ledger.save({**ledger.read(), **values}, tmp_path / "b.safetensors")
    saved = Checkpoint.open(tmp_path / "b.safetensors")
    added = {prefix + "pooler.dense.weight", prefix + "pooler.dense.bias", "classifier.weight", "classifier.bias"}
    assert set(saved.tensors) == set(tensors) | added
    assert {row.status for row in match(m, saved, wanted, {**DIMS, "C": 2}).check().rows} == {"loaded"}


def test_cut_and_joined_tensors_are_written_as_the_file_has_them(tmp_path: Path) -> None:
    m = WeightMap("m", [linear("qkv", "{q,k,v}", "3H H", bias=False), tensor("{up,gate}", "both", "2F")])
    tensors = {"qkv.weight": Blob.of((6, 2)), "up": Blob.of((3,)), "gate": Blob.of((1,), seed=1)}
    ledger = match(m, Checkpoint.open(put(tmp_path / "a.safetensors", tensors)))
    new_k, new_both = np.ones((2, 2), np.float32), np.arange(4, dtype=np.float32)
    ledger.save({"k.weight": new_k, "both": new_both}, tmp_path / "b.safetensors")
    whole = tensors["qkv.weight"].data
    tensors["qkv.weight"] = Blob("F32", (6, 2), whole[:16] + new_k.tobytes() + whole[32:])
    tensors["up"], tensors["gate"] = (
        Blob("F32", (3,), new_both[:3].tobytes()),
        Blob("F32", (1,), new_both[3:].tobytes()),
    )
    assert (tmp_path / "b.safetensors").read_bytes() == raw(tensors)
    with pytest.raises(BadTensorError, match="both: F32 5 cannot be cut"):
        ledger.save({"both": np.zeros(5, np.float32)}, tmp_path / "c.safetensors")
    with pytest.raises(BadTensorError, match=r"qkv\.weight: cannot be joined from F32 2 x 2, F16 2 x 2, F32 2 x 2"):
        ledger.save({"k.weight": np.zeros((2, 2), np.float16)}, tmp_path / "c.safetensors")
    assert not (tmp_path / "c.safetensors").exists()


# -------------------------------------------------------------------- ties


def test_a_tied_tensor_follows_what_it_is_tied_to(tmp_path: Path) -> None:
    tensors = bert_tensors()
    token, decoder = "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"
    new = np.ones((11, 4), np.float32)
    for there in (True, False):
        all_of_them = tensors | ({decoder: tensors[token]} if there else {})
        ledger = match(bert(), Checkpoint.open(put(tmp_path / "a.safetensors", all_of_them)))
        wanted = [target for row in ledger.rows for target in row.targets] + ["head.lm.out.weight"]
        ledger = match(bert(), ledger.checkpoint, wanted).check()
        for also in ({}, {"head.lm.out.weight": new.copy()}):
            ledger.save({"embed.token.weight": new, **also}, tmp_path / "b.safetensors")
            expected = all_of_them | {token: Blob("F32", (11, 4), new.tobytes())}
            if there:
                expected[decoder] = expected[token]
            assert (tmp_path / "b.safetensors").read_bytes() == raw(expected)
        with pytest.raises(BadTensorError, match=r"'head\.lm\.out\.weight': it is tied to 'embed\.token\.weight', but differs"):
            ledger.save({"embed.token.weight": new, "head.lm.out.weight": new * 2}, tmp_path / "c.safetensors")
        with pytest.raises(BadTensorError, match="but differs"):
            ledger.save({"head.lm.out.weight": new}, tmp_path / "c.safetensors")
    assert not (tmp_path / "c.safetensors").exists()


# -------------------------------------------------------------------- shards


def sharded(tmp_path: Path) -> tuple[dict[str, Blob], Checkpoint]:
    tensors = bert_tensors()
    parts = list(tensors.items())
    return tensors, Checkpoint.open(put_shards(tmp_path / "a", [dict(parts[:5]), {}, dict(parts[5:])][::2]))


def test_shards_are_saved_byte_for_byte_also_onto_themselves(tmp_path: Path) -> None:
    _, checkpoint = sharded(tmp_path)
    before = contents(tmp_path / "a")
    ledger = match(bert(), checkpoint)
    ledger.save(ledger.read(), tmp_path / "new" / "b")
    assert contents(tmp_path / "new" / "b") == before
    ledger.save(ledger.read(), tmp_path / "a")
    assert contents(tmp_path / "a") == before
    for file in (tmp_path / "b.safetensors", tmp_path / "a" / "model-00001-of-00002.safetensors"):
        with pytest.raises(BadFileError, match="give a folder"):
            ledger.save(ledger.read(), file)


def test_shards_change_only_where_they_must(tmp_path: Path) -> None:
    tensors, checkpoint = sharded(tmp_path)
    before = contents(tmp_path / "a")
    m = bert()
    wanted = [target for name in tensors for target in m.targets_of(name)] + ["head.out.bias"]
    ledger = match(m, checkpoint, wanted).check(new="head.*")
    ledger.save({"head.out.bias": np.ones(2, np.float16)}, tmp_path / "b")
    after = contents(tmp_path / "b")
    first, last, name = (
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    )
    assert after[first] == before[first]
    index = json.loads(after[name])
    assert index["weight_map"] == {**json.loads(before[name])["weight_map"], "classifier.bias": last}
    assert index["metadata"]["total_size"] == checkpoint.nbytes + 4
    saved = Checkpoint.open(tmp_path / "b")
    assert data(saved) == {n: b.data for n, b in tensors.items()} | {"classifier.bias": np.ones(2, np.float16).tobytes()}
    ledger.save({"embed.token.weight": np.zeros((11, 4), np.float16)}, tmp_path / "c")
    index = json.loads(contents(tmp_path / "c")[name])
    assert index["metadata"]["total_size"] == Checkpoint.open(tmp_path / "c").nbytes == checkpoint.nbytes - 88


# -------------------------------------------------------------------- refused values and failed writes


def test_names_and_values_that_do_not_fit(tmp_path: Path) -> None:
    ledger = match(bert(), Checkpoint.open(put(tmp_path / "a.safetensors", bert_tensors())))
    for values, error, expected_text in [
        ({"embed.tokn.weight": b""}, UnknownNameError, r"did you mean 'embed\.token\.weight'"),
        ({"embed.norm.bias": b"1234"}, BadTensorError, r"'embed\.norm\.bias': 4 bytes are not a tensor of F32 4"),
        ({"embed.norm.bias": [1.0] * 4}, BadTensorError, "a list is not a tensor"),
    ]:
        with pytest.raises(error, match=expected_text):
            ledger.save(values, tmp_path / "b.safetensors")  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "a.safetensors", bert_tensors())
    before = path.read_bytes()
    ledger = match(bert(), Checkpoint.open(path))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadFileError, match="No space left on device"):
        ledger.save({"embed.norm.bias": np.ones(4, np.float32)}, path)
    assert contents(tmp_path) == {"a.safetensors": before}


def test_a_link_into_the_hubs_cache_is_replaced_and_the_blob_stays(tmp_path: Path) -> None:
    blob = put(tmp_path / "blob", bert_tensors())
    before = blob.read_bytes()
    (tmp_path / "model.safetensors").symlink_to("blob")
    ledger = match(bert(), Checkpoint.open(tmp_path))
    ledger.save({"embed.norm.bias": np.ones(4, np.float32)}, tmp_path)
    assert blob.read_bytes() == before
    assert not (tmp_path / "model.safetensors").is_symlink()
    assert data(Checkpoint.open(tmp_path))["bert.embeddings.LayerNorm.bias"] == np.ones(4, np.float32).tobytes()


def test_a_ledger_of_a_part_of_the_model_saves_the_whole(tmp_path: Path) -> None:
    path = put(tmp_path / "a.safetensors", bert_tensors())
    ledger = match(WeightMap("part", encoder()[:2], prefixes=("bert.",)), Checkpoint.open(path))
    assert set(ledger.read()) == {"embed.token.weight", "embed.position.weight"}
    ledger.save(ledger.read(), tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == path.read_bytes()


def test_a_view_of_another_file_can_be_saved(tmp_path: Path) -> None:
    ledger = match(bert(), Checkpoint.open(put(tmp_path / "a.safetensors", bert_tensors())))
    ledger.save({"embed.norm.bias": View("BF16", (4,), memoryview(b"12345678"))}, tmp_path / "b.safetensors")
    assert Checkpoint.open(tmp_path / "b.safetensors").tensors["bert.embeddings.LayerNorm.bias"].dtype == "BF16"
