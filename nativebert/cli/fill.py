"""``nativebert fill``: what could stand where a text says [MASK]."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from nativebert.cli import options


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
    options.add_speed(parser)


def run(args: argparse.Namespace) -> int:
    from nativebert.cli import common
    from nativebert.io.write import Records

    table = common.read(args, {"--column": args.column})
    texts = [text for (text,) in table.rows]
    targets = None if args.targets is None else [word.strip() for word in args.targets.split(",") if word.strip()]
    with common.at_work(args):
        from nativebert.tasks.fill import MaskFiller

        fill = MaskFiller(args.model, **common.task_options(args))
        results, report = fill(texts, top_k=args.top_k, targets=targets, return_report=True, progress=common.progress(args))
    records = [{"text": text, "masks": masks} for text, masks in zip(texts, results, strict=True)]
    rows: list[list[Any]] = [
        [n, number, one["token"], one["score"], one["text"]]
        for n, masks in enumerate(results)
        for number, mask in enumerate(masks)
        for one in mask
    ]
    output = Records(records, ["item", "mask", "token", "score", "text"], rows)
    near = [[*row[:4], _around(row[4], texts[row[0]])] for row in rows]
    show, inputs = partial(common.show_table, output._replace(rows=near), 2), common.source(args.file, table)
    return common.finish(args, output, show, fill, report, inputs, common.plural(len(rows), "candidate"))


def _around(filled: str, text: str) -> str:
    """The part of a text where a mask was filled in, short enough for a table."""
    start = next((n for n, (one, other) in enumerate(zip(filled, text)) if one != other), 0) - 25
    return filled if start <= 0 else f"…{filled[start:]}"
