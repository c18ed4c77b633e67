"""``nativebert rank``: the texts of a file by how well they answer a query, read together with it by a cross-encoder."""

from __future__ import annotations

import argparse

from nativebert.cli import options


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s FILE --query TEXT -m MODEL [-o OUT] [options]"
    parser.description = (
        "Rank the texts of a file by relevance to a query. A cross-encoder reads each text together with the query, which is slower and more accurate "
        "than `nativebert search`. `index` is the position of the text in the file, from 0."
    )
    options.add_file(parser)
    options.add_column(parser)
    options.add_queries(parser)
    options.add_results(parser)
    options.add_model(parser)
    options.add_base(parser)
    parser.add_argument("--top-k", type=options.count_or_all, default=None, metavar="N", help="texts per query (default: all)")
    options.add_long_texts(parser.add_argument_group("long texts"), default="truncate")
    options.add_jobs(parser)
    options.add_speed(parser)


def run(args: argparse.Namespace) -> int:
    from nativebert.cli import common, tables
    from nativebert.errors import BadInputError, RefusedError

    if tables.is_table_job(args):
        if args.queries is not None or len(args.query or []) != 1 or args.top_k is not None:
            raise BadInputError("a table of all rows with their scores takes one --query, and neither --queries nor --top-k")
        return tables.run(args, "Ranker", {"--column": args.column}, make=(), call={"query": args.query[0]})
    queries = common.queries(args)
    table = common.read(args, {"--column": args.column})
    there = common.with_texts(args, table.rows)
    texts = [table.rows[n][0] for n in there]
    with common.at_work(args):
        import numpy as np

        from nativebert.tasks.rank import Ranker

        ranker = Ranker(args.model, **common.task_options(args))
        if ranker.outputs != 1:
            raise RefusedError(
                f"{args.model} has {ranker.outputs} outputs per pair, and ranking needs a single score; "
                "use `nativebert classify --pair-column` to classify the pairs"
            )
        pairs = [(query, text) for query in queries for text in texts]
        scores, report = ranker(pairs, return_report=True, progress=common.progress(args))
    hits = [
        [
            {"index": there[n], "score": float(row[n]), "text": texts[n]}
            for n in np.argsort(-row, kind="stable")[: args.top_k].tolist()
        ]
        for row in scores.reshape(len(queries), len(texts))
    ]
    return common.finish_hits(args, table, queries, hits, ranker, report)
