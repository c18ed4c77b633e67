"""``nativebert tag``: the entities in texts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TextIO

from nativebert.cli import options


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s FILE -m MODEL [-o OUT] [options]"
    parser.description = (
        "Find the entities (names, places, parts of speech, ...) in each text of a file, with their character offsets. "
        "JSON lines contain each text with all its entities; CSV has one row per entity, and `item` is the number of its text, from 0."
    )
    options.add_file(parser)
    options.add_column(parser)
    options.add_results(parser)
    options.add_model(parser)
    options.add_base(parser)
    parser.add_argument(
        "--aggregation", choices=("none", "simple", "first", "average", "max"),
        help="how tokens are grouped into entities (default: simple); none returns every token",
    )  # fmt: skip
    parser.add_argument(
        "--top-k", type=options.count_or_all, default=1, metavar="N", help="labels per entity: 1 (default), N, or all"
    )
    parser.add_argument(
        "--ignore", type=options.unicode, action="append", metavar="LABEL", help="label to drop; can be repeated (default: O)"
    )
    parser.add_argument("--explain", action="store_true", help="show the texts with their entities marked")
    options.add_long_texts(parser.add_argument_group("long texts"), default="window")
    options.add_jobs(parser)
    options.add_speed(parser)


def run(args: argparse.Namespace) -> int:
    from nativebert.cli import common, tables
    from nativebert.io.write import Records

    if tables.is_table_job(args):
        return tables.run(args, "Tagger", {"--column": args.column}, make=("aggregation", "ignore"), call={"top_k": args.top_k})
    table = common.read(args, {"--column": args.column})
    texts = [text for (text,) in table.rows]
    with common.at_work(args):
        from nativebert.tasks.tag import Tagger

        tag = Tagger(args.model, **common.task_options(args, "aggregation", "ignore"))
        results, report = tag(texts, top_k=args.top_k, return_report=True, progress=common.progress(args))
    records = [{"text": text, "entities": entities} for text, entities in zip(texts, results, strict=True)]
    keys = ["item"] if args.top_k == 1 else ["item", "entity", "text"]
    columns = list(dict.fromkeys([*keys, "text", "label", "score", "start", "end"]))
    output = Records(records, columns, [[row[name] for name in columns] for row in results.rows()])
    show = partial(_explain, texts, results) if args.explain else partial(common.show_table, output, len(keys))
    inputs, what = common.source(args.file, table), common.plural(sum(map(len, results)), "entity", "entities")
    return common.finish(args, output, show, tag, report, inputs, what, explain=args.explain)


def _explain(texts: Sequence[str], results: Sequence[Sequence[Mapping[str, Any]]], out: TextIO) -> None:
    from nativebert.console import labelled, passage

    colours: dict[str, str] = {}
    for text, entities in zip(texts, results, strict=True):
        passage(text, [labelled(e["start"], e["end"], e["label"], colours) for e in entities], file=out)
