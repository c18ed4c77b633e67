"""``nativebert plan``: what a job over a table will take, before it is begun."""

from __future__ import annotations

import argparse
from typing import Any

from nativebert.cli import options

# What is planned -> the task's class
TASKS = {
    "embed": "Embedder", "search": "Embedder", "rank": "Ranker", "classify": "Classifier", "tag": "Tagger", "answer": "Answerer", "fill": "MaskFiller",
}  # fmt: skip
_IN_WINDOWS, _OWN = ("tag", "answer"), "as of the command"  # --too-long


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
    parser.add_argument("--pair-column", type=options.unicode, metavar="NAME", help="classify: column of the second texts")
    parser.add_argument("--question", type=options.unicode, metavar="TEXT", help="answer: the question for all rows")
    parser.add_argument(
        "--question-column", type=options.unicode, metavar="NAME", help="answer: column of the questions (default: question)"
    )
    parser.add_argument("--query", type=options.unicode, metavar="TEXT", help="rank: the query")
    parser.add_argument(
        "--vectors", metavar="FILE", help="search: the vectors that are searched; INPUT is the table of queries"
    )
    parser.add_argument(
        "--shard-rows", type=options.count, metavar="N", help="rows per file of the output folder (default: 32768)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead, without the histogram")
    options.add_long_texts(parser.add_argument_group("long texts"), default=_OWN)
    options.add_speed(parser)
    parser.set_defaults(quiet=False)


def run(args: argparse.Namespace) -> int:
    from nativebert.cli import common, tables

    wanted, call = _table_of(args)
    if args.too_long == _OWN:
        args.too_long = "window" if args.task in _IN_WINDOWS else "truncate"
    common.say_waiting(args.file)
    with common.at_work(args):
        from nativebert.jobs.columns import ResultColumns
        from nativebert.jobs.plan import histogram, plan
        from nativebert.jobs.rows import SHARD_ROWS

        reader = tables.open_reader(
            args, wanted, "context" if args.task == "answer" else "query" if args.task == "search" else "text"
        )
        corpus = None
        if args.vectors is not None:
            from nativebert.io.vectors import read_vectors
            from nativebert.jobs.corpus import Corpus

            corpus = Corpus(read_vectors(args.vectors).vectors)
        task = tables.make_task(args, TASKS[args.task], ())
        planned = plan(reader, ResultColumns(task, call, len(wanted), corpus=corpus), shard_rows=args.shard_rows or SHARD_ROWS)
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
    fast, slow = duration(planned.fastest), duration(planned.slowest)
    between = f" ({fast} to {slow})" if fast != slow else ""
    common.show(
        [
            ("model", common.origin(args, task.snapshot)),
            ("rows", f"{planned.rows:,} from {common.name(args.file, 'input')}, column {reader.texts[0]!r}{without}"),
            ("tokens", f"{total:,}, {total / len(planned.tokens):.1f} per row, longest {int(planned.tokens.max()):,}; {long}"),
            ("batches", f"{planned.batches:,}, in {common.plural(planned.shards, 'shard')}"),
            ("memory", f"about {planned.memory / 2**20:,.0f} MB at the most; {planned.output / 2**20:,.0f} MB of results"),
            ("time", f"about {duration(planned.seconds)}{between} on {task.device}, {task.precision}: "
                     f"{planned.tokens_per_second:,.0f} tokens/s in a sample, now"),
        ]
    )  # fmt: skip
    print("\ntokens of a row")
    print("\n".join(histogram(planned.tokens, planned.limit)))
    return 0


def _table_of(args: argparse.Namespace) -> tuple[dict[str, str | None], dict[str, Any]]:
    """The columns of the task that is planned, and the arguments of its calls."""
    from nativebert.errors import BadInputError

    for option, task in (
        ("pair_column", "classify"), ("question", "answer"), ("question_column", "answer"), ("query", "rank"), ("vectors", "search"),
    ):  # fmt: skip
        if getattr(args, option) is not None and args.task != task:
            raise BadInputError(f"--{option.replace('_', '-')} is for --task {task}")
    one: dict[str, str | None] = {"--column": args.column}
    if args.task == "rank":
        if args.query is None:
            raise BadInputError("--task rank requires --query TEXT")
        return one, {"query": args.query}
    if args.task == "answer":
        if args.question is not None:
            return one, {"question": args.question}
        return {"--question-column": args.question_column or "question", "--column": args.column or "context"}, {}
    if args.task == "search" and args.vectors is None:
        raise BadInputError(
            "--task search requires --vectors FILE, the vectors that are searched: compute them with `nativebert embed`"
        )
    return one if args.pair_column is None else {**one, "--pair-column": args.pair_column}, {}


def duration(seconds: float) -> str:
    """``5 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = max(1, round(seconds))
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
