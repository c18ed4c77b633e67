"""ELECTRA, discriminator and generator (Clark et al. 2020, arXiv:2003.10555). Reference: transformers ``models/electra/modeling_electra.py``.

BERT's encoder; the embedding tables may be narrower than the model, and a linear layer leads from one to the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nativebert.arch.bert import EMBEDDINGS, LAYERS, SPELLINGS
from nativebert.arch.heads import bert_like
from nativebert.config import EncoderConfig, Fields, Head, Layer
from weights_map import WeightMap, linear, norm

# fmt: off
#            checkpoint module                              our module               dims
PROJECT = [
    linear("embeddings_project",                           "embed.project",          "H E"),
]
HEADS = [
    linear("generator_predictions.dense",                  "head.lm.dense",          "E H"),
    norm  ("generator_predictions.LayerNorm",              "head.lm.norm",           "E"),
    linear("generator_lm_head",                            "head.lm.out",            "V E"),
    linear("discriminator_predictions.dense",              "head.rtd.dense",         "H H"),
    linear("discriminator_predictions.dense_prediction",   "head.rtd.out",           "1 H"),
    linear("classifier.dense",                             "head.sequence.dense",    "H H"),
    linear("classifier.out_proj",                          "head.sequence.out",      "C H"),
    linear("sequence_summary.summary",                     "head.classifier.dense",  "H H"),
    linear("classifier",                                   "head.classifier.out",    "C H"),
    linear("qa_outputs",                                   "head.qa.out",            "2 H"),
]
# fmt: on

MAP = WeightMap(
    "electra",
    EMBEDDINGS + PROJECT + LAYERS,
    heads=HEADS,
    prefixes=("electra.", ""),
    spellings=SPELLINGS,
    ties={"head.lm.out.weight": "embed.token.weight"},
    derived=["embeddings.position_ids"],
    carried=["head.*"],
)


def config(hf: Mapping[str, Any]) -> EncoderConfig:
    """Translate an ELECTRA config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    f = Fields(hf, "electra")
    f.require_value("position_embedding_type", "absolute", why="positions enter the attention as relative distances")
    f.require_value("summary_type", "first", why="multiple choice reads another token than the first")
    f.require_value("summary_use_proj", True, why="multiple choice has no projection")
    layer = Layer(
        heads=f.integer("num_attention_heads", 4),
        intermediate_size=f.integer("intermediate_size", 1024),
        activation=f.activation("hidden_act", "gelu"),
    )
    common = f.common()
    width, narrow, vocab = f.integer("hidden_size", 256), f.integer("embedding_size", 128), f.integer("vocab_size", 30522)
    dropout = f.number("hidden_dropout_prob", 0.1, high=1.0)
    labels, drop = len(common["labels"]), f.number("classifier_dropout", dropout, high=1.0)
    heads = bert_like(width=width, vocab=vocab, labels=labels, activation="gelu", dropout=drop, dense=narrow)
    heads |= {
        "classify": Head("sequence", "first", labels, dense=width, activation="gelu", dropout=drop, dropout_first=True),
        "choose": Head("classifier", "first", 1, dense=width, activation=f.activation("summary_activation", "gelu")),
        "rtd": Head("rtd", "tokens", 1, dense=width, activation=layer.activation),
    }
    return EncoderConfig(
        family="electra",
        vocab_size=vocab,
        width=width,
        layers=(layer,) * f.integer("num_hidden_layers", 12, low=0, high=1000),
        positions=f.integer("max_position_embeddings", 512),
        segments=f.integer("type_vocab_size", 2),
        norm_eps=f.number("layer_norm_eps", 1e-12),
        pad_id=f.integer("pad_token_id", 0, low=0),
        embedding_width=narrow,
        project=narrow != width,
        dropout=dropout,
        attention_dropout=f.number("attention_probs_dropout_prob", 0.1, high=1.0),
        pooler=False,
        heads=heads,
        pretraining=("rtd",),
        unread=f.unread(harmless=["summary_last_dropout"]),
        **common,
    )
