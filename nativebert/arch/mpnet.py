"""MPNet (Song et al. 2020, arXiv:2004.09297). Reference: transformers ``models/mpnet/modeling_mpnet.py``.

RoBERTa without segments; attention scores get a learned bias by distance, in buckets, the same in every layer.
"""

from __future__ import annotations

from nativebert.arch import Family
from nativebert.arch.common import bert_map, encoder, layer_of, roberta_like
from nativebert.arch.roberta import HEADS
from nativebert.config import EncoderConfig, Fields
from weights_map import linear, norm, table

# fmt: off
#            checkpoint module                             our module               dims
ENCODER = [
    table ("embeddings.word_embeddings",                  "embed.token",            "V H"),
    table ("embeddings.position_embeddings",              "embed.position",         "P H"),
    norm  ("embeddings.LayerNorm",                        "embed.norm",             "H"),
    linear("encoder.layer.{i}.attention.attn.q",          "layers.{i}.attn.q",      "H H"),
    linear("encoder.layer.{i}.attention.attn.k",          "layers.{i}.attn.k",      "H H"),
    linear("encoder.layer.{i}.attention.attn.v",          "layers.{i}.attn.v",      "H H"),
    linear("encoder.layer.{i}.attention.attn.o",          "layers.{i}.attn.o",      "H H"),
    norm  ("encoder.layer.{i}.attention.LayerNorm",       "layers.{i}.attn_norm",   "H"),
    linear("encoder.layer.{i}.intermediate.dense",        "layers.{i}.mlp.up",      "F H"),
    linear("encoder.layer.{i}.output.dense",              "layers.{i}.mlp.down",    "H F"),
    norm  ("encoder.layer.{i}.output.LayerNorm",          "layers.{i}.mlp_norm",    "H"),
    table ("encoder.relative_attention_bias",             "distance",               "K A"),
    linear("pooler.dense",                                "pool.dense",             "H H"),
]
# fmt: on

MAP = bert_map(
    "mpnet",
    ENCODER,
    HEADS,
)

DEFAULTS = {
    "vocab_size": 30527, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512,
    "layer_norm_eps": 1e-12, "relative_attention_num_buckets": 32, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
}  # fmt: skip


def config(f: Fields) -> EncoderConfig:
    """Translate an MPNet config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    # whatever the table's size, the reference reads its first 32 rows
    f.require_value("relative_attention_num_buckets", 32, why="the bias by distance has another number of buckets than 32")
    f.require_value("pad_token_id", 1, why="the reference counts positions from 2, whatever the padding token is")
    return encoder(
        f,
        layer_of(f),
        segments=0,
        pad_id=1,
        positions_after_pad=True,
        relative_buckets=32,
        heads=roberta_like(f, dropout=f.number("hidden_dropout_prob", high=1.0)),
    )


FAMILIES = [Family("mpnet", "MPNet", MAP, config, DEFAULTS, output="BaseModelOutputWithPooling", tokenizer="MPNetTokenizer")]
