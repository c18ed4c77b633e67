"""A device that is not there: tensors that say they are on it and are computed on the CPU, and an error wherever a real device would give one.

It finds tensors on two devices in one operation, tensors turned into numpy where they are, and float64 on ``mps``. It says nothing of the
numbers that such a device computes, nor of its speed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CPU = torch.device("cpu")
_MOVE = ("_to_copy", "copy_")
# The indices of these, their second argument, may be on the CPU wherever the indexed tensor is.
_INDEX = ("index", "index_put", "index_put_", "_index_put_impl_")


class Far(Tensor):
    """A tensor that says it is on ``where``. Torch itself takes it for one of the device ``meta``, which every build knows."""

    near: Tensor
    where: torch.device

    @staticmethod
    def __new__(cls, near: Tensor, where: torch.device) -> Far:
        with torch.inference_mode(False):  # a wrapper made in that mode cannot be viewed
            made = Tensor._make_wrapper_subclass(
                cls, near.shape, near.stride(), near.storage_offset(), dtype=near.dtype, device="meta"
            )
        made.near, made.where = near, where
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.where

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{self.near!r} on {self.where}"

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"can't convert {self.where} device type tensor to numpy. Use Tensor.cpu() first.")

    def __getitem__(self, key: Any) -> Tensor:
        keys = key if isinstance(key, tuple) else (key,)  # torch itself would take a list to ``meta``, where it is lost
        return super().__getitem__(tuple(torch.tensor(k) if isinstance(k, list) else k for k in keys))

    def tolist(self) -> Any:
        return self.near.tolist()

    @classmethod
    def __torch_dispatch__(cls, operation: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(operation, args, kwargs or {})


class _Everywhere(TorchDispatchMode):
    """Operations on no far tensor, which may still make one: ``torch.zeros(3, device="cuda")``."""

    where = CPU

    def __torch_dispatch__(self, operation: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(operation, args, kwargs or {})


def _computed(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = operation.overloadpacket.__name__
    asked = next((x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.device)), None)
    if asked is not None and asked.type == "meta":
        asked = _Everywhere.where  # torch asks for the device that it takes another tensor to be on
    given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    free = [x for x in tree_leaves(args[1]) if isinstance(x, Tensor) and x.device == CPU] if name in _INDEX else []
    places = {x.device for x in given if isinstance(x, Far) or (x.dim() and all(x is not index for index in free))}
    if name in _MOVE:
        place = asked or given[0].device
    elif len(places) > 1:
        raise RuntimeError(f"{operation}: Expected all tensors to be on the same device, but found {sorted(map(str, places))}")
    else:
        place = asked or (places.pop() if places else CPU)
    if place.type != "cpu" and place.index is None:
        place = torch.device(place.type, 0)
    near_args, near_kwargs = tree_map(
        lambda x: x.near if isinstance(x, Far) else CPU if isinstance(x, torch.device) else x, (args, kwargs)
    )
    out = operation(*near_args, **near_kwargs)
    if operation._schema.is_mutable:  # in place
        return args[0]
    if place == CPU:
        return out

    def put(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if place.type == "mps" and x.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")
        return Far(x, place)

    return tree_map(put, out)


@contextlib.contextmanager
def far(device: str, count: int = 2) -> Iterator[None]:
    """While it lasts this machine has ``count`` devices like ``device``, ``"cuda:1"`` or ``"mps:0"``; the tensors are on that one."""
    make, choose = torch.tensor, torch.where

    def tensor(data: Any, *, device: Any = None, **kwargs: Any) -> Tensor:
        # torch's own asks the device itself, past every mode
        made = make(data, **kwargs)
        return made if device is None else made.to(device)

    def where_(condition: Tensor, *values: Any) -> Any:
        # torch's own takes a number to ``meta``, where it is lost
        return choose(condition, *(x if isinstance(x, Tensor) else make(x) for x in values))

    where = torch.device(device)
    is_cuda = where.type == "cuda"
    changed = [
        mock.patch("torch.cuda.is_available", return_value=is_cuda),
        mock.patch("torch.cuda.device_count", return_value=count if is_cuda else 0),
        mock.patch("torch.cuda._lazy_init", return_value=None),
        mock.patch("torch.cuda.get_device_name", return_value="a card that is not there"),
        mock.patch("torch.cuda.get_device_capability", return_value=(0, 0)),
        mock.patch("torch.cuda.synchronize", return_value=None),
        mock.patch("torch.mps.synchronize", return_value=None),
        mock.patch("torch.backends.mps.is_available", return_value=where.type == "mps"),
        mock.patch("torch.tensor", tensor),
        mock.patch("torch.where", where_),
    ]
    with contextlib.ExitStack() as stack:
        for change in changed:
            stack.enter_context(change)
        stack.enter_context(mock.patch.object(_Everywhere, "where", where))
        stack.enter_context(_Everywhere())
        yield
