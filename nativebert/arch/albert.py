"""ALBERT (Lan et al. 2019, arXiv:1909.11942). Reference: transformers ``models/albert/modeling_albert.py``.

Narrow embeddings with a linear layer to the model's width; the layers share their weights by groups, each of ``inner_group_num`` layers.
"""

from __future__ import annotations

from dataclasses import replace

from nativebert.arch import Family
from nativebert.arch.bert import EMBEDDINGS
from nativebert.arch.common import bert_like, bert_map, encoder, layer_of
from nativebert.config import EncoderConfig, Fields, Head
from nativebert.errors import RefusedError
from weights_map import linear, norm, table, tensor

L = "encoder.albert_layer_groups.{i}.albert_layers.{j}"
# fmt: off
#            checkpoint module                           our module                   dims
ENCODER = [
    linear("encoder.embedding_hidden_mapping_in",       "embed.project",              "H E"),
    linear(L + ".attention.query",                      "layers.{i}.{j}.attn.q",      "H H"),
    linear(L + ".attention.key",                        "layers.{i}.{j}.attn.k",      "H H"),
    linear(L + ".attention.value",                      "layers.{i}.{j}.attn.v",      "H H"),
    linear(L + ".attention.dense",                      "layers.{i}.{j}.attn.o",      "H H"),
    norm  (L + ".attention.LayerNorm",                  "layers.{i}.{j}.attn_norm",   "H"),
    linear(L + ".ffn",                                  "layers.{i}.{j}.mlp.up",      "F H"),
    linear(L + ".ffn_output",                           "layers.{i}.{j}.mlp.down",    "H F"),
    norm  (L + ".full_layer_layer_norm",                "layers.{i}.{j}.mlp_norm",    "H"),
    linear("pooler",                                    "pool.dense",                 "H H"),
]
HEADS = [
    linear("predictions.dense",                         "head.lm.dense",              "E H"),
    norm  ("predictions.LayerNorm",                     "head.lm.norm",               "E"),
    table ("predictions.decoder",                       "head.lm.out",                "V E"),
    tensor("predictions.bias",                          "head.lm.out.bias",           "V"),
    tensor("predictions.decoder.bias",                  "head.lm.bias_again",         "V"),
    linear("sop_classifier.classifier",                 "head.sop.out",               "C H"),
    linear("classifier",                                "head.classifier.out",        "C H"),
    linear("qa_outputs",                                "head.qa.out",                "2 H"),
]
# fmt: on

MAP = bert_map(
    "albert",
    EMBEDDINGS + ENCODER,
    HEADS,
)

DEFAULTS = {
    "vocab_size": 30000, "embedding_size": 128, "hidden_size": 4096, "num_hidden_layers": 12, "num_hidden_groups": 1,
    "num_attention_heads": 64, "intermediate_size": 16384, "inner_group_num": 1, "hidden_act": "gelu_new", "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
    "classifier_dropout_prob": 0.1, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip


def config(f: Fields) -> EncoderConfig:
    """Translate an ALBERT config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    f.require_value("position_embedding_type", "absolute", why="positions enter the attention as relative distances")
    depth, groups = f.integer("num_hidden_layers", low=0, high=1000), f.integer("num_hidden_groups", high=1000)
    inner = f.integer("inner_group_num", high=1000)
    if groups > max(depth, 1) or depth * inner > 1000:
        raise RefusedError(
            f"config.json (albert): {depth} layers in {groups} groups of {inner} cannot be run: groups would be left over, or too many"
        )
    layer, run = layer_of(f), [(int(n / (depth / groups)), j) for n in range(depth) for j in range(inner)]
    narrow, drop = f.integer("embedding_size"), f.number("classifier_dropout_prob", high=1.0)
    heads = bert_like(f, dropout=drop, dense=narrow)
    return encoder(
        f,
        layer,
        layers=tuple(replace(layer, weight_index=index) for index in run),
        embedding_width=narrow,
        project=True,
        heads={**heads, "sop": Head("sop", "pooled", heads["classify"].classes, dropout=drop)},
        pretraining=("lm", "sop"),
        harmless=["down_scale_factor", "gap_size", "net_structure_type", "num_memory_blocks"],
    )


FAMILIES = [
    Family(
        "albert",
        "Albert",
        MAP,
        config,
        DEFAULTS,
        more_classes=("ForPreTraining",),
        output="BaseModelOutputWithPooling",
        tokenizer="AlbertTokenizer",
    )
]
