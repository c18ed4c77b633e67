"""Simulated accelerator: tensors that report ``cuda:1`` or ``mps:0`` as their device and are computed on the CPU.

It raises the errors of a real device: tensors on two devices in one operation, ``numpy()`` of a tensor that is not on the CPU, float64 on
``mps``. It cannot show the rounding of a real device, or its speed.
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


class SimulatedTensor(Tensor):
    """A CPU tensor that reports another device. To torch itself it is one of the device ``meta``, which every build has."""

    on_cpu: Tensor
    simulated: torch.device

    @staticmethod
    def __new__(cls, on_cpu: Tensor, simulated: torch.device) -> SimulatedTensor:
        with torch.inference_mode(False):  # a wrapper made in that mode cannot be viewed
            made = Tensor._make_wrapper_subclass(
                cls, on_cpu.shape, on_cpu.stride(), on_cpu.storage_offset(), dtype=on_cpu.dtype, device="meta"
            )
        made.on_cpu, made.simulated = on_cpu, simulated
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.simulated

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{self.on_cpu!r} on {self.simulated}"

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"can't convert {self.simulated} device type tensor to numpy. Use Tensor.cpu() first.")

    def __getitem__(self, key: Any) -> Tensor:
        keys = key if isinstance(key, tuple) else (key,)  # torch itself would take a list to ``meta``, where it is lost
        return super().__getitem__(tuple(torch.tensor(k) if isinstance(k, list) else k for k in keys))

    def tolist(self) -> Any:
        return self.on_cpu.tolist()

    @classmethod
    def __torch_dispatch__(cls, operation: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})


class _DispatchAll(TorchDispatchMode):
    """Operations without a simulated tensor, which may still make one: ``torch.zeros(3, device="cuda")``."""

    device = CPU

    def __torch_dispatch__(self, operation: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})


def _run(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = operation.overloadpacket.__name__
    requested = next((x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.device)), None)
    if requested is not None and requested.type == "meta":
        requested = _DispatchAll.device  # torch asks for the device that it takes another tensor to be on
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    free = [x for x in tree_leaves(args[1]) if isinstance(x, Tensor) and x.device == CPU] if name in _INDEX else []
    devices = {
        x.device for x in tensors if isinstance(x, SimulatedTensor) or (x.dim() and all(x is not index for index in free))
    }
    if name in _MOVE:
        device = requested or tensors[0].device
    elif len(devices) > 1:
        raise RuntimeError(f"{operation}: Expected all tensors to be on the same device, but found {sorted(map(str, devices))}")
    else:
        device = requested or (devices.pop() if devices else CPU)
    if device.type != "cpu" and device.index is None:
        device = torch.device(device.type, 0)
    cpu_args, cpu_kwargs = tree_map(
        lambda x: x.on_cpu if isinstance(x, SimulatedTensor) else CPU if isinstance(x, torch.device) else x, (args, kwargs)
    )
    out = operation(*cpu_args, **cpu_kwargs)
    if operation._schema.is_mutable:  # in place
        return args[0]
    if device == CPU:
        return out

    def put(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if device.type == "mps" and x.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")
        return SimulatedTensor(x, device)

    return tree_map(put, out)


@contextlib.contextmanager
def simulate(device: str, count: int = 2) -> Iterator[None]:
    """Within the context this machine has ``count`` devices of the type of ``device`` (``"cuda:1"``, ``"mps:0"``), and tensors can be moved to that one."""
    make, choose = torch.tensor, torch.where

    def tensor(data: Any, *, device: Any = None, **kwargs: Any) -> Tensor:
        # torch's own asks the device itself, past every mode
        made = make(data, **kwargs)
        return made if device is None else made.to(device)

    def where_(condition: Tensor, *values: Any) -> Any:
        # torch's own takes a number to ``meta``, where it is lost
        return choose(condition, *(x if isinstance(x, Tensor) else make(x) for x in values))

    simulated = torch.device(device)
    is_cuda = simulated.type == "cuda"
    changed = [
        mock.patch("torch.cuda.is_available", return_value=is_cuda),
        mock.patch("torch.cuda.device_count", return_value=count if is_cuda else 0),
        mock.patch("torch.cuda._lazy_init", return_value=None),
        mock.patch("torch.cuda.get_device_name", return_value="simulated"),
        mock.patch("torch.cuda.get_device_capability", return_value=(0, 0)),
        mock.patch("torch.cuda.synchronize", return_value=None),
        mock.patch("torch.mps.synchronize", return_value=None),
        mock.patch("torch.backends.mps.is_available", return_value=simulated.type == "mps"),
        mock.patch("torch.tensor", tensor),
        mock.patch("torch.where", where_),
    ]
    with contextlib.ExitStack() as stack:
        for change in changed:
            stack.enter_context(change)
        stack.enter_context(mock.patch.object(_DispatchAll, "device", simulated))
        stack.enter_context(_DispatchAll())
        yield
