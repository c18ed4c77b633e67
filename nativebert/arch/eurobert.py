"""EuroBERT (Boizard et al. 2025, arXiv:2503.05500). Reference: transformers ``models/eurobert/modeling_eurobert.py``.

Llama's layers, seen from both sides: norms by the root mean square before attention and feed-forward, rotary positions, a gated feed-forward
part, no biases, and keys and values that several heads may share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from nativebert.arch import Family
from nativebert.arch.common import encoder, label_count, layer_of, rotary, rotary_computed
from nativebert.config import EncoderConfig, Fields, Head
from weights_map import WeightMap, linear, norm, table

# fmt: off
#            checkpoint module                      our module              dims
ENCODER = [
    table ("embed_tokens",                         "embed.token",           "V H"),
    linear("layers.{i}.self_attn.q_proj",          "layers.{i}.attn.q",     "H H"),
    linear("layers.{i}.self_attn.k_proj",          "layers.{i}.attn.k",     "G H"),
    linear("layers.{i}.self_attn.v_proj",          "layers.{i}.attn.v",     "G H"),
    linear("layers.{i}.self_attn.o_proj",          "layers.{i}.attn.o",     "H H"),
    linear("layers.{i}.mlp.gate_proj",             "layers.{i}.mlp.up",     "F H"),
    linear("layers.{i}.mlp.up_proj",               "layers.{i}.mlp.gate",   "F H"),
    linear("layers.{i}.mlp.down_proj",             "layers.{i}.mlp.down",   "H F"),
    norm  ("layers.{i}.input_layernorm",           "layers.{i}.attn_norm",  "H", bias=False),
    norm  ("layers.{i}.post_attention_layernorm",  "layers.{i}.mlp_norm",   "H", bias=False),
    norm  ("norm",                                 "norm",                  "H", bias=False),
]
HEADS = [
    linear("lm_head",                              "head.lm.out",           "V H"),
    linear("dense",                                "head.classifier.dense", "H H"),
    linear("classifier",                           "head.classifier.out",   "C H"),
]
# fmt: on

MAP = WeightMap(
    "eurobert",
    ENCODER,
    heads=HEADS,
    prefixes=("model.", ""),
    ties={"head.lm.out.weight": "embed.token.weight"},
    carried=["head.*"],
)

DEFAULTS = {
    "vocab_size": 128256, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "num_key_value_heads": None, "hidden_act": "silu", "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "use_cache": True,
    "pad_token_id": 128001, "bos_token_id": 128000, "eos_token_id": 128001, "pretraining_tp": 1, "tie_word_embeddings": False,
    "rope_parameters": None, "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False, "head_dim": None,
    "mask_token_id": 128002, "classifier_pooling": "late",
}  # fmt: skip
READS: dict[str, Literal["first", "mean", "late"]] = {"bos": "first", "mean": "mean", "late": "late"}
"""What the classifier reads, by ``classifier_pooling``."""


def config(f: Fields) -> EncoderConfig:
    """Translate a EuroBERT config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    width, vocab, heads = f.integer("hidden_size"), f.integer("vocab_size"), f.integer("num_attention_heads")
    f.require_value("head_dim", width // heads, why="heads have another width than their share of the model's")
    pooling = "classifier_pooling"
    f.for_heads(["classify"], lambda: f.require_value(pooling, *READS, why="an unknown pooling before the classifier"), None)
    pooled = f.data.get(pooling) or "late"
    why = (
        f"transformers pools the classifier's input by {pooled!r}; write what it was trained with as {pooling} into config.json"
    )
    f.for_heads(["classify"], lambda: f.require_value("clf_pooling", pooled, why=why), None)  # of the Hub's own code
    theta, scale, positions = rotary(f, 10_000.0)
    bias, labels = f.boolean("mlp_bias"), label_count(f)
    return encoder(
        f,
        layer_of(f, rope_theta=theta, rope_scale=scale, key_heads=f.integer("num_key_value_heads", heads)),
        positions=positions,
        segments=0,
        norm_eps=f.number("rms_norm_eps"),
        embedding_norm=False,
        position_table=False,
        block="pre",
        gated=True,
        rms_norm=True,
        attention_bias=f.boolean("attention_bias"),
        mlp_bias=bias,
        norm_bias=False,
        dropout=0.0,
        attention_dropout=f.number("attention_dropout", high=1.0),
        pooler=False,
        tied=f.boolean("tie_word_embeddings", False),
        heads={
            "lm": Head("lm", "tokens", vocab, last_bias=bias),
            "classify": Head("classifier", READS.get(pooled, "late"), labels, width, "gelu"),
            "tag": Head("classifier", "tokens", labels),
        },
        harmless=["pretraining_tp", "hidden_dropout", "bos_token", "eos_token", "mask_token", "pad_token"],
    )


def computed(values: Mapping[str, Any], config: EncoderConfig) -> dict[str, Any]:
    """What transformers' config has in any case."""
    heads = values["num_attention_heads"]
    shared = values.get("num_key_value_heads") or heads
    return {"head_dim": config.width // heads, "num_key_value_heads": shared, **rotary_computed(values, 10_000.0)}


FAMILIES = [
    Family(
        "eurobert",
        "EuroBert",
        MAP,
        config,
        DEFAULTS,
        computed=computed,
        lacks=("ForQuestionAnswering", "ForMultipleChoice"),
        float32_losses=("lm",),
    )
]
