"""BERT (Devlin et al. 2018, arXiv:1810.04805). Reference: transformers ``models/bert/modeling_bert.py``."""

from __future__ import annotations

from nativebert.arch import Family
from nativebert.arch.common import bert_like, bert_map, encoder, layer_of
from nativebert.config import EncoderConfig, Fields, Head
from weights_map import linear, norm, table, tensor

# fmt: off
#            checkpoint module                                     our module               dims
EMBEDDINGS = [
    table ("embeddings.word_embeddings",                          "embed.token",            "V E"),
    table ("embeddings.position_embeddings",                      "embed.position",         "P E"),
    table ("embeddings.token_type_embeddings",                    "embed.segment",          "S E"),
    norm  ("embeddings.LayerNorm",                                "embed.norm",             "E"),
]
LAYERS = [
    linear("encoder.layer.{i}.attention.self.query",              "layers.{i}.attn.q",      "H H"),
    linear("encoder.layer.{i}.attention.self.key",                "layers.{i}.attn.k",      "H H"),
    linear("encoder.layer.{i}.attention.self.value",              "layers.{i}.attn.v",      "H H"),
    linear("encoder.layer.{i}.attention.output.dense",            "layers.{i}.attn.o",      "H H"),
    norm  ("encoder.layer.{i}.attention.output.LayerNorm",        "layers.{i}.attn_norm",   "H"),
    linear("encoder.layer.{i}.intermediate.dense",                "layers.{i}.mlp.up",      "F H"),
    linear("encoder.layer.{i}.output.dense",                      "layers.{i}.mlp.down",    "H F"),
    norm  ("encoder.layer.{i}.output.LayerNorm",                  "layers.{i}.mlp_norm",    "H"),
]
POOLER = [
    linear("pooler.dense",                                        "pool.dense",             "H H"),
]
HEADS = [
    linear("cls.predictions.transform.dense",                     "head.lm.dense",          "H H"),
    norm  ("cls.predictions.transform.LayerNorm",                 "head.lm.norm",           "H"),
    table ("cls.predictions.decoder",                             "head.lm.out",            "V H"),
    tensor("cls.predictions.bias",                                "head.lm.out.bias",       "V"),
    tensor("cls.predictions.decoder.bias",                        "head.lm.bias_again",     "V"),
    linear("cls.seq_relationship",                                "head.nsp.out",           "2 H"),
    linear("classifier",                                          "head.classifier.out",    "C H"),
    linear("qa_outputs",                                          "head.qa.out",            "2 H"),
]
# fmt: on

MAP = bert_map(
    "bert",
    EMBEDDINGS + LAYERS + POOLER,
    HEADS,
)

DEFAULTS = {
    "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512,
    "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0, "use_cache": True, "classifier_dropout": None,
    "is_decoder": False, "add_cross_attention": False,
}  # fmt: skip


def config(f: Fields) -> EncoderConfig:
    """Translate a BERT config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    f.require_value("position_embedding_type", "absolute", why="positions enter the attention as relative distances")
    return encoder(f, layer_of(f), heads={**bert_like(f), "nsp": Head("nsp", "pooled", 2)}, pretraining=("lm", "nsp"))


BERT = Family(
    "bert",
    "Bert",
    MAP,
    config,
    DEFAULTS,
    more_classes=("ForNextSentencePrediction", "ForPreTraining"),
    output="BaseModelOutputWithPoolingAndCrossAttentions",
    tokenizer="BertTokenizer",
)
FAMILIES = [BERT]
