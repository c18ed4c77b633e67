"""DeBERTa v2 and v3, mDeBERTa v3 (He et al. 2020, arXiv:2006.03654; 2021, arXiv:2111.09543).

Reference: transformers ``models/deberta_v2/modeling_deberta_v2.py``. BERT's layers; attention scores contents and relative positions apart, and v2's
largest have a convolution beside the first layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nativebert.arch import Family
from nativebert.arch.bert import HEADS
from nativebert.arch.common import TIES, bert_like, bert_map, encoder, layer_of
from nativebert.config import Convolution, EncoderConfig, Fields, RelativePositions
from nativebert.errors import RefusedError
from weights_map import linear, norm, table, tensor

# fmt: off
#            checkpoint module                             our module                 dims
EMBEDDINGS = [
    table ("embeddings.word_embeddings",                  "embed.token",             "V H"),
    table ("embeddings.position_embeddings",              "embed.position",          "P H"),
    table ("embeddings.token_type_embeddings",            "embed.segment",           "S H"),
    norm  ("embeddings.LayerNorm",                        "embed.norm",              "H"),
]
LAYERS = [
    linear("encoder.layer.{i}.attention.self.query_proj", "layers.{i}.attn.q",       "H H"),
    linear("encoder.layer.{i}.attention.self.key_proj",   "layers.{i}.attn.k",       "H H"),
    linear("encoder.layer.{i}.attention.self.value_proj", "layers.{i}.attn.v",       "H H"),
    linear("encoder.layer.{i}.attention.output.dense",    "layers.{i}.attn.o",       "H H"),
    norm  ("encoder.layer.{i}.attention.output.LayerNorm", "layers.{i}.attn_norm",   "H"),
    linear("encoder.layer.{i}.intermediate.dense",        "layers.{i}.mlp.up",       "F H"),
    linear("encoder.layer.{i}.output.dense",              "layers.{i}.mlp.down",     "H F"),
    norm  ("encoder.layer.{i}.output.LayerNorm",          "layers.{i}.mlp_norm",     "H"),
]
RELATIVE = [
    table ("encoder.rel_embeddings",                      "relative.table",          "R H"),
    norm  ("encoder.LayerNorm",                           "relative.norm",           "H"),
    tensor("encoder.conv.conv.weight",                    "convolution.conv.weight", "H H W"),
    tensor("encoder.conv.conv.bias",                      "convolution.conv.bias",   "H"),
    norm  ("encoder.conv.LayerNorm",                      "convolution.norm",        "H"),
]
MORE_HEADS = [
    linear("pooler.dense",                                "head.classifier.dense",   "H H"),
    linear("lm_predictions.lm_head.dense",                "head.rtd_lm.dense",       "H H"),
    norm  ("lm_predictions.lm_head.LayerNorm",            "head.rtd_lm.norm",        "H"),
    table ("lm_predictions.lm_head.decoder",              "head.rtd_lm.out",         "V H"),
    tensor("lm_predictions.lm_head.bias",                 "head.rtd_lm.out.bias",    "V"),
]
# fmt: on

MAP = bert_map(
    "deberta-v2",
    EMBEDDINGS + LAYERS + RELATIVE,
    MORE_HEADS + [rule for rule in HEADS if "seq_relationship" not in str(rule)],
    prefixes=("deberta.", ""),
    ties=TIES | {"head.rtd_lm.out.weight": "embed.token.weight"},
    carried=["embed.position.*", "head.*"],  # v3's files have a table of positions that nothing reads
)

DEFAULTS = {
    "vocab_size": 128100, "hidden_size": 1536, "num_hidden_layers": 24, "num_attention_heads": 24, "intermediate_size": 6144,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512,
    "type_vocab_size": 0, "layer_norm_eps": 1e-7, "relative_attention": False, "max_relative_positions": -1, "pad_token_id": 0,
    "position_biased_input": True, "pos_att_type": None, "pooler_dropout": 0.0, "pooler_hidden_act": "gelu", "legacy": True,
}  # fmt: skip


def config(f: Fields) -> EncoderConfig:
    """Translate a DeBERTa config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    layer, width, positions = layer_of(f), f.integer("hidden_size"), f.integer("max_position_embeddings")
    f.require_value("embedding_size", width, why="the token table has another width than the model")
    f.require_value("attention_head_size", width // layer.heads, why="heads have another width than their share of the model's")
    f.for_heads(
        ("classify",),
        lambda: f.require_value("pooler_hidden_size", width, why="the pooler has another width than the model"),
        None,
    )
    f.require_value("conv_groups", 1, why="the convolution beside the first layer is grouped")
    kernel = f.integer("conv_kernel_size", 0, low=0, high=99)
    if kernel and not kernel % 2:
        raise RefusedError(
            f"config.json (deberta-v2): conv_kernel_size is {kernel}; an even one shifts the tokens, and nativebert wants an odd one"
        )
    drop = f.number("cls_dropout", dropout := f.number("hidden_dropout_prob", high=1.0), high=1.0)
    heads, tied = bert_like(f, dropout=dropout), {}
    pooled = replace(heads["classify"], on="first", dense=width, activation=f.activation("pooler_hidden_act"), dropout=drop)
    heads |= {"classify": pooled, "choose": replace(pooled, classes=1)}
    if not f.boolean("legacy"):  # the output is the token table, whether the config ties them or not
        heads["lm"], tied = replace(heads["lm"], name="rtd_lm"), {"tied": True}
    return encoder(
        f,
        layer,
        segments=f.integer("type_vocab_size", low=0),
        masked_padding=True,
        position_table=f.boolean("position_biased_input"),
        relative=_relative(f, positions),
        convolution=Convolution(kernel, f.activation("conv_act", "tanh")) if kernel else None,
        pooler=False,
        heads=heads,
        harmless=["conv_act", "pooler_dropout"],
        **tied,
    )


def _relative(f: Fields, positions: int) -> RelativePositions | None:
    kinds = f.data.get("pos_att_type") or []
    kinds = kinds.lower().split("|") if isinstance(kinds, str) else kinds
    terms = {kind.strip() for kind in f.renamed({}, {"pos_att_type": kinds}).listed("pos_att_type", [])}
    f.require_value("pos_att_type", f.data.get("pos_att_type"), why="")  # it is read
    most = f.integer("max_relative_positions", low=-1)
    if not f.boolean("relative_attention"):
        if terms & {"c2p", "p2c"}:
            raise RefusedError(
                "config.json (deberta-v2): pos_att_type without relative_attention: attention has no relative positions, and the scale of those that have. nativebert does not compute that."
            )
        return None
    if not terms >= {"c2p", "p2c"}:
        raise RefusedError(
            f"config.json (deberta-v2): pos_att_type is {sorted(terms)}; nativebert computes both terms, c2p and p2c."
        )
    if not f.boolean("share_att_key", False):
        raise RefusedError(
            "config.json (deberta-v2): share_att_key is false: relative positions have projections of their own. nativebert does not compute that."
        )
    most, buckets = positions if most < 1 else most, f.integer("position_buckets", -1, low=-1)
    norm = "layer_norm" in [word.strip() for word in f.text("norm_rel_ebd", "none").lower().split("|")]
    return RelativePositions(buckets if buckets > 0 else most, most if buckets > 0 else 0, norm)


def computed(values: Mapping[str, Any], config: EncoderConfig) -> dict[str, Any]:
    """``pos_att_type`` as a list, and the pooler's width."""
    kinds = values.get("pos_att_type")
    kinds = [kind.strip() for kind in kinds.lower().split("|")] if isinstance(kinds, str) else kinds
    return {"pooler_hidden_size": values.get("pooler_hidden_size", config.width), **({"pos_att_type": kinds} if kinds else {})}


FAMILIES = [Family("deberta-v2", "DebertaV2", MAP, config, DEFAULTS, computed=computed, tokenizer="DebertaV2Tokenizer")]
