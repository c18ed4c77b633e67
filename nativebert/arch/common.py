"""What several families share: the keys of BERT's config.json, heads, as data (:class:`nativebert.config.Head`), and rotary positions."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from nativebert.config import LABELLED, EncoderConfig, Fields, Head, Layer
from nativebert.errors import RefusedError
from weights_map import WeightMap
from weights_map.mapping import Rules

TABLE_TIE = {"head.lm.out.weight": "embed.token.weight"}
TIES = TABLE_TIE | {"head.lm.bias_again": "head.lm.out.bias"}


def bert_map(name: str, rules: Rules, heads: Rules, **own: Any) -> WeightMap:
    """A map with what the files of most families have in common: a prefix that is the family's name, layer norms with old names, a masked-LM
    output that is tied, position ids that are not needed, a pooler and heads that may be left out. ``own`` are arguments in place of these."""
    common = {
        "prefixes": (f"{name}.", ""),
        "spellings": {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
        "ties": TIES,
        "derived": ["embeddings.position_ids"],
        "carried": ["pool.*", "head.*"],
    }
    return WeightMap(name, rules, heads=heads, **common | own)


def layer_of(f: Fields, **own: Any) -> Layer:
    """The layer that BERT's keys describe; ``own`` are the family's own fields of it."""
    if "activation" not in own:
        own["activation"] = f.activation("hidden_act")
    return Layer(f.integer("num_attention_heads"), f.integer("intermediate_size"), **own)


def encoder(f: Fields, layer: Layer, *, harmless: Collection[str] = (), **own: Any) -> EncoderConfig:
    """The encoder that BERT's keys describe. What they leave out has BERT's value, the default of :class:`EncoderConfig`.

    Args:
        f: the config.json; all other keys that the family reads have been read.
        layer: of which it has ``num_hidden_layers``.
        harmless: keys that change no number.
        own: the family's own fields, in place of those that are read here.
    """
    keys: dict[str, Callable[[], Any]] = {
        "vocab_size": lambda: f.integer("vocab_size"),
        "width": lambda: f.integer("hidden_size"),
        "layers": lambda: (layer,) * f.integer("num_hidden_layers", low=0, high=1000),
        "positions": lambda: f.integer("max_position_embeddings"),
        "segments": lambda: f.integer("type_vocab_size"),
        "norm_eps": lambda: f.number("layer_norm_eps"),
        "pad_id": lambda: f.integer("pad_token_id", low=0),
        "dropout": lambda: f.number("hidden_dropout_prob", high=1.0),
        "attention_dropout": lambda: f.number("attention_probs_dropout_prob", high=1.0),
    }
    fields = {name: read() for name, read in keys.items() if name not in own} | f.common() | own
    return EncoderConfig(family=f.family, unread=f.unread(harmless), **fields)


def label_count(f: Fields) -> int:
    """Classes of a head that ``id2label`` names."""
    none: tuple[str, ...] = ()
    return len(f.for_heads(LABELLED, f.labels, none))


def bert_like(
    f: Fields,
    *,
    width: int | None = None,
    activation: str | None = None,
    dropout: float | None = None,
    dense: int | None = None,
) -> dict[str, Head]:
    """BERT's heads: one linear layer on the pooler's output, or on every token. What is None has BERT's keys.

    Args:
        f: the config.json.
        width: of the model.
        activation: of the masked-LM transform.
        dropout: before a classifier.
        dense: width of the masked-LM transform; the model's own by default.
    """
    width = f.integer("hidden_size") if width is None else width
    if dropout is None:
        dropout = f.number("classifier_dropout", f.number("hidden_dropout_prob", high=1.0), high=1.0)
    activation, labels, vocab = activation or f.activation("hidden_act"), label_count(f), f.integer("vocab_size")
    return {
        "lm": Head("lm", "tokens", vocab, dense=dense or width, activation=activation, norm=True),
        "classify": Head("classifier", "pooled", labels, dropout=dropout),
        "tag": Head("classifier", "tokens", labels, dropout=dropout),
        "answer": Head("qa", "tokens", 2),
        "choose": Head("classifier", "pooled", 1, dropout=dropout),
    }


def roberta_like(f: Fields, *, dropout: float | None = None) -> dict[str, Head]:
    """RoBERTa's heads: classification by a dense layer with tanh on the first token, not by the pooler; gelu before the vocabulary."""
    heads, width = bert_like(f, activation="gelu", dropout=dropout), f.integer("hidden_size")
    classify = replace(heads["classify"], name="sequence", on="first", dense=width, activation="tanh", dropout_first=True)
    return {**heads, "classify": classify}


def rotary(f: Fields, theta: float) -> tuple[float, float | tuple[float, ...], int]:
    """Base, scale and number of the rotary positions of a config.json, in the spelling of transformers 5 (``rope_parameters``) or that of 4
    (``rope_theta`` and ``rope_scaling``).

    Args:
        f: the config.json.
        theta: base where it says none.

    Raises:
        CorruptError: a value of a wrong type.
        RefusedError: positions are scaled in a way that is not computed.
    """
    positions = f.integer("max_position_embeddings")
    old, theta = f.section("rope_scaling"), f.number("rope_theta", theta, low=1e-3)
    rope = Fields(f.section("rope_parameters") or old, f"{f.family}, rope_parameters")
    kind, theta = (
        rope.text("type" if "type" in rope.data else "rope_type", "default"),
        rope.number("rope_theta", theta, low=1e-3),
    )
    if kind == "dynamic":  # angles are stretched beyond these positions, by the length of the longest text of a batch
        return theta, 1.0, min(positions, rope.integer("original_max_position_embeddings", positions))
    if kind == "linear":
        return theta, 1.0 / rope.number("factor", low=1e-3), positions
    if kind == "ntk":
        rope.require_value("mixed_b", why="angles are stretched unevenly")
        factor = rope.number("factor", 1.0, low=1e-3)
        return theta * factor, factor ** (-2.0 / (f.integer("hidden_size") // f.integer("num_attention_heads"))), positions
    if kind == "llama3":
        return theta, _llama3(rope, theta, f.integer("hidden_size") // f.integer("num_attention_heads")), positions
    if kind != "default":
        raise RefusedError(
            f"config.json ({f.family}): rotary positions of type {kind!r}; nativebert computes 'default', 'linear', 'ntk' and 'llama3', and 'dynamic' within "
            "the trained positions. Run this checkpoint with transformers."
        )
    return theta, 1.0, positions


def _llama3(rope: Fields, theta: float, width: int) -> tuple[float, ...]:
    """Llama 3.1's scale of each angle: slow ones are divided by the factor, fast ones stay (transformers ``_compute_llama3_parameters``)."""
    trained, factor = rope.integer("original_max_position_embeddings"), rope.number("factor", low=1e-3)
    slow, fast = rope.number("low_freq_factor", low=1e-3), rope.number("high_freq_factor", low=1e-3)
    turns = [trained / (2 * math.pi * theta ** (2 * n / width)) for n in range(width // 2)]  # within the trained positions
    share = [min(max((count - slow) / (fast - slow), 0.0), 1.0) if fast > slow else float(count > slow) for count in turns]
    return tuple((1 - kept) / factor + kept for kept in share)


def rotary_computed(values: Mapping[str, Any], theta: float) -> dict[str, Any]:
    """``rope_parameters`` as transformers' config has them in any case."""
    rope = {"rope_theta": values.get("rope_theta", theta), "rope_type": "default"} | dict(values.get("rope_parameters") or {})
    return {"rope_parameters": rope}
