"""What fine-tuning reaches, nativebert against transformers' Trainer and sentence-transformers' with the same settings, over seeds.

    python -m benchmarks train_quality --model FOLDER --data FOLDER --task sst2 --seeds 1 2 3

The folder of data holds sst2_train.csv, sst2_traindev.csv (text, label), banking77_train.csv, banking77_test.csv (text, category),
wnut17_train.jsonl, wnut17_dev.jsonl (tokens, tags), stsb_en_train.csv, stsb_en_dev.csv (sentence1, sentence2, score).
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import RESULTS, machine


class Task(NamedTuple):
    """Data and settings: the same on both sides."""

    train: str
    evaluation: str
    metric: str
    rows: int | None
    settings: dict[str, Any]


TASKS = {
    "sst2": Task("sst2_train.csv", "sst2_traindev.csv", "accuracy", 10_000, {"epochs": 1, "learning_rate": 5e-5}),
    "banking77": Task("banking77_train.csv", "banking77_test.csv", "accuracy", None, {"epochs": 3, "learning_rate": 2e-4}),
    "wnut17": Task("wnut17_train.jsonl", "wnut17_dev.jsonl", "f1", None, {"epochs": 3, "learning_rate": 2e-4}),
    "stsb": Task("stsb_en_train.csv", "stsb_en_dev.csv", "spearman_cosine", None, {"epochs": 1, "learning_rate": 2e-5}),
}
COMMON = {"batch_size": 16, "warmup_steps": 0.1, "weight_decay": 0.01}


def rows_of(path: Path, count: int | None) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    else:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    return rows[:count]


def ours(model: str, task: str, train: list[dict[str, Any]], held: list[dict[str, Any]], seed: int) -> float:
    from nativebert import train as nb

    settings: dict[str, Any] = {**COMMON, **TASKS[task].settings, "seed": seed, "progress": False, "evaluation": held}
    run: Callable[..., Any] = {"wnut17": nb.tag, "stsb": nb.embed}.get(task, nb.classify)
    return float(run(train, model, None, **settings).metrics[TASKS[task].metric])


def arguments(library: Any, task: str, seed: int, **more: Any) -> Any:
    settings = TASKS[task].settings
    return library(
        output_dir=tempfile.mkdtemp(), num_train_epochs=settings["epochs"], learning_rate=settings["learning_rate"],
        per_device_train_batch_size=COMMON["batch_size"], per_device_eval_batch_size=64, warmup_steps=COMMON["warmup_steps"],
        weight_decay=COMMON["weight_decay"], seed=seed, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, logging_steps=10_000,
        optim="adamw_torch_fused", **more,
    )  # fmt: skip


def theirs(model: str, task: str, train: list[dict[str, Any]], held: list[dict[str, Any]], seed: int) -> float:
    import transformers as hf

    hf.logging.set_verbosity_error()
    hf.set_seed(seed)
    if task == "stsb":
        return their_vectors(model, train, held, seed)
    tokenizer = hf.AutoTokenizer.from_pretrained(model)
    if task == "wnut17":
        return their_tags(hf, tokenizer, model, train, held, seed)
    column = "label" if "label" in train[0] else "category"
    names = sorted({row[column] for row in train})
    network = hf.AutoModelForSequenceClassification.from_pretrained(model, num_labels=len(names))

    def encoded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        ids = tokenizer([row["text"] for row in rows])["input_ids"]
        return [{"input_ids": i, "attention_mask": [1] * len(i), "labels": names.index(r[column])} for i, r in zip(ids, rows)]

    trainer = hf.Trainer(
        network, arguments(hf.TrainingArguments, task, seed, train_sampling_strategy="group_by_length"), train_dataset=encoded(train),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    predicted = trainer.predict(encoded(held))  # type: ignore[arg-type]
    return float((predicted.predictions.argmax(-1) == predicted.label_ids).mean())


def their_tags(
    hf: Any, tokenizer: Any, model: str, train: list[dict[str, Any]], held: list[dict[str, Any]], seed: int
) -> float:
    from nativebert.train.metrics import tagging

    found = {label for row in train for label in row["tags"]}
    names = sorted(found | {f"I-{label[2:]}" for label in found if label.startswith("B-")})
    network = hf.AutoModelForTokenClassification.from_pretrained(model, num_labels=len(names))

    def encoded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        out = []
        for row in rows:
            e = tokenizer(row["tokens"], is_split_into_words=True, truncation=True, max_length=512)
            last, labels = None, []
            for word in e.word_ids():
                labels.append(-100 if word is None or word == last else names.index(row["tags"][word]))
                last = word
            out.append({"input_ids": e["input_ids"], "attention_mask": e["attention_mask"], "labels": labels})
        return out

    trainer = hf.Trainer(
        network, arguments(hf.TrainingArguments, "wnut17", seed, train_sampling_strategy="group_by_length"), train_dataset=encoded(train),
        data_collator=hf.DataCollatorForTokenClassification(tokenizer), processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    predicted = trainer.predict(encoded(held))
    kept = predicted.label_ids != -100
    best = predicted.predictions.argmax(-1)
    true = [[names[n] for n in row[mask]] for row, mask in zip(predicted.label_ids, kept)]
    return float(tagging(true, [[names[n] for n in row[mask]] for row, mask in zip(best, kept)])["f1"])


def their_vectors(model: str, train: list[dict[str, Any]], held: list[dict[str, Any]], seed: int) -> float:
    import datasets
    import sentence_transformers as st
    from sentence_transformers.losses import CoSENTLoss

    from nativebert.train.metrics import spearman

    network = st.SentenceTransformer(model, device="cpu")
    columns = {name: [row[name] for row in train] for name in ("sentence1", "sentence2")}
    data = datasets.Dataset.from_dict({**columns, "score": [float(row["score"]) / 5 for row in train]})
    args = arguments(st.SentenceTransformerTrainingArguments, "stsb", seed)
    st.SentenceTransformerTrainer(network, args, data, loss=CoSENTLoss(network)).train()
    first, second = (
        network.encode([row[name] for row in held], normalize_embeddings=True) for name in ("sentence1", "sentence2")
    )
    return spearman((first * second).sum(1), np.array([float(row["score"]) for row in held]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the model that is fine-tuned")
    parser.add_argument("--data", required=True, type=Path, help="folder of the data")
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    args = parser.parse_args()
    task = TASKS[args.task]
    train, held = rows_of(args.data / task.train, task.rows), rows_of(args.data / task.evaluation, None)
    results: dict[str, dict[str, list[float]]] = {name: {"values": [], "seconds": []} for name in ("nativebert", "reference")}
    for seed in args.seeds:
        for name, run in (("nativebert", ours), ("reference", theirs)):
            began = time.monotonic()
            results[name]["values"].append(run(args.model, args.task, train, held, seed))
            results[name]["seconds"].append(round(time.monotonic() - began, 1))
            print(
                args.task, seed, name, f"{results[name]['values'][-1]:.4f}", f"{results[name]['seconds'][-1]:.0f} s", flush=True
            )
    for name, found in results.items():
        print(
            f"{name}: {task.metric} {np.mean(found['values']):.4f} ({min(found['values']):.4f} to {max(found['values']):.4f})"
        )
    facts = {
        "task": args.task,
        "metric": task.metric,
        "settings": {**COMMON, **task.settings},
        "rows": len(train),
        "held": len(held),
    }
    content = {**facts, "seeds": args.seeds, "results": results, "machine": machine()}
    (RESULTS / f"train-quality-{args.task}.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
