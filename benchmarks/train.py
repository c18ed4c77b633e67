"""Fine-tuning on the CPU: optimizer steps of nativebert against transformers' Trainer at its best (group_by_length, fused AdamW).

    python -m benchmarks train --model FOLDER --data FILE.csv      # a csv file with the columns text and label; random texts without it

Both train the same model on the same examples, in batches of 16, with dropout, through their own loops; loading and tokenising are not counted.
nativebert runs twice (A/A), which shows how far a ratio is chance.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Contender, interleave, save, show

BATCH = 16
DISTILBERT = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
WORKLOADS = ("sst2", "128")


def examples(workload: str, data: str | None, count: int, folder: Path) -> tuple[list[list[int]], list[int]]:
    """Token ids and labels."""
    import nativebert as nb

    if workload == "128":
        random = np.random.default_rng(0)
        return [[101, *random.integers(1000, 20000, 126).tolist(), 102] for _ in range(count)], [n % 2 for n in range(count)]
    if data is not None:
        with open(data, encoding="utf-8") as file:
            rows = [row for row, _ in zip(csv.DictReader(file), range(count))]
        ids = nb.load(folder, head=None).tokenizer.ids_batch([row["text"] for row in rows]).ids
        return ids, [int(row["label"]) for row in rows]
    random = np.random.default_rng(0)  # as long as the phrases of SST-2
    lengths = np.clip(np.exp(random.normal(2.4, 0.65, count)).astype(int), 3, 66)
    return [[101, *random.integers(1000, 20000, n - 2).tolist(), 102] for n in lengths], [n % 2 for n in range(count)]


def nativebert_run(folder: Path, ids: list[list[int]], labels: list[int], steps: int) -> Callable[[], object]:
    """Train so many steps with nativebert."""
    import nativebert as nb
    from nativebert.train.classification import Classification
    from nativebert.train.fast import FastStep
    from nativebert.train.loop import TrainingLoop
    from nativebert.train.objective import Sequences
    from nativebert.train.options import TrainingOptions
    from nativebert.train.parameters import parameter_groups

    options = TrainingOptions(
        batch_size=BATCH,
        max_steps=steps,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        logging_steps=10_000,
    )
    model = nb.load(folder).train()
    work = Classification(model, Sequences(ids, None, {"labels": labels}), None, options)

    def run() -> object:
        return TrainingLoop(work, FastStep(model, parameter_groups(model, options.weight_decay)), options).run()

    return run


def trainer_run(folder: Path, ids: list[list[int]], labels: list[int], steps: int) -> Callable[[], object]:
    """Train so many steps with transformers' Trainer."""
    import transformers as hf

    hf.logging.set_verbosity_error()
    model = hf.AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    data = [{"input_ids": i, "attention_mask": [1] * len(i), "labels": label} for i, label in zip(ids, labels)]
    args = hf.TrainingArguments(
        output_dir=tempfile.mkdtemp(), max_steps=steps, per_device_train_batch_size=BATCH, train_sampling_strategy="group_by_length",
        optim="adamw_torch_fused", use_cpu=True, save_strategy="no", report_to=[], logging_steps=10_000, disable_tqdm=True, weight_decay=0.01,
    )  # fmt: skip

    def run() -> object:
        return hf.Trainer(model=model, args=args, train_dataset=data, processing_class=tokenizer).train()

    return run


RUNS = {"nativebert": nativebert_run, "transformers": trainer_run}


def peak_memory(who: str, folder: Path, workload: str, data: str | None, steps: int) -> float:
    """MB of a process that trains."""
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "train",
        "--alone",
        who,
        "--model",
        str(folder),
        "--workloads",
        workload,
        "--steps",
        str(steps),
    ]
    done = subprocess.run([*command, *(["--data", data] if data else [])], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def classifier(model: str | None, where: Path) -> Path:
    """A folder with a classifier of two labels: the model's encoder, or random weights of DistilBERT's size."""
    import transformers as hf

    hf.set_seed(0)
    if model is None:
        made: Any = hf.BertForSequenceClassification(hf.BertConfig(**DISTILBERT))
        words = hf.BertTokenizer(vocab={token: n for n, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])})
    else:
        made, words = (
            hf.AutoModelForSequenceClassification.from_pretrained(model, num_labels=2),
            hf.AutoTokenizer.from_pretrained(model),
        )
    made.save_pretrained(where)
    words.save_pretrained(where)
    return where


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", help="folder of a model, as all-MiniLM-L6-v2; without it random weights of DistilBERT's size"
    )
    parser.add_argument("--data", help="csv file with the columns text and label")
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=WORKLOADS)
    parser.add_argument("--steps", type=int, default=30, help="optimizer steps of a run (default: 30)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="model", help="of the model, for the results")
    parser.add_argument("--alone", choices=RUNS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        ids, labels = examples(args.workloads[0], args.data, 2000, Path(args.model))
        RUNS[args.alone](Path(args.model), ids, labels, args.steps)()
        # not ru_maxrss, which a process inherits from the one that started it
        status = Path("/proc/self/status").read_text()
        print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
        return
    with tempfile.TemporaryDirectory() as where:
        folder = classifier(args.model, Path(where))
        for workload in args.workloads:
            ids, labels = examples(workload, args.data if args.model else None, 2000, folder)
            steps = args.steps if workload == "sst2" else max(4, args.steps // 4)
            runs = {name: make(folder, ids, labels, steps) for name, make in RUNS.items()}
            contenders = [
                Contender("nativebert", runs["nativebert"]),
                Contender("nativebert again", nativebert_run(folder, ids, labels, steps)),
            ]
            contenders.append(Contender("transformers Trainer", runs["transformers"], "group_by_length, fused AdamW"))
            seconds = interleave(contenders, args.rounds)
            print(f"\n{args.name}, {workload}, {steps} steps of {BATCH} examples")
            show(contenders, seconds, "nativebert")
            memory = {name: peak_memory(name, folder, workload, args.data if args.model else None, steps) for name in RUNS}
            print("peak memory in MB: " + ", ".join(f"{name} {value:.0f}" for name, value in memory.items()))
            work = {
                "workload": workload,
                "steps": steps,
                "batch_size": BATCH,
                "peak_memory_mb": memory,
                "tokens": int(sum(map(len, ids))),
            }
            save(f"train-cpu-{args.name}-{workload}", contenders, seconds, "nativebert", work)


if __name__ == "__main__":
    main()
