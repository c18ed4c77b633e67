"""``nativebert duplicates``: groups of texts that say nearly the same."""

from __future__ import annotations

import argparse
from functools import partial

from nativebert.cli import options


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s FILE [-o OUT] [options]"
    parser.description = (
        "Find groups of near-duplicates among the texts of a file. Two texts are in one group if a chain of pairs links them, each pair at least as similar as "
        "--threshold. `index` is the position of the text in the file, from 0; `score` is its similarity to the first text of its group."
    )
    options.add_file(parser)
    options.add_column(parser)
    parser.add_argument(
        "--threshold", type=float, default=0.9, metavar="X", help="least similarity of a pair (default: %(default)s)"
    )
    parser.add_argument("--vectors", metavar="FILE", help="precomputed vectors of the texts, as of `nativebert search`")
    options.add_results(parser)
    options.add_model(parser, options.DEFAULT_MODEL)
    options.add_long_texts(parser.add_argument_group("long texts"), default="truncate")
    options.add_speed(parser)


def run(args: argparse.Namespace) -> int:
    from nativebert.cli import common
    from nativebert.cli.search import read_vectors_of
    from nativebert.io.write import Records

    table = common.read(args, {"--column": args.column})
    every = [text for (text,) in table.rows]
    there = common.with_texts(args, table.rows)
    texts = [every[n] for n in there]
    with common.at_work(args):
        from nativebert.analysis.duplicates import near_duplicates
        from nativebert.tasks.embed import Embedder

        embed = Embedder(args.model, **common.task_options(args))
        known = None if args.vectors is None else read_vectors_of(args, every)[0][there]
        vectors, report = embed(texts if known is None else [], return_report=True, progress=common.progress(args))
        found = near_duplicates(
            vectors if known is None else known, texts, threshold=args.threshold, measure=embed.config.similarity or "cosine"
        )
    found = [{**row, "index": there[row["index"]]} for row in found]
    columns = ["group", "index", "score", "text"]
    results = Records(found, columns, [[row[name] for name in columns] for row in found])
    groups = len({row["group"] for row in found})
    what = f"{common.plural(groups, 'group')} of {common.plural(len(found), 'text')}"
    show = partial(common.show_table, results, 1)
    return common.finish(args, results, show, embed, report, common.source(args.file, table), what)
