"""Does throughput hold as texts grow, and does a second thread help? Text to vector with nativebert, MiniLM.

    python -m benchmarks scaling

Each figure comes from a process of its own, in which torch and the tokenizer have so many threads, and each takes about as long: few texts
are embedded again and again, until they are as many as the many, for a machine at work for minutes is not as fast as in its first seconds.
Processes take turns in random order; within a round, what one core does is compared with what several do, and many texts with few.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import models
from benchmarks.harness import RESULTS, machine


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--counts", default="1000,10000,100000", help="numbers of texts (default: %(default)s)")
    p.add_argument("--threads", default="1,2", help="numbers of threads (default: %(default)s)")
    p.add_argument("--precision", default="float32,int8", help="default: %(default)s")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--folder", type=Path, default=models.default_folder(), help="where models are kept")
    p.add_argument("--output", type=Path, default=RESULTS / "scaling-cpu-minilm.json", help="file for the figures")
    p.add_argument("--one", nargs=4, metavar=("COUNT", "PASSES", "THREADS", "PRECISION"), help=argparse.SUPPRESS)
    return p


def main() -> None:
    args = parser().parse_args()
    if args.one:
        print(rate(*map(int, args.one[:3]), args.one[3], args.folder))
        return
    counts, threads = ([int(n) for n in given.split(",")] for given in (args.counts, args.threads))
    precisions = args.precision.split(",")
    # as texts grow, at the most threads; as threads grow, with the fewest texts
    jobs = [(count, max(threads), p) for p in precisions for count in counts]
    jobs += [(min(counts), n, p) for p in precisions for n in threads if n != max(threads)]
    found: dict[tuple[int, int, str], list[float]] = defaultdict(list)
    order = random.Random(0)
    for number in range(args.rounds):
        for job in order.sample(jobs, len(jobs)):
            passes = max(1, max(counts) * job[1] // (job[0] * max(threads)))
            found[job].append(measure(job, passes, args.folder))
            print(
                f"round {number + 1}: {job[0]:,} texts, {job[1]} threads, {job[2]}: {found[job][-1]:,.0f} tokens/s", flush=True
            )
    report = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), "rounds": args.rounds, "rates": []}
    for (count, n, p), rates in found.items():
        base = found[(min(counts), max(threads), p)]
        ratio = statistics.median(r / b for r, b in zip(rates, base, strict=True))
        report["rates"].append({"texts": count, "threads": n, "precision": p, "tokens_per_second": rates, "of_base": ratio})
        print(
            f"{p:8} {count:8,} texts  {n} threads  {statistics.median(rates):9,.0f} tokens/s  x{ratio:.3f} of {min(counts):,} texts with {max(threads)}"
        )
    args.output.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {args.output}")


def measure(job: tuple[int, int, str], passes: int, folder: Path) -> float:
    """Tokens a second over so many passes, in a process of its own."""
    count, threads, precision = job
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    env = os.environ | dict.fromkeys(names, str(threads)) | {"TOKENIZERS_PARALLELISM": "true"}
    one = map(str, (count, passes, threads, precision))
    command = [sys.executable, "-m", "benchmarks", "scaling", "--folder", str(folder), "--one", *one]
    return float(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def rate(count: int, passes: int, threads: int, precision: str, folder: Path) -> float:
    """Tokens a second: texts are not all of the same length."""
    import torch

    import nativebert as nb
    from benchmarks.workloads import sentences

    torch.set_num_threads(threads)
    model = models.get("minilm", folder).folder
    texts = sentences(count, model)
    embedder = nb.Embedder(model, device="cpu", precision=precision)
    embedder(texts[:1000], progress=False)
    tokens, began = 0, time.perf_counter()
    for _ in range(passes):
        tokens += int(embedder(texts, progress=False, return_report=True)[1].tokens.sum())
    return tokens / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
