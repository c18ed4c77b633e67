"""GPT-2 (Radford et al. 2019, "Language models are unsupervised multitask learners"). Reference: transformers ``models/gpt2/modeling_gpt2.py``.

The encoder of a text from left to right: each token sees those before it, norms come before attention and feed-forward, linear layers are
written (in, out). Hidden states only: no text is generated, and heads other than the language model's are left to transformers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from nativebert.arch import CLASSES, Family
from nativebert.config import EncoderConfig, Fields, Layer
from weights_map import WeightMap, linear, norm, table

# fmt: off
#            checkpoint module        our module                  dims
ENCODER = [
    table ("wte",                    "embed.token",              "V H"),
    table ("wpe",                    "embed.position",           "P H"),
    norm  ("h.{i}.ln_1",             "layers.{i}.attn_norm",     "H"),
    linear("h.{i}.attn.c_attn",      "layers.{i}.attn.{q,k,v}",  "3H H", transposed=True),
    linear("h.{i}.attn.c_proj",      "layers.{i}.attn.o",        "H H",  transposed=True),
    norm  ("h.{i}.ln_2",             "layers.{i}.mlp_norm",      "H"),
    linear("h.{i}.mlp.c_fc",         "layers.{i}.mlp.up",        "F H",  transposed=True),
    linear("h.{i}.mlp.c_proj",       "layers.{i}.mlp.down",      "H F",  transposed=True),
    norm  ("ln_f",                   "norm",                     "H"),
]
# fmt: on

MAP = WeightMap(
    "gpt2",
    ENCODER,
    heads=table("lm_head", "head.lm.out", "V H"),
    prefixes=("transformer.", ""),
    ties={"head.lm.out.weight": "embed.token.weight"},
    derived=["h.{i}.attn.bias", "h.{i}.attn.masked_bias"],  # the mask, in old files
    carried=["head.*"],
)

DEFAULTS = {
    "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": None, "activation_function": "gelu_new",
    "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1, "layer_norm_epsilon": 1e-5, "summary_type": "cls_index",
    "summary_use_proj": True, "summary_activation": None, "summary_proj_to_labels": True, "summary_first_dropout": 0.1,
    "scale_attn_weights": True, "use_cache": True, "bos_token_id": 50256, "eos_token_id": 50256, "pad_token_id": None,
    "scale_attn_by_inverse_layer_idx": False, "reorder_and_upcast_attn": False, "add_cross_attention": False,
}  # fmt: skip


def config(f: Fields) -> EncoderConfig:
    """Translate a GPT-2 config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    f.require_value("scale_attn_weights", True, why="attention scores are not scaled")
    f.require_value("scale_attn_by_inverse_layer_idx", False, why="attention scores are scaled by the layer's number")
    width = f.integer("n_embd")
    layer = Layer(f.integer("n_head"), f.integer("n_inner", 4 * width), f.activation("activation_function"))
    residual = f.number("resid_pdrop", high=1.0)
    return EncoderConfig(
        family=f.family,
        vocab_size=f.integer("vocab_size"),
        width=width,
        layers=(layer,) * f.integer("n_layer", low=0, high=1000),
        positions=f.integer("n_positions"),
        segments=0,
        norm_eps=f.number("layer_norm_epsilon"),
        pad_id=f.integer("pad_token_id", 0, low=0),
        padding_learns=True,
        embedding_norm=False,
        causal=True,
        block="pre",
        dropout=f.number("embd_pdrop", high=1.0),
        attention_dropout=f.number("attn_pdrop", high=1.0),
        residual_dropout=(residual, residual),
        pooler=False,
        **f.common(),
        unread=f.unread(
            harmless=["reorder_and_upcast_attn", *(key for key in DEFAULTS if key.startswith("summary_")), "n_ctx"]
        ),
    )


def redrawn(f: Fields, std: float, config: EncoderConfig) -> tuple[float, Mapping[str, float]]:
    """Standard deviation of the layers that end a residual branch; see :class:`nativebert.arch.Family`."""
    return math.inf, {"c_proj": std / math.sqrt(2 * len(config.layers))}


FAMILIES = [
    Family(
        "gpt2",
        "GPT2",
        MAP,
        config,
        DEFAULTS,
        aliases={
            "hidden_size": "n_embd", "max_position_embeddings": "n_positions", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer",
        },
        lacks=CLASSES[1:],
        output="BaseModelOutputWithPastAndCrossAttentions",
        tokenizer="GPT2Tokenizer",
        redrawn=redrawn,
    )
]  # fmt: skip
