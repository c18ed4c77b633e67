"""Every operation of two models on the same tokens, matched by the weight map: ours packed, the reference's padded."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nativebert.arch import Family
from nativebert.nn.model import Model
from nativebert.nn.packed import pack
from nativebert.parity.compare import model_inputs

Outputs = dict[str, list[Tensor]]
"""Module -> its output at each of its calls (more than one where layers share weights)."""


@dataclass(frozen=True)
class Local:
    """One call of one of our operations, repeated by the reference's module in float64 on the very input that ours had.

    Attributes:
        max_abs: largest difference: what this operation adds by itself, whatever happened before it.
        allowed: what rounding can explain.
    """

    max_abs: float
    allowed: float


@dataclass(frozen=True)
class Operations:
    """Outputs of the operations of both models, under our names.

    Attributes:
        ours, theirs: outputs for real tokens.
        local: how each call of ours compares with the reference's module on the same input.
    """

    ours: Outputs
    theirs: Outputs
    local: dict[str, list[Local]]


@contextmanager
def listening(modules: Mapping[str, nn.Module], inputs: Outputs | None = None) -> Iterator[Outputs]:
    """Record the outputs of modules (and their inputs, in ``inputs``) while the block runs, in the order of their first call."""
    outputs: Outputs = defaultdict(list)

    def recorder(name: str) -> object:
        def hook(_: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            outputs[name].append(output.detach())
            if inputs is not None:
                inputs.setdefault(name, []).append(arguments[0].detach())

        return hook

    handles = [module.register_forward_hook(recorder(name)) for name, module in modules.items()]  # type: ignore[arg-type]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def operations(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that compute: linear layers (GPT-2's Conv1D among them) and norms, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D" or _is_norm(module)
    }


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.LayerNorm) or type(module).__name__.endswith("RMSNorm")


def same_operations(theirs: nn.Module, known: Family) -> dict[str, tuple[str, ...]]:
    """Each of the reference's operations -> ours; several where the reference computes them in one product."""
    targets = {name: known.targets_of(f"{name}.weight") for name in operations(theirs)}
    return {name: tuple(target.removesuffix(".weight") for target in ours) for name, ours in targets.items() if ours}


def operations_of(
    ours: Model, theirs: nn.Module, known: Family, ids: Tensor, mask: Tensor, segments: Tensor | None
) -> Operations:
    """Run both models and record their common operations.

    Operations on whole sequences (pooler, classifiers) are compared by the logits and the pooler's output instead.

    Args:
        ours: the model.
        theirs: the reference; in float64 for ``local`` to mean something.
        known: the reference's family, which says which of its modules is which of ours.
        ids, mask, segments: the padded batch.
    """
    names, modules = same_operations(theirs, known), operations(theirs)
    mine = {name: module for name, module in operations(ours).items() if any(name in parts for parts in names.values())}
    inputs: Outputs = {}
    with torch.no_grad(), listening(mine, inputs) as our_calls, listening({n: modules[n] for n in names}) as their_calls:
        ours(ids, mask, segments)
        theirs(**model_inputs(ids, mask, segments))
    _, padding = pack(ids, mask, segments)
    T = len(padding.indices)
    renamed: Outputs = {}
    for name, calls in their_calls.items():
        parts = [_at_tokens(call, padding.indices, ids.numel()).chunk(len(names[name]), dim=-1) for call in calls]
        for number, target in enumerate(names[name]):
            renamed[target] = [part[number] for part in parts]
    tokens = {
        name: calls
        for name, calls in our_calls.items()
        if name in renamed and all(call.shape == (T, call.shape[-1]) for call in calls)
    }
    local: dict[str, list[Local]] = {}
    for name, targets in names.items():
        module = modules[name]
        for number, target in enumerate(targets):
            if target in tokens:
                pairs = zip(inputs[target], tokens[target])
                local[target] = [_local(module, number, len(targets), x, y) for x, y in pairs]
    return Operations(tokens, {name: renamed[name] for name in tokens}, local)


def epsilon(module: nn.Module | None) -> float | None:
    """The epsilon of a norm, ours or transformers'; None for anything else."""
    found: float | None = getattr(module, "eps", getattr(module, "variance_epsilon", None))
    return found


def _local(module: Any, number: int, parts: int, x: Tensor, y: Tensor) -> Local:
    """Our ``x -> y`` against part ``number`` of the reference's module; the limits are those of sums in the precision of ``y``."""
    eps = torch.finfo(y.dtype).eps
    x = x.double()
    weight = module.weight.detach().double()
    bias = None if getattr(module, "bias", None) is None else module.bias.detach().double()
    if not _is_norm(module):
        weight = weight if isinstance(module, nn.Linear) else weight.T  # Conv1D's is (in, out)
        if x.shape[-1] != weight.shape[1]:
            return Local(math.inf, 0.0)
        weight = weight.chunk(parts)[number]
        bias = None if bias is None else bias.chunk(parts)[number]
        exact = torch.nn.functional.linear(x, weight, bias)
        terms = torch.nn.functional.linear(x.abs(), weight.abs(), None if bias is None else bias.abs())
        # of the sum of what is added, as cancellation makes the result smaller; errors of a sum grow with the root of its terms
        allowed = (4 + 0.5 * math.sqrt(weight.shape[1])) * eps * float(terms.max())
    else:
        if x.shape[-1:] != weight.shape:
            return Local(math.inf, 0.0)
        eps_of_norm = epsilon(module) or 0.0
        if isinstance(module, nn.LayerNorm):
            exact = torch.nn.functional.layer_norm(x, list(weight.shape), weight, bias, eps_of_norm)
            spread = (x.var(-1, unbiased=False) + eps_of_norm).sqrt()
        else:
            exact = torch.nn.functional.rms_norm(x, list(weight.shape), weight, eps_of_norm)
            spread = (x.square().mean(-1) + eps_of_norm).sqrt()
        scale = float((x.abs().amax(-1) / spread).max())
        allowed = 8 * eps * (scale * float(weight.abs().max()) + (0.0 if bias is None else float(bias.abs().max())))
    return Local(float((y.double() - exact).abs().max()) if y.shape == exact.shape else math.inf, allowed)


def _at_tokens(output: Tensor, indices: Tensor, padded: int) -> Tensor:
    """``(B, L, N)`` -> ``(T, N)``; outputs of another shape are left as they are."""
    flat = output.flatten(0, -2)
    return flat[indices] if len(flat) == padded else flat
