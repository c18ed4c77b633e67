"""One row of a map: which tensors of a file become which parameters, and what their dimensions mean.

A family's map is written with four builders, a module or a tensor per line::

    table ("embeddings.word_embeddings",       "embed.token",            "V H")    weight (V, H)
    linear("encoder.layer.{i}.output.dense",   "layers.{i}.mlp.down",    "H F")    weight (H, F), bias (H)
    norm  ("embeddings.LayerNorm",             "embed.norm",             "H")      weight (H), bias (H)
    tensor("cls.predictions.bias",             "head.lm.out.bias",       "V")      the tensor itself

One side may fan out: ``{q,k,v}`` on the right cuts one tensor of the file into equal parts along its first
dimension; on the left it joins several into one. Dimensions are always those of the whole tensor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from weights_map.errors import BadRule
from weights_map.template import Template

_DIM = re.compile(r"([1-9][0-9]*)?([A-Za-z_]\w*)?", re.ASCII)


@dataclass(frozen=True)
class Dim:
    """One dimension: a number ("2"), a symbol ("H"), or a multiple of one ("3H")."""

    text: str
    factor: int
    symbol: str | None

    @staticmethod
    def parse(text: str) -> Dim:
        found = _DIM.fullmatch(text)
        if not text or found is None:
            raise BadRule(f"dimension {text!r}: write a number, a symbol, or both (2, H, 3H)")
        return Dim(text, int(found[1] or 1), found[2])

    def size(self, dims: Mapping[str, int]) -> int | None:
        """Its size, or None while the symbol has no value."""
        if self.symbol is None:
            return self.factor
        value = dims.get(self.symbol)
        return None if value is None else self.factor * value


@dataclass(frozen=True)
class Rule:
    """Tensors of a file <-> parameters of a model.

    Args:
        sources: the names in the file; more than one are joined along dimension 0.
        targets: the parameters' names; for more than one, the source is cut into equal parts along dimension 0.
        dims: the dimensions of the whole tensor, e.g. ``("3H", "H")``.

    Raises:
        BadRule: both sides fan out, the two sides do not have the same slots, or a dimension cannot be read.
    """

    sources: tuple[Template, ...]
    targets: tuple[Template, ...]
    dims: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.sources or not self.targets:
            raise BadRule(f"rule {self}: a side is empty")
        if len(self.sources) > 1 and len(self.targets) > 1:
            raise BadRule(f"rule {self}: fans on both sides; write one rule per tensor")
        for template in (*self.sources, *self.targets):
            if set(template.slots) != set(self.sources[0].slots):
                raise BadRule(f"rule {self}: slots differ; both sides must have the same, or names would be lost")
        if self.kind != "loaded" and not self.dims:
            raise BadRule(f"rule {self}: a single number cannot be cut or joined")
        for dim in self.dims:
            Dim.parse(dim)

    @property
    def kind(self) -> Literal["loaded", "split", "fused"]:
        """What happens to the bytes: taken as they are, cut into parts, or joined."""
        if len(self.targets) > 1:
            return "split"
        return "fused" if len(self.sources) > 1 else "loaded"

    @property
    def shape(self) -> tuple[Dim, ...]:
        """The dimensions of the whole tensor."""
        return tuple(map(Dim.parse, self.dims))

    def __str__(self) -> str:
        return f"{_join(self.sources)} -> {_join(self.targets)}"


def _join(templates: tuple[Template, ...]) -> str:
    return " + ".join(template.text for template in templates)


def tensor(source: str, target: str, dims: str) -> list[Rule]:
    """A tensor by its full name, with as many dimensions as ``dims`` names."""
    return [Rule(Template.expand(source), Template.expand(target), tuple(dims.split()))]


def table(source: str, target: str, dims: str) -> list[Rule]:
    """An embedding table: ``dims`` is "rows width"; gives ``weight``."""
    rows, width = _read(dims, 2, f"table({source!r})")
    return tensor(f"{source}.weight", f"{target}.weight", f"{rows} {width}")


def linear(source: str, target: str, dims: str, bias: bool = True) -> list[Rule]:
    """A linear layer: ``dims`` is "out in"; gives ``weight`` (out, in) and, unless told otherwise, ``bias`` (out)."""
    outward, _ = _read(dims, 2, f"linear({source!r})")
    weight = tensor(f"{source}.weight", f"{target}.weight", dims)
    return weight + tensor(f"{source}.bias", f"{target}.bias", outward) if bias else weight


def norm(source: str, target: str, dims: str, bias: bool = True) -> list[Rule]:
    """A normalisation: ``dims`` is its width; gives ``weight`` and, unless told otherwise, ``bias``."""
    (width,) = _read(dims, 1, f"norm({source!r})")
    return [rule for leaf in ["weight", "bias"][: 1 + bias] for rule in tensor(f"{source}.{leaf}", f"{target}.{leaf}", width)]


def _read(dims: str, count: int, what: str) -> list[str]:
    parts = dims.split()
    if len(parts) != count:
        raise BadRule(f"{what}: dims {dims!r} names {len(parts)} dimension(s), not {count}")
    return parts
