"""Adapters of low rank (LoRA; Hu et al. 2021, arXiv:2106.09685): what a pair of matrices beside a weight adds to it.

An adapter is merged when a model is loaded: ``W + scale * left @ right`` of each weight, computed in float64 and rounded once, to the precision of the
model. So a merged model is as fast as any other. This is about the values; which adapters a checkpoint has is said by :mod:`nativebert.arch`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nativebert.arch import TaskAdapters
from nativebert.errors import BadInputError, CorruptError, NotFoundError, RefusedError
from weights_map import Ledger, View
from weights_map.rows import LOADED

if TYPE_CHECKING:
    import torch

PRODUCT_ELEMENTS = 2**22  # of the product, that are computed at a time
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Product:
    """What is added to a weight ``(M, N)``.

    Attributes:
        left: ``(M, R)``, or ``(N, R)`` if ``transposed``.
        right: ``(R, N)``, or ``(R, M)`` if ``transposed``.
        scale: what ``left @ right`` is multiplied by.
        transposed: whether its transpose is added.
    """

    left: View
    right: View
    scale: float
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight."""
        shape = (*self.left.shape[:1], *self.right.shape[1:])
        return shape[::-1] if self.transposed else shape

    def onto(self, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The sum of a weight and this, computed in float64, rounded to ``dtype``."""
        import torch

        from weights_map.torch import tensor

        left, right = tensor(self.left).double(), tensor(self.right).double()
        if self.transposed:
            left, right = right.T, left.T
        out = torch.empty(weight.shape, dtype=dtype, device=weight.device)
        step = max(1, PRODUCT_ELEMENTS // max(1, weight.shape[1]))
        for start in range(0, len(weight), step):
            rows = slice(start, start + step)
            out[rows] = weight[rows].double() + self.scale * (left[rows] @ right)
        return out


def of_task(ledger: Ledger, found: TaskAdapters | None, task: str) -> dict[str, list[Product]]:
    """What the adapter for a task adds, by parameter.

    Args:
        ledger: of the checkpoint that has the adapters.
        found: what its config.json says of them.
        task: one of ``found.names``.

    Raises:
        BadInputError: the model has no adapters, or none for this task.
        NotFoundError: its weight file has none.
        CorruptError: a pair does not fit its weight.
    """
    at = names(found).index(known(found, task))
    assert found is not None  # known() raises otherwise
    added: dict[str, list[Product]] = {}
    tensors = ledger.checkpoint.tensors
    for row in ledger.rows:
        if row.status not in LOADED or not row.sources[0].endswith(_ORIGINAL):
            continue
        module = row.sources[0].removesuffix(_ORIGINAL)
        pair = [f"{module}.parametrizations.weight.0.lora_{part}" for part in "AB"]
        if absent := [name for name in pair if name not in tensors]:
            raise NotFoundError(
                f"{ledger.checkpoint.path} has no {absent[0]}, a part of the adapter for {task!r}: download it again"
            )
        a, b = (_one(ledger, name, at, len(found.names)) for name in pair)
        left, right = (a, b) if row.targets[0].startswith("embed.") else (b, a)
        fits = (
            left.shape == (*row.shape[:1], found.rank) and right.shape == (found.rank, *row.shape[1:]) if row.shape else False
        )
        if not fits:
            raise CorruptError(
                f"{ledger.checkpoint.path}: {pair[0]} and {pair[1]} are {a.shape} and {b.shape} for a task, which do not make a weight of {row.shape} at "
                f"lora_rank {found.rank} of config.json"
            )
        size = left.shape[0] // len(row.targets)
        for n, target in enumerate(row.targets):
            added[target] = [Product(left.rows(n * size, (n + 1) * size), right, found.scale)]
    if not added:
        raise NotFoundError(
            f"config.json names adapters ({', '.join(found.names)}), and {ledger.checkpoint.path} holds none: take the files of the original model"
        )
    return added


_ORIGINAL = ".parametrizations.weight.original"


def names(found: TaskAdapters | None) -> tuple[str, ...]:
    """The tasks that a model has adapters for."""
    return found.names if found else ()


def known(found: TaskAdapters | None, task: str) -> str:
    """The task, if the model has an adapter for it.

    Raises:
        BadInputError: it has none; the message lists those that there are.
    """
    if not names(found):
        raise BadInputError(f"this model has no adapters for tasks, so task={task!r} means nothing: leave it out")
    if task not in names(found):
        raise BadInputError(
            f"this model has no adapter for the task {task!r}; it has {', '.join(names(found))}, or None for the model without an adapter"
        )
    return task


def merge(
    tensors: Mapping[str, torch.Tensor], added: Mapping[str, Iterable[Product]], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Parameters with what an adapter adds to them, in ``dtype``; those that it does not change are as they were.

    Raises:
        RefusedError: a sum is not finite.
    """
    merged = dict(tensors)
    for name, products in added.items():
        for product in products:
            merged[name] = product.onto(merged[name], dtype)
        if not bool(merged[name].isfinite().all()):
            raise RefusedError(
                f"{name} with its adapter has values that are not finite in {dtype}: load the model in float32, or download the adapter again"
            )
    return merged


def _one(ledger: Ledger, name: str, at: int, count: int) -> View:
    """The matrix of one task."""
    whole = ledger.checkpoint.view(name)
    if whole.dtype not in FLOATS or len(whole.shape) != 3 or whole.shape[0] != count:
        raise CorruptError(
            f"{ledger.checkpoint.path}: {name} is {whole.dtype} {whole.shape}, and must be floats of {count} tasks"
        )
    one = whole.rows(at, at + 1)
    return View(one.dtype, one.shape[1:], one.buffer)
