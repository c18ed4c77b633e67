"""Parameters of a fine-tuning: groups by weight decay and learning rate, frozen ones, and the dropout of a loaded model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from nativebert.errors import BadInputError
from nativebert.nn.attention import Attention
from nativebert.nn.model import Model


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are updated alike.

    Attributes:
        params: the parameters.
        weight_decay: decoupled decay, for each unit of the learning rate (arXiv:1711.05101).
        multiplier: of the learning rate.
    """

    params: list[nn.Parameter]
    weight_decay: float
    multiplier: float = 1.0


def parameter_groups(model: Model, weight_decay: float, layer_decay: float = 1.0) -> list[ParameterGroup]:
    """The trained parameters of a model, in groups.

    Biases, norms and the bias by distance have no weight decay, as in transformers' Trainer. A pooler that no head reads is left out: it gets no
    gradient.

    Args:
        model: the model; parameters with ``requires_grad=False`` stay as they are.
        weight_decay: of all other parameters.
        layer_decay: factor of the learning rate from each layer to the one below it; heads have the full rate, the embeddings the lowest
            (arXiv:1801.06146, section 3.2).

    Raises:
        BadInputError: everything is frozen, or ``layer_decay`` is not in (0, 1].
    """
    if not 0.0 < layer_decay <= 1.0:
        raise BadInputError(f"layer_decay must be above 0 and at most 1, not {layer_decay}")
    undecayed = {id(p) for module in model.modules() if isinstance(module, nn.LayerNorm) for p in module.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in used_parameters(model):
        bare = id(parameter) in undecayed or name.endswith("bias") or name == "distance.weight"
        multiplier = layer_decay ** _depth(name, model)
        groups.setdefault((0.0 if bare else weight_decay, multiplier), []).append(parameter)
    if not groups:
        raise BadInputError("there is nothing to train: all parameters of the model are frozen")
    return [ParameterGroup(params, decay, multiplier) for (decay, multiplier), params in groups.items()]


def used_parameters(model: Model) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that are trained, by name."""
    heads = [model.config.heads[task] for task in model.tasks]
    pooler = any(head.on == "pooled" for head in heads)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and (pooler or not name.startswith("pool.")):
            yield name, parameter


def _depth(name: str, model: Model) -> int:
    """Layers between a parameter and the heads: 0 for a head, 1 for the last layer."""
    count = len(model.blocks())
    if match := re.match(r"layers\.(\d+)\.", name):
        return count - min(int(match[1]), count - 1)
    return count + 1 if name.startswith(("embed.", "distance.")) else 0


def freeze(model: Model, what: Sequence[str] = ("embed", "layers")) -> int:
    """Keep parameters as they are.

    Args:
        model: the model.
        what: beginnings of parameters' names: ``"embed"``, ``"layers"``, ``"layers.0"``, ``"pool"``; ``"layers.0-3"`` for several layers.

    Returns:
        How many numbers are frozen by this call.

    Raises:
        BadInputError: a name that no parameter has.
    """
    starts = [start for one in what for start in _starts(one)]
    frozen = 0
    for start in starts:
        found = [p for name, p in model.named_parameters() if name == start or name.startswith(f"{start}.")]
        if not found:
            parts = dict.fromkeys(name.partition(".")[0] for name, _ in model.named_parameters())
            raise BadInputError(
                f"no parameter's name begins with {start!r}; a part of the model is one of {', '.join(parts)}, and a layer layers.0 to "
                f"layers.{len(model.blocks()) - 1}"
            )
        frozen += sum(p.numel() for p in found if p.requires_grad)
        for parameter in found:
            parameter.requires_grad_(False)
    return frozen


def _starts(name: str) -> list[str]:
    match = re.fullmatch(r"layers\.(\d+)-(\d+)", name)
    return [name] if match is None else [f"layers.{n}" for n in range(int(match[1]), int(match[2]) + 1)]


def set_dropout(model: Model, dropout: float | None, attention: float | None = None) -> None:
    """Change the dropout of a loaded model.

    Args:
        model: the model, its heads included.
        dropout: probability for embeddings, layer outputs and heads; None to leave it.
        attention: probability for attention weights; None for the same as ``dropout``.

    Raises:
        BadInputError: a probability that is not in [0, 1).
    """
    attention = dropout if attention is None else attention
    for name, p in (("dropout", dropout), ("attention", attention)):
        if p is not None and not 0.0 <= p < 1.0:
            raise BadInputError(f"{name} must be at least 0 and below 1, not {p}")
    for module in model.modules():
        if isinstance(module, nn.Dropout) and dropout is not None:
            module.p = dropout
        elif isinstance(module, Attention):
            module.dropout = module.dropout if attention is None else attention
            module.relative_dropout = module.relative_dropout if dropout is None else dropout
