"""`nativebert invariance`: equal to the last bit where that is promised, and honest where it is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from models import BERT, DISTILBERT, one_thread, write_folder

from nativebert import cli
from nativebert.engine import prepare
from nativebert.engine.plan import ExecutionPlan
from nativebert.errors import BadInputError
from nativebert.loading import load
from nativebert.nn.packed import Packed
from nativebert.parity import invariance


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "tiny", BERT)


def test_bitwise_on_the_cpu(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["invariance", str(folder), "--device", "cpu", "--trials", "3", "--json", str(tmp_path / "r.json")])
    shown = capsys.readouterr()
    assert (code, shown.err) == (0, "")
    assert "0 differences: bitwise equal" in shown.out
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["passed"]
    assert found["bitwise"]
    assert found["promised"]
    kinds = {kind["name"]: kind for kind in found["kinds"]}
    assert list(kinds) == ["order", "batch size", "other texts in the batch", "unsorted batch", "padded batch, reference model"]
    assert all(kind["equal"] == kind["compared"] > 0 for kind in kinds.values() if kind["counts"])
    assert kinds["order"]["compared"] == 3 * invariance.COUNT
    assert kinds["padded batch, reference model"]["vectors"] < 1e-5


def test_own_texts_and_other_families(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "distil", DISTILBERT)
    (tmp_path / "t.txt").write_text("the cat\n" * 3 + "a dog " * 60 + "\n")
    code = cli.main(["invariance", str(folder), "--device", "cpu", "--texts", str(tmp_path / "t.txt"), "--json", "-"])
    shown = capsys.readouterr()
    assert code == 0
    assert json.loads(shown.out)["facts"]["texts"] == "4 of 4 to 40 tokens"
    assert "bitwise equal" in shown.err


def test_whole_numbers_of_any_kind(folder: Path) -> None:
    texts = ["the cat", "a dog sat"]
    found = invariance.check(folder, device="cpu", trials=np.int64(1), seed=np.int32(3), texts=texts)  # type: ignore[arg-type]
    assert found.facts == invariance.check(folder, device="cpu", trials=1.0, seed=3.0, texts=texts).facts  # type: ignore[arg-type]
    for wrong in ({"trials": 1.5}, {"trials": True}, {"seed": float("nan")}, {"seed": "1"}):
        with pytest.raises(BadInputError, match="must be a whole number"):
            invariance.check(folder, device="cpu", texts=texts, **wrong)  # type: ignore[arg-type]


def test_reduced_precision_promises_nothing(folder: Path) -> None:
    found = invariance.check(folder, device="cpu", precision="bfloat16", trials=2)
    assert not found.promised
    assert found.passed
    assert "FAIL" not in found.verdict()


def test_a_plan_that_depends_on_company_is_caught(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = type(prepare(load(folder), "cpu"))
    run = plan.hidden

    def worse(self: ExecutionPlan, batch: Packed) -> torch.Tensor:
        return run(self, batch) * (1 + 1e-6 * len(batch.lengths))

    monkeypatch.setattr(plan, "hidden", worse)
    assert cli.main(["invariance", str(folder), "--device", "cpu", "--trials", "1"]) == 1
    out = capsys.readouterr().out
    assert "FAIL: not bitwise equal" in out
    order = next(line for line in out.splitlines() if line.startswith("order"))
    assert f"of {invariance.COUNT}" in order
    assert "e-0" in order
