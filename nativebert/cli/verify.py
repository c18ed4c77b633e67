"""``nativebert verify``: is a job's folder what the job wrote?"""

from __future__ import annotations

import argparse

from nativebert.cli import options


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s OUT [INPUT] [options]"
    parser.description = (
        "Check the output folder of a finished job: the hash of every file, and a random sample of rows, which are computed again with the model that the "
        "manifest names. Exit code 1 if anything differs."
    )
    parser.add_argument("out", metavar="OUT", help="output folder of a job")
    parser.add_argument(
        "file", metavar="INPUT", nargs="?", help="the job's input, if its text column was not kept in the output"
    )
    parser.add_argument(
        "--sample",
        type=options.whole,
        default=100,
        metavar="N",
        help="rows to compute again (default: %(default)s; 0 for none)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead")
    options.add_quiet(parser)
    options.add_threads(parser)


def run(args: argparse.Namespace) -> int:
    from nativebert.cli import common

    with common.at_work(args):
        from nativebert.jobs.verify import verify

        found = verify(args.out, source=args.file, sample=args.sample)
    if args.json:
        common.print_json({**vars(found), "ok": found.ok}, indent=2)
    elif not args.quiet or not found.ok:
        files = common.plural(found.shards, "file")
        wrong = f"{files}, hashes as written"
        if found.wrong_files:
            wrong = f"{len(found.wrong_files):,} of {files} missing or changed: {', '.join(found.wrong_files[:5])}"
        again = f"{found.sampled:,} of {found.rows:,} rows computed again, {len(found.wrong_rows):,} different"
        if found.wrong_rows:
            again += f": {', '.join(map(str, found.wrong_rows[:10]))}"
        common.show(
            [
                ("files", wrong),
                ("sample", again if found.sampled else "no rows computed again"),
                ("result", "as written" if found.ok else "DIFFERENT"),
            ]
        )
    return 0 if found.ok else common.BAD
