"""What transformers 5 calls the parameters of some families in memory, where their files have other names: for comparisons, and for adapters that
were trained on such a model. Reference: transformers ``conversion_mapping.py``."""

from __future__ import annotations

from weights_map import WeightMap, linear, norm

_PREFIXES = ("nomic_bert.", "gte.", "roberta.", "")
# fmt: off
#            module in memory                         our module               dims
_COMMON = [
    norm  ("embeddings.LayerNorm",                   "embed.norm",             "H"),
    linear("layers.{i}.self_attn.q_proj",            "layers.{i}.attn.q",      "H H"),
    linear("layers.{i}.self_attn.k_proj",            "layers.{i}.attn.k",      "H H"),
    linear("layers.{i}.self_attn.v_proj",            "layers.{i}.attn.v",      "H H"),
    linear("layers.{i}.self_attn.o_proj",            "layers.{i}.attn.o",      "H H"),
    norm  ("layers.{i}.post_attention_layernorm",    "layers.{i}.attn_norm",   "H"),
    norm  ("layers.{i}.post_mlp_layernorm",          "layers.{i}.mlp_norm",    "H"),
]
GATED = WeightMap("gated, in transformers", [
    *_COMMON,
    linear("layers.{i}.mlp.gate_proj",               "layers.{i}.mlp.up",      "F H"),
    linear("layers.{i}.mlp.up_proj",                 "layers.{i}.mlp.gate",    "F H"),
    linear("layers.{i}.mlp.down_proj",               "layers.{i}.mlp.down",    "H F"),
], prefixes=_PREFIXES)
PLAIN = WeightMap("plain, in transformers", [
    *_COMMON,
    linear("layers.{i}.mlp.fc1",                     "layers.{i}.mlp.up",      "F H"),
    linear("layers.{i}.mlp.fc2",                     "layers.{i}.mlp.down",    "H F"),
], prefixes=_PREFIXES)
# fmt: on
