"""MiniLM, a BERT, written as other families can hold it: the same mathematics by another file and another path through the code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models import minilm
from safetensors.torch import load_file, save_file

import nativebert as nb
from nativebert.engine import prepare
from nativebert.nn.packed import Packed

Tensors = dict[str, torch.Tensor]
EMBEDDINGS = "embeddings.position_embeddings.weight"


def as_distilbert(config: dict[str, Any], tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
    """No segments: what the first of them adds goes into the positions."""
    names = {
        "attention.self.query": "attention.q_lin", "attention.self.key": "attention.k_lin", "attention.self.value": "attention.v_lin",
        "attention.output.dense": "attention.out_lin", "attention.output.LayerNorm": "sa_layer_norm",
        "intermediate.dense": "ffn.lin1", "output.dense": "ffn.lin2", "output.LayerNorm": "output_layer_norm",
    }  # fmt: skip
    out = {}
    for name, t in tensors.items():
        if name.startswith("encoder.layer."):
            _, _, number, rest = name.split(".", 3)
            part, leaf = rest.rsplit(".", 1)
            out[f"transformer.layer.{number}.{names[part]}.{leaf}"] = t
        elif "token_type" not in name and not name.startswith("pooler"):
            out[name] = t
    out[EMBEDDINGS] = tensors[EMBEDDINGS] + tensors["embeddings.token_type_embeddings.weight"][0]
    new = {
        "vocab_size": config["vocab_size"], "dim": config["hidden_size"], "n_layers": config["num_hidden_layers"],
        "n_heads": config["num_attention_heads"], "hidden_dim": config["intermediate_size"], "activation": config["hidden_act"],
        "max_position_embeddings": config["max_position_embeddings"],
    }  # fmt: skip
    return {"model_type": "distilbert", **new}, out


def as_roberta(config: dict[str, Any], tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
    """Positions count from the one after the padding id, 0: the table begins a row later."""
    table = torch.cat([tensors[EMBEDDINGS].new_zeros(1, config["hidden_size"]), tensors[EMBEDDINGS]])
    longer = {"max_position_embeddings": config["max_position_embeddings"] + 1, "pad_token_id": 0}
    return config | longer | {"model_type": "roberta"}, tensors | {EMBEDDINGS: table}


def as_electra(config: dict[str, Any], tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
    """Embeddings as wide as the model, and no pooler."""
    return config | {"model_type": "electra", "embedding_size": config["hidden_size"]}, {
        name: t for name, t in tensors.items() if not name.startswith("pooler")
    }


@pytest.mark.parametrize("change", [as_distilbert, as_roberta, as_electra])
def test_minilm_as_another_family_is_itself(
    change: Callable[[dict[str, Any], Tensors], tuple[dict[str, Any], Tensors]], tmp_path: Path
) -> None:
    config = json.loads((minilm() / "config.json").read_text())
    config, tensors = change(config | {"architectures": []}, load_file(minilm() / "model.safetensors"))
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    bert, other = nb.load(minilm()), nb.load(tmp_path)
    assert other.config.family == config["model_type"] == change.__name__.removeprefix("as_")

    g = torch.Generator().manual_seed(0)
    lengths = [120, 64, 64, 9, 2]
    ids, mask = torch.zeros(5, 120, dtype=torch.long), torch.zeros(5, 120, dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(1000, 30000, (length,), generator=g)
        mask[row, :length] = 1
    with torch.no_grad():
        truth, found = (m(ids, mask, output_hidden_states=True, output_attentions=True) for m in (bert, other))
    for a, b in zip((*truth.hidden_states, *truth.attentions), (*found.hidden_states, *found.attentions), strict=True):
        assert (a - b).abs().max() <= 1e-5
    assert (truth.pooler_output is not None and found.pooler_output is not None) == (config["model_type"] == "roberta")
    texts = [row[seen > 0].tolist() for row, seen in zip(ids, mask)]
    plan = prepare(other, "cpu").hidden(Packed.of(texts, position_pad_id=other.config.position_pad_id))
    assert (plan - truth.last_hidden_state[mask > 0]).abs().max() <= 1e-5
