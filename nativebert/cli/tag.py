"""``nativebert tag``: the entities in texts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from nativebert.cli import options

if TYPE_CHECKING:
    from nativebert.tasks.tag import Tagger


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
    from nativebert.cli import common, rows, tables
    from nativebert.io.write import Records
    from nativebert.tasks.results import Results

    if tables.is_table_job(args):
        return tables.run(args, "Tagger", {"--column": args.column}, make=("aggregation", "ignore"), call={"top_k": args.top_k})
    keys = ["item"] if args.top_k == 1 else ["item", "entity", "text"]
    columns = list(dict.fromkeys([*keys, "text", "label", "score", "start", "end"]))

    def make() -> Tagger:
        from nativebert.tasks.tag import Tagger

        return Tagger(args.model, **common.task_options(args, "aggregation", "ignore"))

    def call(tag: Tagger, items: Sequence[rows.Row], more: dict[str, Any]) -> Any:
        return tag([str(text) for (text,) in items], top_k=args.top_k, **more)

    def build(first: int, items: Sequence[rows.Row], results: Sequence[Any]) -> Records:
        records = [{"text": text, "entities": entities} for (text,), entities in zip(items, results, strict=True)]
        flat = Results([entities or [] for entities in results], None, []).rows()  # type: ignore[arg-type]
        return Records(records, columns, [[first + row["item"], *(row[name] for name in columns[1:])] for row in flat])

    return rows.run(
        args, {"--column": args.column}, make, call, build,
        count=len, what=("entity", "entities"), keys=len(keys), explain=_explain if args.explain else None,
    )  # fmt: skip


def _explain(tag: Any, rows: Any, results: Sequence[Sequence[Mapping[str, Any]]], report: Any, out: TextIO) -> None:
    from nativebert.console import labelled, passage

    colours: dict[str, str] = {}
    for (text,), entities in zip(rows, results, strict=True):
        passage(text, [labelled(e["start"], e["end"], e["label"], colours) for e in entities], file=out)
