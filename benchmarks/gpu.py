"""BERT encoders on one NVIDIA card: nativebert against transformers and sentence-transformers, beside what the card itself can do.

    python -m benchmarks gpu --sections ceilings,encoders,peers --out out/gpu --minilm FOLDER

Weights are random but for MiniLM's, so no network is needed. Rows are written as they come, to gpu.jsonl and to the terminal; gpu.csv and
gpu.json, with machine and versions, at the end. Tokens and operations are those of real tokens: padding counts as nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.harness import machine

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # a CPU shows, in Triton's interpreter, that all this runs
SIZES = {
    "minilm": (6, 384, 12, 1536),
    "base": (12, 768, 12, 3072),
    "large": (24, 1024, 16, 4096),
}  # layers, width, heads, inner
TOKENS = 65536  # of a batch
if DEVICE == "cpu":
    SIZES, TOKENS = dict.fromkeys(SIZES, (1, 48, 4, 96)), 300
WARMUP = False  # whether plans measure their tiles first
SECTIONS: dict[str, Callable[[Any], None]] = {}
BF16 = torch.bfloat16


def section(run: Callable[[Any], None]) -> Callable[[Any], None]:
    SECTIONS[run.__name__] = run
    return run


class Log:
    """Rows as they come."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows, self.began, self.peaks = folder, [], time.time(), {}
        folder.mkdir(parents=True, exist_ok=True)

    def say(self, what: str, **row: Any) -> None:
        row = {"what": what, **{k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}}
        self.rows.append(row)
        with (self.folder / "gpu.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{time.time() - self.began:5.0f}s", *(v if k == "what" else f"{k}={v}" for k, v in row.items()), flush=True)

    def share(self, rate: float, precision: str) -> float:
        """Of what a large product of the same type reaches."""
        return rate / self.peaks[precision] if precision in self.peaks else 0.0

    def finish(self) -> None:
        keys = list(dict.fromkeys(key for row in self.rows for key in row))
        with (self.folder / "gpu.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, keys)
            writer.writeheader()
            writer.writerows(self.rows)
        facts = {**machine(), "card": card_name()}
        with suppress(ImportError):
            import triton

            facts["triton"] = triton.__version__
        (self.folder / "gpu.json").write_text(json.dumps({"machine": facts, "rows": self.rows}, indent=1) + "\n")


def card_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def sync() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ms(run: Callable[[], object], repeat: int = 10, warm: int = 3) -> float:
    """Median milliseconds on the card."""
    for _ in range(warm):
        run()
    if not torch.cuda.is_available():
        return wall(run, 1)
    sync()
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeat)]
    for begin, end in events:
        begin.record()
        run()
        end.record()
    sync()
    return statistics.median(begin.elapsed_time(end) for begin, end in events)


def wall(run: Callable[[], object], repeat: int, rounds: int = 3) -> float:
    """Milliseconds of a call by the clock, when calls follow each other: the best of several rounds."""
    took = []
    if DEVICE == "cpu":
        repeat = rounds = 1
    for _ in range(rounds):
        sync()
        began = time.perf_counter()
        for _ in range(repeat):
            run()
        sync()
        took.append((time.perf_counter() - began) * 1e3 / repeat)
    return min(took)


def random(*shape: int, dtype: torch.dtype = BF16, std: float = 1.0) -> torch.Tensor:
    return (torch.randn(*shape, device=DEVICE) * std).to(dtype)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


# ---------------------------------------------------------------- models and batches


def config(size: str) -> dict[str, Any]:
    layers, width, heads, inner = SIZES[size]
    return {
        "model_type": "bert", "architectures": ["BertModel"], "vocab_size": 30522, "hidden_size": width, "num_hidden_layers": layers,
        "num_attention_heads": heads, "intermediate_size": inner, "hidden_act": "gelu", "max_position_embeddings": 512, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "pad_token_id": 0,
    }  # fmt: skip


@cache
def model(size: str) -> Any:
    """A model of this size with random weights."""
    from nativebert.arch import read_config
    from nativebert.nn.model import Model

    torch.manual_seed(0)
    return Model(read_config(config(size))[1]).eval()


def plan(size: str, precision: str) -> Any:
    from nativebert.engine.cuda.plan import CudaPlan

    made = CudaPlan(model(size), torch.device(DEVICE), precision)
    if WARMUP:
        made.warm_up()
    return made


def lengths(case: str, tokens: int = TOKENS) -> np.ndarray:
    """Lengths of the texts of a batch, longest first."""
    if case.startswith("fixed"):
        n = int(case.split()[1])
        return np.full(max(1, tokens // n), n)
    mean, longest, seed = {"mixed": (154, 512, 0), "short": (24, 128, 0), "squad": (180, 384, 7)}[case]
    r = np.random.default_rng(seed)
    drawn = np.clip(np.exp(r.normal(np.log(mean * 0.82), 0.62, 4 * tokens // mean)).astype(int), 4, longest)
    return np.sort(drawn[: max(1, np.searchsorted(np.cumsum(drawn), tokens))])[::-1].copy()


def packed(n: np.ndarray, seed: int = 1) -> Any:
    from nativebert.nn.packed import Packed

    ids = np.random.default_rng(seed).integers(1000, 30000, int(n.sum()))
    return Packed.of([part.tolist() for part in np.split(ids, np.cumsum(n)[:-1])])


def flops(size: str, n: np.ndarray) -> float:
    layers, width, _, inner = SIZES[size]
    n = n.astype(float)
    return float(layers * (n.sum() * (8 * width**2 + 4 * width * inner) + 4 * width * (n**2).sum()))


# ---------------------------------------------------------------- sections


@section
def ceilings(a: Any) -> None:
    """What the card itself can do."""
    side = 8192 if DEVICE == "cuda" else 64
    x, y = random(side, side), random(side, side)
    for dtype in (BF16, torch.float16):
        u, v = x.to(dtype), y.to(dtype)
        rate = 2 * side**3 / ms(lambda u=u, v=v: u @ v) / 1e9
        a.say("matmul", dtype=str(dtype).removeprefix("torch."), tflops=rate)
        a.peaks[str(dtype).removeprefix("torch.")] = rate
    u, v = x.float(), y.float()
    for name in ("float32", "tf32"):
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        a.peaks[name] = 2 * side**3 / ms(lambda: u @ v, 5, 1) / 1e9
        a.say("matmul", dtype=name, tflops=a.peaks[name])
    torch.backends.cuda.matmul.allow_tf32 = False
    size = 2**31 if DEVICE == "cuda" else 2**20
    source = torch.empty(size, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    a.say("copy", tbps=2 * size / ms(lambda: target.copy_(source)) / 1e9)


# columns, depth, activation at the end, whether the residual is added
SHAPES = {
    size: [
        (3 * width, width, "linear", False),
        (width, width, "linear", True),
        (inner, width, "erf", False),
        (width, inner, "linear", True),
    ]
    for size, (_, width, _, inner) in SIZES.items()
}


def candidates(rows: int, dtype: torch.dtype) -> list[Any]:
    """Tiles worth trying for so many rows: those of ``warmup``, and more."""
    from nativebert.engine.cuda.tiles import ProductTile as P
    from nativebert.engine.cuda.tiles import candidates as few

    tried = few(rows, dtype, (9, 0), 132)
    if dtype == torch.float32:
        more = [P(16, 16, 32, 1, 6)] if rows <= 64 else [P(128, 128, 32, 8, 4, 132), P(64, 128, 32, 4, 3, 264)]
    elif rows <= 64:
        more = [P(16, 16, 512, 2, 3), P(16, 16, 128, 2, 5), P(16, 32, 128, 4, 5), P(16, 32, 256, 2, 4), P(64, 32, 256, 4, 3)]
    elif rows <= 2048:
        more = [P(64, 64, 64, 4, 4), P(64, 64, 128, 4, 3), P(128, 128, 64, 8, 4, 132)]
    else:
        more = [P(128, 128, 64, 8, 3, 264, True), P(128, 128, 32, 4, 6, 264, True), P(128, 128, 64, 8, 4, 132), P(64, 256, 64, 4, 4, 132, True),
                P(256, 128, 64, 8, 3, 132), P(256, 128, 64, 8, 4, 132, True), P(64, 128, 64, 4, 2, 396), P(64, 128, 64, 4, 4, 264),
                P(128, 256, 64, 8, 4, 132, True), P(128, 64, 64, 4, 4, 264)]  # fmt: skip
    return list(dict.fromkeys([*tried, *more]))


def attention_sets(head_width: int, dtype: torch.dtype) -> list[Any]:
    """Tiles of attention worth trying together, those in use first."""
    from nativebert.engine.cuda.tiles import LONGEST, attention_tiles
    from nativebert.engine.cuda.tiles import AttentionTile as A

    short, long = A(32, 16, 32, 1, 2), A(LONGEST, 64, 64, 4, 3)
    middle = [
        A(64, 32, 64, 2, 2),
        A(64, 64, 64, 4, 2),
        A(64, 16, 64, 1, 2),
        A(128, 32, 64, 2, 2),
        A(128, 64, 64, 4, 2),
        A(128, 32, 32, 2, 3),
    ]
    sets = [(short, long), (A(16, 16, 16, 1, 2), A(32, 32, 32, 1, 2), long), (A(32, 32, 32, 1, 2), long), (A(64, 16, 32, 1, 2), long),
            *((short, m, long) for m in middle), (short, A(LONGEST, 128, 64, 8, 3)), (short, A(LONGEST, 64, 32, 4, 3)), (short, A(LONGEST, 64, 64, 4, 2)),
            (short, A(64, 32, 64, 2, 2), A(LONGEST, 128, 64, 8, 3)), (short, A(64, 32, 64, 2, 2), A(LONGEST, 64, 32, 4, 3)),
            (short, A(LONGEST, 128, 128, 8, 2))]  # fmt: skip
    short32, long32 = A(32, 16, 32, 1, 2), A(LONGEST, 64, 64, 4, 2)
    sets32 = [
        (short32, long32),
        (short32, A(LONGEST, 64, 32, 4, 2)),
        (short32, A(LONGEST, 32, 32, 2, 2)),
        (short32, A(64, 32, 64, 2, 2), long32),
    ]
    return list(dict.fromkeys([attention_tiles(head_width, dtype), *(sets if dtype == BF16 else sets32)]))


WORK = [
    (BF16, (16, 32, 256, 1024, TOKENS // 4, TOKENS), ("minilm", "base", "large")),
    (torch.float32, (16, TOKENS // 4), ("minilm", "base")),
]


def _compile(part: int, parts: int) -> None:
    """Compile some of the candidates into Triton's cache."""
    from nativebert.engine.cuda import inputs, kernels

    number = 0
    batch = packed(np.array([300, 128, 100, 64, 50, 32, 20, 16, 5]))
    for width, dtype in ((64, BF16), (32, BF16), (64, torch.float32)):
        qkv = random(len(batch.ids), 3 * 4 * width, dtype=dtype)
        for tile in dict.fromkeys(tile for use in attention_sets(width, dtype) for tile in use):
            number += 1
            if number % parts == part:
                of = inputs.layout(batch, (tile,), columns=False)
                with suppress(Exception):
                    kernels.attend(qkv, inputs.stage(batch, of, torch.device(DEVICE), (tile,)).blocks, 4)
    for dtype, rows, _ in WORK:
        for tile in dict.fromkeys(tile for M in rows for tile in candidates(M, dtype)):
            for act, add in (("linear", False), ("linear", True), ("erf", False)):
                number += 1
                if number % parts == part:
                    x, w, b = random(128, 768, dtype=dtype), random(768, 768, dtype=dtype), random(768, dtype=torch.float32)
                    name = kernels.activation("gelu" if act == "erf" else act, dtype)
                    with suppress(Exception):
                        kernels.product(x, w, b, name, tile, residual=random(128, 768, dtype=dtype) if add else None)


@section
def tiles(a: Any) -> None:
    """The fastest tiles of products, for engine/cuda/tiles.py."""
    import multiprocessing

    from nativebert.engine.cuda import kernels

    if DEVICE == "cuda":
        parts = min(14, os.cpu_count() or 1)
        workers = [
            multiprocessing.get_context("spawn").Process(target=_compile, args=(n, parts), daemon=True) for n in range(parts)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        a.say("compiled", processes=parts)
    failed: dict[str, str] = {}
    for dtype, rows, sizes in WORK:
        for size in sizes:
            for N, K, act, add in SHAPES[size]:
                for M in rows if DEVICE == "cuda" else rows[:1]:
                    x, w, b = random(M, K, dtype=dtype), random(N, K, dtype=dtype, std=0.05), random(N, dtype=torch.float32)
                    name = kernels.activation("gelu" if act == "erf" else act, dtype)
                    residual = random(M, N, dtype=dtype) if add else None
                    found = []
                    for tile in candidates(M, dtype):
                        try:
                            t = graphed(lambda tile=tile: kernels.product(x, w, b, name, tile, residual=residual))
                            found.append((t, tile))
                        except Exception as error:
                            failed[str(tuple(tile))] = f"{type(error).__name__} {error}"[:100]
                    found.sort()
                    if not found:
                        continue
                    alone = graphed(lambda: kernels.product(x, w, b, name, found[0][1])) if add else found[0][0]
                    a.say(
                        "tile",
                        dtype=str(dtype).removeprefix("torch."),
                        size=size,
                        M=M,
                        N=N,
                        K=K,
                        act=act,
                        cublas_us=graphed(lambda: F.linear(x, w, b.to(dtype))) * 1e3,
                        without_residual_us=alone * 1e3,
                        tflops=2 * M * N * K / found[0][0] / 1e9,
                        best=[f"{t * 1e3:.4g}us {tuple(tile)}" for t, tile in found[:4]],
                    )
    for tile, why in failed.items():
        a.say("tile failed", tile=tile, why=why)


@section
def groups(a: Any) -> None:
    """How many row blocks follow each other, for large products."""
    from nativebert.engine.cuda import kernels
    from nativebert.engine.cuda.tiles import product_tile

    for size in ("base", "large"):
        for N, K, act, add in SHAPES[size]:
            x, w, b = random(TOKENS, K), random(N, K, std=0.05), random(N, dtype=torch.float32)
            residual, name = random(TOKENS, N) if add else None, kernels.activation("gelu" if act == "erf" else act, BF16)
            tile, found = product_tile(TOKENS, N, K, BF16, (9, 0), 132, costly=act == "erf"), []
            default = kernels.GROUP
            for kernels.GROUP in (4, 8, 16, 32):
                found.append((graphed(lambda: kernels.product(x, w, b, name, tile, residual=residual)), kernels.GROUP))
            kernels.GROUP = default
            a.say("group", size=size, N=N, K=K, tile=str(tuple(tile)), best=[f"{t * 1e3:.4g}us {g}" for t, g in sorted(found)])


@section
def norms(a: Any) -> None:
    """The fastest sizes of the norm."""
    from nativebert.engine.cuda import kernels

    for width in (384, 768, 1024):
        x = random(TOKENS, width)
        of = (torch.ones(width, device=DEVICE), torch.zeros(width, device=DEVICE), 1e-12)
        found = []
        for rows, warps in ((1, 2), (1, 4), (2, 2), (2, 4), (4, 4), (8, 4), (4, 8), (8, 8)):
            kernels.norm_rows = lambda _, rows=rows, warps=warps: (rows, warps)
            found.append((graphed(lambda: kernels.norm(x, of)), (rows, warps)))
        found.sort()
        a.say(
            "norm",
            width=width,
            tbps=2 * TOKENS * width * 2 / found[0][0] / 1e9,
            best=[f"{t * 1e3:.4g}us {c}" for t, c in found],
        )
    from nativebert.engine.cuda import tiles as table

    kernels.norm_rows = table.norm_rows


def graphed(run: Callable[[], object], repeat: int = 5) -> float:
    """Milliseconds of a call without its launch: many in a CUDA graph."""
    if DEVICE != "cuda":
        return ms(run, 1, 0)
    run()
    sync()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(10):
            run()
    return ms(graph.replay, repeat, 2) / 10


@section
def attention(a: Any) -> None:
    """The fastest tiles of attention, for texts of all lengths together."""
    from nativebert.engine.cuda import inputs, kernels

    for size, dtype, case in (("base", BF16, "fixed 512"), ("base", BF16, "mixed"), ("base", BF16, "short"), ("minilm", BF16, "mixed"),
                              ("minilm", BF16, "short"), ("large", BF16, "squad"), ("base", torch.float32, "mixed")):  # fmt: skip
        _, width, heads, _ = SIZES[size]
        n = lengths(case)
        batch, qkv, found = packed(n), random(int(n.sum()), 3 * width, dtype=dtype), []
        for use in attention_sets(width // heads, dtype):
            try:
                of = inputs.layout(batch, use, columns=False)
                table = inputs.stage(batch, of, torch.device(DEVICE), use).blocks
                found.append((graphed(lambda table=table: kernels.attend(qkv, table, heads), 3), use))
            except Exception as error:
                a.say("attention failed", tile=str([tuple(t) for t in use]), why=f"{type(error).__name__} {error}"[:100])
        now, best = found[0][0], sorted(found)
        rate = 4 * width * float((n.astype(float) ** 2).sum()) / best[0][0] / 1e9
        a.say("attention", size=size, dtype=str(dtype)[6:], case=case, tflops=rate, now_us=now * 1e3,
              best=[f"{t * 1e3:.4g}us {[tuple(tile) for tile in use]}" for t, use in best[:4]])  # fmt: skip


@section
def encoders(a: Any) -> None:
    """Hidden states of packed batches in bfloat16, in batches of several sizes for mixed lengths."""
    cases = [("base", "bfloat16", ("fixed 512", "mixed", "short", "fixed 128")), ("minilm", "bfloat16", ("mixed", "short", "fixed 128")),
             ("large", "bfloat16", ("mixed", "fixed 512"))]  # fmt: skip
    _encoders(a, cases)


@section
def precisions(a: Any) -> None:
    """The same in other precisions."""
    cases = [("base", "float32", ("mixed",)), ("minilm", "float32", ("mixed", "short")), ("base", "float16", ("mixed",)), ("base", "tf32", ("mixed",))]  # fmt: skip
    _encoders(a, cases)


def _encoders(a: Any, cases: list[tuple[str, str, tuple[str, ...]]]) -> None:
    for size, precision, names in cases:
        ours = plan(size, precision)
        for case in names:
            for tokens in (TOKENS, TOKENS // 2, TOKENS // 4) if case == "mixed" else (TOKENS,):
                n = lengths(case, tokens)
                batch = packed(n)
                ours.hidden(batch)
                t = wall(lambda batch=batch: ours.hidden(batch), 5 * TOKENS // tokens)
                rate = flops(size, n) / t / 1e9
                a.say("encoder", size=size, precision=precision, case=case, tokens=int(n.sum()), ms=t, mtokens_s=n.sum() / t / 1e3,
                      texts_s=len(n) / t * 1e3, tflops=rate, share=a.share(rate, precision))  # fmt: skip


@section
def squad(a: Any) -> None:
    """BERT-large at the lengths of SQuAD, beside MLPerf's offline figure for one H100."""
    ours, n = plan("large", "bfloat16"), lengths("squad")
    batch = packed(n)
    ours.hidden(batch)
    t = wall(lambda: ours.hidden(batch), 5)
    rate = flops("large", n) / t / 1e9
    a.say("squad", size="large", precision="bfloat16", texts_s=len(n) / t * 1e3, share=a.share(rate, "bfloat16"), mlperf_texts_s=9081.0,
          apart="FP8 (twice the peak of bfloat16) and TensorRT's kernels for one model there; bfloat16 and the same bits in any batch here")  # fmt: skip


@section
def peers(a: Any) -> None:
    """transformers with sdpa attention, sorted and in given order, each at its best batch size; compiled for BERT-base."""
    from transformers import BertConfig, BertModel

    runs = [("base", "bfloat16", ("fixed 512", "mixed", "short")), ("minilm", "bfloat16", ("mixed", "short")), ("base", "float32", ("mixed",)),
            ("minilm", "float32", ("mixed",))]  # fmt: skip
    for size, precision, names in runs:
        theirs = BertModel(BertConfig(**config(size)), add_pooling_layer=False).eval().to(DEVICE, getattr(torch, precision))
        for case in names:
            n = lengths(case, TOKENS if precision == "bfloat16" else TOKENS // 4)
            for order in ("sorted",) if case.startswith("fixed") else ("sorted", "given"):
                m = n if order == "sorted" else np.random.default_rng(3).permutation(n)
                best = None
                for size_ in (32, 128, 512):
                    batches = list(padded(m, size_))

                    @torch.inference_mode()
                    def run(batches: list[Any] = batches) -> None:
                        for ids, mask in batches:
                            theirs(input_ids=ids, attention_mask=mask)

                    run()
                    t = wall(run, 1, 2)
                    best = min(best or (t, size_), (t, size_))
                assert best is not None
                t = best[0]
                rate = flops(size, n) / t / 1e9
                a.say("transformers sdpa", size=size, precision=precision, case=case, order=order, batch=best[1], ms=t, mtokens_s=n.sum() / t / 1e3,
                      tflops=rate, share=a.share(rate, precision))  # fmt: skip
        torch.cuda.empty_cache()


def padded(n: np.ndarray, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    ids = torch.randint(1000, 30000, (int(n.sum()),))
    starts = np.cumsum(n) - n
    for first in range(0, len(n), size):
        part = n[first : first + size]
        block = torch.zeros(len(part), int(part.max()), dtype=torch.long)
        mask = torch.zeros_like(block)
        for row, (length, start) in enumerate(zip(part.tolist(), starts[first : first + size].tolist())):
            block[row, :length], mask[row, :length] = ids[start : start + length], 1
        yield block.to(DEVICE), mask.to(DEVICE)


@section
def compiled(a: Any) -> None:
    """transformers under torch.compile: BERT-base, at one shape, and at the shapes of mixed lengths."""
    from transformers import BertConfig, BertModel

    for case in ("fixed 512", "mixed"):
        if time.time() - a.began > 200:
            a.say("skipped", section="compiled", case=case, why="less than 40 of 240 seconds left")
            continue
        torch.compiler.reset()
        theirs = BertModel(BertConfig(**config("base")), add_pooling_layer=False).eval().to(DEVICE, BF16)
        n, fast = lengths(case), torch.compile(theirs, dynamic=case == "mixed")
        batches = list(padded(n, 128))

        @torch.inference_mode()
        def run(batches: list[Any] = batches, fast: Any = fast, whole: bool = case != "mixed") -> None:
            for ids, mask in batches:
                fast(input_ids=ids, attention_mask=None if whole else mask)

        began = time.perf_counter()
        run()
        sync()
        first = time.perf_counter() - began
        t = wall(run, 1)
        share = a.share(flops("base", n) / t / 1e9, "bfloat16")
        a.say("transformers compiled", size="base", precision="bfloat16", case=case, order="sorted", batch=128, first_s=first, ms=t,
              mtokens_s=n.sum() / t / 1e3, share=share)  # fmt: skip


@section
def invariance(a: Any) -> None:
    """Texts whose bits differ between alone and in a batch."""
    n = lengths("mixed", 16384 if DEVICE == "cuda" else 600) // 2 + 2
    n = np.random.default_rng(5).permutation(n)
    ids = np.random.default_rng(1).integers(1000, 30000, int(n.sum()))
    rows = [part.tolist() for part in np.split(ids, np.cumsum(n)[:-1])]
    from nativebert.nn.packed import Packed

    for size in ("base", "large", "minilm"):
        for precision in ("bfloat16", "float16", "float32"):
            if size == "large" and precision != "bfloat16":
                continue
            ours = plan(size, precision)
            whole = ours.hidden(Packed.of(rows))
            assert bool(whole.isfinite().all())
            parts = whole.split(n.tolist())
            compared = differ = 0
            most = 0.0
            for many in (1, 1, 3, 20, 100):  # the second time as a CUDA graph
                for first in range(0, max(1, len(rows) - many), max(1, len(rows) // (60 if many == 1 else 12))):
                    some = slice(first, first + many)
                    for _ in range(3 if many == 1 else 1):
                        y = ours.hidden(Packed.of(rows[some]))
                    for mine, theirs in zip(y.split(n[some].tolist()), parts[some]):
                        compared += 1
                        differ += not torch.equal(mine, theirs)
                        most = max(most, float((mine.float() - theirs.float()).abs().max()))
            a.say(
                "invariance",
                size=size,
                precision=precision,
                compared=compared,
                differ=differ,
                most=most,
                graphs=len(ours._graphs),
            )


@section
def errors(a: Any) -> None:
    """Hidden states against float64."""
    import nativebert as nb
    from nativebert.engine.reference import ReferencePlan

    n = lengths("mixed", 3000) // 2 + 2
    names = {"base": model("base")}
    if a.minilm:
        names["minilm"] = nb.load(a.minilm)
    for name, m in names.items():
        batch = packed(n)
        exact = ReferencePlan(m, torch.device(DEVICE), "float64").states(batch)
        for precision in ("float32", "tf32", "float16", "bfloat16"):
            from nativebert.engine.cuda.plan import CudaPlan

            states = CudaPlan(m, torch.device(DEVICE), precision).states(batch)
            row = {
                "most": max(float((s.double() - e).abs().max()) for s, e in zip(states, exact)),
                "relative": relative(states[-1], exact[-1]),
            }
            if precision != "tf32":
                theirs = ReferencePlan(m, torch.device(DEVICE), precision).states(batch)
                row |= {
                    "torch_most": max(float((s.double() - e).abs().max()) for s, e in zip(theirs, exact)),
                    "torch_relative": relative(theirs[-1], exact[-1]),
                }
            a.say("error", model=name, precision=precision, **row)


@section
def latency(a: Any) -> None:
    """One text, and a few."""
    for size in ("minilm", "base"):
        for precision in ("bfloat16", "float32"):
            ours = plan(size, precision)
            for texts, tokens in ((1, 16), (1, 128), (32, 24)):
                batch = packed(np.full(texts, tokens))
                for _ in range(3):
                    ours.pooled(batch, ("mean",)).cpu()
                t = wall(lambda batch=batch: ours.pooled(batch, ("mean",)).cpu(), 100)
                card = ms(lambda batch=batch: ours.pooled(batch, ("mean",)), 20)
                a.say("latency", size=size, precision=precision, texts=texts, tokens=tokens, ms=t, card_ms=card)
    if a.minilm:
        import nativebert as nb

        for precision in ("bfloat16", "float32"):
            embed = nb.Embedder(str(a.minilm), device=DEVICE, precision=precision)
            one = ["a quiet island of stone in the rain near the winter sea and the ferry"]
            for _ in range(5):
                embed(one)
            batch = embed.pack(embed.tokenizer.ids_batch(one).ids)
            parts = {
                "tokenizer_ms": lambda embed=embed: embed.tokenizer.ids_batch(one),
                "plan_ms": lambda embed=embed, batch=batch: embed.plan.pooled(batch, embed.pooling).cpu(),
                "ms": lambda embed=embed: embed(one),
            }
            a.say(
                "text to vector",
                precision=precision,
                tokens=len(batch.ids),
                **{name: wall(run, 200) for name, run in parts.items()},
            )


def glosses(count: int) -> list[str]:
    """Short texts of made-up sentences, 17 tokens in the mean."""
    words = "the of a person who is an act used for in small large water made from plant animal having not any one with by state being to or as that which body".split()
    r = np.random.default_rng(0)
    n = np.clip(np.exp(r.normal(2.5, 0.5, count)).astype(int), 2, 60)
    drawn = r.zipf(1.3, int(n.sum())) % len(words)
    return [" ".join(words[i] for i in part) for part in np.split(drawn, np.cumsum(n)[:-1])]


@section
def texts(a: Any) -> None:
    """100,000 short texts to vectors with MiniLM, tokenising included; the tokenizer alone beside it."""
    import nativebert as nb

    if not a.minilm:
        return
    count = 100_000 if DEVICE == "cuda" else 50
    listed = glosses(count)
    for precision in ("bfloat16", "float32"):
        embed = nb.Embedder(str(a.minilm), device=DEVICE, precision=precision)
        began = time.perf_counter()
        embed(listed[:2000])
        first = time.perf_counter() - began
        alone = wall(lambda embed=embed: embed.tokenizer.ids_batch(listed), 1, 2)
        t = wall(lambda embed=embed: embed(listed), 1, 2)
        a.say(
            "texts to vectors",
            precision=precision,
            count=count,
            first_s=first,
            texts_s=count / t * 1e3,
            tokenizer_texts_s=count / alone * 1e3,
            share=alone / t,
        )
        if DEVICE == "cuda" and precision == "bfloat16":
            from torch.profiler import ProfilerActivity, profile

            with profile(activities=[ProfilerActivity.CUDA]) as p:
                began = time.perf_counter()
                embed(listed)
                took = time.perf_counter() - began
            busy = sum(e.self_device_time_total for e in p.key_averages()) / 1e6
            top = sorted(p.key_averages(), key=lambda e: -e.self_device_time_total)[:6]
            a.say(
                "card busy",
                precision=precision,
                share=busy / took,
                top=[f"{e.key[:40]} {e.self_device_time_total / 1e3:.1f}ms" for e in top],
            )


@section
def sentence_transformers(a: Any) -> None:
    """sentence-transformers on the same texts, at its best batch size; random weights of MiniLM's size, which take the same time."""
    if not a.minilm:
        return
    from sentence_transformers import SentenceTransformer
    from transformers import BertConfig, BertModel

    folder = a.folder / "sentence-transformers"
    shutil.copytree(a.minilm, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "*.onnx"), dirs_exist_ok=True)
    BertModel(BertConfig(**config("minilm")), add_pooling_layer=False).save_pretrained(folder)
    listed = glosses(6000)
    for precision in ("float32", "bfloat16"):
        theirs = SentenceTransformer(str(folder), device=DEVICE, model_kwargs={"dtype": getattr(torch, precision)})
        theirs.encode(listed[:200])
        best = min((wall(lambda size=size: theirs.encode(listed, batch_size=size), 1, 1), size) for size in (128, 512, 2048))
        a.say("sentence-transformers", precision=precision, batch=best[1], texts_s=len(listed) / best[0] * 1e3,
              one_ms=wall(lambda theirs=theirs: theirs.encode(listed[:1]), 20, 2))  # fmt: skip
    shutil.rmtree(folder)


@section
def memory(a: Any) -> None:
    """Memory on the card over batches of random shapes."""
    from nativebert.nn.packed import Packed

    ours, r, seen = plan("minilm", "bfloat16"), np.random.default_rng(0), []
    count = 10_000 if DEVICE == "cuda" else 3
    for number in range(count):
        n = r.integers(1, 60, r.integers(1, 60))
        ours.pooled(Packed.of([[5] * int(k) for k in n]), ("mean",))
        if number % max(1, count // 10) == 0:
            sync()
            seen.append(round(torch.cuda.memory_reserved() / 2**20) if DEVICE == "cuda" else 0)
    a.say("memory", batches=count, reserved_mib=seen, graphs=len(ours._graphs))


DEFAULT = "ceilings,encoders,precisions,squad,invariance,errors,latency,memory,texts,sentence_transformers,peers,compiled"


def plot(rows: list[dict[str, Any]], card: str, path: Path) -> None:
    """Tokens a second of the encoders, beside those of transformers."""
    from matplotlib.figure import Figure

    series = {
        "nativebert": lambda row: row["what"] == "encoder",
        "transformers, sorted": lambda row: row["what"] == "transformers sdpa" and row["order"] == "sorted",
        "transformers, given order": lambda row: row["what"] == "transformers sdpa" and row["order"] == "given",
        "transformers, compiled": lambda row: row["what"] == "transformers compiled",
    }
    speeds: dict[tuple[str, str, str], dict[str, float]] = {}  # by size, precision and lengths, the best of each series
    for name, fits in series.items():
        for row in filter(fits, rows):
            of = speeds.setdefault((row["size"], row["precision"], row["case"]), {})
            of[name] = max(of.get(name, 0.0), row["mtokens_s"])
    compared = {kind: of for kind, of in speeds.items() if len(of) > 1}
    if not compared:
        return
    figure = Figure(figsize=(8, 0.9 + 0.75 * len(compared)), layout="constrained")
    axes = figure.subplots()
    for number, (name, colour) in enumerate(zip(series, ("#4878a8", "#d08a3e", "#e3b782", "#8a8a8a"))):
        bars = [(at + 0.2 * number, of[name]) for at, of in enumerate(compared.values()) if name in of]
        drawn = axes.barh([at for at, _ in bars], [speed for _, speed in bars], 0.18, label=name, color=colour)
        axes.bar_label(drawn, fmt="%.3g", padding=2, fontsize=8)
    axes.set_yticks([at + 0.3 for at in range(len(compared))], [" ".join(kind) for kind in compared])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(f"million tokens per second, {card}")
    axes.legend(loc="lower right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main() -> None:
    global WARMUP
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sections", default=DEFAULT, help=f"of {', '.join(SECTIONS)}")
    p.add_argument("--out", type=Path, default=Path("out/gpu"))
    p.add_argument("--minilm", help="folder of all-MiniLM-L6-v2, for what needs a tokenizer and trained weights")
    p.add_argument("--warmup", action="store_true", help="measure tiles first, as warmup=True of a task does")
    p.add_argument("--plot", type=Path, help="draw the results in this file, as a PNG beside it, and run nothing")
    args = p.parse_args()
    if args.plot:
        result = json.loads(args.plot.read_text())
        plot(result["rows"], result["machine"]["card"], args.plot.with_suffix(".png"))
        return
    WARMUP = args.warmup
    log = Log(args.out)
    log.minilm = args.minilm
    log.say("card", name=card_name(), torch=torch.__version__, cores=os.cpu_count())
    for name in args.sections.split(","):
        began = time.time()
        try:
            SECTIONS[name](log)
        except Exception as error:
            log.say("failed", section=name, why=f"{type(error).__name__} {error}"[:300])
            traceback.print_exc()
        log.say("section", name=name, seconds=time.time() - began)
        log.finish()
    with suppress(ImportError):
        plot(log.rows, card_name(), log.folder / "gpu.png")


if __name__ == "__main__":
    main()
