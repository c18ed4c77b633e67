"""A warning at every call, in every thread, whatever was shown before; and the user's own filters hold."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
from models import BERT, write_folder

import nativebert as nb
from nativebert.errors import Truncated, warn

LONG = ["a dog " * 40]

# In a process of its own, with Python's filters as every program has them.
SCRIPT = """
import sys, threading
import nativebert as nb
embed = nb.Embedder(sys.argv[1], device="cpu", pooling="mean", max_tokens=8)
def call():
    embed(["a dog " * 40])
for _ in range(3):
    call()
for _ in range(2):
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
"""


def test_python_s_own_filters_show_each(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", BERT)
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(folder)], capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr.count("Truncated: 1 of 1 texts is longer than 8 tokens") == 5
    assert "<string>:6: Truncated" in done.stderr  # at the caller's line, not inside nativebert


@pytest.fixture
def embed(tmp_path: Path) -> nb.Embedder:
    return nb.Embedder(write_folder(tmp_path / "m", BERT), device="cpu", pooling="mean", max_tokens=8)


def test_filters_that_the_user_set_hold(embed: nb.Embedder) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for _ in range(3):
            embed(LONG)
        assert len(seen) == 3
        assert all(one.filename == __file__ for one in seen)
        warnings.simplefilter("ignore", Truncated)
        embed(LONG)
        assert len(seen) == 3
        warnings.simplefilter("error", Truncated)
        with pytest.raises(Truncated):
            embed(LONG)
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", module=__name__)
        embed(LONG)
        assert len(seen) == 4


def test_in_threads_at_once(embed: nb.Embedder) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        threads = [threading.Thread(target=lambda: [embed(LONG) for _ in range(5)]) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seen) == 30


def test_a_warning_without_a_caller_outside() -> None:
    """Where the outermost frame is nativebert's own, as in its command line."""
    frame = {"__name__": "nativebert.somewhere", "warn": warn, "Truncated": Truncated}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        thread = threading.Thread(target=eval, args=("warn('x', Truncated)", frame))
        thread.start()
        thread.join()
    assert [str(one.message) for one in seen] == ["x"]
