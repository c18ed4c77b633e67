"""Causes of a difference from transformers: weights, settings, epsilons and token ids that are not the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from nativebert.config import EncoderConfig
from nativebert.loading import LoadedModel
from nativebert.parity.trace import epsilon, operations, same_operations
from weights_map import torch as views

if TYPE_CHECKING:
    from nativebert.arch import Family
    from nativebert.hub import Snapshot

# fields of the config that change no number of the encoder
_NOT_COMPARED = {"source", "unread", "architecture", "labels", "problem_type", "heads", "pretraining"}
_NOT_COMPARED |= {"dropout", "attention_dropout"}


def different_weights(ours: LoadedModel, reference: Any, known: Family) -> dict[str, float]:
    """Parameters whose values differ, by our names, with the largest absolute difference (infinite for another shape)."""
    our_weights = ours.state_dict()
    differences = {}
    for name, value in reference.state_dict().items():
        known_by = known.map if known.map.targets_of(name) else known.in_memory
        for target, part in (views.unpack(known_by, name, value) if known_by else {}).items():
            if target in our_weights:
                weight = our_weights[target]
                same_shape = weight.shape == part.shape
                largest = float((weight.double() - part.to(weight.dtype).double()).abs().max()) if same_shape else math.inf
                if not largest <= 0:  # NaN differs
                    differences[target] = largest
    return differences


def different_eps(ours: LoadedModel, reference: Any, known: Family) -> dict[str, tuple[str, str]]:
    """Epsilons that differ between the layer norms of the two models in memory: name -> (ours, the reference's)."""
    differences = {}
    our_operations, their_operations = operations(ours), operations(reference)
    for name, targets in same_operations(reference, known).items():
        a, b = our_operations.get(targets[0]), their_operations[name]
        mine, theirs = epsilon(a), epsilon(b)
        if mine is not None and theirs is not None and mine != theirs:
            differences[f"{targets[0]}.eps"] = (str(mine), str(theirs))
    return differences


def different_settings(ours: EncoderConfig, reference: EncoderConfig) -> dict[str, tuple[str, str]]:
    """Settings that differ between the two configs: name -> (ours, the reference's)."""
    pairs = {f.name: (getattr(ours, f.name), getattr(reference, f.name)) for f in fields(EncoderConfig)}
    return {name: (str(a), str(b)) for name, (a, b) in pairs.items() if name not in _NOT_COMPARED and a != b}


def different_tokens(ours: LoadedModel, snapshot: Snapshot, texts: Sequence[str]) -> tuple[list[str], str]:
    """Texts whose token ids differ from transformers'; and the reason, where transformers cannot read the tokenizer."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(snapshot.encoder))
    except Exception as error:
        return [], f"not compared: transformers cannot read this tokenizer ({str(error).splitlines()[0]})"
    rows = ours.tokenizer.ids_batch(texts).ids
    return [text for text, ids in zip(texts, rows, strict=True) if tokenizer(text)["input_ids"] != ids], ""
