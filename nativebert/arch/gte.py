"""GTE: gte-*-v1.5, gte-multilingual and snowflake-arctic-embed-m-v2.0 (Zhang et al. 2024, arXiv:2407.19669).

Reference: transformers ``models/gte/modeling_gte.py``. BERT with rotary positions and a gated feed-forward part; the Hub's own code calls the family
``new``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nativebert.arch import Family
from nativebert.arch.bert import POOLER
from nativebert.arch.common import TABLE_TIE, bert_like, bert_map, encoder, layer_of, rotary, rotary_computed
from nativebert.arch.in_memory import GATED
from nativebert.config import EncoderConfig, Fields
from weights_map import linear, norm, table

# fmt: off
#            checkpoint module                       our module                  dims
EMBEDDINGS = [
    table ("embeddings.word_embeddings",            "embed.token",              "V H"),
    table ("embeddings.token_type_embeddings",      "embed.segment",            "S H"),
    norm  ("embeddings.LayerNorm",                  "embed.norm",               "H"),
]
LAYERS = [
    norm  ("encoder.layer.{i}.attn_ln",             "layers.{i}.attn_norm",     "H"),
    linear("encoder.layer.{i}.mlp.up_gate_proj",    "layers.{i}.mlp.{gate,up}", "2F H"),
    linear("encoder.layer.{i}.mlp.down_proj",       "layers.{i}.mlp.down",      "H F"),
    linear("encoder.layer.{i}.attention.qkv_proj",  "layers.{i}.attn.{q,k,v}",  "3H H"),
    linear("encoder.layer.{i}.attention.o_proj",    "layers.{i}.attn.o",        "H H"),
    norm  ("encoder.layer.{i}.mlp_ln",              "layers.{i}.mlp_norm",      "H"),
]
HEADS = [
    linear("lm_head.dense",                         "head.lm.dense",            "H H"),
    norm  ("lm_head.norm",                          "head.lm.norm",             "H"),
    linear("lm_head.decoder",                       "head.lm.out",              "V H"),
    linear("classifier",                            "head.classifier.out",      "C H"),
]
# fmt: on

MAP = bert_map(
    "gte",
    EMBEDDINGS + POOLER + LAYERS,
    HEADS,
    prefixes=("gte.", "new.", ""),
    spellings={f"lm_head.layer_norm.{leaf}": f"lm_head.norm.{leaf}" for leaf in ("weight", "bias")},
    ties=TABLE_TIE,
)

DEFAULTS = {
    "vocab_size": 250048, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 8192,
    "type_vocab_size": 1, "layer_norm_eps": 1e-12, "pad_token_id": 1, "classifier_dropout": None, "rope_parameters": None,
}  # fmt: skip
# The class of the Hub's code has other defaults.
NEW_DEFAULTS = DEFAULTS | {
    "vocab_size": 30528, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 2048, "pad_token_id": 0, "rope_theta": 10000.0,
}  # fmt: skip


def config(f: Fields) -> EncoderConfig:
    """Translate a GTE config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    f.require_value("position_embedding_type", "rope", why="positions are learned, and added to the tokens")
    f.require_value("layer_norm_type", "layer_norm", why="its norms are root mean squares")
    f.require_value("logn_attention_scale", False, why="attention scores grow with the length of a text")
    f.require_value("logn_attention_clip1", False, why="attention scores grow with the length of a text")
    f.require_value("pack_qkv", True, why="queries, keys and values are three tensors")
    theta, scale, positions = rotary(f, f.defaults.get("rope_theta", 160_000.0))
    heads = bert_like(f, activation="gelu" if f.family == "gte" else None)
    return encoder(
        f,
        layer_of(f, rope_theta=theta, rope_scale=scale),
        positions=positions,
        segments=f.integer("type_vocab_size", low=0),
        position_table=False,
        gated=True,
        mlp_bias=False,
        down_bias=True,
        mlp_dropout=f.number("hidden_dropout_prob", high=1.0),
        pooler=False,
        heads={task: heads[task] for task in ("lm", "classify", "tag")},
        harmless=["unpad_inputs", "use_memory_efficient_attention"],
    )


def computed(values: Mapping[str, Any], config: EncoderConfig) -> dict[str, Any]:
    """``rope_parameters``, which transformers' config has in any case."""
    return rotary_computed(values, 160_000.0)


GTE = Family(
    "gte",
    "Gte",
    MAP,
    config,
    DEFAULTS,
    computed=computed,
    lacks=("ForQuestionAnswering", "ForMultipleChoice"),
    output="BaseModelOutputWithPooling",
    tokenizer="XLMRobertaTokenizer",
    in_memory=GATED,
)
FAMILIES = [
    GTE,
    replace(GTE, name="new", stem="New", defaults=NEW_DEFAULTS, in_transformers=False, computed=None, tokenizer=""),
]
