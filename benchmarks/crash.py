"""A job that is killed many times, at moments spread over all of its work, and resumed each time: is the folder the same to the byte?

    python -m benchmarks crash --kills 20

The process is killed (SIGKILL) after a random number of further shards and a random part of the time that the next one takes, so that most kills hit
in the middle: while rows are read, computed, written or put on the disk. What is checked in the end: all files have the bytes of a job that was not
stopped, every row is there once, and in order.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.workloads import sentences
from nativebert.hub import resolve

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
# Tells on standard output what happens; a pause in each shard makes a small model as slow as a large one.
_CHILD = """
import json, sys, time
import nativebert as nb
from nativebert.jobs import rows
kind, model, source, out, shard_rows, pause = sys.argv[1:]
if float(pause):
    compute = rows.Compute.__call__
    rows.Compute.__call__ = lambda self, shard: (time.sleep(float(pause)), compute(self, shard))[1]
options = {"query": "a small bird"} if kind == "Ranker" else {"question": "where?"} if kind == "Answerer" else {}
log = lambda event: print(json.dumps(event), flush=True)
nb.Job(getattr(nb, kind)(model), source, out, column="text", shard_rows=int(shard_rows), **options).run(resume=True, progress=False, log=log)
"""


class Kill(NamedTuple):
    """Where a job was killed.

    Attributes:
        shards: that were done.
        total: of the job.
        drafts: files that were half written.
    """

    shards: int
    total: int
    drafts: int

    @property
    def in_the_middle(self) -> bool:
        """Whether some of the work was done, and some was not."""
        return 0 < self.shards < self.total


def crash(
    folder: Path,
    model: str | Path,
    texts: list[str],
    *,
    kills: int,
    shard_rows: int,
    pause: float = 0.0,
    seed: int = 0,
    kind: str = "Embedder",
) -> list[Kill]:
    """Run a job once, and once more with so many kills; check that the folders are the same.

    Args:
        folder: an empty one, for the input and both outputs.
        model: of the task.
        texts: the rows; there must be more shards than kills.
        kills: how often.
        shard_rows: rows of a shard.
        pause: seconds that each shard takes more.
        seed: of the moments.
        kind: the task's class.

    Raises:
        AssertionError: another folder, or rows that are lost or doubled.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    source, whole, out = folder / "in.parquet", folder / "whole", folder / "out"
    pq.write_table(pa.table({"id": list(range(len(texts))), "text": texts}), source)
    total = -(-len(texts) // shard_rows)
    assert total > kills, "the job needs more shards than kills"

    def start(target: Path) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", _CHILD, kind, str(model), str(source), str(target), str(shard_rows), str(pause)]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    process, times = start(whole), []
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "shard":
            times.append(time.perf_counter())
    assert process.wait() == 0
    each = (times[-1] - times[0]) / max(1, len(times) - 1)  # seconds of a shard
    moments, done = random.Random(seed), list[Kill]()
    while True:
        process = start(out)
        assert process.stdout is not None
        left = kills - len(done)
        before = done[-1].shards if done else 0
        room = max(1, 2 * (total - before - 1) // (left + 1) - 1) if left else total
        wait, more = moments.randint(0 if before else 1, room), moments.random() * each  # 0: before the first further one
        for line in process.stdout:
            wait -= json.loads(line)["event"] == "shard"
            if left and wait <= 0:
                time.sleep(more)
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.close()
        if process.wait() != -signal.SIGKILL:
            assert process.returncode == 0
            break
        lines = (out / "_progress.jsonl").read_bytes().count(b"\n") if (out / "_progress.jsonl").exists() else total
        done.append(Kill(lines, total, len(list(out.glob(".part-*")))))
    files = [{path.name: path.read_bytes() for path in sorted(place.iterdir())} for place in (whole, out)]
    assert files[0] == files[1], sorted(name for name in files[0] | files[1] if files[0].get(name) != files[1].get(name))
    assert pq.read_table(out)["id"].to_pylist() == list(range(len(texts))), "rows are lost, doubled or in another order"
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--task", default="Embedder", help="class of the task (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--shard-rows", type=int, default=50)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model = resolve(args.model).folder
    with tempfile.TemporaryDirectory() as folder:
        texts = sentences(args.rows, model)
        kills = crash(Path(folder), model, texts, kills=args.kills, shard_rows=args.shard_rows, seed=args.seed, kind=args.task)
    for kill in kills:
        print(f"killed with {kill.shards:>4} of {kill.total} shards done{', one half written' if kill.drafts else ''}")
    middle = sum(kill.in_the_middle for kill in kills)
    print(
        f"\n{len(kills)} kills, {middle} in the middle of the work: the folder is the same to the byte, and all {args.rows:,} rows are there once"
    )


if __name__ == "__main__":
    main()
