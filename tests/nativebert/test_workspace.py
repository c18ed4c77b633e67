"""The memory that running batches need: bounded, shared between threads, and given back when they end."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from models import BERT, one_thread, write_folder

import nativebert as nb
from nativebert import kernels
from nativebert.engine import workspace
from nativebert.engine.native import NativePlan
from nativebert.engine.workspace import FEWEST_AT_A_TIME, Memory, Workspace, Workspaces
from nativebert.nn.packed import Packed

needs_kernels = pytest.mark.skipif(not kernels.available(), reason=kernels.why_not())


@contextmanager
def lend(shared: Workspaces) -> Iterator[Workspace]:
    """As a plan does it."""
    one, whole = shared.take(), False
    try:
        yield one
        whole = True
    finally:
        shared.give(one if whole else None)


class Counted(Workspace):
    living: ClassVar[weakref.WeakSet[Counted]] = weakref.WeakSet()

    def __init__(self) -> None:
        super().__init__()
        Counted.living.add(self)


@pytest.fixture
def living(monkeypatch: pytest.MonkeyPatch) -> weakref.WeakSet[Counted]:
    Counted.living = weakref.WeakSet()
    monkeypatch.setattr(workspace, "Workspace", Counted)
    monkeypatch.setattr(workspace.os, "sched_getaffinity", lambda _: {0, 1})
    return Counted.living


def test_never_more_than_so_many_at_a_time(living: weakref.WeakSet[Counted]) -> None:
    shared, most, lent = Workspaces(), 0, 0
    counting = threading.Lock()

    def work() -> None:
        nonlocal most, lent
        for _ in range(5):
            with lend(shared):
                with counting:
                    lent += 1
                    most = max(most, lent)
                time.sleep(0.002)
                with counting:
                    lent -= 1

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == FEWEST_AT_A_TIME
    gc.collect()
    assert len(living) == 0  # all that had run it have ended


def test_more_where_calls_of_one_thread_leave_cores_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace.os, "sched_getaffinity", lambda _: set(range(64)))
    with one_thread():
        assert Workspaces()._slots.qsize() == 64


def test_what_one_thread_keeps(living: weakref.WeakSet[Counted]) -> None:
    shared = Workspaces()
    for _ in range(3):
        with lend(shared) as one:
            address = one.scratch(1000)
    assert len(living) == 1
    with lend(shared) as again:
        assert again.scratch(900) == address
        assert again.scratch(1_000_000) % 4096 == 0


def test_one_for_each_living_thread(living: weakref.WeakSet[Counted]) -> None:
    shared = Workspaces()

    def work() -> None:
        with lend(shared):
            pass

    with lend(shared):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert len(living) == 2
    assert len(living) == 1


def test_a_workspace_that_an_error_left_is_not_used_again(living: weakref.WeakSet[Counted]) -> None:
    shared = Workspaces()
    for _ in range(3 * FEWEST_AT_A_TIME):
        with pytest.raises(ZeroDivisionError), lend(shared):
            raise ZeroDivisionError
    gc.collect()
    assert len(living) == 0
    with lend(shared):  # and its slot is free
        pass


def test_memory_goes_back_to_the_system() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    size = 64 << 20
    memory = Memory(size)
    before = resident()
    torch.frombuffer(memory._pages, dtype=torch.uint8).fill_(1)
    assert resident() - before > size * 0.9
    del memory
    gc.collect()
    assert resident() - before < size * 0.1


@needs_kernels
def test_sixteen_threads_of_a_model(living: weakref.WeakSet[Counted], tmp_path: Path) -> None:
    plan = NativePlan(nb.load(write_folder(tmp_path / "m", BERT)))
    batch = Packed.of([[5, 6, 7]] * 200)
    expected = plan.hidden(batch)
    errors: list[BaseException] = []
    alive, end = threading.Barrier(17), threading.Event()

    def work() -> None:
        try:
            for _ in range(20):
                assert torch.equal(plan.hidden(batch), expected)
        except BaseException as error:
            errors.append(error)
        alive.wait()
        end.wait()

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    alive.wait()
    assert len(living) <= FEWEST_AT_A_TIME
    end.set()
    for thread in threads:
        thread.join()
    gc.collect()
    assert not errors
    assert len(living) == 1  # this thread's
