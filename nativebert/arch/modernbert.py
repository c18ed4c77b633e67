"""ModernBERT (Warner et al. 2024, arXiv:2412.13663). Reference: transformers ``models/modernbert/modeling_modernbert.py``.

Norms before attention and feed-forward, rotary positions, a gated feed-forward part; two layers of three see a window of neighbours only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nativebert.arch import Family
from nativebert.config import EncoderConfig, Fields, Head, Layer
from nativebert.errors import CorruptError, RefusedError
from weights_map import WeightMap, linear, norm, table

# fmt: off
#            checkpoint module           our module                      dims
ENCODER = [
    table ("embeddings.tok_embeddings", "embed.token",                   "V H"),
    norm  ("embeddings.norm",           "embed.norm",                    "H"),
    norm  ("layers.{i}.attn_norm",      "layers.{i}.attn_norm",          "H"),
    linear("layers.{i}.attn.Wqkv",      "layers.{i}.attn.{q,k,v}",       "3H H"),
    linear("layers.{i}.attn.Wo",        "layers.{i}.attn.o",             "H H"),
    norm  ("layers.{i}.mlp_norm",       "layers.{i}.mlp_norm",           "H"),
    linear("layers.{i}.mlp.Wi",         "layers.{i}.mlp.{up,gate}",      "2F H"),
    linear("layers.{i}.mlp.Wo",         "layers.{i}.mlp.down",           "H F"),
    norm  ("final_norm",                "norm",                          "H"),
]
HEADS = [
    linear("head.dense",                "head.trunk.dense",              "H H"),
    norm  ("head.norm",                 "head.trunk.norm",               "H"),
    linear("decoder",                   "head.trunk.decoder",            "V H"),
    linear("classifier",                "head.trunk.out",                "C H"),
]
# fmt: on

MAP = WeightMap(
    "modernbert",
    ENCODER,
    heads=HEADS,
    prefixes=("model.", ""),
    ties={"head.trunk.decoder.weight": "embed.token.weight"},
    carried=["head.*"],
)

DEFAULTS = {
    "vocab_size": 50368, "hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 22, "num_attention_heads": 12,
    "hidden_activation": "gelu", "max_position_embeddings": 8192, "initializer_cutoff_factor": 2.0, "norm_eps": 1e-5,
    "norm_bias": False, "pad_token_id": 50283, "eos_token_id": 50282, "bos_token_id": 50281, "cls_token_id": 50281,
    "sep_token_id": 50282, "attention_bias": False, "attention_dropout": 0.0, "local_attention": 128, "embedding_dropout": 0.0,
    "mlp_bias": False, "mlp_dropout": 0.0, "decoder_bias": True, "classifier_pooling": "cls", "classifier_dropout": 0.0,
    "classifier_bias": False, "classifier_activation": "gelu", "deterministic_flash_attn": False, "sparse_prediction": False,
    "sparse_pred_ignore_index": -100,
}  # fmt: skip


def config(f: Fields) -> EncoderConfig:
    """Translate a ModernBERT config.json. Raises CorruptError or RefusedError (see :class:`nativebert.config.Fields`)."""
    common = f.common()
    width, vocab, labels = f.integer("hidden_size"), f.integer("vocab_size"), len(common["labels"])
    drop, bias = f.number("classifier_dropout", high=1.0), f.boolean("classifier_bias")
    f.for_heads(["lm"], lambda: f.require_value("decoder_bias", True, why="the masked-LM output has no bias"), None)
    pooled = ("classify", "choose")
    f.for_heads(
        pooled,
        lambda: f.require_value("classifier_pooling", "cls", "mean", why="an unknown pooling before the classifier"),
        None,
    )
    over = "mean" if f.data.get("classifier_pooling") == "mean" else "first"
    activation = f.for_heads(("lm", "tag", "answer", *pooled), lambda: f.activation("classifier_activation"), "gelu")

    def head(on: Any, classes: int, last: str = "out") -> Head:
        return Head(
            "trunk",
            on,
            classes,
            width,
            activation,
            norm=True,
            dense_bias=bias,
            last=last,
            dropout=0.0 if last == "decoder" else drop,
        )

    return EncoderConfig(
        family=f.family,
        vocab_size=vocab,
        width=width,
        layers=_layers(f),
        positions=f.integer("max_position_embeddings"),
        segments=0,
        norm_eps=f.number("norm_eps"),
        pad_id=f.integer("pad_token_id", low=0),
        position_table=False,
        block="pre",
        gated=True,
        attention_bias=f.boolean("attention_bias"),
        mlp_bias=f.boolean("mlp_bias"),
        norm_bias=f.boolean("norm_bias"),
        dropout=f.number("embedding_dropout", high=1.0),
        attention_dropout=(attention_dropout := f.number("attention_dropout", high=1.0)),
        residual_dropout=(attention_dropout, 0.0),
        pooler=False,
        heads={
            "lm": head("tokens", vocab, "decoder"),
            "classify": head(over, labels),
            "tag": head("tokens", labels),
            "answer": head("tokens", 2),
            "choose": head(over, 1),
        },
        unread=f.unread(
            harmless=["mlp_dropout", "initializer_cutoff_factor", "deterministic_flash_attn", "sparse_prediction", "sparse_pred_ignore_index",
                      "reference_compile", "repad_logits_with_grad", "embedding_dropout", "layer_norm_eps", "position_embedding_type"]
        ),
        **common,
    )  # fmt: skip


def _layers(f: Fields) -> tuple[Layer, ...]:
    heads, inner, activation = (
        f.integer("num_attention_heads"),
        f.integer("intermediate_size"),
        f.activation("hidden_activation"),
    )
    depth = f.integer("num_hidden_layers", low=0, high=1000)
    every = f.integer("global_attn_every_n_layers", 3)
    kinds = f.listed("layer_types", ["sliding_attention" if n % every else "full_attention" for n in range(depth)])
    if len(kinds) != depth or not set(kinds) <= {"full_attention", "sliding_attention"}:
        raise CorruptError(f"config.json (modernbert): layer_types must be {depth} times full_attention or sliding_attention")
    f.require_value("rope_scaling", why="rotary positions are stretched")
    ropes = f.section("rope_parameters")
    theta = {
        "full_attention": f.number("global_rope_theta", 160_000.0),
        "sliding_attention": f.number("local_rope_theta", 10_000.0),
    }
    for kind in theta:
        rope = ropes.get(kind) or {}
        if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
            raise RefusedError(
                f"config.json (modernbert): rope_parameters of {kind} are {rope!r}; nativebert computes the default ones only"
            )
        theta[kind] = Fields(rope, "modernbert, rope_parameters").number("rope_theta", theta[kind], low=1e-3)
    window = f.integer("local_attention") // 2
    return tuple(
        Layer(
            heads,
            inner,
            activation,
            window=window if kind == "sliding_attention" else None,
            rope_theta=theta[kind],
            attn_norm=n > 0,
        )
        for n, kind in enumerate(kinds)
    )


def computed(values: Mapping[str, Any], config: EncoderConfig) -> dict[str, Any]:
    """``layer_types`` and ``rope_parameters``, which transformers' config has in any case."""
    kinds = ["full_attention" if layer.window is None else "sliding_attention" for layer in config.layers]
    bases = {kind: layer.rope_theta for kind, layer in zip(kinds, config.layers)}
    for kind, key, default in (("sliding_attention", "local", 1e4), ("full_attention", "global", 1.6e5)):
        bases.setdefault(kind, values.get(f"{key}_rope_theta", default))
    ropes = {kind: {"rope_type": "default", "rope_theta": float(base or 0)} for kind, base in bases.items()}
    return {"layer_types": kinds, "rope_parameters": ropes}


def redrawn(f: Fields, std: float, config: EncoderConfig) -> tuple[float, Mapping[str, float]]:
    """Limit and standard deviations of fresh weights; see :class:`nativebert.arch.Family`."""
    out = std / math.sqrt(2.0 * len(config.layers)) if config.layers else std
    inner = {"tok_embeddings": std, "Wqkv": std, "Wi": std, "Wo": out}
    limit = f.number("initializer_cutoff_factor", 2.0 if "initializer_cutoff_factor" not in f.data else 3.0)
    return limit, inner | {"dense": out, "decoder": out, "classifier": config.width**-0.5}


FAMILIES = [
    Family(
        "modernbert",
        "ModernBert",
        MAP,
        config,
        DEFAULTS,
        computed=computed,
        mask_heads=("choose",),
        float32_losses=("lm",),
        redrawn=redrawn,
    )
]
