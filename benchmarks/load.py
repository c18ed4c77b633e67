"""Loading a model, after its libraries are imported: seconds and peak extra memory, nativebert against transformers.

    python -m benchmarks.load

Each measurement is a fresh process; the two take turns. Every parameter is read once, so that lazily mapped weights count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

from benchmarks.harness import RESULTS, machine
from nativebert.hub import resolve

_CHILD = """
import json, resource, sys, time
import torch
torch.set_num_threads(2)
who, folder = sys.argv[1:]
if who == "nativebert":
    import nativebert.loading as library
    load = lambda: library.load(folder)
else:
    from transformers import AutoConfig, AutoModel, BertModel
    from transformers.utils import logging
    logging.set_verbosity_error(); logging.disable_progress_bar()
    load = lambda: AutoModel.from_pretrained(folder).eval()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
before = resident()
began = time.perf_counter()
model = load()
took = time.perf_counter() - began
for p in model.parameters():
    float(p.sum())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
began = time.perf_counter()
again = load()
second = time.perf_counter() - began
print(json.dumps({"seconds": took, "second": second, "extra": max(peak, before) - before}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    folder = resolve(args.model).folder
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    runs: dict[str, list[dict[str, float]]] = {"nativebert": [], "transformers": []}
    for number in range(args.rounds + 1):
        for who, found in runs.items():
            out = subprocess.run([sys.executable, "-c", _CHILD, who, str(folder)], capture_output=True, text=True, check=True)
            if number:  # the first fills the disk cache
                found.append(json.loads(out.stdout.splitlines()[-1]))
    summary = {who: {key: statistics.median(run[key] for run in found) for key in found[0]} for who, found in runs.items()}
    print(f"{args.model}: {size:,} bytes of weights; medians of {args.rounds}\n")
    for who, s in summary.items():
        print(
            f"{who:14} first load {s['seconds'] * 1e3:7.0f} ms   second {s['second'] * 1e3:7.0f} ms   peak extra memory {s['extra'] / size:5.2f} x file"
        )
    RESULTS.mkdir(exist_ok=True)
    facts = {"model": args.model, "bytes": size, "medians": summary, "runs": runs, "machine": machine()}
    (RESULTS / "load.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
