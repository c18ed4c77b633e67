"""Small batches as CUDA graphs: one launch for all kernels of a batch, where launching them one by one would take longer than they do."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

from nativebert.engine.cuda.inputs import Inputs, Shape, fill
from nativebert.engine.cuda.tiles import AttentionTile
from nativebert.nn.packed import Packed

MOST_TOKENS = 4096  # of a batch that becomes a graph; above, the card is busy longer than the launches take
MOST_GRAPHS = 64  # kept at a time; the one used least recently goes
MOST_SEEN = 1024  # shapes that were met once and have no graph yet


def roomy(n: int) -> int:
    """``n`` filled up to a power of two, or one and a half times that: few sizes, and little that is computed for nothing."""
    if n <= 16:
        return 16 if n else 0
    power = 1 << (n - 1).bit_length()
    return power * 3 // 4 if n <= power * 3 // 4 else power


class _Graph:
    """The kernels of one shape, and the memory they read and write."""

    def __init__(
        self,
        shape: Shape,
        device: torch.device,
        attention: tuple[AttentionTile, ...],
        compute: Callable[[Inputs], Tensor],
        pool: object,
    ) -> None:
        self.shape, size = shape, sum(shape.sizes())
        self._host = torch.zeros(size, dtype=torch.int32, pin_memory=True)
        self._buffer = torch.zeros(size, dtype=torch.int32, device=device)
        inputs = Inputs.of(self._buffer, shape, attention)
        self._attention, self._done = attention, torch.cuda.Event()
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):  # compiles what is not compiled yet: no capture may do that
            compute(inputs)
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # other threads may go on launching meanwhile
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self.result = compute(inputs)

    def run(self, batch: Packed) -> Tensor:
        """The result, in memory that the next graph to run may overwrite."""
        self._done.synchronize()  # the last copy has left the host's buffer
        fill(self._host, batch, self.shape, self._attention)
        self._buffer.copy_(self._host, non_blocking=True)
        self._done.record()
        self._graph.replay()
        return self.result


class Graphs:
    """The graphs of one plan, for all threads: they share their memory, so one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._lock = device, threading.RLock()
        self.clear()

    def clear(self) -> None:
        """Forget all graphs, and give back their memory."""
        with self._lock:
            self._graphs: OrderedDict[object, _Graph] = OrderedDict()
            self._seen: OrderedDict[object, None] = OrderedDict()
            self._pool: object = None
            self._last: torch.cuda.Event | None = None

    def worth(self, shape: Shape) -> bool:
        """Whether a batch of this shape may run as a graph."""
        return self._device.type == "cuda" and 0 < shape.tokens <= MOST_TOKENS and not shape.seen

    def run(
        self,
        kind: object,
        batch: Packed,
        shape: Shape,
        attention: tuple[AttentionTile, ...],
        compute: Callable[[Inputs], Tensor],
        rows: int,
    ) -> Tensor | None:
        """The first ``rows`` of what ``compute`` makes of the batch; None where nothing of its kind and size was met before.

        Args:
            kind: what ``compute`` is; with the shape it names the graph.
            batch: the tokens.
            shape: of the batch.
            attention: tiles of attention.
            compute: launches the kernels on the current stream, and copies nothing from the host.
            rows: of the result.
        """
        room = Shape(roomy(shape.tokens), roomy(shape.sequences), tuple(map(roomy, shape.blocks)), *shape[3:])
        key = (kind, room)
        with self._lock, torch.cuda.device(self._device):
            stream = torch.cuda.current_stream(self._device)
            if self._last is not None:
                stream.wait_event(self._last)  # another thread's stream may still read the shared memory
            graph = self._graphs.pop(key, None)
            if graph is None:
                if self._seen.pop(key, ...) is ...:
                    self._seen[key] = None
                    if len(self._seen) > MOST_SEEN:
                        self._seen.popitem(last=False)
                    return None
                if self._pool is None:
                    self._pool = torch.cuda.graph_pool_handle()
                graph = _Graph(room, self._device, attention, compute, self._pool)
                if len(self._graphs) >= MOST_GRAPHS:
                    if self._last is not None:
                        self._last.synchronize()  # it may still run
                    self._graphs.popitem(last=False)
            self._graphs[key] = graph
            result = graph.run(batch)[:rows].clone()
            self._last = torch.cuda.Event()
            self._last.record(stream)
            return result
