"""Views <-> torch tensors: no copies, all dtypes, and the check for NaN and infinity."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from map_samples import Blob, bert, bert_tensors, put

from weights_map import BadFileError, BadTensorError, Checkpoint, View, WeightMap, match, tensor
from weights_map import torch as adapter

ONE = WeightMap("one", [tensor("x.{i}", "y.{i}", "N")])


@pytest.mark.parametrize("dtype", adapter.DTYPES.values(), ids=str)
def test_tensors_of_every_dtype_pass_both_ways(tmp_path: Path, dtype: torch.dtype) -> None:
    numbers = torch.arange(8).to(torch.float32).to(dtype) if dtype != torch.bool else torch.arange(8) % 2 == 0
    safetensors.torch.save_file({"x.0": numbers, "x.1": numbers[:0].clone()}, tmp_path / "a.safetensors")
    ledger = match(ONE, Checkpoint.open(tmp_path / "a.safetensors"), dims={"N": 8})
    ledger = ledger.check(shape="y.1")
    read = adapter.tensors(ledger)
    assert read["y.0"].dtype == dtype
    assert torch.equal(read["y.0"].view(torch.uint8), numbers.view(torch.uint8))
    ledger.save({"y.0": numbers}, tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "a.safetensors").read_bytes()


def test_tensors_are_the_mapped_file_itself(tmp_path: Path) -> None:
    path = put(tmp_path / "a.safetensors", bert_tensors(), padding=-len(put(tmp_path / "x", bert_tensors()).read_bytes()) % 4)
    before = path.read_bytes()
    ledger = match(bert(), Checkpoint.open(path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensors = adapter.tensors(ledger)
    tensors["embed.norm.bias"].fill_(2.0)
    assert bytes(ledger.checkpoint.view("bert.embeddings.LayerNorm.bias").buffer) == torch.full((4,), 2.0).numpy().tobytes()
    assert path.read_bytes() == before
    adapter.save(ledger, tensors, path)
    assert torch.equal(safetensors.torch.load_file(path)["bert.embeddings.LayerNorm.bias"], torch.full((4,), 2.0))


@pytest.mark.parametrize("padding", range(4))
def test_a_misaligned_tensor_is_read_all_the_same(tmp_path: Path, padding: int) -> None:
    blob = Blob("F32", (3,), torch.tensor([1.0, 2.0, 3.0]).numpy().tobytes())
    ledger = match(ONE, Checkpoint.open(put(tmp_path / "a.safetensors", {"x.0": blob}, padding=padding)))
    read = adapter.tensors(ledger)["y.0"]
    assert read.tolist() == [1.0, 2.0, 3.0]
    assert read.data_ptr() % 4 == 0


def test_any_layout_in_memory_can_be_saved(tmp_path: Path) -> None:
    numbers = torch.arange(12.0).reshape(3, 4)
    for value in (
        numbers.t().contiguous().t(),
        torch.nn.Parameter(numbers),
        numbers.to(torch.bfloat16).to(torch.float32),
    ):
        view = adapter.view(value)
        assert (view.dtype, view.shape, bytes(view.buffer)) == ("F32", (3, 4), numbers.numpy().tobytes())
    assert adapter.view(numbers).buffer.nbytes == 48
    assert adapter.tensor(adapter.view(numbers)).data_ptr() == numbers.data_ptr()
    assert adapter.view(torch.tensor(3)).shape == ()
    for bad in (torch.zeros(2, device="meta"), torch.zeros(2, 2).to_sparse(), torch.zeros(2, dtype=torch.complex128)):
        with pytest.raises(BadTensorError, match="cannot be saved"):
            adapter.view(bad)
    with pytest.raises(BadTensorError, match="no dtype for F4"):
        adapter.tensor(View("F4", (2,), memoryview(b"1")))


def test_tied_tensors_are_one(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(put(tmp_path / "a.safetensors", bert_tensors()))
    ledger = match(bert(), checkpoint, ["embed.token.weight", "head.lm.out.weight"])
    tensors = adapter.tensors(ledger, tied=True)
    assert tensors["head.lm.out.weight"].data_ptr() == tensors["embed.token.weight"].data_ptr()
    assert "head.lm.out.weight" not in adapter.tensors(ledger)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2], ids=str)
def test_numbers_that_are_not_finite_are_named_and_counted(dtype: torch.dtype) -> None:
    fine: dict[str, Any] = {
        "ids": torch.arange(3),
        "fine": torch.ones(3, 2).to(dtype),
        "none": torch.zeros(0, dtype=dtype),
    }
    adapter.check_finite(fine)
    bad = torch.tensor([1.0, float("nan"), float("inf"), -float("inf")]).to(dtype)
    with pytest.raises(BadFileError, match=r"layer\.bad \(1 NaN, 2 infinite of 4\)"):
        adapter.check_finite({**fine, "layer.bad": bad})
    with pytest.raises(BadFileError, match=r"and 2 more") as error:
        adapter.check_finite({str(n): bad for n in range(7)})
    assert error.value.names == tuple("0123456")
