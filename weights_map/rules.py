"""Rules of a map: which tensors of a file become which parameters, and the names of their dimensions.

Four functions build them, one module or tensor per line::

    table ("embeddings.word_embeddings",       "embed.token",            "V H")    weight (V, H)
    linear("encoder.layer.{i}.output.dense",   "layers.{i}.mlp.down",    "H F")    weight (H, F), bias (H)
    norm  ("embeddings.LayerNorm",             "embed.norm",             "H")      weight (H), bias (H)
    tensor("cls.predictions.bias",             "head.lm.out.bias",       "V")      a single tensor

One side may list choices in one segment (a fan): ``{q,k,v}`` on the right splits a tensor of the file into equal parts along dimension 0;
on the left it fuses several tensors into one parameter. Dimensions are always those of the whole tensor, as the parameter has them: a file whose
linear layers are written (in, out), as transformers' Conv1D, is read with ``transposed=True`` under the same dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from weights_map.errors import BadRuleError
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
        parsed = _DIM.fullmatch(text)
        if not text or parsed is None:
            raise BadRuleError(f"dimension {text!r}: write a number, a symbol, or both (2, H, 3H)")
        return Dim(text, int(parsed[1] or 1), parsed[2])

    def size(self, dims: Mapping[str, int]) -> int | None:
        """Its size, or None if ``dims`` lacks the symbol."""
        if self.symbol is None:
            return self.factor
        value = dims.get(self.symbol)
        return None if value is None else self.factor * value


@dataclass(frozen=True)
class Rule:
    """Tensors of a file <-> parameters of a model.

    Args:
        sources: names in the file; several are joined along dimension 0.
        targets: names of the parameters; for several, the source is split into equal parts along dimension 0.
        dims: dimensions of the whole tensor in the file, e.g. ``("3H", "H")``.
        transposed: whether the file has the parameter's matrix with its dimensions swapped; parts are then cut along dimension 1 of the file's.

    Raises:
        BadRuleError: both sides have several names, their slots differ, a dimension is not valid, or a rule is ``transposed`` that is not of one
            matrix.
    """

    sources: tuple[Template, ...]
    targets: tuple[Template, ...]
    dims: tuple[str, ...]
    transposed: bool = False

    def __post_init__(self) -> None:
        if not self.sources or not self.targets:
            raise BadRuleError(f"rule {self}: a side is empty")
        if len(self.sources) > 1 and len(self.targets) > 1:
            raise BadRuleError(f"rule {self}: has fans on both sides; write one rule per tensor")
        for template in (*self.sources, *self.targets):
            if set(template.slots) != set(self.sources[0].slots):
                raise BadRuleError(f"rule {self}: slots differ; both sides must have the same slots")
        if self.kind != "loaded" and not self.dims:
            raise BadRuleError(f"rule {self}: a single number cannot be split or fused")
        if self.transposed and (len(self.dims) != 2 or len(self.sources) > 1):
            raise BadRuleError(f"rule {self}: only a single matrix can be transposed")
        for dim in self.dims:
            Dim.parse(dim)

    @property
    def kind(self) -> Literal["loaded", "split", "fused"]:
        """Whether the tensor is loaded as it is, split into parts, or fused from several."""
        if len(self.targets) > 1:
            return "split"
        return "fused" if len(self.sources) > 1 else "loaded"

    @property
    def shape(self) -> tuple[Dim, ...]:
        """The dimensions of the whole tensor."""
        return tuple(map(Dim.parse, self.dims))

    def __str__(self) -> str:
        return f"{_join(self.sources)} -> {_join(self.targets)}{', transposed' if self.transposed else ''}"


def _join(templates: tuple[Template, ...]) -> str:
    return " + ".join(template.text for template in templates)


def tensor(source: str, target: str, dims: str) -> list[Rule]:
    """A single tensor; ``dims`` lists its dimensions, e.g. ``"V H"``."""
    return [Rule(Template.expand(source), Template.expand(target), tuple(dims.split()))]


def table(source: str, target: str, dims: str) -> list[Rule]:
    """The ``weight`` of an embedding; ``dims`` is "rows width"."""
    rows, width = _dims(dims, 2, f"table({source!r})")
    return tensor(f"{source}.weight", f"{target}.weight", f"{rows} {width}")


def linear(source: str, target: str, dims: str, bias: bool = True, transposed: bool = False) -> list[Rule]:
    """The ``weight`` (out, in) and ``bias`` (out) of a linear layer; ``dims`` is "out in", also where the file has the weight (in, out)."""
    out, into = _dims(dims, 2, f"linear({source!r})")
    sides = Template.expand(f"{source}.weight"), Template.expand(f"{target}.weight")
    weight = [Rule(*sides, (into, out) if transposed else (out, into), transposed)]
    return weight + tensor(f"{source}.bias", f"{target}.bias", out) if bias else weight


def norm(source: str, target: str, dims: str, bias: bool = True) -> list[Rule]:
    """The ``weight`` and ``bias`` of a normalisation; ``dims`` is its width."""
    (width,) = _dims(dims, 1, f"norm({source!r})")
    return [rule for leaf in ["weight", "bias"][: 1 + bias] for rule in tensor(f"{source}.{leaf}", f"{target}.{leaf}", width)]


def _dims(dims: str, count: int, what: str) -> list[str]:
    parts = dims.split()
    if len(parts) != count:
        raise BadRuleError(f"{what}: dims {dims!r} names {len(parts)} dimension(s), not {count}")
    return parts
