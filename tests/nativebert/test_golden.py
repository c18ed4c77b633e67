"""Parity where transformers is not installed: with what it computed once (see tests/golden/derive.py)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from families import EVERY, Batch, Made, ours
from models import ELSEWHERE, FLOAT32_PARTS, one_thread
from safetensors.torch import load_file

import nativebert as nb
from nativebert.engine import prepare
from nativebert.nn.packed import Packed
from nativebert.parity.compare import Steps, compare, run

GOLDEN = Path(__file__).parents[1] / "golden"
FAMILIES = ["bert", "distilbert"]
BATCHES = ["right", "left", "holes"]
STEPS = ["embeddings", *(step for n in range(4) for step in (f"layers.{n}.attention", f"layers.{n}"))]
Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def golden(family: str, batch: str) -> tuple[Inputs, Steps]:
    """Inputs of a batch, and the steps of the reference in their order."""
    kept = load_file(GOLDEN / family / "steps.safetensors")
    here = {name.removeprefix(f"{batch}/"): t for name, t in kept.items() if name.startswith(f"{batch}/")}
    inputs = here.pop("input_ids"), here.pop("attention_mask"), here.pop("token_type_ids", None)
    order = [*STEPS, "pooler"] if "pooler" in here else STEPS
    assert sorted(here) == sorted(order)
    return inputs, {name: here[name] for name in order}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_step(family: str, batch: str) -> None:
    inputs, truth = golden(family, batch)
    assert all(t.dtype == torch.float64 for t in truth.values())
    found = run(nb.load(GOLDEN / family), *inputs)
    if "pooler" not in truth:  # see derive.py
        found.pop("pooler", None)
    verdict = compare(found, truth)
    assert verdict.passed, verdict
    assert ("pooler" in truth) == (family == "bert" and batch == "right")


@pytest.mark.parametrize("family", FAMILIES)
def test_in_float64_nothing_is_left_but_rounding(family: str) -> None:
    inputs, truth = golden(family, "right")
    verdict = compare(run(nb.load(GOLDEN / family, precision="float64"), *inputs), truth, tolerance=1e-13)
    assert verdict.passed, verdict


@pytest.mark.parametrize("family", FAMILIES)
def test_the_plan_for_the_cpu(family: str) -> None:
    (ids, mask, segments), truth = golden(family, "right")
    rows = [row[seen > 0].tolist() for row, seen in zip(ids, mask)]
    kinds = None if segments is None else [row[seen > 0].tolist() for row, seen in zip(segments, mask)]
    hidden = prepare(nb.load(GOLDEN / family), "cpu").hidden(Packed.of(rows, kinds))
    assert (hidden - truth["layers.3"][mask > 0]).abs().max() <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_again_it_is_the_same_file(family: str, tmp_path: Path) -> None:
    nb.load(GOLDEN / family).save(tmp_path)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / name).read_bytes() == (GOLDEN / family / name).read_bytes()


HEADS = [made for made in EVERY if made.variant == made.family]


def found_with_head(model: nb.Model, made: Made, batch: Batch) -> Steps:
    """What we compute, without what derive.py leaves out."""
    return {name: t for name, t in ours(model, made, batch).items() if not (made.tasks and name.endswith("attention"))}


def with_head(made: Made) -> tuple[Path, Batch, Steps]:
    """The folder of a family's checkpoint with a head, its batch, and the steps of the reference."""
    folder = GOLDEN / "heads" / str(made)
    kept = load_file(folder / "steps.safetensors")
    return folder, Batch(kept.pop("ids"), kept.pop("mask"), kept.pop("segments", None)), kept


@pytest.mark.parametrize("made", HEADS, ids=str)
def test_every_step_of_every_family_and_head(made: Made, tmp_path: Path) -> None:
    folder, batch, truth = with_head(made)
    model = nb.load(folder)
    assert model.tasks == made.tasks
    verdict = compare(found_with_head(model, made, batch), truth)
    assert verdict.passed, verdict
    assert len(truth) == 1 + (2 + len(made.tasks) if made.tasks else 2 * 2 + model.config.pooler)
    model.save(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("made", HEADS, ids=str)
def test_every_family_and_head_in_float64(made: Made) -> None:
    folder, batch, truth = with_head(made)
    # EuroBERT's norms are in float32 there, of states whose mean square is small
    tolerance = 1e-5 if made.family == "eurobert" else 1e-6 if made.family in FLOAT32_PARTS else 1e-13
    found = found_with_head(nb.load(folder, precision="float64"), made, batch)
    assert compare(found, truth, tolerance=tolerance).passed


def test_no_family_is_without_golden_data() -> None:
    from nativebert.arch import FAMILIES

    assert {made.family for made in HEADS} == set(FAMILIES) - ELSEWHERE
    assert {folder.name for folder in (GOLDEN / "heads").iterdir()} == set(map(str, HEADS))


@pytest.mark.slow
def test_transformers_is_not_needed() -> None:
    """Everything above once more, in a process that cannot import it."""
    forbid = "import sys; sys.modules.update(dict.fromkeys(['transformers', 'sentence_transformers']))"
    again = f"import pytest; raise SystemExit(pytest.main([{__file__!r}, '-k', 'every_step', '-p', 'no:cacheprovider']))"
    done = subprocess.run([sys.executable, "-c", f"{forbid}; {again}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(HEADS) + 6} passed" in done.stdout


def test_the_golden_data_is_small_and_says_where_it_comes_from() -> None:
    assert sum(f.stat().st_size for f in GOLDEN.rglob("*") if f.is_file() and "__pycache__" not in f.parts) < 2_000_000
    assert {"torch", "transformers", "safetensors", "python"} <= set(json.loads((GOLDEN / "versions.json").read_text()))
