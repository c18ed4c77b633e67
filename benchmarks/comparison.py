"""One model, all contenders: made, checked, swept, timed."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import shlex
import subprocess
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import fresh, harness, models, peers, report, workloads
from benchmarks.harness import Contender
from benchmarks.models import ModelFiles
from benchmarks.peers.base import Floats, Peer
from benchmarks.workloads import Workload

SAME = 1e-4  # fp32 results that differ by more are not the same work
PEAK = "matrix peak"
PEAK_SIZE, PEAK_TIMES = 2048, 3  # rows and columns of the matrices; products in one round


@dataclass
class Entry:
    """A peer in one precision, loaded in each of its variants.

    Attributes:
        label: in the results: the peer's name, with ``int8`` where that is so.
        loaded: variant -> peer.
        best: texts -> variant and batch size that the sweep found.
    """

    label: str
    kind: type[Peer]
    precision: str
    loaded: dict[str, Peer] = field(default_factory=dict)
    best: dict[str, tuple[str, int]] = field(default_factory=dict)


def quieten() -> None:
    """No bars and no notices of other libraries between the figures."""
    logging.getLogger().setLevel(logging.ERROR)
    with suppress(ImportError):
        from transformers.utils import logging as notices

        notices.disable_progress_bar()


def say(text: str = "") -> None:
    print(text, flush=True)


def run(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """Everything about one model; returns what is written to ``cpu-<name>.json``."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(args.threads)
    quieten()
    model = models.get(name, args.folder)
    left_out: list[str] = []
    entries = prepare(args, model, left_out)
    result: dict[str, Any] = {
        "model": name,
        "title": models.TITLES[name],
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python -m benchmarks cpu {shlex.join(given(args, name))}",
        "threads": args.threads,
        "rounds": args.rounds,
        "machine": harness.machine(),
        "versions": {e.kind.title: e.kind.version() for e in entries},
        "left_out": left_out,
        "loading": loading(entries, model, args.threads, args.loads, left_out) if args.loads else {},
        "workloads": {},
    }
    load(entries, model, args.threads, left_out)
    pool, count = texts(args, name)
    for work in workloads.choose(args.workloads):
        result["workloads"][work.name] = time(work, entries, model, pool, count, args.rounds, left_out)
        report.show(result, work.name)
    say("\n" + "\n".join(left_out))
    args.results.mkdir(parents=True, exist_ok=True)
    path = args.results / f"cpu-{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    report.table(result, path.with_suffix(".csv"))
    say(f"written to {path} and .csv")
    return result


def given(args: argparse.Namespace, name: str) -> list[str]:
    """The options that decide the figures, as one would type them."""
    found = ["--model", name, "--rounds", str(args.rounds), "--threads", str(args.threads)]
    for option in ("peers", "workloads", "precision"):
        if getattr(args, option) != "all":
            found += [f"--{option}", getattr(args, option)]
    if args.count:
        found += ["--count", str(args.count)]
    return found + (["--texts", Path(args.texts).name] if args.texts else [])


def texts(args: argparse.Namespace, name: str) -> tuple[list[str], int]:
    """The sentences, and how many of them the mixed workload has."""
    count = args.count or models.COUNTS[name]
    if not args.texts:
        return workloads.sentences(max(count, 200)), count
    lines = [line for line in Path(args.texts).read_text("utf-8").splitlines() if line.strip()]
    return lines, min(count, len(lines))


# -- making


def prepare(args: argparse.Namespace, model: ModelFiles, left_out: list[str]) -> list[Entry]:
    """The contenders that can run here, their files made."""
    entries = []
    chosen = workloads.pick(args.peers, list(peers.NAMES), str, "peer")
    if "nativebert" not in chosen:
        chosen.insert(0, "nativebert")  # all else is measured against it
    precisions = workloads.pick(args.precision, ["float32", "int8"], str, "precision")
    for name in chosen:
        kind = peers.get(name)
        if why := kind.missing():
            note(left_out, why)
            continue
        for precision in kind.precisions:
            if precision not in precisions and (name, precision) != ("nativebert", "float32"):
                continue
            entry = Entry(name if precision == "float32" else f"{name} int8", kind, precision)
            try:
                for variant in kind.variants:
                    say(f"making {entry.label} {variant}")
                    kind.make(model, precision, variant)
            except Exception as error:  # whatever another library raises: the rest can still be compared
                note(left_out, f"{entry.label} is left out: {failure(error)}")
                continue
            entries.append(entry)
    return entries


def loading(entries: list[Entry], model: ModelFiles, threads: int, times: int, left_out: list[str]) -> dict[str, Any]:
    """Seconds to the first vector and peak memory of each, in fresh processes."""
    found = {}
    for entry in entries:
        say(f"loading {entry.label}")
        try:
            found[entry.label] = fresh.measure(entry.kind.name, entry.precision, entry.kind.variants[0], model, threads, times)
        except subprocess.CalledProcessError as error:
            note(left_out, f"{entry.label} has no loading time: {error.stderr.strip().splitlines()[-1][:300]}")
    return found


def load(entries: list[Entry], model: ModelFiles, threads: int, left_out: list[str]) -> None:
    """Load all; those that fail are taken out of the list."""
    for entry in list(entries):
        try:
            for variant in entry.kind.variants:
                entry.loaded[variant] = entry.kind(model, threads, entry.precision, variant)
        except Exception as error:
            remove(entries, entry, f"{entry.label} is left out: {failure(error)}", left_out)


def remove(entries: list[Entry], entry: Entry, why: str, left_out: list[str]) -> None:
    if entry.kind.name == "nativebert" and entry.precision == "float32":
        raise RuntimeError(why)
    entries.remove(entry)
    note(left_out, why)


def note(left_out: list[str], why: str) -> None:
    say(why)
    left_out.append(why)


def failure(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


# -- timing


def time(
    work: Workload, entries: list[Entry], model: ModelFiles, pool: list[str], count: int, rounds: int, left_out: list[str]
) -> dict[str, Any]:
    """One workload: sweep, check, time."""
    from tokenizers import Tokenizer

    say(f"\n== {work.title}")
    repeat = max(1, work.repeat * models.COUNTS[model.name] // max(models.COUNTS.values()))  # fewer calls of larger models
    tokenizer = Tokenizer.from_file(str(model.folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    made = workloads.make(work, count, pool, model.limit, tokenizer)
    tokenizer.enable_truncation(model.limit if work.mode == "vectors" else 512)
    ids = [e.ids for e in tokenizer.encode_batch(made)]
    lengths = [len(one) for one in ids]
    data: list[Any] = made if work.mode == "vectors" else ids
    facts: dict[str, dict[str, Any]] = {}
    contenders = []
    reference = None
    for entry in [e for e in entries if work.mode in e.kind.modes]:
        try:
            variant, batch = settle(entry, work, data)
            run = runner(entry.loaded[variant], work.mode, data, batch)
            rows = as_rows(run())
        except Exception as error:
            remove(entries, entry, f"{entry.label} is left out from {work.name} on: {failure(error)}", left_out)
            continue
        reference = rows if reference is None else reference  # nativebert in fp32 is the first
        difference, mean, least = compare(rows, reference)
        if entry.precision == "float32" and not difference <= SAME:
            remove(
                entries,
                entry,
                f"{entry.label} is left out from {work.name} on: off by {difference:.1e}, not the same work",
                left_out,
            )
            continue
        peer = entry.loaded[variant]
        fact = {
            "peer": entry.kind.name,
            "title": entry.kind.title,
            "precision": entry.precision,
            "setting": peer.setting(batch),
            "padding": peer.padding(made, lengths, batch),
            "difference": difference,
            "cosine_mean": mean,
            "cosine_min": least,
        }
        say(f"   {entry.label:24} {fact['setting']:26} largest difference {difference:.1e}, cosine {mean:.5f} / {least:.5f}")
        for label in [entry.label] + ([f"{entry.label} again"] if entry.kind.name == "nativebert" else []):
            facts[label] = fact
            warm = repeated(run, 3) if repeat > 1 else None
            contenders.append(Contender(label, repeated(run, repeat), peer.setting(batch), warm))
    product = matrix_product()
    contenders.append(Contender(PEAK, repeated(product, PEAK_TIMES), warm=product))
    gc.collect()
    seconds = harness.interleave(contenders, rounds, uncounted=0, rest=0.05)  # all have run on these very texts already
    peak = [PEAK_TIMES * 2 * PEAK_SIZE**3 / s / 1e9 for s in seconds.pop(PEAK)]
    return {
        "title": work.title,
        "mode": work.mode,
        "texts": len(made),
        "tokens": sum(lengths),
        "gflop": model.flops(lengths) / 1e9,
        "peak_gflops": peak,
        "contenders": {label: {**facts[label], "seconds": [s / repeat for s in seconds[label]]} for label in facts},
    }


def settle(entry: Entry, work: Workload, data: list[Any]) -> tuple[str, int]:
    """The variant and batch size at which a contender does a workload best; found once for the same texts."""
    kind = work.name.removesuffix("-hidden")
    if kind not in entry.best:
        part = data[:: work.share]
        runs = {
            (variant, batch): repeated(runner(peer, work.mode, part, batch), min(work.repeat, 10))
            for variant, peer in entry.loaded.items()
            for batch in peer.batches(work.batches)
        }
        for variant, batch in runs:
            if entry.kind.compiles or batch == entry.loaded[variant].batches(work.batches)[0]:
                runner(entry.loaded[variant], work.mode, part, batch)()  # not timed
        entry.best[kind] = harness.sweep(runs)
    return entry.best[kind]


def runner(peer: Peer, mode: str, data: list[Any], batch: int) -> Any:
    """A call that does the work."""
    return (lambda: peer.vectors(data, batch)) if mode == "vectors" else (lambda: peer.hidden(data, batch))


def repeated(run: Any, times: int) -> Any:
    """A call that does it several times."""
    if times == 1:
        return run

    def often() -> None:
        for _ in range(times):
            run()

    return often


def as_rows(found: Any) -> Floats:
    """Vectors, or the hidden states of all texts one below the other."""
    return np.concatenate(found) if isinstance(found, list) else np.asarray(found)


def compare(rows: Floats, reference: Floats) -> tuple[float, float, float]:
    """The largest difference of any number, and the mean and least cosine between rows."""
    if rows.shape != reference.shape:
        return float("inf"), 0.0, 0.0
    cosine = (rows * reference).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(reference, axis=1)
    return float(np.abs(rows - reference).max()), float(cosine.mean()), float(cosine.min())


def matrix_product() -> Any:
    """What the machine can do at most: one large product in fp32."""
    a, b = torch.randn(PEAK_SIZE, PEAK_SIZE), torch.randn(PEAK_SIZE, PEAK_SIZE)
    out = torch.empty(PEAK_SIZE, PEAK_SIZE)
    return lambda: torch.mm(a, b, out=out)
