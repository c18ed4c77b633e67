"""``nativebert fill``: what could stand where a text says [MASK]."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nativebert.cli import options

if TYPE_CHECKING:
    from nativebert.tasks.fill import MaskFiller


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s FILE -m MODEL [-o OUT] [options]"
    parser.description = (
        "Predict the token behind each mask ([MASK] or <mask>, as the model defines it) in the texts of a file, best first. If a text has "
        "several masks, each is filled independently. `item` and `mask` are numbered from 0."
    )
    options.add_file(parser)
    options.add_column(parser)
    options.add_results(parser)
    options.add_model(parser)
    options.add_base(parser)
    parser.add_argument(
        "--top-k", type=options.count, default=5, metavar="N", help="candidates per mask (default: %(default)s)"
    )
    parser.add_argument("--targets", type=options.unicode, metavar="A,B,C", help="only score these words, separated by commas")
    options.add_long_texts(parser.add_argument_group("long texts"), default="truncate")
    options.add_jobs(parser)
    options.add_speed(parser)


def run(args: argparse.Namespace) -> int:
    from nativebert.cli import common, rows, tables
    from nativebert.io.write import Records

    targets = None if args.targets is None else [word.strip() for word in args.targets.split(",") if word.strip()]

    if tables.is_table_job(args):
        call_of = {"top_k": args.top_k, "targets": targets}
        return tables.run(args, "MaskFiller", {"--column": args.column}, make=(), call=call_of)

    def make() -> MaskFiller:
        from nativebert.tasks.fill import MaskFiller

        return MaskFiller(args.model, **common.task_options(args))

    def call(fill: MaskFiller, items: Sequence[rows.Row], more: dict[str, Any]) -> Any:
        return fill([str(text) for (text,) in items], top_k=args.top_k, targets=targets, **more)

    def build(first: int, items: Sequence[rows.Row], results: Sequence[Any]) -> Records:
        records = [{"text": text, "masks": masks} for (text,), masks in zip(items, results, strict=True)]
        lines = [
            [first + n, number, one["token"], one["score"], one["text"]]
            for n, masks in enumerate(results)
            for number, mask in enumerate(masks or ())
            for one in mask
        ]
        return Records(records, ["item", "mask", "token", "score", "text"], lines)

    def near(output: Records, items: Sequence[rows.Row]) -> Records:
        return output._replace(rows=[[*row[:4], _around(row[4], str(items[row[0]][0]))] for row in output.rows])

    return rows.run(
        args, {"--column": args.column}, make, call, build,
        count=lambda masks: sum(map(len, masks)), what=("candidate",), keys=2, shorten=near,
    )  # fmt: skip


def _around(filled: str, text: str) -> str:
    """The part of a text where a mask was filled in, short enough for a table."""
    start = next((n for n, (one, other) in enumerate(zip(filled, text)) if one != other), 0) - 25
    return filled if start <= 0 else f"…{filled[start:]}"
