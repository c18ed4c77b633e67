"""Texts in, labels out, on the CPU: nativebert's Classifier against the text-classification pipeline of transformers.

    python -m benchmarks.classify --texts FILE.csv --rounds 3

The model is a DistilBERT of the size of distilbert-base-uncased with two classes and random weights, which is as much work as trained ones;
its tokenizer is all-MiniLM-L6-v2's, the same vocabulary. The pipeline runs at the best of several batch sizes, found first on every
tenth text; once on the texts in their order, as it is used, and once sorted by length. ``again`` is nativebert a second time: how far its
ratio is from 1 shows the noise.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

import nativebert as nb
from benchmarks import harness
from benchmarks.embed import sentences
from benchmarks.harness import Contender
from nativebert.hub import resolve

TOKENIZER = "sentence-transformers/all-MiniLM-L6-v2"
BATCHES = [1, 4, 8, 16, 32, 64]


def make_model(folder: Path) -> Path:
    """A DistilBERT classifier of the usual size with random weights."""
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    torch.manual_seed(0)
    labels = {0: "NEGATIVE", 1: "POSITIVE"}
    config = DistilBertConfig(num_labels=2, id2label=labels, label2id={name: n for n, name in labels.items()})
    DistilBertForSequenceClassification(config).save_pretrained(folder)
    for name in ("tokenizer.json", "vocab.txt"):
        shutil.copy(resolve(TOKENIZER).folder / name, folder)
    written = {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(written))
    return folder


def read(path: str) -> list[str]:
    """The column ``text`` of a CSV, or the lines of a text file."""
    with open(path, encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)] if path.endswith(".csv") else file.read().splitlines()


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", help="a CSV with a column text, or a text a line; made-up sentences by default")
    parser.add_argument("--count", type=int, help="of the texts (default: all)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="classify-cpu", help="of the files under benchmarks/results/")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder))
        texts = (read(args.texts) if args.texts else sentences(2000, Path(folder)))[: args.count]
        classify = nb.Classifier(folder, device="cpu")
        pipe = pipeline(folder)
        batch = harness.best_setting(lambda size: lambda: pipe(texts[::10], size), BATCHES)
        by_length = sorted(texts, key=len, reverse=True)

        ours, theirs = classify(texts), pipe(texts, batch)
        off = max(abs(a["score"] - b["score"]) for a, b in zip(ours, theirs, strict=True))
        print(f"largest difference between the scores of any text: {off:.1e}\n")
        assert off < 1e-5, "they do not do the same work"

        contenders = [
            Contender("nativebert", lambda: classify(texts), f"{classify.batch_tokens} tokens"),
            Contender("again", lambda: classify(texts), "A/A control"),
            Contender("pipeline", lambda: pipe(texts, batch), f"batch {batch}, best of {BATCHES}"),
            Contender("pipeline sorted", lambda: pipe(by_length, 32), "batch 32, by length"),
        ]
        seconds = harness.interleave(contenders, args.rounds)
        tokens = int(classify(texts, return_report=True)[1].tokens.sum())
    work: dict[str, object] = {
        "model": "DistilBERT-base, 2 classes, random weights",
        "texts": len(texts),
        "tokens": tokens,
        "threads": args.threads,
        "rounds": args.rounds,
    }
    path = harness.save(args.name, contenders, seconds, "nativebert", work)
    print(json.dumps(work), "\n")
    harness.show(contenders, seconds, "nativebert")
    print(f"\nwritten to {path} and .json")


def pipeline(folder: str) -> Any:
    """The reference pipeline as a function of texts and batch size."""
    import transformers

    pipe = transformers.pipeline("text-classification", model=folder, device="cpu")
    return lambda texts, size: pipe(texts, batch_size=size, truncation=True)


if __name__ == "__main__":
    main()
