"""Every operation of two models on the same tokens, matched by the weight map: ours packed, the reference's padded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nativebert.nn.model import Model
from nativebert.nn.packed import pack
from weights_map import WeightMap

Outputs = dict[str, list[Tensor]]
"""Module -> what it gave at each of its calls (more than one where layers share weights)."""


@contextmanager
def listening(modules: Mapping[str, nn.Module]) -> Iterator[Outputs]:
    """Record what modules give while the block runs, in the order of their first call."""
    heard: Outputs = defaultdict(list)

    def hear(name: str) -> object:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            heard[name].append(output.detach())

        return hook

    handles = [module.register_forward_hook(hear(name)) for name, module in modules.items()]  # type: ignore[arg-type]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def operations(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that compute: linear layers and norms, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.LayerNorm))}


def same_operations(theirs: nn.Module, weight_map: WeightMap) -> dict[str, tuple[str, ...]]:
    """Each of the reference's operations -> ours; several where the reference computes them in one product."""
    found = {}
    for name in operations(theirs):
        targets = weight_map.targets_of(f"{name}.weight")
        if targets:
            found[name] = tuple(target.removesuffix(".weight") for target in targets)
    return found


def outputs_of(
    ours: Model, theirs: nn.Module, weight_map: WeightMap, ids: Tensor, mask: Tensor, segments: Tensor | None
) -> tuple[Outputs, Outputs]:
    """Run both models; returns what their common operations gave, under our names, for real tokens only.

    Operations on whole sequences (pooler, classifiers) are compared by the logits and the pooler's output instead.
    """
    names = same_operations(theirs, weight_map)
    mine = {name: module for name, module in operations(ours).items() if any(name in parts for parts in names.values())}
    given = {"input_ids": ids, "attention_mask": mask, **({"token_type_ids": segments} if segments is not None else {})}
    with (
        torch.no_grad(),
        listening(mine) as heard,
        listening({n: m for n, m in operations(theirs).items() if n in names}) as reference,
    ):
        ours(ids, mask, segments)
        theirs(**given)
    _, padding = pack(ids, mask, segments)
    cells = padding.cells
    T, padded = len(cells), ids.numel()
    renamed: Outputs = {}
    for name, calls in reference.items():
        parts = [_at_tokens(call, cells, padded).chunk(len(names[name]), dim=-1) for call in calls]
        for number, target in enumerate(names[name]):
            renamed[target] = [part[number] for part in parts]
    tokens = {name: calls for name, calls in heard.items() if all(call.shape[0] == T for call in calls)}
    return tokens, {name: renamed[name] for name in tokens if name in renamed}


def _at_tokens(output: Tensor, cells: Tensor, padded: int) -> Tensor:
    """``(B, L, N)`` -> ``(T, N)``; outputs of another shape are left as they are."""
    flat = output.flatten(0, -2)
    return flat[cells] if len(flat) == padded else flat
