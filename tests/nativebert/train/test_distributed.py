"""Two processes on the CPU against one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import training
from safetensors.torch import load_file

import nativebert as nb

CODE = """
import sys
from pathlib import Path
import torch, training
import nativebert as nb
from nativebert.train.classification import Classification
from nativebert.train.distributed import DataParallelStep, ShardedStep, processes
from nativebert.train.loop import TrainingLoop
from nativebert.train.parameters import parameter_groups, set_dropout

mode, folder, output, steps, resume = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "resume"
torch.set_num_threads(1)
team = processes()
model = nb.load(folder).train()
set_dropout(model, 0.0)
texts, labels = training.reviews(61)
settings = training.options(batch_size=8 // team.count, max_steps=steps, save_strategy="steps", save_steps=25, eval_strategy="epoch")
work = Classification(model, training.labelled(model, texts, labels), training.labelled(model, texts[:9], labels[:9]), settings)
kind = {"ddp": DataParallelStep, "fsdp": ShardedStep}[mode]
step = kind(model, parameter_groups(model, 0.01))
result = TrainingLoop(work, step, settings, output, [], team).run(resume=resume)
if team.is_main:
    torch.save(training.losses(result), output / "losses.pt")
del model, work, step
team.leave()
"""


def two(mode: str, folder: Path, output: Path, steps: int = 50, resume: str = "") -> list[float]:
    """Run two processes; the losses of the main one."""
    paths = os.pathsep.join([str(Path(training.__file__).parent), str(Path(nb.__file__).parents[1])])
    script = output.parent / "distributed_run.py"
    script.write_text(CODE)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
        mode,
        str(folder),
    ]
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    done = subprocess.run(
        [*command, str(output), str(steps), resume],
        env=environment | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    found: list[float] = torch.load(output / "losses.pt")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_two_processes_against_one(mode: str, tmp_path: Path) -> None:
    """The last batch of an epoch has 5 examples: one process gets more of them than the other."""
    folder = training.folder(tmp_path / "model")
    _, result = training.run(folder, tmp_path / "one", count=61, max_steps=50, save_strategy="steps", save_steps=50)
    output = tmp_path / "two"
    losses = two(mode, folder, output)
    assert losses == pytest.approx(training.losses(result), abs=1e-6)
    one, both = (load_file(where / "checkpoint-50" / "model.safetensors") for where in (tmp_path / "one", output))
    for name, weight in one.items():
        if not name.endswith("key.bias"):  # nothing but rounding
            torch.testing.assert_close(both[name], weight, atol=1e-5, rtol=0)

    # going on from a checkpoint gives the same
    again = tmp_path / "again"
    (output / "checkpoint-25").rename(again.with_name("kept"))
    again.mkdir()
    again.with_name("kept").rename(again / "checkpoint-25")
    assert two(mode, folder, again, resume="resume") == losses
    resumed = load_file(again / "checkpoint-50" / "model.safetensors")
    assert all(torch.equal(resumed[name], weight) for name, weight in both.items())
