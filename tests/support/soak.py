"""A web server in small: many threads, calls of every task and of nativebert.hf, models dropped and loaded all the while.

    python tests/support/soak.py --calls 20000 --threads 16

Every result is compared with the first, to the last bit, and the memory of the process is read as the calls go by.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import random
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import every_task
from every_task import same

from nativebert.errors import NativeBertWarning

Maker = Callable[[], every_task.Made]


@dataclass
class Found:
    """What came of it: how many calls, which were wrong, how often models were loaded; megabytes in memory after each eighth, and in the end,
    when the threads are gone and what was freed is back with the system."""

    calls: int = 0
    wrong: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    loaded: int = 0
    seconds: float = 0.0
    left: float = 0.0


def resident() -> float:
    """Megabytes of this process's own memory: without pages of mapped files, which the system takes back when it wants them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1000
    raise OSError("this system does not tell")


def run(folders: dict[str, str], calls: int, threads: int, reload_every: int) -> Found:
    """Make so many calls in so many threads; after each ``reload_every``, one of the models is dropped and loaded anew."""
    makers: dict[str, Maker] = {}
    for precision in ("float32", "int8"):
        for name in every_task.TASKS:
            makers[f"{name} {precision}"] = lambda name=name, precision=precision: every_task.native(  # type: ignore[misc]
                folders, precision, (name,)
            )[name]
    for name in every_task.DOOR:
        makers[name] = lambda name=name: every_task.door(folders, (name,))[name]  # type: ignore[misc]
    living = {name: make() for name, make in makers.items()}
    expected: dict[str, Any] = {name: one.result() for name, one in living.items()}
    found, lock, began = Found(), threading.Lock(), time.perf_counter()
    marks = {calls * n // 8 for n in range(1, 9)}

    def work(seed: int) -> None:
        order = random.Random(seed)
        while True:
            with lock:
                if found.calls >= calls:
                    return
                found.calls += 1
                number = found.calls
            name = order.choice(list(makers))
            try:
                if not same(living[name].result(), expected[name]):
                    found.wrong.append(name)
                if number % reload_every == 0:
                    living[name] = makers[name]()
                    found.loaded += 1
            except Exception as error:
                found.wrong.append(f"{name}: {error!r}")
            if number in marks:
                gc.collect()
                found.memory.append(resident())

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found.seconds = time.perf_counter() - began
    del workers, worker
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    found.left = resident()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--reload-every", type=int, default=100)
    args = parser.parse_args()
    warnings.simplefilter("ignore", NativeBertWarning)
    with tempfile.TemporaryDirectory() as folder:
        folders = every_task.folders(Path(folder))
        first = run(folders, args.calls // 10, args.threads, args.reload_every)
        found = run(folders, args.calls, args.threads, args.reload_every)
    print(
        f"{found.calls:,} calls in {args.threads} threads, {found.loaded} models loaded anew, {found.seconds:.0f} s: {len(found.wrong)} wrong"
    )
    print(f"memory after each eighth: {', '.join(f'{mb:.0f}' for mb in found.memory)} MB")
    print(
        f"left when the threads have ended: {found.left:.0f} MB, and {first.left:.0f} MB after a first tenth of as many calls"
    )
    print("\n".join(found.wrong[:10]))
    return bool(found.wrong)


if __name__ == "__main__":
    sys.exit(main())
