"""``nativebert plan``: what a job over a table will take, before it is begun."""

from __future__ import annotations

import argparse

from nativebert.cli import options

# What is planned -> the task's class
TASKS = {"embed": "Embedder", "classify": "Classifier", "tag": "Tagger"}


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s INPUT [-m MODEL] [options]"
    parser.description = (
        "Estimate what computing a table will take: its rows and tokens, what would be cut, the batches, the memory, and the time, which is measured on a random sample "
        "of its rows on this machine as it is now. Nothing is written."
    )
    options.add_file(parser)
    options.add_column(parser)
    options.add_model(parser, options.DEFAULT_MODEL)
    parser.add_argument("--task", choices=tuple(TASKS), default="embed", help="the command to plan (default: %(default)s)")
    parser.add_argument(
        "--shard-rows", type=options.count, metavar="N", help="rows per file of the output folder (default: 32768)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead, without the histogram")
    options.add_long_texts(parser.add_argument_group("long texts"), default="truncate")
    options.add_speed(parser)
    parser.set_defaults(quiet=False)


def run(args: argparse.Namespace) -> int:
    from nativebert.cli import common, tables

    common.say_waiting(args.file)
    with common.at_work(args):
        from nativebert.jobs.columns import ResultColumns
        from nativebert.jobs.plan import histogram, plan
        from nativebert.jobs.rows import SHARD_ROWS

        reader = tables.open_reader(args, {"--column": args.column})
        task = tables.make_task(args, TASKS[args.task], ())
        planned = plan(reader, ResultColumns(task, {}, 1), shard_rows=args.shard_rows or SHARD_ROWS)
    total = int(planned.tokens.sum())
    if args.json:
        facts = {name: value for name, value in vars(planned).items() if name != "tokens"}
        common.print_json({**facts, "tokens": total, "longest": int(planned.tokens.max())}, indent=2)
        return 0
    without = f", {planned.empty + planned.rejected:,} of them without a text" if planned.empty or planned.rejected else ""
    long = "none over the limit"
    if planned.cut_rows:
        long = f"{common.plural(planned.cut_rows, 'row')} over {planned.limit} would lose {planned.cut:,} tokens ({planned.cut / total:.1%})"
    if planned.windowed:
        long = f"{common.plural(planned.windowed, 'row')} over {planned.limit} would be read in {planned.windows:,} windows"
    common.show(
        [
            ("model", common.origin(args, task.snapshot)),
            ("rows", f"{planned.rows:,} from {common.name(args.file, 'input')}, column {reader.texts[0]!r}{without}"),
            ("tokens", f"{total:,}, {total / len(planned.tokens):.1f} per row, longest {int(planned.tokens.max()):,}; {long}"),
            ("batches", f"{planned.batches:,}, in {common.plural(planned.shards, 'shard')}"),
            ("memory", f"about {planned.memory / 2**20:,.0f} MB at the most; {planned.output / 2**20:,.0f} MB of results"),
            ("time", f"about {duration(planned.seconds)} on {task.device}, {task.precision}: {planned.tokens_per_second:,.0f} tokens/s in a sample, now"),
        ]
    )  # fmt: skip
    print("\ntokens of a row")
    print("\n".join(histogram(planned.tokens, planned.limit)))
    return 0


def duration(seconds: float) -> str:
    """``5 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = max(1, round(seconds))
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
