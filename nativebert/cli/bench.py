"""``nativebert bench``: how fast is this model on this machine?"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nativebert.cli import options

if TYPE_CHECKING:
    from nativebert.bench import Figure, Report

BUSY = 1.3  # the most that the machine's speed may vary before it is said


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s MODEL [options]"
    parser.description = (
        "Measure the speed of a model on this machine (loading, mixed short texts, one short text, full batches), its share of the "
        "machine's matrix multiplication peak, and the similarity of other precisions to float32. Takes less than a "
        "minute for a model of MiniLM's size, and proportionally longer for larger models."
    )
    parser.add_argument("model", metavar="MODEL", help="folder, or name on the Hub")
    options.add_place(parser)
    parser.add_argument(
        "--precision", action="append", choices=(*options.PRECISIONS, "all"), metavar="NAME",
        help=f"{', '.join(options.PRECISIONS)}, or all; can be repeated (default: float32 and, on the CPU, int8)",
    )  # fmt: skip
    options.add_threads(parser)
    parser.add_argument(
        "--rounds", type=options.count, default=5, metavar="N", help="number of timed rounds (default: %(default)s)"
    )
    options.add_sample(parser, "256 generated texts of mixed lengths")
    parser.add_argument(
        "--against",
        choices=("transformers",),
        metavar="WHAT",
        help="also time transformers and show the ratio (requires the extra parity)",
    )
    parser.add_argument("--seed", type=options.whole, default=0, metavar="N", help="random seed (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON; - for standard output")


def run(args: argparse.Namespace) -> int:
    from nativebert import bench
    from nativebert.cli.common import check_report, notes, sample, selected, write_report
    from nativebert.console import facts, table
    from nativebert.engine import choose_device

    check_report(args.json, args.texts)
    texts = sample(args)
    against: bench.Make | None = None
    if args.against:
        from nativebert.parity import speed

        speed.require()  # before the work, not in the middle of it
        against = speed.Transformers
    precisions = args.precision
    if precisions and "all" in precisions:
        on_cpu = choose_device(args.device).type == "cpu"
        precisions = [name for name in options.PRECISIONS if on_cpu or name != "int8"]
    with notes(args):
        how = selected(args, "device", "threads", "rounds", "seed", "revision", "offline")
        report = bench.measure(args.model, precisions=precisions, texts=texts, against=against, **how)
    out = write_report(args.json, report.as_dict())
    peak = (
        f"{_number(report.peak)} ({_range(report.peak)}) GFLOP/s, large float32 matrix products (torch.mm) in the same rounds"
    )
    facts({"": [*report.facts.items(), ("peak", peak)]}, file=out)
    print(file=out)
    header = ["", "variant", "median", "range", "of peak", *([f"times {report.base}"] if report.base else [])]
    table([row[: len(header)] for row in _rows(report)], header, file=out)
    print(file=out)
    for line in _legend(report):
        print(line, file=out)
    return 0


def _rows(report: Report) -> list[list[str]]:
    """Rows of the table; the title of a workload stands in its first row."""
    rows = []
    for key in dict.fromkeys(figure.work.key for figure in report.figures):
        figures = [figure for figure in report.figures if figure.work.key == key]
        for n, (measured, values) in enumerate(_measures(key)):
            title = f"{figures[0].work.title} ({measured})"
            for figure in figures:
                cells = [title, figure.name, _number(values(figure)), _range(values(figure))]
                # both belong to the work, and stand beside its first measure
                rows.append([*cells, _percent(figure.share), _times(figure.ratio)] if n == 0 else [*cells, "", ""])
                title = ""
    return rows


def _measures(key: str) -> list[tuple[str, Callable[[Figure], Sequence[float]]]]:
    """Measures of a workload: unit, and the values of a figure (one per round, or a single one)."""
    if key == "load":
        return [("s", lambda f: f.seconds)]
    if key == "one":
        return [("ms", lambda f: [1000 * s for s in f.seconds]), ("ms, p90", lambda f: [1000 * f.slow])]
    tokens: tuple[str, Callable[[Figure], Sequence[float]]] = ("tokens/s", lambda f: f.tokens_per_second)
    return [("texts/s", lambda f: f.texts_per_second), tokens] if key == "mixed" else [tokens]


def _number(values: Sequence[float]) -> str:
    """The median, to three digits, or whole."""
    return _digits(statistics.median(values))


def _range(values: Sequence[float]) -> str:
    return f"{_digits(min(values))}-{_digits(max(values))}" if len(values) > 1 else ""


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _percent(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0%}" if values else ""


def _times(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})" if values else ""


def _legend(report: Report) -> list[str]:
    """Explanations below the table."""
    works = {figure.work.key: figure.work for figure in report.figures}
    one, blocks = works["one"], ", ".join(work.title for key, work in works.items() if key[0].isdigit())
    busy = max(report.peak) > BUSY * min(report.peak)
    lines = [
        f"{name}: cosine to the float32 vectors: mean {cosine.mean:.5f}, min {cosine.least:.5f}"
        for name, cosine in report.cosines.items()
    ]
    lines += [""] if lines else []
    lines += [
        "loading: from the files to the first vector; mixed: short texts to vectors; one text: one text of "
        f"{one.tokens} tokens to its vector, median and 90th percentile.",
        f"{blocks}: number of texts x tokens per text, from token ids to the hidden states of all tokens.",
        "of peak: throughput of matrix products and attention on real tokens, relative to float32 products (torch.mm) in the same round. "
        "Other precisions can exceed 100%.",
    ]
    if report.base:
        lines.append(
            f"times {report.base}: speed relative to {report.base}, per round. Differences of a few percent are noise."
        )
    if busy:
        lines.append(
            f"The machine was busy: its peak varied from {_digits(min(report.peak))} to {_digits(max(report.peak))} GFLOP/s, so "
            "these figures are unreliable. Run again when the machine is idle."
        )
    return lines
