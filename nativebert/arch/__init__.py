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
        near = difflib.get_close_matches(name, FAMILIES, n=1, cutoff=0.5)
        hint = f" The nearest one it knows is {near[0]!r}." if near else ""
        raise Refused(f"nativebert does not know the model family {name!r}.{hint} It knows: {', '.join(sorted(FAMILIES))}.")
    module = importlib.import_module(f"nativebert.arch.{FAMILIES[name]}")
    return Family(name, module.MAP, module.config)


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
