"""Forked and spawned processes, and threads of any maker: the parent's bits, and memory that stays bounded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hf_checkpoints import make

from nativebert import kernels

SUPPORT = Path(__file__).parents[1] / "support"

# Scripts of their own: a process that runs tests is not a place to fork.
_BEGIN = """
import os, signal, sys, threading
from pathlib import Path
sys.path.insert(0, {here!r})
import every_task
from every_task import TASKS, same

folders = {folders!r}
tasks = {{name: one for precision in {precisions!r} for name, one in
    ((f"{{name}} {{precision}}", one) for name, one in every_task.native(folders, precision).items())}}
expected = {{name: one.result() for name, one in tasks.items()}}


def right():
    wrong = [name for name, one in tasks.items() if not same(one.result(), expected[name])]
    assert not wrong, wrong


def child(work):
    # fork, do it there, and tell whether it went well
    if (pid := os.fork()) == 0:
        try:
            signal.alarm(60)  # rather dead than waiting for ever
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0
"""

FORK = """
assert child(right), "at once"
assert child(lambda: child(right) or 1 / 0), "a child's child"


def anew():
    again = every_task.native(folders)
    assert all(same(again[name].result(), expected[f"{name} float32"]) for name in TASKS)


assert child(anew), "models loaded in the child"
door = every_task.door(folders)
results = {name: one.result() for name, one in door.items()}
assert child(lambda: all(same(one.result(), results[name]) for name, one in door.items()) or 1 / 0), "the door"
"""

FORK_MEANWHILE = """
done = threading.Event()


def work():
    while not done.is_set():
        right()


threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
try:
    assert all(child(right) for _ in range(12)), "while other threads compute"
finally:
    done.set()
    for thread in threads:
        thread.join()
"""

FORK_UNUSED = """
import nativebert as nb

unused = nb.Embedder(folders["minilm"], device="cpu")
x = unused(every_task.TEXTS)
fresh = nb.Embedder(folders["minilm"], device="cpu")
assert child(lambda: same(fresh(every_task.TEXTS), x) or 1 / 0), "a task that the parent never used"
assert child(lambda: nb.semantic_search(x, x) == nb.semantic_search(x, x) or 1 / 0)
"""

POOLS = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor


def names():
    return list(tasks)


def one(name):
    return tasks[name].result()


for start in ("fork",):
    with multiprocessing.get_context(start).Pool(2) as pool:
        assert same(pool.map(one, names()), [expected[name] for name in names()])
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(start)) as pool:
        assert same(list(pool.map(one, names())), [expected[name] for name in names()])
"""

# A thread that no Python code made: its Python state begins and ends with the call.
FOREIGN = """
import ctypes

library, made = ctypes.CDLL(None), ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
errors, body = [], None


@made
def body(_):
    try:
        right()
    except BaseException as error:
        errors.append(error)
    return 0


for _ in range(5):
    threads = [ctypes.c_ulong() for _ in range(3)]
    for thread in threads:
        assert library.pthread_create(ctypes.byref(thread), None, body, None) == 0
    for thread in threads:
        library.pthread_join(thread, None)
assert not errors, errors
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make(tmp_path_factory.mktemp("models"))


def run(script: str, folders: dict[str, str], with_kernels: bool, precisions: tuple[str, ...] = ("float32", "int8")) -> None:
    begin = _BEGIN.format(here=str(SUPPORT), folders=folders, precisions=precisions)
    environment = os.environ | {kernels.VARIABLE: "" if with_kernels else "0", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", begin + script], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.reference
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("with_kernels", [True, False], ids=["kernels", "torch"])
@pytest.mark.parametrize(
    "script",
    [FORK, FORK_MEANWHILE, FORK_UNUSED, POOLS, FOREIGN],
    ids=["fork", "fork-meanwhile", "fork-unused", "pools", "foreign-threads"],
)
def test_processes_and_threads(script: str, with_kernels: bool, folders: dict[str, str]) -> None:
    run(script, folders, with_kernels)


SPAWNED = """
import multiprocessing, pickle, sys
sys.path.insert(0, {here!r})
import every_task
from every_task import same


def work(one):
    return one.result()


if __name__ == "__main__":
    made = every_task.native({folders!r}, "int8") | every_task.door({folders!r})
    expected = [one.result() for one in made.values()]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert same(pool.map(work, list(made.values())), expected)
"""


@pytest.mark.reference
def test_spawned_with_the_task_as_an_argument(folders: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SPAWNED.format(here=str(SUPPORT), folders=folders))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


SOAK = """
import sys, warnings
sys.path.insert(0, {here!r})
import soak

warnings.simplefilter("ignore")
first, found = (soak.run({folders!r}, calls=800, threads=16, reload_every=25) for _ in range(2))
assert first.wrong + found.wrong == []
assert found.loaded == 32
assert found.left - first.left < 100, (first, found)  # MB; were they kept, the models loaded anew would take several hundred
"""


@pytest.mark.reference
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell what memory a process has")
def test_a_web_server_in_small(folders: dict[str, str]) -> None:
    """`make soak` runs it for as long as a day's calls take."""
    script = SOAK.format(here=str(SUPPORT), folders=folders)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
