"""Fresh parameters with the numbers that transformers draws.

transformers walks through a model's modules and draws each weight from torch's global generator. The same draws in the same order give the
same weights for the same ``torch.manual_seed``. The order of the modules is that of the rules in the family's weight map.

A model that is made from a config alone is drawn twice in transformers: torch's own layers draw when they are made, and transformers draws
again; first the encoder, then the heads. With ``construct`` the numbers of the first draw are drawn, too, and thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nativebert.arch import Family
from nativebert.config import EncoderConfig, Fields
from nativebert.errors import RefusedError
from nativebert.nn.layers import INITIAL_STD
from nativebert.nn.model import Model


class _Unit(NamedTuple):
    """One module of a checkpoint: one of ours, or several whose weights it holds in one tensor (ModernBERT's ``Wqkv``)."""

    name: str  # in a checkpoint, without prefix
    parts: tuple[str, ...]  # our modules
    transposed: bool  # whether a checkpoint has the weight (in, out)


def initial_std(config: EncoderConfig) -> float:
    """``initializer_range``: the standard deviation of fresh weights.

    Raises:
        CorruptError: it is not a number.
    """
    return Fields(config.source, config.family).number("initializer_range", 0.02) or 0.02


def resized_table(table: Tensor, rows: int, std: float, mean: bool) -> Tensor:
    """A table with rows cut off or added at its end, as transformers' ``resize_token_embeddings`` does it.

    Args:
        table: ``(n, E)``.
        rows: how many it is to have.
        std: standard deviation of new rows, unless ``mean``.
        mean: draw new rows from a normal distribution with the mean of the old ones and a billionth of their covariance; where that is not positive
            definite, as for a table of fewer rows than columns, they are the mean itself.
    """
    fresh = nn.init.normal_(
        torch.empty(rows, table.shape[1], dtype=table.dtype, device=table.device)
    )  # what nn.Embedding draws
    if not mean and rows > len(table):
        nn.init.normal_(fresh, std=std)
    return _with_old_rows(table, fresh, mean)


def resized_output(weight: Tensor, bias: Tensor | None, rows: int, std: float, mean: bool) -> tuple[Tensor, Tensor | None]:
    """Weight and bias, if there is one, of an output layer that is not tied to the token table, with rows cut off or added; see :func:`resized_table`."""
    fresh = torch.empty(rows, weight.shape[1], dtype=weight.dtype, device=weight.device)
    nn.init.kaiming_uniform_(fresh, a=math.sqrt(5))  # what nn.Linear draws
    fresh_bias = None if bias is None else torch.empty(rows, dtype=bias.dtype, device=bias.device).uniform_(-1, 1)
    if not mean and rows > len(weight):
        nn.init.normal_(fresh, std=std)
    fresh = _with_old_rows(weight, fresh, mean)
    if bias is None or fresh_bias is None:
        return fresh, None
    if not mean and rows > len(weight):
        fresh_bias.zero_()
    if mean and rows > len(weight):
        fresh_bias[len(bias) :].normal_(mean=float(bias.float().mean()), std=1e-9 * float(bias.std()))
    fresh_bias[: len(bias)] = bias[:rows]
    return fresh, fresh_bias


def _with_old_rows(old: Tensor, fresh: Tensor, mean: bool) -> Tensor:
    added = len(fresh) - len(old)
    if mean and added > 0:
        wide = old.float()
        centre = wide.mean(dim=0)  # (E,)
        covariance = 1e-9 * ((wide - centre).T @ (wide - centre) / len(old))  # (E, E)
        positive: Tensor = torch.distributions.constraints.positive_definite.check(covariance)  # type: ignore[no-untyped-call]
        if bool(positive.all()):
            drawn = torch.distributions.MultivariateNormal(centre, covariance_matrix=covariance).sample((added,))
        else:
            drawn = centre.expand(added, -1)
        fresh[len(old) :] = drawn.to(old.dtype)
    fresh[: len(old)] = old[: len(fresh)]
    return fresh


def initialize(
    model: Model, family: Family, names: Collection[str], dtype: torch.dtype, device: torch.device, construct: bool = False
) -> None:
    """Fill parameters with the values that transformers' ``_init_weights`` gives them, under torch's global generator.

    Linear layers and tables are normal with the config's ``initializer_range`` (some families draw some again: ``Family.redrawn``), biases
    zero, norms one; the row of the padding token is zero.

    Args:
        model: its parameters may be on the meta device; new ones are put in their places.
        family: the model's.
        names: the parameters to fill; tied ones are left out.
        dtype: of the parameters; the numbers depend on it, as they do in transformers.
        device: of the parameters. The numbers are drawn on the CPU, so that every device has the same.
        construct: draw the numbers of torch's constructors before, as transformers does where a model is made from a config alone.

    Raises:
        CorruptError: the config's ``initializer_range`` is not a number.
        RefusedError: the config asks for sinusoidal positions, and the position table would be new.
    """
    if "embed.position.weight" in names and model.config.source.get("sinusoidal_pos_embds"):
        raise RefusedError("sinusoidal_pos_embds: fresh sinusoidal position tables are not supported; use learned positions")
    fields, std = Fields(model.config.source, model.config.family), initial_std(model.config)
    limit, stds = family.redrawn(fields, std, model.config) if family.redrawn else (math.inf, {})
    units = list(_units(family, model.config, set(model.state_dict())))
    heads = [unit for unit in units if unit.parts[0].startswith("head.")]
    encoder = [unit for unit in units if unit not in heads]
    with torch.no_grad():
        if construct and family.heads_first:
            _draw_constructors(model, heads, dtype)
        for part in (encoder, heads) if construct or not family.heads_first else (heads, encoder):
            if construct and not (part is heads and family.heads_first):
                _draw_constructors(model, part, dtype)
            for _, siblings in groupby(part, key=lambda unit: unit.name.rpartition(".")[0]):
                drawn = [unit for unit in siblings if _fill(model, unit, names, std, dtype)]
                for unit in drawn:
                    if (each := stds.get(unit.name.rpartition(".")[2])) is not None:
                        weight, ends = torch.empty(_shape(model, unit), dtype=dtype), (-limit * each, limit * each)
                        _put(
                            model,
                            unit,
                            nn.init.trunc_normal_(weight, 0.0, each, *ends)
                            if ends[1] < math.inf
                            else weight.normal_(0.0, each),
                        )
    for name in names if device.type != "cpu" else ():
        module, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(module), leaf, nn.Parameter(model.get_parameter(name).detach().to(device)))


def _units(family: Family, config: EncoderConfig, names: set[str]) -> Iterator[_Unit]:
    """The modules that a model has, in the order in which transformers makes and initialises them."""
    seen: set[tuple[str, ...]] = set()
    for slotted, run in groupby(family.map.rules, key=lambda rule: bool(rule.targets[0].slots)):
        rules = list(run)
        for block in sorted(config.blocks) if slotted else [()]:
            slots = dict(zip(("i", "j"), block))
            for rule in rules:
                targets = [template.fill(slots) for template in rule.targets]
                # a gate is drawn after its layer, whichever comes first in their tensor
                parts = tuple(
                    sorted((target.rpartition(".")[0] for target in targets), key=lambda part: part.endswith(".gate"))
                )
                if parts not in seen and names >= set(targets):
                    seen.add(parts)
                    yield _Unit(rule.sources[0].fill(slots).rpartition(".")[0], parts, rule.transposed)


def _shape(model: Model, unit: _Unit) -> tuple[int, ...]:
    """Shape of a module's weight as the checkpoint has it: the parts joined along dimension 0."""
    shapes = [model.get_parameter(f"{part}.weight").shape for part in unit.parts]
    shape = (sum(int(shape[0]) for shape in shapes), *map(int, shapes[0][1:]))
    return shape[::-1] if unit.transposed else shape


def _draw_constructors(model: Model, units: Sequence[_Unit], dtype: torch.dtype) -> None:
    """Draw what ``nn.Linear`` and ``nn.Embedding`` draw when they are made."""
    for unit in units:
        module = model.get_submodule(unit.parts[0])
        if isinstance(module, nn.LayerNorm):
            continue
        weight = torch.empty(_shape(model, unit), dtype=dtype)
        if isinstance(module, nn.Embedding) or unit.transposed:  # Conv1D has no draw of its bias
            nn.init.normal_(weight, std=INITIAL_STD if unit.transposed else 1.0)
            continue
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        if getattr(module, "bias", None) is not None:
            torch.empty(len(weight), dtype=dtype).uniform_(-1, 1)


def _fill(model: Model, unit: _Unit, names: Collection[str], std: float, dtype: torch.dtype) -> bool:
    """Give a module's parameters that are among ``names`` their values. Returns whether its weight was drawn, and may be drawn again."""
    module = model.get_submodule(unit.parts[0])
    for part in unit.parts:
        if f"{part}.bias" in names:
            bias = torch.zeros(model.get_parameter(f"{part}.bias").shape, dtype=dtype)
            model.get_submodule(part).bias = nn.Parameter(bias)
    if f"{unit.parts[0]}.weight" not in names:
        return False
    weight = torch.empty(_shape(model, unit), dtype=dtype)
    if isinstance(module, nn.LayerNorm):
        _put(model, unit, nn.init.ones_(weight))
        return False
    nn.init.normal_(weight, std=std)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        weight[module.padding_idx] = 0
    _put(model, unit, weight)
    return True


def _put(model: Model, unit: _Unit, weight: Tensor) -> None:
    """Put a module's weight in its place, cut into its parts."""
    modules = [model.get_submodule(part) for part in unit.parts]
    weight = weight.T.contiguous() if unit.transposed else weight
    for module, piece in zip(modules, weight.chunk(len(modules))):
        module.weight = nn.Parameter(piece.clone() if len(modules) > 1 else piece)
