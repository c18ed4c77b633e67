"""RoBERTa (Liu et al. 2019, arXiv:1907.11692), and XLM-RoBERTa and CamemBERT, which differ in their training and vocabulary alone.

Reference: transformers ``models/roberta/modeling_roberta.py``. BERT's encoder; positions count from ``pad_id + 1``.
"""

from __future__ import annotations

from dataclasses import replace

from nativebert.arch import Family, bert
from nativebert.arch.bert import EMBEDDINGS, LAYERS, POOLER, SPELLINGS, TIES
from nativebert.arch.heads import roberta_like
from nativebert.config import EncoderConfig, Fields, Layer
from weights_map import WeightMap, linear, norm, table, tensor

TOKENS, POSITIONS, *OTHERS = EMBEDDINGS
# fmt: off
#            checkpoint module            our module                 dims
HEADS = [
    linear("lm_head.dense",              "head.lm.dense",            "H H"),
    norm  ("lm_head.layer_norm",         "head.lm.norm",             "H"),
    table ("lm_head.decoder",            "head.lm.out",              "V H"),
    tensor("lm_head.bias",               "head.lm.out.bias",         "V"),
    tensor("lm_head.decoder.bias",       "head.lm.bias_again",       "V"),
    linear("classifier.dense",           "head.sequence.dense",      "H H"),
    linear("classifier.out_proj",        "head.sequence.out",        "C H"),
    linear("classifier",                 "head.classifier.out",      "C H"),
    linear("qa_outputs",                 "head.qa.out",              "2 H"),
]
# fmt: on

MAP = WeightMap(
    "roberta",
    [TOKENS, *OTHERS, POSITIONS, *LAYERS, *POOLER],  # the order of transformers' RobertaEmbeddings
    heads=HEADS,
    prefixes=("roberta.", ""),
    spellings=SPELLINGS,
    ties=TIES,
    derived=["embeddings.position_ids"],
    carried=["pool.*", "head.*"],
)

DEFAULTS = bert.DEFAULTS | {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}


def config(f: Fields) -> EncoderConfig:
    """Translate a RoBERTa, XLM-RoBERTa or CamemBERT config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    f.require_value("position_embedding_type", "absolute", why="positions enter the attention as relative distances")
    layer = Layer(
        heads=f.integer("num_attention_heads"),
        intermediate_size=f.integer("intermediate_size"),
        activation=f.activation("hidden_act"),
    )
    common = f.common()
    width, vocab = f.integer("hidden_size"), f.integer("vocab_size")
    dropout = f.number("hidden_dropout_prob", high=1.0)
    return EncoderConfig(
        family=f.family,
        vocab_size=vocab,
        width=width,
        layers=(layer,) * f.integer("num_hidden_layers", low=0, high=1000),
        positions=f.integer("max_position_embeddings"),
        segments=f.integer("type_vocab_size"),
        norm_eps=f.number("layer_norm_eps"),
        pad_id=f.integer("pad_token_id", low=0),
        positions_after_pad=True,
        dropout=dropout,
        attention_dropout=f.number("attention_probs_dropout_prob", high=1.0),
        heads=roberta_like(
            width=width, vocab=vocab, labels=len(common["labels"]), dropout=f.number("classifier_dropout", dropout, high=1.0)
        ),
        pretraining=("lm",),
        unread=f.unread(),
        **common,
    )


ROBERTA = Family(
    "roberta",
    "Roberta",
    MAP,
    config,
    DEFAULTS | {"vocab_size": 50265},
    output="BaseModelOutputWithPoolingAndCrossAttentions",
    tokenizer="RobertaTokenizer",
)
FAMILIES = [
    ROBERTA,
    replace(
        ROBERTA, name="xlm-roberta", stem="XLMRoberta", defaults=DEFAULTS, tokenizer="XLMRobertaTokenizer", heads_first=True
    ),
    replace(ROBERTA, name="camembert", stem="Camembert", defaults=DEFAULTS, tokenizer="CamembertTokenizer", heads_first=True),
]
