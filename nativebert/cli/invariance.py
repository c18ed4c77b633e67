"""``nativebert invariance``: the same bits however batched?"""

from __future__ import annotations

import argparse

from nativebert.cli import options


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s MODEL [options]"
    parser.description = (
        "Embed the same texts in different orders, batch sizes and batches on this machine, and compare the results with each text alone. "
        "The exit code is 1 if float32 or int8 on the CPU is not bitwise equal."
    )
    parser.add_argument("model", metavar="MODEL", help="folder, or name on the Hub")
    options.add_device(parser)
    parser.add_argument(
        "--trials", type=options.count, default=5, metavar="N", help="trials of each kind (default: %(default)s)"
    )
    options.add_sample(parser, "32 built-in texts")
    parser.add_argument("--seed", type=options.whole, default=0, metavar="N", help="random seed (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON; - for standard output")


def run(args: argparse.Namespace) -> int:
    from nativebert.cli.common import BAD, check_report, notes, sample, selected, write_report
    from nativebert.console import facts, table
    from nativebert.parity import invariance

    check_report(args.json, args.texts)
    texts = sample(args)
    with notes(args):
        how = selected(args, "device", "precision", "trials", "seed", "revision", "offline")
        report = invariance.check(args.model, texts=texts, **how)
    out = write_report(args.json, report.as_dict())
    facts({"": list(report.facts.items())}, file=out)
    print(file=out)
    rows = [
        (
            k.name,
            str(k.trials),
            f"{k.equal:,} of {k.compared:,}",
            f"{k.vectors:.1e}" if k.vectors else "0",
            f"{k.states:.1e}" if k.states else "0",
        )
        for k in report.kinds
    ]
    table(
        rows,
        ["what changes", "trials", "bitwise equal", "max difference (vectors)", "max difference (hidden states)"],
        file=out,
    )
    print(file=out)
    print(report.verdict(), file=out)
    return 0 if report.passed else BAD
