"""JinaBERT, of jina-embeddings-v2 (Günther et al. 2023, arXiv:2310.19923). Its code comes with the checkpoint; transformers has none.

BERT without a table of positions: attention scores fall with the distance of the tokens (ALiBi, Press et al. 2021, arXiv:2108.12409); the feed-forward
part is gated. Its config.json says ``model_type`` bert and ``position_embedding_type`` alibi.
"""

from __future__ import annotations

from nativebert.arch import Family, bert
from nativebert.arch.bert import POOLER
from nativebert.arch.common import bert_like, bert_map, encoder, layer_of
from nativebert.config import EncoderConfig, Fields
from nativebert.errors import RefusedError
from weights_map import linear, norm

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

MAP = bert_map(
    "jina_bert",
    [TOKENS, *OTHERS, *ATTENTION, *FEED_FORWARD, *POOLER],
    [rule for rule in bert.HEADS if "seq_relationship" not in str(rule)],
    prefixes=("bert.", ""),
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
    return encoder(
        f,
        layer_of(f, activation=GATED[kind]),
        position_table=False,
        alibi=True,
        gated=True,
        mlp_bias=False,
        down_bias=True,
        mlp_dropout=f.number("hidden_dropout_prob", high=1.0),
        heads=bert_like(f),
        harmless=["emb_pooler", "attn_implementation", "model_max_length"],
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
