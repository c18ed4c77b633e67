"""int8 matrices: the error is bounded, stored values are exact, and their files are matched, read and saved like others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from map_samples import DIMS, Blob, bert, bert_tensors, put

from nativebert.engine.int8 import quantise_weight
from weights_map import BadTensorError, Checkpoint, MismatchError, View, eightbit, match
from weights_map import torch as adapter
from weights_map.safetensors import as_view

TOKEN, QUERY = "bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.attention.self.query.weight"
SMALL = ("embed.token.weight", "layers.0.attn.q.weight", "layers.1.mlp.down.weight")

matrices = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.floats(-(2.0**90), 2.0**90, width=32, allow_subnormal=False),
)


def numbers(view: View) -> np.ndarray:
    kinds = {"F32": np.float32, "I8": np.int8}
    return np.frombuffer(view.buffer, kinds[view.dtype]).reshape(view.shape)


def floats(seed: int, shape: tuple[int, ...]) -> Blob:
    return Blob("F32", shape, np.random.default_rng(seed).normal(size=shape).astype(np.float32).tobytes())


def sample(**more: Blob) -> dict[str, Blob]:
    """A file whose matrices are healthy numbers."""
    tensors = bert_tensors()
    return {
        name: floats(n, blob.shape) if len(blob.shape) == 2 else blob for n, (name, blob) in enumerate(tensors.items())
    } | more


@given(matrices)
@settings(deadline=None, max_examples=200)
def test_the_error_is_bounded_and_stored_values_are_exact(rows: np.ndarray) -> None:
    value = as_view(rows, "F32", rows.shape)
    units, scale = eightbit.quantise(value)
    int8, scales = numbers(units), numbers(scale)[:, 0]
    assert np.abs(int8).max() <= 127
    most = np.abs(rows).max(1)
    healthy = most >= 127 * 2.0**-99
    assert (np.abs(int8[healthy]).max(1) == 127).all()
    assert not int8[most < 2.0**-100].any()
    restored = eightbit.dequantise(units, scale)
    assert np.array_equal(numbers(restored), int8.astype(np.float64) * scales[:, None])  # exact in float32
    off = np.abs(numbers(restored).astype(np.float64) - rows).max(1)
    assert (off[healthy] <= scales[healthy] * (0.5 + 127 * 2.0**-16)).all()
    again = eightbit.quantise(restored)
    assert bytes(again[0].buffer) == bytes(units.buffer)
    assert bytes(again[1].buffer) == bytes(scale.buffer)
    engine = quantise_weight(torch.from_numpy(rows))  # what int8 computes with is what files hold
    assert np.array_equal(engine[0].numpy(), int8)
    assert np.array_equal(engine[1].numpy(), scales)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats(dtype: torch.dtype) -> None:
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    units, scale = eightbit.quantise(adapter.view(x))
    expected = eightbit.quantise(adapter.view(x.float()))
    assert (bytes(units.buffer), bytes(scale.buffer)) == tuple(bytes(view.buffer) for view in expected)
    assert not adapter.fits_eight_bits(x)
    assert adapter.fits_eight_bits(adapter.tensor(eightbit.dequantise(units, scale)))


def test_values_that_cannot_be_quantised() -> None:
    with pytest.raises(BadTensorError, match="only matrices of floats"):
        eightbit.quantise(as_view(np.ones(3, np.float32), "F32", (3,)))
    with pytest.raises(BadTensorError, match="only matrices of floats"):
        eightbit.quantise(as_view(np.ones((3, 2), np.int8), "I8", (3, 2)))
    with pytest.raises(BadTensorError, match="the scales of 3 rows"):
        eightbit.dequantise(View("I8", (3, 2), memoryview(bytes(6))), View("F32", (2, 1), memoryview(bytes(8))))


def test_a_file_with_int8_matrices(tmp_path: Path) -> None:
    path = put(tmp_path / "a.safetensors", sample(), metadata={"k": "v"})
    ledger = match(bert(), Checkpoint.open(path), dims=DIMS).check()
    before = adapter.tensors(ledger)
    adapter.save(ledger, before, tmp_path / "b.safetensors", SMALL)
    saved = Checkpoint.open(tmp_path / "b.safetensors")
    assert saved.metadata == {"k": "v"}
    assert (saved.tensors[TOKEN].dtype, saved.tensors[TOKEN + "_scale"].shape) == ("I8", (11, 1))
    assert len(saved.tensors) == len(ledger.checkpoint.tensors) + len(SMALL)
    again = match(bert(), saved, wanted=before, dims=DIMS).check()
    assert again.eight_bits == frozenset(SMALL)
    assert {row.status for row in again.rows if row.sources[0].endswith("_scale")} == {"scale"}
    assert "of bert.embeddings.word_embeddings.weight" in str(again)
    after = adapter.tensors(again)
    for name, tensor in before.items():
        if name in SMALL:
            units, scale = quantise_weight(tensor)
            tensor = units * scale[:, None]
        assert after[name].dtype == torch.float32
        assert torch.equal(after[name], tensor), name
    adapter.save(again, after, tmp_path / "c.safetensors")  # stays in eight bits, byte for byte
    assert (tmp_path / "c.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    after["embed.token.weight"][3] *= 2
    adapter.save(again, after, tmp_path / "c.safetensors")
    changed = match(bert(), Checkpoint.open(tmp_path / "c.safetensors"))
    assert torch.equal(adapter.tensors(changed)["embed.token.weight"], after["embed.token.weight"])


def test_tied_tensors_are_quantised_together(tmp_path: Path) -> None:
    tensors = sample()
    tensors["cls.predictions.decoder.weight"] = tensors[TOKEN]
    ledger = match(bert(), Checkpoint.open(put(tmp_path / "a.safetensors", tensors)))
    ledger.save(ledger.read(), tmp_path / "b.safetensors", ["embed.token.weight"])
    saved = match(bert(), Checkpoint.open(tmp_path / "b.safetensors")).check()
    assert {"cls.predictions.decoder.weight_scale", TOKEN + "_scale"} <= set(saved.checkpoint.tensors)
    assert saved.ties() == {"head.lm.out.weight": "embed.token.weight"}
    other = dict(saved.read())
    units = saved.checkpoint.view("cls.predictions.decoder.weight_scale")
    units.buffer[:4] = np.float32(9).tobytes()  # the same integers with another scale
    assert "head.lm.out.weight" not in match(bert(), saved.checkpoint).ties()
    assert other


def test_scales_without_a_matrix_are_unexpected(tmp_path: Path) -> None:
    scale = Blob("F32", (11, 1), np.ones(11, np.float32).tobytes())
    for more in ({TOKEN + "_scale": scale}, {"nothing.weight_scale": scale}):  # of floats; of no tensor at all
        ledger = match(bert(), Checkpoint.open(put(tmp_path / "a.safetensors", sample() | more)))
        with pytest.raises(MismatchError, match="1 unexpected"):
            ledger.check()
    eight = {TOKEN: Blob("I8", (11, 4), bytes(44)), TOKEN + "_scale": Blob("F32", (4,), bytes(16))}
    ledger = match(bert(), Checkpoint.open(put(tmp_path / "a.safetensors", sample() | eight)))
    assert not ledger.eight_bits
    with pytest.raises(MismatchError, match="1 unexpected"):
        ledger.check()
