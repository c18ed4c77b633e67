"""JinaBERT, of jina-embeddings-v2 (Günther et al. 2023, arXiv:2310.19923). Its code comes with the checkpoint; transformers has none.

BERT without a table of positions: attention scores fall with the distance of the tokens (ALiBi, Press et al. 2021, arXiv:2108.12409); the feed-forward
part is gated. Its config.json says ``model_type`` bert and ``position_embedding_type`` alibi.
"""

from __future__ import annotations

from nativebert.arch import Family, bert
from nativebert.arch.bert import POOLER, SPELLINGS, TIES
from nativebert.arch.heads import bert_like
from nativebert.config import EncoderConfig, Fields, Layer
from nativebert.errors import RefusedError
from weights_map import WeightMap, linear, norm

TOKENS, _, *OTHERS = bert.EMBEDDINGS
ATTENTION = bert.LAYERS[:5]  # with its norm
# fmt: off
#            checkpoint module                       our module                   dims
FEED_FORWARD = [
    linear("encoder.layer.{i}.mlp.gated_layers",    "layers.{i}.mlp.{up,gate}",  "2F H", bias=False),
    linear("encoder.layer.{i}.mlp.wo",              "layers.{i}.mlp.down",       "H F"),
    norm  ("encoder.layer.{i}.mlp.layernorm",       "layers.{i}.mlp_norm",       "H"),
]
# fmt: on

MAP = WeightMap(
    "jina_bert",
    [TOKENS, *OTHERS, *ATTENTION, *FEED_FORWARD, *POOLER],
    heads=[rule for rule in bert.HEADS if "seq_relationship" not in str(rule)],
    prefixes=("bert.", ""),
    spellings=SPELLINGS,
    ties=TIES,
    derived=["embeddings.position_ids"],
    carried=["pool.*", "head.*"],
)

DEFAULTS = bert.DEFAULTS | {"feed_forward_type": "original", "position_embedding_type": "alibi"}
GATED = {"reglu": "relu", "geglu": "gelu"}


def config(f: Fields) -> EncoderConfig:
    """Translate a JinaBERT config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    f.require_value("position_embedding_type", "alibi", why="positions are those of BERT")
    if (kind := f.text("feed_forward_type")) not in GATED:
        raise RefusedError(
            f"config.json (jina_bert): feed_forward_type is {kind!r}; nativebert computes the gated ones, {' and '.join(GATED)}"
        )
    layer = Layer(
        heads=f.integer("num_attention_heads"), intermediate_size=f.integer("intermediate_size"), activation=GATED[kind]
    )
    common = f.common()
    width, vocab = f.integer("hidden_size"), f.integer("vocab_size")
    dropout = f.number("hidden_dropout_prob", high=1.0)
    heads = bert_like(
        width=width,
        vocab=vocab,
        labels=len(common["labels"]),
        activation=f.activation("hidden_act"),
        dropout=f.number("classifier_dropout", dropout, high=1.0),
    )
    return EncoderConfig(
        family=f.family,
        vocab_size=vocab,
        width=width,
        layers=(layer,) * f.integer("num_hidden_layers", low=0, high=1000),
        positions=f.integer("max_position_embeddings"),
        segments=f.integer("type_vocab_size"),
        norm_eps=f.number("layer_norm_eps"),
        pad_id=f.integer("pad_token_id", low=0),
        position_table=False,
        alibi=True,
        gated=True,
        mlp_bias=False,
        down_bias=True,
        dropout=dropout,
        attention_dropout=f.number("attention_probs_dropout_prob", high=1.0),
        mlp_dropout=dropout,
        heads=heads,
        unread=f.unread(harmless=["emb_pooler", "attn_implementation", "model_max_length"]),
        **common,
    )


FAMILIES = [
    Family(
        "jina_bert",
        "JinaBert",
        MAP,
        config,
        DEFAULTS,
        in_transformers=False,
        output="BaseModelOutputWithPoolingAndCrossAttentions",
        tokenizer="BertTokenizer",
    )
]
