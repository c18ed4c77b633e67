"""Training in several processes under ``torchrun``: each computes a part of every batch.

Plain ``torch.distributed``: it comes with torch, where ``accelerate`` would be a further package, and the losses here are divided by what
is counted over all processes, which a wrapper that averages gradients would have to undo. ``"ddp"`` keeps a whole model in each process
and adds up their gradients; ``"fsdp"`` splits the parameters, gradients and moments among them (FSDP2, arXiv:2304.11277).
"""

from __future__ import annotations

import copy
import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nativebert.errors import BadInputError
from nativebert.nn.model import Model
from nativebert.train.parameters import ParameterGroup
from nativebert.train.reference import MOMENTS, ReferenceStep

Mode = Literal["ddp", "fsdp"]
T = TypeVar("T")
BUCKET = 2**23  # numbers that are added up in one message: 32 MB


class Processes:
    """The processes of a run. This class is a single one; :class:`TorchProcesses` are those of ``torchrun``.

    Attributes:
        rank: number of this process.
        count: of all.
    """

    rank, count = 0, 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and the log."""
        return self.rank == 0

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        return value

    def from_main(self, compute: Callable[[], T]) -> T:
        """The result of the main process, which alone computes it; what it raises is raised in all."""
        return compute()

    def wait(self) -> None:
        """Wait for all."""

    def leave(self) -> None:
        """End, together with the others: a process that just ends may abort."""


class TorchProcesses(Processes):
    """The processes that ``torchrun`` started."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()

    def total(self, value: float) -> float:
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        # float64: MPS has none, and no processes either
        tensor = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(tensor)
        return float(tensor)

    def from_main(self, compute: Callable[[], T]) -> T:
        result: list[Any] = [None, None]
        if self.is_main:
            try:
                result[0] = compute()
            except Exception as error:
                result[1] = error
        dist.broadcast_object_list(result, src=0)
        if result[1] is not None:
            raise result[1]
        return result[0]  # type: ignore[no-any-return]

    def wait(self) -> None:
        dist.barrier()

    def leave(self) -> None:
        dist.barrier()
        dist.destroy_process_group()
        gc.collect()  # what is sharded keeps threads, with which a process aborts at its end


def processes(device: str = "cpu") -> Processes:
    """The processes that this one is one of, as the variables of ``torchrun`` say; joins them."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    if not dist.is_initialized():
        if device.startswith("cuda"):
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return TorchProcesses()


class DataParallelStep(ReferenceStep):
    """Each process has the whole model, and the gradients of all are added up before the update."""

    def update(self, rate: float, max_norm: float | None) -> float:
        for parameters in _buckets(self._params):
            # a parameter that no example here has touched may have been touched elsewhere: all send something
            flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters])
            dist.all_reduce(flat)
            for parameter, part in zip(parameters, torch.split(flat, [p.numel() for p in parameters])):
                parameter.grad = part.view_as(parameter)
        return super().update(rate, max_norm)


def _buckets(params: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    bucket: list[nn.Parameter] = []
    for parameter in params:
        bucket.append(parameter)
        if sum(p.numel() for p in bucket) >= BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


class ShardedStep(ReferenceStep):
    """Each process has a part of every parameter, of its gradient and of its moments; a layer is put together while it is computed.

    What is sharded is a copy: the model itself stays whole, and has the trained parameters within :meth:`settled`, and after :meth:`close`.
    """

    def __init__(self, model: Model, groups: Sequence[ParameterGroup], *, device: str = "cpu", **settings: Any) -> None:
        from torch.distributed.fsdp import FSDPModule, fully_shard

        if len(list(model.named_parameters(remove_duplicate=False))) > len(list(model.named_parameters())):
            raise BadInputError("distributed='fsdp' does not support parameters that two modules share; use 'ddp'")
        self._whole = model
        names = {id(p): name for name, p in model.named_parameters()}
        copied = copy.deepcopy(model.bare()).to(device)
        parts = [
            *dict.fromkeys(copied.blocks()),
            copied.embed,
            *copied.head.values(),
            copied.pool,
            copied.distance,
            copied.norm,
        ]
        for part in parts:
            if part is not None:
                fully_shard(part)
                assert isinstance(part, FSDPModule)
                part.set_force_sum_reduction_for_comms(True)  # gloo has no other
                part.set_gradient_divide_factor(1.0)  # the loss is divided by the count of all processes
        self._sharded = dict(copied.named_parameters())
        own = [ParameterGroup([self._sharded[names[id(p)]] for p in g.params], g.weight_decay, g.multiplier) for g in groups]
        super().__init__(copied, own, **settings)

    def _norm(self, gradients: list[Tensor]) -> Tensor:
        return _full(super()._norm(gradients))

    @contextmanager
    def settled(self) -> Iterator[None]:
        self._gather()
        yield

    @torch.no_grad()
    def _gather(self) -> None:
        """Give the whole model the trained parameters."""
        for name, parameter in self._whole.named_parameters():
            parameter.copy_(_full(self._sharded[name]))

    def state(self) -> dict[str, Tensor]:
        return {name: _full(t) for name, t in super().state().items()}

    @torch.no_grad()
    def restore(self, step: int, rates: Sequence[float], state: Mapping[str, Tensor]) -> None:
        from torch.distributed.tensor import DTensor, distribute_tensor

        super().restore(step, rates, state)
        for name, parameter in self._whole.named_parameters():
            sharded = self._sharded[name]
            assert isinstance(sharded, DTensor)
            sharded.copy_(distribute_tensor(parameter.to(sharded.device), sharded.device_mesh, sharded.placements))
            moments = self.optimizer.state.get(sharded, {})
            for moment in MOMENTS:
                if moment in moments:
                    moments[moment] = distribute_tensor(moments[moment], sharded.device_mesh, sharded.placements)

    def close(self) -> None:
        super().close()
        self._gather()


def _full(tensor: Tensor) -> Tensor:
    """A tensor whose parts lie in several processes, whole."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
