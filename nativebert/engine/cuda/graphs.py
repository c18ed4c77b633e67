"""Small batches as CUDA graphs: one launch for all kernels of a batch, where launching them one by one would take longer than they do."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nativebert.engine.cuda.inputs import Attention, Inputs, Layout, Shape, Staging
from nativebert.nn.packed import Packed

MAX_WORK = 2**37  # multiplications of a layer: with more, the card is busy longer than the launches take
MAX_GRAPHS = 128  # kept at a time; the one used least recently goes
MAX_SHAPES = 1024  # that were met once and have no graph yet


class _Graph:
    """The kernels of one shape, and the memory they read and write."""

    def __init__(
        self, shape: Shape, device: torch.device, attention: Attention, compute: Callable[[Inputs], Tensor], pool: Any
    ) -> None:
        self._staging = Staging(shape, device)
        self._buffer = self._staging.tensor.to(device)
        self._copied: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        inputs = Inputs.of(self._buffer, shape, attention)
        side: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):  # compiles what is not compiled yet: no capture may do that
            compute(inputs)
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # other threads may go on launching meanwhile
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._result = compute(inputs)

    def run(self, batch: Packed, layout: Layout, stream: Any) -> Tensor:
        """The result, in memory that the next graph to run may overwrite."""
        self._copied.synchronize()  # the last batch has left the host's buffer
        self._staging.fill(batch, layout)
        self._buffer.copy_(self._staging.tensor, non_blocking=True)
        self._copied.record(stream)
        self._graph.replay()
        return self._result


class Graphs:
    """The graphs of one plan, for all threads: they share their memory, so one runs at a time.

    Args:
        device: the card.
        work: multiplications of a layer for each token.
    """

    def __init__(self, device: torch.device, work: int) -> None:
        self._device, self._work, self._lock = device, work, threading.RLock()
        self._stream: Any = None  # on which the last graph was launched
        self._graphs: OrderedDict[object, _Graph] = OrderedDict()
        self._met: OrderedDict[object, None] = OrderedDict()
        self._pool: Any = None

    def __len__(self) -> int:
        return len(self._graphs)

    def clear(self) -> None:
        """Forget all graphs, and give back their memory."""
        with self._lock:
            if self._graphs:
                self._stream.synchronize()
            self._graphs.clear()
            self._met.clear()
            self._pool = None

    def worth(self, shape: Shape) -> bool:
        """Whether a batch of this shape may run as a graph."""
        return self._device.type == "cuda" and 0 < shape.tokens * self._work <= MAX_WORK and not shape.attended

    def run(
        self,
        kind: object,
        batch: Packed,
        layout: Layout,
        attention: Attention,
        compute: Callable[[Inputs], Tensor],
        rows: int,
    ) -> Tensor | None:
        """The first ``rows`` of what ``compute`` makes of the batch; None where nothing of its kind and size was met before.

        Args:
            kind: what ``compute`` is; with the room for the batch it names the graph.
            batch, layout: the batch.
            attention: tiles of attention.
            compute: launches the kernels on the current stream, and copies nothing from the host.
            rows: of the result.
        """
        key = (kind, layout.room)
        with self._lock, torch.cuda.device(self._device):
            stream = torch.cuda.current_stream(self._device)
            if self._stream not in (None, stream):
                stream.wait_stream(self._stream)  # there the shared memory may still be in use
            self._stream = stream
            graph = self._graphs.pop(key, None)
            if graph is None:
                if self._met.pop(key, ...) is ...:
                    self._met[key] = None
                    if len(self._met) > MAX_SHAPES:
                        self._met.popitem(last=False)
                    return None
                if self._pool is None:
                    self._pool = torch.cuda.graph_pool_handle()
                graph = _Graph(layout.room, self._device, attention, compute, self._pool)
                if len(self._graphs) >= MAX_GRAPHS:
                    stream.synchronize()  # it may still run
                    self._graphs.popitem(last=False)
            self._graphs[key] = graph
            return graph.run(batch, layout, stream)[:rows].clone()
