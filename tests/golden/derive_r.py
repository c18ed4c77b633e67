"""Derive tests/golden/native.rds for examples/r/native.R from transformers: `python tests/golden/derive_r.py`, or `make golden`.

Last hidden states in float64: of MiniLM for two texts, and of the tiny models beside this file, whose steps.safetensors has them already.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))

from models import minilm, one_thread  # noqa: E402

from nativebert.io.rds import dump_rds  # noqa: E402

TEXTS = ["Deep learning is powerful.", "A café in Köln: 中文, unaffable; it's a rather long text that says little."]


def of_minilm() -> tuple[dict[str, Any], ...]:
    model = transformers.AutoModel.from_pretrained(minilm(), attn_implementation="eager").double().eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm())
    examples = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        with torch.no_grad():
            hidden = model(torch.tensor([ids])).last_hidden_state[0].numpy()
        examples.append({"text": text, "ids": np.array(ids, "i4"), "hidden": hidden})
    return tuple(examples)


def of_tiny(name: str) -> tuple[dict[str, Any], ...]:
    """The rows of the batch, without their padding."""
    steps = load_file(HERE / name / "steps.safetensors")
    last = max(
        (key for key in steps if key.startswith("right/layers.") and "attention" not in key),
        key=lambda key: int(key.split(".")[1]),
    )
    examples = []
    for n, mask in enumerate(steps["right/attention_mask"]):
        length = int(mask.sum())
        types = steps.get("right/token_type_ids", torch.zeros_like(steps["right/input_ids"]))
        one = {"ids": steps["right/input_ids"][n], "types": types[n]}
        examples.append(
            {key: value[:length].int().numpy() for key, value in one.items()} | {"hidden": steps[last][n, :length].numpy()}
        )
    return tuple(examples)


def main() -> None:
    with one_thread(), (HERE / "native.rds").open("wb") as file:
        dump_rds(file, {"minilm": of_minilm(), "bert": of_tiny("bert"), "distilbert": of_tiny("distilbert")})


if __name__ == "__main__":
    main()
