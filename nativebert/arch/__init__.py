"""One file per family: how its config.json reads, and how its tensor names map onto ours. No torch here.

A family's file holds ``MAP`` (a :class:`weights_map.WeightMap`) and ``config`` (a function from the parsed config.json to
:class:`nativebert.config.EncoderConfig`).
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from nativebert.config import EncoderConfig, check_sizes
from nativebert.errors import Corrupt, Refused

if TYPE_CHECKING:
    from weights_map import WeightMap

# model_type in config.json -> file in this folder
FAMILIES = {
    "albert": "albert",
    "bert": "bert",
    "camembert": "roberta",
    "distilbert": "distilbert",
    "electra": "electra",
    "modernbert": "modernbert",
    "mpnet": "mpnet",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
}

# Families that are asked for and not here: what stands between them and an encoder of BERT's kind.
OTHERS = {
    "deberta": "its attention is disentangled: content and relative positions are scored apart",
    "deberta-v2": "its attention is disentangled: content and relative positions are scored apart",
    "longformer": "its attention is sparse",
    "big_bird": "its attention is sparse",
    "mobilebert": "its layers have bottlenecks, and their norms have no statistics",
    "convbert": "its layers mix attention with convolutions",
    "funnel": "it pools its tokens from layer to layer",
    "xlnet": "its attention is relative to where the other tokens stand",
    "xlm-roberta-xl": "its norms come before attention and feed-forward",
    "roformer": "its positions are rotary, and its blocks are otherwise BERT's",
    "nomic_bert": "its code comes with the checkpoint: rotary positions, gated layers",
    "new": "its code comes with the checkpoint: rotary positions, gated layers",
    "jina_bert_v2": "its code comes with the checkpoint: attention is biased by distance",
    "gpt2": "it is a decoder",
    "llama": "it is a decoder",
    "mistral": "it is a decoder",
    "qwen2": "it is a decoder",
    "qwen3": "it is a decoder",
    "opt": "it is a decoder",
    "t5": "it is an encoder with a decoder",
    "bart": "it is an encoder with a decoder",
    "mbart": "it is an encoder with a decoder",
    "clip": "it reads images beside text",
}
# Where spelling does not tell which family is nearest.
NEAREST = {"deberta": "bert", "deberta-v2": "bert", "roformer": "modernbert", "nomic_bert": "modernbert", "new": "modernbert",
           "jina_bert_v2": "bert", "mobilebert": "bert", "longformer": "roberta", "big_bird": "roberta", "convbert": "electra",
           "xlm-roberta-xl": "xlm-roberta", "data2vec-text": "roberta"}  # fmt: skip


class _Translate(Protocol):
    def __call__(self, hf: Mapping[str, Any], /) -> EncoderConfig: ...


class Family(NamedTuple):
    """A family by name: its weight map and its config translation."""

    name: str
    map: WeightMap
    config: _Translate

    def parameters(self, config: EncoderConfig) -> list[str]:
        """Names of all parameters that an encoder of this family must have: those of every rule that the map does not let be left out."""
        names = []
        for rule in self.map.rules:
            for template in rule.targets:
                at = [dict(zip(("i", "j"), block)) for block in config.blocks] if template.slots else [{}]
                names += [
                    name for slots in at if _has(config, name := template.fill(slots)) and not self.map.may_leave_out(name)
                ]
        return names


def _has(config: EncoderConfig, name: str) -> bool:
    """Whether a model with this config has a parameter that its family's map has a rule for."""
    *module, leaf = name.split(".")
    if module[:2] == ["embed", "project"]:
        return config.project
    if module == ["distance"]:
        return bool(config.buckets and config.layers)
    if module[-1] == "attn_norm" and not config.blocks[tuple(map(int, module[1:-1]))].first_norm:
        return False
    if leaf == "bias":
        if module[-1].endswith("norm"):
            return config.norm_bias
        return {"attn": config.attention_bias, "mlp": config.inner_bias}.get(module[-2], True)
    return True


def family(name: str) -> Family:
    """The family called ``name`` (a ``model_type``).

    Raises:
        Refused: no such family here; the message names the nearest one.
    """
    if name not in FAMILIES:
        raise Refused(_unknown(name))
    module = importlib.import_module(f"nativebert.arch.{FAMILIES[name]}")
    return Family(name, module.MAP, module.config)


def _unknown(name: str) -> str:
    """What to say of a family that is not here: what differs where that is known, the nearest one, and what to do."""
    what = OTHERS.get(name) or OTHERS.get(name.replace("_", "-"))
    why = f": {what}" if what else ""
    near = NEAREST.get(name) or next(iter(difflib.get_close_matches(name, FAMILIES, n=1, cutoff=0.5)), "")
    if what and name not in NEAREST:
        near = ""  # a decoder that is spelled like an encoder is not near it
    hint = f" The nearest one it knows is {near!r}." if near else ""
    todo = (
        "Run this checkpoint with transformers."
        if what
        else "If the checkpoint is one of these under another name, set model_type in its config.json; "
        "else run it with transformers, or add the family (docs/adding-a-family.md)."
    )
    return f"nativebert does not know the model family {name!r}{why}.{hint} It knows: {', '.join(sorted(FAMILIES))}. {todo}"


def read_config(hf: Mapping[str, Any]) -> tuple[Family, EncoderConfig]:
    """Translate a parsed config.json.

    Raises:
        Corrupt: ``model_type`` is absent or not a string, or a value has a wrong type or size.
        Refused: the family is unknown, or the config asks for something that nativebert does not compute.
    """
    name = hf.get("model_type")
    if not isinstance(name, str):
        raise Corrupt(
            f"config.json has no usable 'model_type' (it is {name!r}), so the family is unknown. Known: {', '.join(sorted(FAMILIES))}."
        )
    found = family(name)
    return found, check_sizes(found.config(hf))
