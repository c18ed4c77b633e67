"""The recipes of docs/integrations.md, run as they stand, each in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hf_checkpoints import make

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "integrations.md").read_text("utf-8")
RECIPES = dict(re.findall(r"^## (.+?)\n(?:(?!^## ).)*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
PACKAGES = {
    "BERTopic": "bertopic", "KeyBERT": "keybert", "scikit-learn": "sklearn", "LangChain": "langchain_core", "spaCy": "spacy",
    "datasets": "datasets",
}  # fmt: skip
# Models that no package index serves -> the kind that stands for them.
STAND_INS = {"dslim/bert-base-NER": "ner", "cross-encoder/ms-marco-MiniLM-L6-v2": "cross"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    pytest.importorskip("transformers")
    return make(tmp_path_factory.mktemp("models"))


def test_every_program_has_its_recipe() -> None:
    assert list(RECIPES) == list(PACKAGES)
    assert PAGE.count("```python") == len(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.slow
def test_recipe(name: str, models: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[name])
    program = RECIPES[name]
    for model, kind in STAND_INS.items():
        program = program.replace(f'"{model}"', repr(models[kind]))
    (tmp_path / "recipe.py").write_text(program, "utf-8")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "recipe.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()
