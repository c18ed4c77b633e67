"""Loading in a fresh process: seconds to the first vector, and peak memory after 64 texts. See :func:`measure`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.models import ModelFiles
from benchmarks.workloads import sentences


def measure(peer: str, precision: str, variant: str, model: ModelFiles, threads: int, times: int) -> dict[str, float]:
    """The least of several fresh processes, after one that fills the disk cache.

    Returns:
        ``seconds`` from the interpreter with numpy to the first vector, without what the import of torch takes, where torch is used;
        ``torch`` for that import; ``peak`` megabytes of the whole process after 64 short texts.
    """
    given = [peer, precision, variant, model.name, str(model.folder), str(model.cache), str(threads)]
    found = []
    texts = json.dumps(sentences(64, model.folder))
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # installed code is compiled
    for _ in range(times + 1):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.fresh", *given], input=texts, capture_output=True, text=True, check=True, env=env
        )
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return {key: min(one[key] for one in found[1:]) for key in found[0]}


def peak_memory() -> float:
    """Most megabytes that this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would give the parent's, if that was larger when it started this process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def main() -> None:
    import numpy  # noqa: F401  all have it

    from benchmarks import peers

    name, precision, variant, model, folder, cache, threads = sys.argv[1:]
    texts = json.load(sys.stdin)
    began = imported = time.perf_counter()
    kind = peers.get(name)
    if kind.torch:
        began_torch = time.perf_counter()
        import torch  # noqa: F401

        imported += time.perf_counter() - began_torch
    peer = kind(ModelFiles(model, Path(folder), Path(cache)), int(threads), precision, variant)
    peer.vectors(texts[:1], 1 if name != "nativebert" else 2048)
    found: dict[str, Any] = {"seconds": time.perf_counter() - imported, "torch": imported - began}
    peer.vectors(texts, 32 if name != "nativebert" else 2048)
    found["peak"] = peak_memory()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
