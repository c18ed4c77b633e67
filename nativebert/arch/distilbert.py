"""DistilBERT (Sanh et al. 2019, arXiv:1910.01108). Reference: transformers ``models/distilbert/modeling_distilbert.py``.

BERT without segments and pooler. Its layer norms have a fixed epsilon of 1e-12.
"""

from __future__ import annotations

from nativebert.arch import Family
from nativebert.arch.common import TABLE_TIE, bert_like, bert_map
from nativebert.config import EncoderConfig, Fields, Head, Layer
from weights_map import linear, norm, table

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

MAP = bert_map(
    "distilbert",
    ENCODER,
    HEADS,
    ties=TABLE_TIE,
    carried=["head.*"],
)

DEFAULTS = {
    "vocab_size": 30522, "max_position_embeddings": 512, "sinusoidal_pos_embds": False, "n_layers": 6, "n_heads": 12, "dim": 768,
    "hidden_dim": 3072, "dropout": 0.1, "attention_dropout": 0.1, "activation": "gelu", "qa_dropout": 0.1,
    "seq_classif_dropout": 0.2, "pad_token_id": 0,
}  # fmt: skip


def config(f: Fields) -> EncoderConfig:
    """Translate a DistilBERT config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    layer = Layer(heads=f.integer("n_heads"), intermediate_size=f.integer("hidden_dim"), activation=f.activation("activation"))
    common = f.common()
    width, vocab, labels = f.integer("dim"), f.integer("vocab_size"), len(common["labels"])
    drop = f.number("seq_classif_dropout", high=1.0)
    dropout = f.number("dropout", high=1.0)
    heads = bert_like(f, width=width, activation=layer.activation, dropout=dropout)
    for task, classes in (("classify", labels), ("choose", 1)):
        heads[task] = Head("classifier", "first", classes, dense=width, activation="relu", dropout=drop)
    return EncoderConfig(
        family=f.family,
        vocab_size=vocab,
        width=width,
        layers=(layer,) * f.integer("n_layers", low=0, high=1000),
        positions=f.integer("max_position_embeddings"),
        segments=0,
        norm_eps=1e-12,
        pad_id=f.integer("pad_token_id", low=0),
        dropout=dropout,
        attention_dropout=f.number("attention_dropout", high=1.0),
        pooler=False,
        heads=heads,
        # sinusoidal positions are stored in the file like learned ones
        unread=f.unread(harmless=["sinusoidal_pos_embds", "qa_dropout"]),
        **common,
    )


FAMILIES = [
    Family(
        "distilbert",
        "DistilBert",
        MAP,
        config,
        DEFAULTS,
        aliases={"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"},
        tokenizer="BertTokenizer",
    )
]
