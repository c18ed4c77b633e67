"""``python -m benchmarks NAME``: see each for its options."""

from __future__ import annotations

import importlib
import sys

NAMES = {
    "cpu": "every way to run BERT on a CPU that is installed, fp32 and int8, on several workloads",
    "embed": "text to vector against transformers and sentence-transformers",
    "classify": "text to label against transformers' pipeline",
    "scaling": "as texts and threads grow",
    "load": "loading a model, against transformers",
    "train": "fine-tuning on the CPU, against transformers' Trainer",
    "train_quality": "what fine-tuning reaches, against transformers' and sentence-transformers' trainers",
    "crash": "a job that is killed at random moments and resumed: the same folder to the byte?",
    "tables": "jobs, their plans, the memory of a long file, the server",
    "gpu": "encoders on an NVIDIA card, against transformers and what the card itself can do",
}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        print("python -m benchmarks NAME [--help]\n\n" + "\n".join(f"  {name:14} {what}" for name, what in NAMES.items()))
        sys.exit(len(sys.argv) > 1 and sys.argv[1] not in ("-h", "--help"))
    name = sys.argv.pop(1)
    sys.argv[0] = f"python -m benchmarks {name}"
    importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
