"""``nativebert inspect``: what a model is."""

from __future__ import annotations

import argparse
import sys

from nativebert.cli import options


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s MODEL [options]"
    parser.description = (
        "Show a model's sizes, tokenizer, pooling, limits, license and weight map. Only the headers of the weight files are read. "
        "A Hub model is downloaded first if it is not in the cache, including its weights. "
        "The exit code is 1 if the model would not load, or could not compute embeddings."
    )
    parser.add_argument("model", metavar="MODEL", help="folder, or name on the Hub")
    options.add_base(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print everything as JSON, with a row for every tensor")
    form.add_argument("--explain", metavar="NAME", help="show the details of one tensor of the file, or of one parameter")


def run(args: argparse.Namespace) -> int:
    from nativebert.cli.common import BAD, notes, print_json
    from nativebert.console import facts, say, table
    from nativebert.hub import resolve
    from nativebert.inspect import inspect
    from weights_map import report

    with notes(args):
        inspection = inspect(resolve(args.model, revision=args.revision, offline=args.offline, base=args.base))
    if args.explain:
        print(inspection.ledger.explain(args.explain))
        return 0
    if args.json:
        print_json(inspection.as_dict(), indent=2)
    else:
        facts(inspection.shown())
        print()
        header, *rows = report.table(inspection.ledger.rows)
        table(rows, header, title=f"weight map {inspection.ledger.map.name}: {report.summary(inspection.ledger.rows)}")
    if sys.stdout is not None:
        sys.stdout.flush()
    for problem in inspection.problems:
        say(problem)
    return BAD if inspection.problems else 0
