"""ELECTRA, discriminator and generator (Clark et al. 2020, arXiv:2003.10555). Reference: transformers ``models/electra/modeling_electra.py``.

BERT's encoder; the embedding tables may be narrower than the model, and a linear layer leads from one to the other.
"""

from __future__ import annotations

from dataclasses import replace

from nativebert.arch import Family, bert
from nativebert.arch.bert import EMBEDDINGS, LAYERS
from nativebert.arch.common import TABLE_TIE, bert_like, bert_map, encoder, layer_of
from nativebert.config import EncoderConfig, Fields, Head
from weights_map import linear, norm

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

MAP = bert_map(
    "electra",
    EMBEDDINGS + PROJECT + LAYERS,
    HEADS,
    ties=TABLE_TIE,
    carried=["head.*"],
)

DEFAULTS = bert.DEFAULTS | {
    "embedding_size": 128, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024, "summary_type": "first",
    "summary_use_proj": True, "summary_activation": "gelu", "summary_last_dropout": 0.1,
}  # fmt: skip


def config(f: Fields) -> EncoderConfig:
    """Translate an ELECTRA config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    f.require_value("position_embedding_type", "absolute", why="positions enter the attention as relative distances")
    f.require_value("summary_type", "first", why="multiple choice reads another token than the first")
    f.require_value("summary_use_proj", True, why="multiple choice has no projection")
    layer, width, narrow = layer_of(f), f.integer("hidden_size"), f.integer("embedding_size")
    heads = bert_like(f, activation="gelu", dense=narrow)
    sequence, choose = (replace(heads[task], on="first", dense=width) for task in ("classify", "choose"))
    heads |= {
        "classify": replace(sequence, name="sequence", activation="gelu", dropout_first=True),
        "choose": replace(choose, activation=f.activation("summary_activation"), dropout=0.0),
        "rtd": Head("rtd", "tokens", 1, dense=width, activation=layer.activation),
    }
    return encoder(
        f,
        layer,
        embedding_width=narrow,
        project=narrow != width,
        pooler=False,
        heads=heads,
        pretraining=("rtd",),
        harmless=["summary_last_dropout"],
    )


FAMILIES = [
    Family(
        "electra",
        "Electra",
        MAP,
        config,
        DEFAULTS,
        more_classes=("ForPreTraining",),
        output="BaseModelOutputWithPastAndCrossAttentions",
        tokenizer="BertTokenizer",
    )
]
