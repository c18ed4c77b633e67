"""docs/adding-a-family.md does what it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import families
import pytest
from families import COMMON, Batch, Made, ours, theirs, write
from models import ROBERTA, one_thread

import nativebert as nb
from nativebert.arch import FAMILIES
from nativebert.parity.compare import compare

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-family.md"


@pytest.mark.reference
def test_the_worked_example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = PAGE.read_text("utf-8")
    file, test = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (model_type, name) = re.findall(r'^    "([\w-]+)": "(\w+)",$', text, re.MULTILINE)[0]
    assert model_type not in FAMILIES, "it is here now: the page needs another example"
    module = ModuleType(f"nativebert.arch.{name}")
    exec(compile(file, str(PAGE), "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(FAMILIES, model_type, name)
    monkeypatch.setattr(families, "VARIANTS", dict(families.VARIANTS))
    monkeypatch.setattr(families, "STEM", dict(families.STEM))
    exec(test, {"VARIANTS": families.VARIANTS, "STEM": families.STEM, "ROBERTA": ROBERTA})
    with one_thread():
        for end in COMMON:
            made = Made(model_type, end)
            batch = Batch.of(made)
            reference = write(made.model(), tmp_path / end, "float32")
            model = nb.load(tmp_path / end)
            assert (model.config.family, model.tasks) == (model_type, made.tasks)
            fp32 = theirs(reference, made, batch)
            verdict = compare(ours(model, made, batch), theirs(reference.double(), made, batch), fp32)
            assert verdict.passed, f"{end}:\n{verdict}"
            model.save(tmp_path / f"{end} again")
            same = [tmp_path / folder / "model.safetensors" for folder in (end, f"{end} again")]
            assert same[0].read_bytes() == same[1].read_bytes()
