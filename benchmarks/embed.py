"""Texts in, vectors out, on the CPU: nativebert against transformers and sentence-transformers.

    python -m benchmarks.embed --texts FILE --count 2000

``transformers`` is what most scripts do: batches of 32 in the given order, padded, sdpa attention, mean pooling. ``transformers
sorted`` is the same sorted by length. sentence-transformers runs at the best of several batch sizes, found first. ``again`` is
nativebert a second time: how far its ratio is from 1 shows the noise.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import nativebert as nb
from benchmarks import harness
from benchmarks.harness import Contender
from benchmarks.workloads import sentences
from nativebert.hub import resolve

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
BATCHES = [8, 16, 32, 64, 128]


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", help="a text a line; made-up sentences by default")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--name", default="embed-cpu", help="of the files under benchmarks/results/")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder = str(resolve(args.model).folder)
    given = Path(args.texts).read_text("utf-8").splitlines() if args.texts else sentences(args.count, Path(folder))
    texts = given[: args.count]

    embedder = nb.Embedder(args.model, device="cpu")
    by_length = np.argsort([-len(t) for t in texts], kind="stable").tolist()
    plain = transformers_mean(folder, embedder.max_tokens)
    st = sentence_transformers(folder)
    batch = harness.best_setting(lambda size: lambda: st(texts, size), BATCHES)

    largest = max(np.abs(embedder(texts) - other).max() for other in (st(texts, batch), plain(texts, 32)))
    print(f"largest difference between the vectors of any two: {largest:.1e}\n")
    assert largest < 1e-5, "they do not do the same work"

    contenders = [
        Contender("nativebert", lambda: embedder(texts), f"{embedder.batch_tokens} tokens"),
        Contender("again", lambda: embedder(texts), "A/A control"),
        Contender("transformers", lambda: plain(texts, 32), "sdpa, 32 in given order"),
        Contender("transformers sorted", lambda: plain([texts[i] for i in by_length], 32), "sdpa, 32 by length"),
        Contender("sentence-transformers", lambda: st(texts, batch), f"batch {batch}, best of {BATCHES}"),
    ]
    seconds = harness.interleave(contenders, args.rounds)
    tokens = int(embedder(texts, return_report=True)[1].tokens.sum())
    work: dict[str, object] = {
        "model": args.model,
        "texts": len(texts),
        "tokens": tokens,
        "threads": args.threads,
        "rounds": args.rounds,
    }
    path = harness.save(args.name, contenders, seconds, "nativebert", work)
    print(json.dumps(work), "\n")
    harness.show(contenders, seconds, "nativebert")
    print(f"\nwritten to {path} and .json")


def transformers_mean(folder: str, limit: int):  # type: ignore[no-untyped-def]
    """transformers as most scripts use it: pad, run, mean over the mask, normalise."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval()

    @torch.inference_mode()
    def embed(texts: list[str], size: int) -> NDArray[np.float32]:
        out = []
        for start in range(0, len(texts), size):
            given = tokenizer(texts[start : start + size], padding=True, truncation=True, max_length=limit, return_tensors="pt")
            hidden = model(**given).last_hidden_state
            mask = given["attention_mask"][..., None].float()
            out.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy())
        return np.concatenate(out)

    return embed


def sentence_transformers(folder: str):  # type: ignore[no-untyped-def]
    """sentence-transformers, which sorts by length itself."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu")
    return lambda texts, size: model.encode(texts, batch_size=size, show_progress_bar=False)


if __name__ == "__main__":
    main()
