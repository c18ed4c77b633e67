"""docs/adding-a-family.md does what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
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


def example() -> tuple[str, str, str, str]:
    """The page's file, its lines of test, its ``model_type``, and the name of the file."""
    text = PAGE.read_text("utf-8")
    file, test = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (model_type, name) = re.findall(r'^    "([\w-]+)": "(\w+)",$', text, re.MULTILINE)[0]
    return file, test, model_type, name


@pytest.mark.reference
def test_the_worked_example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file, test, model_type, name = example()
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


SCRIPT = """
import json, sys
import nativebert.arch as arch

home, folder, model_type, name = sys.argv[1:]
arch.__path__.append(home)
arch.FAMILIES[model_type] = name
import torch
from nativebert import hf

ids = torch.tensor([[5, 6, 7, 8]])
model = hf.AutoModelForSequenceClassification.from_pretrained(folder)
bare = hf.AutoModel.from_pretrained(folder)
given = {"input_ids": ids, "labels": torch.tensor([1]), "token_type_ids": torch.tensor([[0, 0, 1, 1]])}
with torch.no_grad():
    out, states = model(**given), bare(ids)
print(json.dumps({
    "classes": [type(model).__name__, type(bare).__name__, hf.Data2VecTextForMaskedLM.__name__],
    "config": json.loads(hf.Data2VecTextConfig().to_json_string(use_diff=False)),
    "names": [*out.keys(), *states.keys(), type(states).__name__],
    "values": [out.loss.item(), *out.logits[0].tolist(), *states.last_hidden_state[0, -1].tolist()],
}))
"""


@pytest.mark.reference
def test_the_classes_of_transformers_follow_from_the_one_file(tmp_path: Path) -> None:
    import torch
    import transformers

    file, _, model_type, name = example()
    (tmp_path / f"{name}.py").write_text(file)
    kind = transformers.Data2VecTextForSequenceClassification
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    torch.manual_seed(0)
    reference = kind(transformers.Data2VecTextConfig(**sizes)).eval()
    reference.save_pretrained(tmp_path / "model")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(tmp_path / "model"), model_type, name]
    ended = subprocess.run(
        command, capture_output=True, encoding="utf-8", env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert not ended.returncode, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["classes"] == ["Data2VecTextForSequenceClassification", "Data2VecTextModel", "Data2VecTextForMaskedLM"]
    theirs = json.loads(transformers.Data2VecTextConfig().to_json_string(use_diff=False))
    assert {key: value for key, value in found["config"].items() if theirs.get(key) != value} == {}
    ids, segments = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[0, 0, 1, 1]])
    with torch.no_grad():
        out = reference(input_ids=ids, labels=torch.tensor([1]), token_type_ids=segments)
        states = transformers.AutoModel.from_pretrained(tmp_path / "model", add_pooling_layer=False)(ids)
    assert found["names"] == [*out.keys(), *states.keys(), type(states).__name__]
    values = [out.loss.item(), *out.logits[0].tolist(), *states.last_hidden_state[0, -1].tolist()]
    assert found["values"] == pytest.approx(values, abs=1e-5)
