"""The memory in which the kernels compute a batch, lent to one call at a time and shared by all Python threads that run a plan."""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from contextlib import suppress
from ctypes import addressof, c_char, c_float, c_int32, pointer, sizeof
from queue import SimpleQueue

import torch

from nativebert import kernels

# Batches of one plan that are computed at a time, where each uses all cores already: more would not be done sooner, but each needs memory.
# A few, so that a short text need not wait for the end of another thread's large batch.
MIN_WORKSPACE_LIMIT = 4


class Memory:
    """Zeroed bytes on pages of their own: taken from the system as they are written, and given back whole.

    Args:
        size: bytes, at least 1.

    Attributes:
        address: of the first byte, at the beginning of a page.
    """

    def __init__(self, size: int) -> None:
        # private: after a fork, parent and child must not compute in the same bytes
        self._pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.size = size
        self.address = addressof(c_char.from_buffer(self._pages))


class QkvCache:
    """The memory of :file:`kernels/qkv_cache.c`: the first layer's queries, keys and values by row of the embedding tables."""

    def __init__(self, encoder: kernels.Encoder, rows: int) -> None:
        m = encoder.embedding
        self.capacity = rows
        keys = m.tokens + max(m.segments, 1) * m.positions
        self._parts = [Memory(count * sizeof(c_int32)) for count in (keys, rows, rows, rows)]
        self._parts.append(Memory(rows * encoder.first_qkv.product.outward * sizeof(c_float)))
        self.pointer = pointer(kernels.QkvCache(*(part.address for part in self._parts), rows))

    def clear(self) -> None:
        row_of_key = self._parts[0] = Memory(self._parts[0].size)
        contents = self.pointer.contents
        contents.row_of_key, contents.count, contents.next = row_of_key.address, 0, 0


class Workspace:
    """What one running batch needs: scratch, and a cache. For one thread at a time."""

    def __init__(self) -> None:
        self._scratch: Memory | None = None
        self.cache: QkvCache | None = None

    def scratch(self, size: int) -> int:
        """The address of at least so many bytes."""
        if self._scratch is None or self._scratch.size < size:
            self._scratch = None  # first, so that the two never stand in memory together
            self._scratch = Memory(max(size, 1))
        return self._scratch.address


class Workspaces:
    """The workspaces of one plan: as many as batches run at a time, and never more than :data:`MIN_WORKSPACE_LIMIT` or, where that is more,
    than the calls that it takes to keep all cores busy. A thread that finds all lent waits for one.

    What is not lent is kept for the next call, one for each living thread that has run the plan; when threads end, theirs is given back.
    """

    def __init__(self) -> None:
        self._idle: list[Workspace] = []  # the last is the one used last, and the warmest in the caches
        self._threads: list[int] = []  # one for each living thread that has run the plan
        self._begin()
        _ALL.add(self)

    def _begin(self) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._slots: SimpleQueue[None] = SimpleQueue()  # of all that blocks, the quickest by far
        for _ in range(max(MIN_WORKSPACE_LIMIT, cores // torch.get_num_threads())):
            self._slots.put(None)
        self._local = threading.local()

    def acquire(self) -> Workspace:
        """A workspace, to be given back; waits until there is one."""
        if not hasattr(self._local, "mark"):
            self._local.mark = _ThreadMark(self)
        self._slots.get()
        try:
            return self._idle.pop()
        except IndexError:
            return Workspace()

    def release(self, workspace: Workspace | None) -> None:
        """Give one back; None for one that an error left in any state."""
        if workspace is not None and len(self._idle) < len(self._threads):
            self._idle.append(workspace)
        self._slots.put(None)

    def clear_caches(self) -> None:
        """Empty the caches that are not in use."""
        for workspace in tuple(self._idle):
            if workspace.cache is not None:
                workspace.cache.clear()

    def thread_ended(self, mark: int) -> None:
        """Give back what was kept for it."""
        with suppress(ValueError):
            self._threads.remove(mark)
        with suppress(IndexError):  # another thread may take one meanwhile
            while len(self._idle) > len(self._threads):
                self._idle.pop(0)

    def after_fork(self) -> None:
        """In a forked child: what the parent's other threads had borrowed is lost, and they will not return it."""
        self._threads.clear()
        self._begin()


class _ThreadMark:
    """Stands among a thread's local variables, and goes with it: whoever made the thread, Python or a C library."""

    def __init__(self, workspaces: Workspaces) -> None:
        self._workspaces = weakref.ref(workspaces)
        workspaces._threads.append(id(self))

    def __del__(self) -> None:
        if (workspaces := self._workspaces()) is not None:
            workspaces.thread_ended(id(self))


_ALL: weakref.WeakSet[Workspaces] = weakref.WeakSet()


def _after_fork() -> None:
    for workspaces in tuple(_ALL):
        workspaces.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
