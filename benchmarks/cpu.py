"""BERT encoders on the CPU: nativebert against every other runtime that is installed.

    python -m benchmarks cpu --model minilm --docs

All do the same work with the same threads: their vectors are compared with nativebert's before anything is timed. Each runs at its own best
batch size and setting, found by a sweep, on texts sorted by length; they take turns in random order, and only ratios within a round
count. ``nativebert again`` is nativebert a second time: how far its ratio is from 1 shows the noise. Figures go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import models, peers, workloads
from benchmarks.harness import RESULTS

DOCS = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", default="minilm", help=f"{', '.join(models.TITLES)}, several with commas, or all")
    p.add_argument("--peers", default="all", help=f"{', '.join(peers.NAMES)}; or all")
    p.add_argument("--workloads", default="all", help=f"{', '.join(w.name for w in workloads.WORKLOADS)}; or all")
    p.add_argument("--precision", default="all", help="float32, int8; or all")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument(
        "--count", type=int, help=f"mixed texts (default: {', '.join(f'{n} for {m}' for m, n in models.COUNTS.items())})"
    )
    p.add_argument("--texts", help="sentences to use, one a line; made-up ones by default")
    p.add_argument(
        "--loads", type=int, default=2, help="fresh processes in which loading is measured; the best counts; 0 for none"
    )
    p.add_argument("--folder", type=Path, default=models.default_folder(), help="where models and exports are kept")
    p.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures")
    p.add_argument(
        "--docs",
        nargs="?",
        type=Path,
        const=DOCS,
        help="write this page from all results at the end (default: docs/benchmarks.md)",
    )
    p.add_argument("--only-docs", action="store_true", help="write the page from the results that are there; measure nothing")
    return p


def main() -> None:
    args = parser().parse_args()
    try:
        names = workloads.pick(args.model, list(models.TITLES), str, "model")
        workloads.choose(args.workloads)
        workloads.pick(args.peers, list(peers.NAMES), str, "peer")
        workloads.pick(args.precision, ["float32", "int8"], str, "precision")
    except ValueError as error:
        sys.exit(str(error))
    if len(names) > 1 and not args.only_docs:  # a process each: what one leaves in memory is not another's
        for name in names:
            subprocess.run([sys.executable, "-m", "benchmarks", "cpu", *sys.argv[1:], "--model", name], check=True)
        return
    if not args.only_docs:
        # before numpy, torch and the tokenizers are imported, which read these once
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
            os.environ[name] = str(args.threads)
        os.environ.update(TOKENIZERS_PARALLELISM="true", HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
        from benchmarks import comparison

        comparison.run(args, names[0])
    if args.docs or args.only_docs:
        from benchmarks import report

        report.write(args.results, args.docs or DOCS)


if __name__ == "__main__":
    main()
