"""Derive the golden data in this folder from transformers: `make golden`.

Tiny checkpoints with random weights, written by transformers as it writes any, and what it computes from them in
float64: every hidden state, every attention map, the pooler, the logits, full tensors. Two of them, bert/ and
distilbert/, with several batches; and in heads/ one for each family and head. tests/nativebert/test_golden.py compares
with them where transformers is not installed. Run twice, this writes the same bytes; versions.json says by which
versions.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
from pathlib import Path

import numpy as np
import safetensors
import torch
import transformers
from safetensors.torch import save_file
from transformers import BertConfig, BertForPreTraining, DistilBertConfig, DistilBertForMaskedLM

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))

from families import EVERY, Batch, Made, theirs  # noqa: E402
from models import masks, one_thread, unlike  # noqa: E402

from nativebert.parity.compare import run  # noqa: E402

SIZES = {"vocab_size": 29, "max_position_embeddings": 8}
MODELS = {
    "bert": BertForPreTraining(
        BertConfig(**SIZES, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=20, type_vocab_size=2)
    ),
    "distilbert": DistilBertForMaskedLM(DistilBertConfig(**SIZES, dim=16, n_layers=4, n_heads=2, hidden_dim=20)),
}


def derive(name: str, model: torch.nn.Module) -> None:
    """Write the folder ``name``: config.json, model.safetensors, steps.safetensors."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    unlike(model, seed=len(name))
    with torch.no_grad():  # small as in trained models, so that an epsilon makes a difference
        for part, p in model.named_parameters():
            if "embeddings.weight" in part:
                p.mul_(0.1)
    model.eval().save_pretrained(folder)
    encoder = model.base_model.double()
    encoder.set_attn_implementation("eager")
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(0, SIZES["vocab_size"], (3, 8), generator=g)
    segments = torch.randint(0, 2, (3, 8), generator=g)
    found: dict[str, torch.Tensor] = {}
    for kind, mask in masks(*ids.shape).items():
        steps = run(encoder, ids, mask, segments if name == "bert" else None)
        if kind != "right":  # transformers pools the first cell, which is no token there
            steps.pop("pooler", None)
        given = {"input_ids": ids, "attention_mask": mask} | ({"token_type_ids": segments} if name == "bert" else {})
        found |= {f"{kind}/{key}": t.contiguous().clone() for key, t in (given | steps).items()}
    save_file(found, folder / "steps.safetensors")


# The smallest that still has every part; two layers, the second of ModernBERT's with a window.
SMALL = {"vocab_size": 11, "max_position_embeddings": 9}
SMALL_BERT = SMALL | {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
SMALLER = {
    "distilbert": SMALL | {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 8},
    "eurobert": SMALL_BERT | {"num_key_value_heads": 1},
    "gpt2": {"vocab_size": 11, "n_positions": 9, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_inner": 8},
    "electra": SMALL_BERT | {"embedding_size": 6},
    "albert": SMALL_BERT | {"embedding_size": 6, "num_hidden_groups": 2},
    "modernbert": SMALL_BERT | {"local_attention": 2, "global_attn_every_n_layers": 2},
}


def derive_head(made: Made) -> None:
    """Write the folder ``heads/<family>-<class>``."""
    folder = HERE / "heads" / str(made)
    model = made.model(**SMALLER.get(made.family, SMALL_BERT))
    model.save_pretrained(folder)
    batch = Batch.of(made, (5, 4, 4, 2), vocab=SMALL["vocab_size"])
    given = {"ids": batch.ids, "mask": batch.mask, **({} if batch.segments is None else {"segments": batch.segments})}
    found = theirs(model.double(), made, batch)
    if made.tasks:  # the attention is the same for every head: once is enough
        found = {name: t for name, t in found.items() if not name.endswith("attention")}
    save_file({name: t.contiguous().clone() for name, t in (given | dict(found)).items()}, folder / "steps.safetensors")


def main() -> None:
    with one_thread():
        for name, model in MODELS.items():
            derive(name, model)
        shutil.rmtree(HERE / "heads", ignore_errors=True)
        for made in EVERY:
            if made.variant == made.family:
                derive_head(made)
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "safetensors": safetensors.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
    }
    (HERE / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
