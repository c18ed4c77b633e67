"""Small models with random weights under the names that R's examples and defaults have, with MiniLM's tokenizer; made without transformers.

python tests/support/r_models.py FOLDER COMMAND ...   make them, serve them as a stand-in for the Hub, and run a command meanwhile
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from models import minilm, unlike

SIZES = {"vocab_size": 30522, "max_position_embeddings": 64}
BERT = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    **SIZES,
}
DISTILBERT = {"model_type": "distilbert", "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48, **SIZES}
TAGS = ["O", "B-MISC", "I-MISC", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]

SENTIMENT = "distilbert-base-uncased-finetuned-sst-2-english"
NLI = "cross-encoder/nli-MiniLM2-L6-H768"
CROSS = "cross-encoder/ms-marco-MiniLM-L6-v2"


def _labels(*names: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: n for n, name in enumerate(names)}}


MODELS: dict[str, tuple[dict[str, Any], str]] = {
    "distilbert-base-uncased": (DISTILBERT, "lm"),
    SENTIMENT: (DISTILBERT | _labels("NEGATIVE", "POSITIVE"), "classify"),
    "bert-base-uncased": (BERT, "lm"),
    "dslim/bert-base-NER": (BERT | _labels(*TAGS), "tag"),
    "distilbert-base-cased-distilled-squad": (DISTILBERT, "answer"),
    CROSS: (BERT | _labels("LABEL_0"), "classify"),
    NLI: (BERT | _labels("contradiction", "entailment", "neutral"), "classify"),
}
"""Name -> its config, and its head."""


def make(root: Path) -> dict[str, Path]:
    """The folders of :data:`MODELS`, by name."""
    from nativebert.loading import from_config

    folders = {name: root / name.replace("/", "--") for name in MODELS}
    for seed, (name, (config, head)) in enumerate(MODELS.items()):
        folder = folders[name]
        if (folder / "vocab.txt").exists():
            continue
        model = from_config(config, head=head)
        unlike(model, seed)
        model.save(folder)
        kind = "DistilBertTokenizer" if config is DISTILBERT else "BertTokenizer"
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, "do_lower_case": True}))
        for file in ("tokenizer.json", "vocab.txt"):
            (folder / file).write_bytes((minilm() / file).read_bytes())
    return folders


def main() -> int:
    from hub_server import HubServer

    with HubServer() as hub, tempfile.TemporaryDirectory() as home:
        for name, folder in make(Path(sys.argv[1])).items():
            files = {path.name: path.read_bytes() for path in folder.iterdir()}
            hub.add(name, files)
            if name == SENTIMENT:  # as the default of pipelines has it
                hub.add(f"distilbert/{name}", files, branch="714eb0f")
        environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": home,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DEVELOPMENT_PYTHON": sys.executable,
        }
        return subprocess.run(sys.argv[2:], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
