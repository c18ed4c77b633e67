"""DistilBERT (Sanh et al. 2019, arXiv:1910.01108). Reference: transformers ``models/distilbert/modeling_distilbert.py``.

BERT without segments and pooler. Its layer norms have a fixed epsilon of 1e-12.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nativebert.arch.bert import SPELLINGS
from nativebert.arch.heads import bert_like
from nativebert.config import EncoderConfig, Fields, Head, Layer
from weights_map import WeightMap, linear, norm, table

# fmt: off
#            checkpoint module                              our module               dims
ENCODER = [
    table ("embeddings.word_embeddings",                   "embed.token",            "V H"),
    table ("embeddings.position_embeddings",               "embed.position",         "P H"),
    norm  ("embeddings.LayerNorm",                         "embed.norm",             "H"),
    linear("transformer.layer.{i}.attention.q_lin",        "layers.{i}.attn.q",      "H H"),
    linear("transformer.layer.{i}.attention.k_lin",        "layers.{i}.attn.k",      "H H"),
    linear("transformer.layer.{i}.attention.v_lin",        "layers.{i}.attn.v",      "H H"),
    linear("transformer.layer.{i}.attention.out_lin",      "layers.{i}.attn.o",      "H H"),
    norm  ("transformer.layer.{i}.sa_layer_norm",          "layers.{i}.attn_norm",   "H"),
    linear("transformer.layer.{i}.ffn.lin1",               "layers.{i}.mlp.up",      "F H"),
    linear("transformer.layer.{i}.ffn.lin2",               "layers.{i}.mlp.down",    "H F"),
    norm  ("transformer.layer.{i}.output_layer_norm",      "layers.{i}.mlp_norm",    "H"),
]
HEADS = [
    linear("vocab_transform",                              "head.lm.dense",          "H H"),
    norm  ("vocab_layer_norm",                             "head.lm.norm",           "H"),
    linear("vocab_projector",                              "head.lm.out",            "V H"),
    linear("pre_classifier",                               "head.classifier.dense",  "H H"),
    linear("classifier",                                   "head.classifier.out",    "C H"),
    linear("qa_outputs",                                   "head.qa.out",            "2 H"),
]
# fmt: on

MAP = WeightMap(
    "distilbert",
    ENCODER,
    heads=HEADS,
    prefixes=("distilbert.", ""),
    spellings=SPELLINGS,
    ties={"head.lm.out.weight": "embed.token.weight"},
    derived=["embeddings.position_ids"],
    carried=["head.*"],
)


def config(hf: Mapping[str, Any]) -> EncoderConfig:
    """Translate a DistilBERT config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    f = Fields(hf, "distilbert")
    layer = Layer(
        heads=f.integer("n_heads", 12),
        intermediate_size=f.integer("hidden_dim", 4 * 768),
        activation=f.activation("activation", "gelu"),
    )
    common = f.common()
    width, vocab, labels = f.integer("dim", 768), f.integer("vocab_size", 30522), len(common["labels"])
    drop = f.number("seq_classif_dropout", 0.2, high=1.0)
    dropout = f.number("dropout", 0.1, high=1.0)
    heads = bert_like(width=width, vocab=vocab, labels=labels, activation=layer.activation, dropout=dropout)
    for task, classes in (("classify", labels), ("choose", 1)):
        heads[task] = Head("classifier", "first", classes, dense=width, activation="relu", dropout=drop)
    return EncoderConfig(
        family="distilbert",
        vocab_size=vocab,
        width=width,
        layers=(layer,) * f.integer("n_layers", 6, low=0, high=1000),
        positions=f.integer("max_position_embeddings", 512),
        segments=0,
        norm_eps=1e-12,
        pad_id=f.integer("pad_token_id", 0, low=0),
        dropout=dropout,
        attention_dropout=f.number("attention_dropout", 0.1, high=1.0),
        pooler=False,
        heads=heads,
        # sinusoidal positions are stored in the file like learned ones
        unread=f.unread(harmless=["sinusoidal_pos_embds", "qa_dropout"]),
        **common,
    )
