"""NomicBERT, v1 and v1.5 (Nussbaum et al. 2024, arXiv:2402.01613). Reference: transformers ``models/nomic_bert/modeling_nomic_bert.py``.

BERT without positions and biases: rotary positions and a gated feed-forward part. The files of the Hub write config.json with the keys of GPT-2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nativebert.arch import Family
from nativebert.arch.bert import POOLER
from nativebert.arch.common import bert_like, bert_map, encoder, layer_of, rotary, rotary_computed
from nativebert.arch.in_memory import GATED
from nativebert.config import EncoderConfig, Fields
from nativebert.errors import RefusedError
from weights_map import linear, norm, table, tensor

# fmt: off
#            checkpoint module                       our module                 dims
EMBEDDINGS = [
    table ("embeddings.word_embeddings",            "embed.token",             "V H"),
    table ("embeddings.token_type_embeddings",      "embed.segment",           "S H"),
    norm  ("emb_ln",                                "embed.norm",              "H"),
]
LAYERS = [
    norm  ("encoder.layers.{i}.norm1",              "layers.{i}.attn_norm",    "H"),
    linear("encoder.layers.{i}.mlp.fc12",           "layers.{i}.mlp.up",       "F H"),
    linear("encoder.layers.{i}.mlp.fc11",           "layers.{i}.mlp.gate",     "F H"),
    linear("encoder.layers.{i}.mlp.fc2",            "layers.{i}.mlp.down",     "H F"),
    linear("encoder.layers.{i}.attn.Wqkv",          "layers.{i}.attn.{q,k,v}", "3H H"),
    linear("encoder.layers.{i}.attn.out_proj",      "layers.{i}.attn.o",       "H H"),
    norm  ("encoder.layers.{i}.norm2",              "layers.{i}.mlp_norm",     "H"),
]
HEADS = [
    linear("cls.predictions.transform.dense",       "head.lm.dense",           "H H"),
    norm  ("cls.predictions.transform.layer_norm",  "head.lm.norm",            "H"),
    table ("cls.predictions.decoder",               "head.lm.out",             "V H"),
    tensor("cls.predictions.bias",                  "head.lm.out.bias",        "V"),
    tensor("cls.predictions.decoder.bias",          "head.lm.bias_again",      "V"),
    linear("classifier",                            "head.classifier.out",     "C H"),
]
# fmt: on

MAP = bert_map(
    "nomic_bert",
    EMBEDDINGS + POOLER + LAYERS,
    HEADS,
    prefixes=("nomic_bert.", "bert.", ""),
)

DEFAULTS = {
    "vocab_size": 30528, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "silu", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 2048,
    "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0, "classifier_dropout": None, "rope_parameters": None,
    "head_dim": None,
}  # fmt: skip

# Keys of GPT-2 that the Hub's files have -> transformers' own.
HUB_KEYS = {
    "n_embd": "hidden_size", "n_head": "num_attention_heads", "n_inner": "intermediate_size", "n_layer": "num_hidden_layers",
    "n_positions": "max_position_embeddings", "layer_norm_epsilon": "layer_norm_eps", "attn_pdrop": "attention_probs_dropout_prob",
    "resid_pdrop": "hidden_dropout_prob",
}  # fmt: skip
HUB_ACTIVATIONS = {"swiglu": "silu", "geglu": "gelu", "glu": "sigmoid"}
# What the Hub's code can do and these models do not.
HUB_VALUES: dict[str, tuple[tuple[Any, ...], str]] = {
    "prenorm": ((False,), "norms come before attention and feed-forward"),
    "parallel_block": ((False,), "attention and feed-forward run side by side"),
    "use_rms_norm": ((False,), "its norms are root mean squares"),
    "qkv_proj_bias": ((False,), "attention has biases"),
    "mlp_fc1_bias": ((False,), "the feed-forward part has biases"),
    "mlp_fc2_bias": ((False,), "the feed-forward part has biases"),
    "causal": ((False,), "tokens attend to earlier ones only"),
    "rotary_emb_interleaved": ((False,), "rotary positions pair neighbouring numbers"),
    "rotary_emb_scale_base": ((), "rotary positions decay"),
    "rotary_emb_fraction": ((1.0, 1), "a part of each head has no rotary positions"),
    "scale_attn_weights": ((True,), "attention scores are not scaled"),
    "scale_attn_by_inverse_layer_idx": ((False,), "attention scores are scaled by the layer's number"),
}


def config(f: Fields) -> EncoderConfig:
    """Translate a NomicBERT config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    for key in ("num_experts", "moe_every_n_layers"):
        f.require_value(key, 0, why="its feed-forward parts are mixtures of experts (nomic-embed-text-v2-moe)")
    hub = "n_embd" in f.data
    if hub:
        for key, (allowed, why) in HUB_VALUES.items():
            f.require_value(key, *allowed, why=why)
        act = f.text("activation_function", "swiglu")
        if act not in HUB_ACTIVATIONS:
            raise RefusedError(
                f"config.json (nomic_bert): activation_function is {act!r}: its feed-forward part is not gated, and nativebert wants a gate"
            )
        f = f.renamed(HUB_KEYS, {"hidden_act": HUB_ACTIVATIONS[act]})
    theta, scale, positions = rotary(f, 1000.0)
    if hub:
        theta = f.number("rotary_emb_base", 1000.0, low=1e-3)
        f.number("rotary_scaling_factor", 0.0)
        # beyond the trained positions the Hub's code stretches the angles, by the length of the longest text of a batch
        positions = f.integer("max_trained_positions", positions) if f.data.get("rotary_scaling_factor") else positions
    layer, heads = layer_of(f, rope_theta=theta, rope_scale=scale), bert_like(f)
    width = f.integer("hidden_size")
    f.require_value("head_dim", width // layer.heads, why="heads have another width than their share of the model's")
    return encoder(
        f,
        layer,
        positions=positions,
        segments=f.integer("type_vocab_size", low=0),
        position_table=False,
        gated=True,
        attention_bias=False,
        mlp_bias=False,
        pooler=False,
        heads={task: heads[task] for task in ("lm", "classify", "tag")},
        harmless=["embd_pdrop", "fused_bias_fc", "fused_dropout_add_ln", "last_layer_subset", "max_trained_positions", "mlp_pdrop",
                  "dense_seq_output", "pad_vocab_size_multiple", "reorder_and_upcast_attn", "residual_in_fp32", "summary_activation",
                  "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj", "use_flash_attn", "use_xentropy"],
    )  # fmt: skip


def computed(values: Mapping[str, Any], config: EncoderConfig) -> dict[str, Any]:
    """``head_dim`` and ``rope_parameters``, which transformers' config has in any case."""
    return {"head_dim": config.width // values["num_attention_heads"], **rotary_computed(values, 1000.0)}


FAMILIES = [
    Family(
        "nomic_bert",
        "NomicBert",
        MAP,
        config,
        DEFAULTS,
        computed=computed,
        lacks=("ForQuestionAnswering", "ForMultipleChoice"),
        output="BaseModelOutputWithPooling",
        tokenizer="BertTokenizer",
        in_memory=GATED,
    )
]
