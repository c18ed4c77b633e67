"""Training in several processes under ``torchrun``: each computes a part of every batch.

Plain ``torch.distributed``: it comes with torch, where ``accelerate`` would be a further package, and the losses here are divided by what
is counted over all processes, which a wrapper that averages gradients would have to undo. ``"ddp"`` keeps a whole model in each process
and adds up their gradients; ``"fsdp"`` splits the parameters, gradients and moments among them (FSDP2, arXiv:2304.11277).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nativebert.errors import BadInputError
from nativebert.nn.model import Model
from nativebert.train.parameters import ParameterGroup
from nativebert.train.reference import MOMENTS, ReferenceStep

Mode = Literal["ddp", "fsdp"]
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

    def from_main(self, value: Any) -> Any:
        """What the main process has."""
        return value

    def wait(self) -> None:
        """Wait for all."""


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

    def from_main(self, value: Any) -> Any:
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def wait(self) -> None:
        dist.barrier()


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
    """Each process has a part of every parameter, of its gradient and of its moments; a layer is put together while it is computed."""

    def __init__(self, model: Model, groups: Sequence[ParameterGroup], **settings: Any) -> None:
        from torch.distributed.fsdp import FSDPModule, fully_shard

        names = {id(p): name for name, p in model.named_parameters()}
        parts: list[nn.Module] = [*dict.fromkeys(model.blocks()), model.embed, *model.head.values()]
        parts += [part for part in (model.pool, model.distance, model.norm) if part is not None]
        self._parts = parts
        tied = len(names) < len(list(model.named_parameters(remove_duplicate=False)))
        if tied:
            raise BadInputError("distributed='fsdp' does not carry a head that shares the token table; use 'ddp'")
        for part in parts:
            fully_shard(part)
            assert isinstance(part, FSDPModule)
            part.set_force_sum_reduction_for_comms(True)  # gloo has no other
            part.set_gradient_divide_factor(1.0)  # the loss is divided by the count of all processes
        sharded = dict(model.named_parameters())
        super().__init__(
            model,
            [ParameterGroup([sharded[names[id(p)]] for p in g.params], g.weight_decay, g.multiplier) for g in groups],
            **settings,
        )

    def _norm(self, gradients: list[Tensor]) -> Tensor:
        total = super()._norm(gradients)
        return total.full_tensor() if hasattr(total, "full_tensor") else total

    @contextmanager
    def settled(self) -> Iterator[None]:
        """The parameters are whole within it."""
        for part in self._parts:
            part.unshard()  # type: ignore[operator]
        try:
            yield
        finally:
            for part in self._parts:
                part.reshard()  # type: ignore[operator]

    def state(self) -> dict[str, Tensor]:
        return {name: t.full_tensor() if hasattr(t, "full_tensor") else t for name, t in super().state().items()}

    def restore(self, step: int, rates: Sequence[float], state: Mapping[str, Tensor]) -> None:
        from torch.distributed.tensor import DTensor, distribute_tensor

        super().restore(step, rates, state)
        for parameter in self._params:
            moments = self.optimizer.state.get(parameter, {})
            if isinstance(parameter, DTensor):
                for name in MOMENTS:
                    if name in moments:
                        moments[name] = distribute_tensor(moments[name], parameter.device_mesh, parameter.placements)

    def close(self) -> None:
        super().close()
        for part in self._parts:
            part.unshard()  # type: ignore[operator]
