"""One model, all contenders: made, checked, swept, timed."""

from __future__ import annotations

import argparse
import gc
import json
import shlex
import subprocess
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import fresh, harness, models, peers, report, workloads
from benchmarks.harness import Contender
from benchmarks.models import ModelFiles
from benchmarks.peers.base import Floats, Peer
from benchmarks.worker import Failed, Worker, describe, quieten
from benchmarks.workloads import Workload

SAME = 1e-4  # fp32 results that differ by more are not the same work
PEAK = "matrix peak"
PEAK_SIZE, PEAK_TIMES = 2048, 3  # rows and columns of the matrices; products in one round


@dataclass
class Entry:
    """A peer in one precision.

    Attributes:
        label: in the results: the peer's name, with ``int8`` where that is so.
        worker: the process that runs it.
        best: texts -> variant and batch size that the sweep found.
        wrong: variants and batch sizes that gave other numbers than the rest, and are not taken again.
    """

    label: str
    kind: type[Peer]
    precision: str
    worker: Any = None
    best: dict[str, tuple[str, int]] = field(default_factory=dict)
    wrong: set[tuple[str, int]] = field(default_factory=set)


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
    pool, count = texts(args, model)
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


def texts(args: argparse.Namespace, model: ModelFiles) -> tuple[list[str], int]:
    """The sentences, and how many of them the mixed workload has."""
    count = args.count or models.COUNTS[model.name]
    if not args.texts:
        return workloads.sentences(max(count, 200), model.folder), count
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
                note(left_out, f"{entry.label} is left out: {describe(error)}")
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
    """A process for each; those that fail are taken out of the list."""
    for entry in list(entries):
        try:
            entry.worker = Worker(entry.kind.name, entry.precision, model, threads)
        except Failed as error:
            remove(entries, entry, f"{entry.label} is left out: {error}", left_out)


def remove(entries: list[Entry], entry: Entry, why: str, left_out: list[str]) -> None:
    if entry.kind.name == "nativebert" and entry.precision == "float32":
        raise RuntimeError(why)
    entries.remove(entry)
    note(left_out, why)


def note(left_out: list[str], why: str) -> None:
    say(why)
    left_out.append(why)


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
            entry.worker("give", work.name, data)
            while True:
                setting = settle(entry, work)
                rows = entry.worker("rows", setting, work.mode, work.name)
                reference = rows if reference is None else reference  # nativebert in fp32 is the first
                difference, mean, least = compare(rows, reference)
                if entry.precision != "float32" or difference <= SAME:
                    break
                refuse(entry, work, setting, difference)
            facts_of_it = entry.worker("facts", setting, made, lengths)
        except Failed as error:
            remove(entries, entry, f"{entry.label} is left out from {work.name} on: {error}", left_out)
            continue
        fact = {
            "peer": entry.kind.name,
            "title": entry.kind.title,
            "precision": entry.precision,
            **facts_of_it,
            "difference": difference,
            "cosine_mean": mean,
            "cosine_min": least,
        }
        say(f"   {entry.label:24} {fact['setting']:26} largest difference {difference:.1e}, cosine {mean:.5f} / {least:.5f}")
        for label in [entry.label] + ([f"{entry.label} again"] if entry.kind.name == "nativebert" else []):
            facts[label] = fact
            run = partial(entry.worker, "run", setting, work.mode, work.name)
            contenders.append(Contender(label, partial(run, repeat), fact["setting"], partial(run, 3) if repeat > 1 else None))
    product = matrix_product()
    contenders.append(Contender(PEAK, partial(product, PEAK_TIMES), warm=partial(product, 1)))
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


def refuse(entry: Entry, work: Workload, setting: tuple[str, int], difference: float) -> None:
    """Never take this setting again: its numbers are not nativebert's. OpenVINO's two streams give such ones now and then."""
    say(
        f"   {entry.label}: {setting[0]} with batch {setting[1]} is off by {difference:.1e}, not the same work; the next best instead"
    )
    entry.wrong.add(setting)
    del entry.best[kind_of(work)]


def kind_of(work: Workload) -> str:
    """What texts a workload is about."""
    return work.name.removesuffix("-hidden")


def settle(entry: Entry, work: Workload) -> tuple[str, int]:
    """The variant and batch size at which a contender does a workload best; found once for the same texts.

    Raises:
        Failed: it gives wrong numbers with each.
    """
    kind = kind_of(work)
    if kind not in entry.best:
        name = f"{work.name}, a part"
        entry.worker("share", work.name, name, work.share)
        settings = [setting for setting in entry.worker("choices", work.batches) if setting not in entry.wrong]
        if not settings:
            raise Failed("its numbers are not those of the others, whatever the setting")
        run = partial(entry.worker, "run")
        for setting in settings:
            if entry.kind.compiles or setting[1] == settings[0][1]:
                run(setting, work.mode, name, 1)  # not timed
        entry.best[kind] = harness.sweep({s: partial(run, s, work.mode, name, min(work.repeat, 10)) for s in settings})
    return entry.best[kind]


def compare(rows: Floats, reference: Floats) -> tuple[float, float, float]:
    """The largest difference of any number, and the mean and least cosine between rows."""
    if rows.shape != reference.shape:
        return float("inf"), 0.0, 0.0
    cosine = (rows * reference).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(reference, axis=1)
    return float(np.abs(rows - reference).max()), float(cosine.mean()), float(cosine.min())


def matrix_product() -> Any:
    """What the machine can do at most: large products in fp32; takes how many."""
    a, b = torch.randn(PEAK_SIZE, PEAK_SIZE), torch.randn(PEAK_SIZE, PEAK_SIZE)
    out = torch.empty(PEAK_SIZE, PEAK_SIZE)

    def multiply(times: int) -> None:
        for _ in range(times):
            torch.mm(a, b, out=out)

    return multiply
