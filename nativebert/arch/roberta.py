"""RoBERTa (Liu et al. 2019, arXiv:1907.11692), and XLM-RoBERTa and CamemBERT, which differ in their training and vocabulary alone.

Reference: transformers ``models/roberta/modeling_roberta.py``. BERT's encoder; positions count from ``pad_id + 1``.
"""

from __future__ import annotations

from dataclasses import replace

from nativebert.arch import Family, bert
from nativebert.arch.bert import EMBEDDINGS, LAYERS, POOLER
from nativebert.arch.common import bert_map, encoder, layer_of, roberta_like
from nativebert.config import EncoderConfig, Fields
from weights_map import linear, norm, table, tensor

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

MAP = bert_map(
    "roberta",
    [TOKENS, *OTHERS, POSITIONS, *LAYERS, *POOLER],  # the order of transformers' RobertaEmbeddings
    HEADS,
)

DEFAULTS = bert.DEFAULTS | {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}


def config(f: Fields) -> EncoderConfig:
    """Translate a RoBERTa, XLM-RoBERTa or CamemBERT config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    f.require_value("position_embedding_type", "absolute", why="positions enter the attention as relative distances")
    return encoder(f, layer_of(f), positions_after_pad=True, heads=roberta_like(f), pretraining=("lm",))


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
