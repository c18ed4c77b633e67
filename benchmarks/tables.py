"""Tables in, tables out: jobs, their plans, the memory of a long file, the server.

    python -m benchmarks tables speed      # rows a second: a job, the engine alone on texts in memory, and a loop written by hand
    python -m benchmarks tables plan       # what `nativebert plan` says, and how long the job takes then
    python -m benchmarks tables million    # csv to parquet (or csv, jsonl, npy): memory at the beginning and at the end; the reader against pyarrow.csv
    python -m benchmarks tables server     # texts a second for many clients at once, and the bits that they get

The rows are made-up sentences with the lengths of dictionary glosses; one in ten is a document (``--documents``).
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import nativebert as nb
from benchmarks import harness
from benchmarks.harness import Contender
from benchmarks.workloads import sentences

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
_LOOP_ROWS = 2048  # of a batch of the loop


def rows_of(args: argparse.Namespace, embedder: nb.Embedder) -> list[str]:
    """The texts."""
    assert embedder.snapshot is not None
    texts = sentences(min(args.rows, 100_000), embedder.snapshot.folder)
    r = random.Random(1)
    if args.documents:
        texts = [" ".join(r.choices(texts, k=r.randint(5, 25))) if n % 10 == 9 else text for n, text in enumerate(texts)]
    return [texts[n % len(texts)] for n in range(args.rows)]


def speed(args: argparse.Namespace, folder: Path) -> None:
    """A job, the engine alone, and a loop."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    embedder = nb.Embedder(args.model)
    texts = rows_of(args, embedder)
    pq.write_table(pa.table({"id": list(range(len(texts))), "text": texts}), folder / "in.parquet")
    runs = iter(range(10**6))

    def job() -> None:
        nb.Job(embedder, folder / "in.parquet", folder / f"job{next(runs)}").run(progress=False)

    def loop() -> None:
        writer = None
        for batch in pq.ParquetFile(folder / "in.parquet").iter_batches(batch_size=_LOOP_ROWS):
            vectors = embedder(batch.column("text").to_pylist(), progress=False)
            flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
            table = pa.Table.from_batches([batch]).append_column("embedding", flat)
            writer = writer or pq.ParquetWriter(folder / f"loop{next(runs)}.parquet", table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()

    contenders = [
        Contender("engine", lambda: embedder(texts, progress=False), "texts in memory"),
        Contender("again", lambda: embedder(texts, progress=False), "A/A control"),
        Contender("job", job, "parquet to a folder, fsync, hashes, manifest"),
        Contender("loop", loop, f"parquet to parquet, {_LOOP_ROWS} rows at a time"),
    ]
    seconds = harness.interleave(contenders, args.rounds)
    harness.show(contenders, seconds, "engine")
    for name, times in seconds.items():
        print(f"{name:24} {len(texts) / statistics.median(times):10,.0f} rows/s")
    _save(args, "speed", contenders, seconds, "engine", {"rows": len(texts)})


def plan(args: argparse.Namespace, folder: Path) -> None:
    """Plans and jobs in turn."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from nativebert.io.tables import open_table
    from nativebert.jobs.columns import ResultColumns
    from nativebert.jobs.plan import plan as planned

    embedder = nb.Embedder(args.model)
    pq.write_table(pa.table({"text": rows_of(args, embedder)}), folder / "in.parquet")
    found = []
    for n in range(args.rounds):
        told = planned(open_table(folder / "in.parquet"), ResultColumns(embedder, {}, 1))
        took = nb.Job(embedder, folder / "in.parquet", folder / f"job{n}").run(progress=False).seconds
        found.append((told.seconds, told.fastest, told.slowest, took))
        print(
            f"planned {told.seconds:7.1f} s ({told.fastest:.1f} to {told.slowest:.1f})   took {took:7.1f} s   ratio {told.seconds / took:.3f}",
            flush=True,
        )
    ratios = [told / took for told, _, _, took in found]
    near = sum(abs(ratio - 1) <= 0.15 for ratio in ratios)
    spread = max(took for *_, took in found) / min(took for *_, took in found)
    print(
        f"\n{near} of {len(ratios)} within 15%; median ratio {statistics.median(ratios):.3f}; the slowest job took {spread:.2f} times as long as the fastest"
    )
    _write(args, "plan", {"rows": args.rows, "documents": args.documents, "planned_fastest_slowest_took": found})


def million(args: argparse.Namespace, folder: Path) -> None:
    """A long csv file: memory, and how fast it is read."""
    embedder = nb.Embedder(args.model)
    texts = rows_of(args, embedder)
    source = folder / "in.csv"
    with source.open("w", newline="") as file:
        file.write("id,text,stars\n")
        file.writelines(f'{n},"{text}",{n % 5}\n' for n, text in enumerate(texts))
    del texts, embedder
    rates = _readers(source, args.rounds)
    size = source.stat().st_size
    for name, times in rates.items():
        print(
            f"{name:12} {size / statistics.median(times) / 1e6:8.0f} MB/s   {args.rows / statistics.median(times):12,.0f} rows/s"
        )
    print(
        f"the reader takes {statistics.median(a / b for a, b in zip(rates['nativebert'], rates['pyarrow.csv'])):.2f} times as long as pyarrow.csv\n"
    )
    target = folder / f"out.{args.target}"
    argv = [
        sys.executable,
        "-m",
        "nativebert",
        "embed",
        str(source),
        "--column",
        "text",
        "-m",
        args.model,
        "-o",
        str(target),
        "--quiet",
    ]
    began, held = time.perf_counter(), list[tuple[float, int]]()
    process = subprocess.Popen(argv)
    page = os.sysconf("SC_PAGE_SIZE")
    while process.poll() is None:
        try:
            resident = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * page
        except (OSError, IndexError):
            break
        held.append((time.perf_counter() - began, resident))
        time.sleep(0.1)
    assert process.wait() == 0
    took = time.perf_counter() - began
    # from when the model is loaded and computing: the first tenth is start-up
    quarters = [
        [size for at, size in held if took * (0.1 + 0.225 * n) <= at < took * (0.1 + 0.225 * (n + 1))] for n in range(4)
    ]
    told = [(statistics.median(part) / 2**20, max(part) / 2**20) for part in quarters]
    for n, (middle, most) in enumerate(told, 1):
        print(f"quarter {n}: {middle:8.0f} MB (median), {most:8.0f} MB at the most")
    print(
        f"{args.rows:,} rows, {size / 1e6:,.0f} MB of csv to {args.target} in {took:,.0f} s: {args.rows / took:,.0f} rows/s; last quarter - first: {told[3][0] - told[0][0]:+.0f} MB"
    )
    _write(
        args,
        f"million-{args.target}",
        {"rows": args.rows, "csv_bytes": size, "seconds": took, "quarters_mb": told, "readers": rates},
    )


def _readers(source: Path, rounds: int) -> dict[str, list[float]]:
    import pyarrow.csv

    from nativebert.io.tables import open_table

    def ours() -> None:
        for _ in open_table(source):
            pass

    def theirs() -> None:
        options = pyarrow.csv.ParseOptions(newlines_in_values=True)
        strings = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(("id", "text", "stars"), pyarrow.string()))
        for _ in pyarrow.csv.open_csv(source, parse_options=options, convert_options=strings):
            pass

    return harness.interleave([Contender("nativebert", ours), Contender("pyarrow.csv", theirs)], rounds)


def server(args: argparse.Namespace, folder: Path) -> None:
    """Many clients at once."""
    embedder = nb.Embedder(args.model)
    args.rows = args.clients * args.requests * args.texts
    texts = rows_of(args, embedder)
    alone = embedder(texts, progress=False)
    began = time.perf_counter()
    embedder(texts, progress=False)
    engine = time.perf_counter() - began
    with _served(args) as port:

        def client(number: int) -> list[float]:
            connection, times = http.client.HTTPConnection("127.0.0.1", port), []
            for request in range(args.requests):
                first = (number * args.requests + request) * args.texts
                # base64, as the client of OpenAI asks for
                body = json.dumps({"model": "m", "input": texts[first : first + args.texts], "encoding_format": "base64"})
                began = time.perf_counter()
                connection.request("POST", "/v1/embeddings", body, {"Content-Type": "application/json"})
                answer = json.loads(connection.getresponse().read())
                times.append(time.perf_counter() - began)
                got = np.stack([np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in answer["data"]])
                assert np.array_equal(got, alone[first : first + args.texts]), "other bits than of the texts alone"
            return times

        for run in range(args.rounds + 1):
            began = time.perf_counter()
            with ThreadPoolExecutor(args.clients) as clients:
                times = sorted(t for each in clients.map(client, range(args.clients)) for t in each)
            took = time.perf_counter() - began
            if run:  # the first warms up
                p50, p95 = times[len(times) // 2], times[int(len(times) * 0.95)]
                print(
                    f"{args.clients} clients: {len(texts) / took:8,.0f} texts/s ({engine / took:.2f} of the engine alone, {len(texts) / engine:,.0f}); "
                    f"latency {p50 * 1e3:.0f} ms (median), {p95 * 1e3:.0f} ms (95%)", flush=True,
                )  # fmt: skip


@contextmanager
def _served(args: argparse.Namespace) -> Iterator[int]:
    argv = [sys.executable, "-m", "nativebert", "serve", args.model, "--port", str(args.port), "--quiet"]
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", args.port)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                assert process.poll() is None, "the server did not start"
                time.sleep(0.1)
        yield args.port
    finally:
        process.terminate()
        process.wait()


def _save(
    args: argparse.Namespace, what: str, contenders: list[Contender], seconds: Any, base: str, work: dict[str, object]
) -> None:
    if args.save:
        harness.save(f"tables-{what}", contenders, seconds, base, {"model": args.model, **work})


def _write(args: argparse.Namespace, what: str, facts: dict[str, Any]) -> None:
    if args.save:
        harness.RESULTS.mkdir(exist_ok=True)
        path = harness.RESULTS / f"tables-{what}.json"
        path.write_text(json.dumps({"model": args.model, **facts, "machine": harness.machine()}, indent=2) + "\n")


PARTS: dict[str, Callable[[argparse.Namespace, Path], None]] = {
    "speed": speed,
    "plan": plan,
    "million": million,
    "server": server,
}
ROWS = {"speed": 20_000, "plan": 40_000, "million": 1_000_000, "server": 0}


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=tuple(PARTS))
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--rows", type=int, help="default: 20,000, of plan 40,000, of million 1,000,000")
    parser.add_argument("--documents", action="store_true", help="one row in ten is a document")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, help="of torch (default: its own)")
    parser.add_argument("--target", default="parquet", help="million: ending of the output (default: parquet)")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=20, help="server: of each client")
    parser.add_argument("--texts", type=int, default=4, help="server: of each request")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--save", action="store_true", help="write the figures to benchmarks/results/")
    args = parser.parse_args()
    args.rows = args.rows or ROWS[args.part]
    if args.threads is not None:
        torch.set_num_threads(args.threads)
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        PARTS[args.part](args, Path(folder))


if __name__ == "__main__":
    main()
