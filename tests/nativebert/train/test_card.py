"""Model cards: their metadata as huggingface_hub reads it, and that no text from the data becomes markup."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, metadata_load

from nativebert.errors import BadInputError
from nativebert.train.card import TASKS, write_card
from nativebert.train.data import DataReport

DATA = DataReport("/home/me/reviews.csv", 100, {"a|b": 60, "<b>": 40}, 1, 0, lengths=(3, 9, 20, 40), limit=128)


def card(folder: Path, task: str = "classify", **changes: Any) -> str:
    settings: dict[str, Any] = {
        "base_model": "models/minilm", "metrics": {"loss": 0.5, "accuracy": 0.875, "f1_macro": 0.86, "roc_auc": math.nan},
        "data": DATA, "fingerprint": "abc123", "settings": {"epochs": 3.0, "freeze": ["embed"]}, "command": "nativebert train ```x```",
    }  # fmt: skip
    return write_card(folder, task, **settings | changes).read_text("utf-8")


@pytest.mark.parametrize("task", TASKS)
def test_the_hub_reads_it(task: str, tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "README.md").write_text("of another model")
    text = card(folder, task, repo="owner/base", language="en", license="mit")
    assert "another model" not in text
    read = ModelCard.load(folder / "README.md")
    data = read.data.to_dict()
    assert data["base_model"] == "owner/base"
    assert data["pipeline_tag"] == TASKS[task].pipeline
    assert data["library_name"] == TASKS[task].library
    assert (data["language"], data["license"]) == ("en", "mit")
    assert "nativebert" in data["tags"]
    (entry,) = data["model-index"]
    assert entry["name"] == "my-model"
    assert entry["results"][0]["dataset"]["name"] == "reviews.csv"  # not where it lies
    assert {m["type"]: m["value"] for m in entry["results"][0]["metrics"]} == {"accuracy": 0.875, "f1": 0.86}
    assert data["metrics"] == ["accuracy", "f1"]
    assert '("my-model")' in text


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    card(tmp_path, metrics={})
    data = metadata_load(tmp_path / "README.md")
    assert data is not None
    assert not {"language", "license", "base_model", "model-index", "metrics"} & set(data)
    assert "The model was not evaluated." in (tmp_path / "README.md").read_text("utf-8")


def test_the_body(tmp_path: Path) -> None:
    text = card(tmp_path, labels=["a|b", "<b>", "*c*\n# d"])
    assert r"Labels: a\|b, \<b\>, \*c\* \# d." in text
    assert "from models/minilm for text classification" in text
    assert "| Accuracy | 0.8750 |" in text
    assert "| Loss | 0.5000 |" in text
    assert "````sh\nnativebert train ```x```\n````" in text
    assert "SHA-256 of the data: `abc123`" in text
    assert "| freeze | \\['embed'\\] |" in text
    assert "| torch | " in text
    rows = [line for line in text.splitlines() if line.startswith("| 2 labels")]
    assert rows == [r"| 2 labels | a\|b: 60; \<b\>: 40 |"]


def test_every_result_of_a_metric_has_its_name(tmp_path: Path) -> None:
    """Two of the same type, as F1 macro and weighted, are told apart."""
    card(tmp_path, metrics={"f1_macro": 0.1, "f1_weighted": 0.2, "mine": 0.3})
    (entry,) = metadata_load(tmp_path / "README.md")["model-index"]  # type: ignore[index]
    found = {m["name"]: (m["type"], m["value"]) for m in entry["results"][0]["metrics"]}
    assert found == {"F1 (macro)": ("f1", 0.1), "F1 (weighted)": ("f1", 0.2), "mine": ("mine", 0.3)}


def test_another_task(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="task must be one of classify"):
        card(tmp_path, "translate")
