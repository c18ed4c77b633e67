"""What several families share: heads, as data (:class:`nativebert.config.Head`), and rotary positions of a config.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nativebert.config import Fields, Head
from nativebert.errors import RefusedError


def bert_like(
    *, width: int, vocab: int, labels: int, activation: str, dropout: float, dense: int | None = None
) -> dict[str, Head]:
    """BERT's heads: one linear layer on the pooler's output, or on every token.

    Args:
        width: of the model.
        vocab: tokens.
        labels: classes.
        activation: of the masked-LM transform.
        dropout: before a classifier.
        dense: width of the masked-LM transform; the model's own by default.
    """
    return {
        "lm": Head("lm", "tokens", vocab, dense=dense or width, activation=activation, norm=True),
        "classify": Head("classifier", "pooled", labels, dropout=dropout),
        "tag": Head("classifier", "tokens", labels, dropout=dropout),
        "answer": Head("qa", "tokens", 2),
        "choose": Head("classifier", "pooled", 1, dropout=dropout),
    }


def roberta_like(*, width: int, vocab: int, labels: int, dropout: float) -> dict[str, Head]:
    """RoBERTa's heads: classification by a dense layer with tanh on the first token, not by the pooler; gelu before the vocabulary."""
    heads = bert_like(width=width, vocab=vocab, labels=labels, activation="gelu", dropout=dropout)
    classify = Head("sequence", "first", labels, dense=width, activation="tanh", dropout=dropout, dropout_first=True)
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
