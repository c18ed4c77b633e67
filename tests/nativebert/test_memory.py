"""Spoilt files never take more memory than twice their size, whatever sizes they name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from models import BERT, write_folder

CHILD = """
import json, random, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import nativebert as nb
from nativebert.errors import NativeBertError
from nativebert.inspect import inspect
from nativebert.hub import resolve
from weights_map import WeightsMapError

good, spoilt, small = map(Path, sys.argv[1:])
nb.load(small)  # all that is imported on the way is imported now
whole = (good / "model.safetensors").read_bytes()
size, head = len(whole), int.from_bytes(whole[:8], "little")
config = json.loads((good / "config.json").read_text())
del whole
r = random.Random(0)

def memory(what):
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[what].split()[0]) * 1024

before, outcomes = memory("VmRSS"), {}
for case in range(60):
    with (spoilt / "model.safetensors").open("r+b") as file:
        file.seek(0)
        kept = file.read(8 + head)
        at = r.randrange(8 + head) if case % 3 else r.randrange(8)
        file.seek(at)
        file.write(bytes(r.choices(b"0123456789{}[],:\\xff\\x00", k=r.randint(1, 3))))
    if case % 4 == 0:
        key = r.choice(["vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings", "intermediate_size"])
        (spoilt / "config.json").write_text(json.dumps({**config, key: r.choice([10**6, 10**9, 2**31 - 1, 999])}))
    try:
        inspect(resolve(str(spoilt)))
        nb.load(spoilt)
        outcome = "loaded"
    except (NativeBertError, WeightsMapError) as error:
        outcome = type(error).__name__
    outcomes[outcome] = outcomes.get(outcome, 0) + 1
    with (spoilt / "model.safetensors").open("r+b") as file:
        file.write(kept)
    (spoilt / "config.json").write_text(json.dumps(config))
nb.load(spoilt)
print(json.dumps({"size": size, "grown": memory("VmHWM") - before, "outcomes": outcomes}))
"""


EMBED = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import nativebert as nb

def memory(what):
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[what].split()[0]) * 1024

nb.Embedder(sys.argv[2], device="cpu", pooling="mean")("a")  # all that is imported on the way is imported now
before = memory("VmRSS")
embed = nb.Embedder(sys.argv[1], device="cpu", pooling="mean")
embed(["the cat sat on the mat", "a dog"])
print(memory("VmHWM") - before)
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]


def test_weights_do_not_stand_in_memory_twice(tmp_path: Path) -> None:
    """Beside the plan there is at most one layer of the file's own weights, and no layer of them afterwards."""
    config = {**BERT, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8}
    large, small = write_folder(tmp_path / "large", config), write_folder(tmp_path / "small", BERT)
    size = (large / "model.safetensors").stat().st_size
    ran = subprocess.run([sys.executable, "-c", EMBED, str(large), str(small)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert size > 100e6
    assert int(ran.stdout) < 1.4 * size, f"{int(ran.stdout) / size:.2f} times the file"


def test_memory_is_never_above_twice_the_file(tmp_path: Path) -> None:
    config = {**BERT, "vocab_size": 400_000, "hidden_size": 32}
    good, spoilt = (write_folder(tmp_path / name, config) for name in ("good", "spoilt"))
    small = write_folder(tmp_path / "small", BERT)
    ran = subprocess.run([sys.executable, "-c", CHILD, *map(str, (good, spoilt, small))], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["size"] > 50e6
    assert found["grown"] <= 2 * found["size"], found
    assert sum(found["outcomes"].values()) == 60
    assert sum(n for name, n in found["outcomes"].items() if name != "loaded") > 30, found
