"""examples/seeds: each file does what it says, and what transformers does where only the import line was changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_server import HubServer
from models import minilm

pytestmark = pytest.mark.reference

SEEDS = Path(__file__).parents[2] / "examples" / "seeds"
FILES = sorted(path.name for path in SEEDS.glob("*.py"))
CHANGED = [name for name in FILES if "nativebert.hf" in (SEEDS / name).read_text("utf-8")]
SIZES = {"vocab_size": 30522, "max_position_embeddings": 64}
BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, **SIZES}
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}  # each draws its own
DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48, **SIZES, **NO_DROPOUT}
TAGS = ["O", "B-MISC", "I-MISC", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small models with random weights under the names that the examples use."""
    import transformers as t

    sentiment = {"num_labels": 2, "id2label": {0: "NEGATIVE", 1: "POSITIVE"}, "label2id": {"NEGATIVE": 0, "POSITIVE": 1}}
    tags = {"id2label": dict(enumerate(TAGS)), "label2id": {tag: n for n, tag in enumerate(TAGS)}}
    torch.manual_seed(0)
    made = {
        "distilbert-base-uncased": t.DistilBertForMaskedLM(t.DistilBertConfig(**DISTILBERT)),
        "distilbert-base-uncased-finetuned-sst-2-english": t.DistilBertForSequenceClassification(
            t.DistilBertConfig(**DISTILBERT, **sentiment)
        ),
        "bert-base-uncased": t.BertForPreTraining(t.BertConfig(**BERT)),
        "dslim/bert-base-NER": t.BertForTokenClassification(t.BertConfig(**BERT, **tags)),
    }
    root = tmp_path_factory.mktemp("seeds")
    for name, model in made.items():
        folder = root / name.replace("/", "--")
        model.save_pretrained(folder)
        kind = "DistilBertTokenizer" if "distil" in name else "BertTokenizer"
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, "do_lower_case": True}))
        for file in ("tokenizer.json", "vocab.txt"):
            (folder / file).write_bytes((minilm() / file).read_bytes())
    # the name by which pipelines know their default
    made_names = {name: root / name.replace("/", "--") for name in made}
    return made_names | {
        "distilbert/distilbert-base-uncased-finetuned-sst-2-english": made_names[
            "distilbert-base-uncased-finetuned-sst-2-english"
        ]
    }


def run(source: str, folder: Path) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    before = os.getcwd()
    os.chdir(folder)
    try:
        exec(compile(source, "seed", "exec"), namespace)
    finally:
        os.chdir(before)
    return namespace


@pytest.mark.parametrize("name", CHANGED)
def test_only_the_import_line_differs(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    source = (SEEDS / name).read_text("utf-8")
    for known in sorted(folders, key=len, reverse=True):
        source = source.replace(f'"{known}"', repr(str(folders[known])))
    sentiment = folders["distilbert-base-uncased-finetuned-sst-2-english"]
    source = source.replace('pipeline("sentiment-analysis")', f'pipeline("sentiment-analysis", model={str(sentiment)!r})')
    reference = source.replace("import nativebert.hf as transformers", "import transformers")
    reference = reference.replace("from nativebert.hf import", "from transformers import")
    assert "nativebert" not in reference.replace(str(tmp_path), "")
    ours, theirs = run(source, tmp_path)["results"], run(reference, tmp_path)["results"]
    if isinstance(theirs, torch.Tensor):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    elif isinstance(theirs, np.ndarray):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
        assert np.array_equal(np.load(tmp_path / "bert_embeddings.npy"), theirs)
    elif isinstance(theirs[0], str):
        assert ours == theirs
    else:
        assert [r["label"] for r in ours] == [r["label"] for r in theirs]
        np.testing.assert_allclose([r["score"] for r in ours], [r["score"] for r in theirs], atol=1e-5)


def test_every_file_runs_from_the_hub(folders: dict[str, Path], hub: HubServer, tmp_path: Path) -> None:
    """As a reader would run them, in an interpreter of their own, the models downloaded first."""
    for name, folder in folders.items():
        revision = "714eb0f" if name.startswith("distilbert/") else "main"  # that of the pipeline's default
        hub.add(name, {path.name: path.read_bytes() for path in folder.iterdir()}, branch=revision)
    script = "import runpy, sys, torch; torch.set_num_threads(1)\nfor path in sys.argv[1:]:\n    print('#', path); runpy.run_path(path)"
    paths = [str(SEEDS / name) for name in FILES]
    done = subprocess.run([sys.executable, "-c", script, *paths], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n# ") == len(FILES) - 1
    assert "'deep', 'learning', 'is', 'powerful', '.'" in done.stdout
    assert "torch.Size([1, 7, 32])" in done.stdout
    assert ": This is another positive sentence." in done.stdout
    assert (tmp_path / "results" / "checkpoint-3" / "model.safetensors").is_file()
    assert np.load(tmp_path / "bert_embeddings.npy").shape == (2, 32)
    text = "Apple is looking at buying U.K. startup for $1 billion"
    assert all(
        entity in text and label in ("PER", "LOC", "ORG", "MISC")
        for entity, label in json.loads((tmp_path / "ner_results.json").read_text())
    )
