"""``nativebert search``: the texts of a file that are nearest to a query in meaning."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from nativebert.cli import options

if TYPE_CHECKING:
    from nativebert.io.provenance import Provenance
    from nativebert.io.tables import TableReader
    from nativebert.jobs.corpus import Corpus
    from nativebert.tasks.embed import Embedder, Vectors
    from nativebert.tasks.results import Report


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s FILE --query TEXT [-o OUT] [options]"
    parser.description = (
        "Find the texts of a file that are most similar to a query, by exact search over their embeddings. `index` is the position of the text in "
        "the file, from 0. Use --vectors to reuse the output of `nativebert embed FILE -o vectors.npy` with the same model."
    )
    options.add_file(parser)
    options.add_column(parser)
    options.add_queries(parser)
    options.add_results(parser)
    options.add_model(parser, options.DEFAULT_MODEL)
    options.add_base(parser)
    parser.add_argument("--top-k", type=options.count, default=10, metavar="N", help="texts per query (default: %(default)s)")
    parser.add_argument("--vectors", metavar="FILE", help="precomputed vectors of the texts: .npy, .csv or .jsonl")
    tasks = parser.add_argument_group("models with an adapter for each task (jina-embeddings-v3)")
    tasks.add_argument("--task", type=options.unicode, metavar="NAME", help="adapter for the texts, such as retrieval.passage")
    tasks.add_argument(
        "--query-task", type=options.unicode, metavar="NAME", help="adapter for the queries, such as retrieval.query (default: that of --task)"
    )  # fmt: skip
    text = parser.add_argument_group("overrides of the model's settings")
    text.add_argument("--prompt", type=options.unicode, metavar="TEXT", help="prompt to prepend to each text of the file")
    text.add_argument("--prompt-name", type=options.unicode, metavar="NAME", help="name of one of the model's prompts")
    text.add_argument("--query-prompt", type=options.unicode, metavar="TEXT", help="prompt to prepend to each query")
    text.add_argument("--query-prompt-name", type=options.unicode, metavar="NAME", help="name of one of the model's prompts")
    options.add_long_texts(text, default="truncate")
    options.add_pooling(text)
    options.add_jobs(parser)
    options.add_speed(parser)


def run(args: argparse.Namespace) -> int:
    from nativebert.cli import common, tables
    from nativebert.cli.provenance import check_provenance
    from nativebert.errors import BadInputError
    from nativebert.io.provenance import read_provenance
    from nativebert.jobs.provenance import provenance_of

    of_queries = tables.is_folder(args.output) or args.resume or tables.is_only_table(args.output)  # a row for each
    queries = list[str]()
    if of_queries:
        table = common.read_file(args, args.file, {"--column": args.column}, main=True)
    else:
        tables.check_no_folder(args)
        queries = common.queries(args)
        table = common.read(args, {"--column": args.column})
    texts = [text for (text,) in table.rows]
    there = common.with_texts(args, table.rows)
    vectors, recorded = None, None
    prompted = args.prompt is not None or args.prompt_name is not None
    if args.vectors is not None:
        if prompted and read_provenance(args.vectors) is None:
            raise BadInputError("--vectors are already computed, so --prompt and --prompt-name have no effect: remove them")
        vectors, recorded = read_vectors_of(args, texts)

    def known(embed: Embedder) -> tuple[Vectors, Report | None]:
        """The vectors of the texts that are searched."""
        if vectors is None:
            prompts = {"prompt": args.prompt, "prompt_name": args.prompt_name}
            return embed([texts[n] for n in there], **prompts, return_report=True, progress=common.progress(args))
        if recorded is not None:
            prompt = embed.prompt_text(args.prompt, args.prompt_name) if prompted else None
            check_provenance(args.vectors, recorded, provenance_of(embed, "", embed.dimension), prompt, args.task)
        return vectors[there], None

    if of_queries:
        if args.vectors is not None and recorded is None:
            common.note_unknown(args, args.vectors)
        return _table_of_hits(args, known, [texts[n] for n in there], there)
    with common.at_work(args):
        from nativebert.search import semantic_search
        from nativebert.tasks.embed import Embedder

        how = common.task_options(args, "pooling", "normalize")
        embed = Embedder(args.model, task=args.task, **how)
        ask = embed if args.query_task is None else Embedder(args.model, task=args.query_task, **how)
        corpus, of_texts = known(embed)
        prompts = {"prompt": args.query_prompt, "prompt_name": args.query_prompt_name}
        query_vectors, report = ask(queries, **prompts, return_report=True, progress=common.progress(args))
        near = semantic_search(query_vectors, corpus, top_k=args.top_k, measure=embed.config.similarity)
    if args.vectors is not None and recorded is None:
        common.note_unknown(args, args.vectors)
    hits = [
        [{**hit, "index": there[hit["index"]], "text": texts[there[hit["index"]]]} for hit in of_query] for of_query in near
    ]
    used = [("task", f"{embed.task or 'none'} for texts, {ask.task or 'none'} for queries")] if embed.tasks else []
    return common.finish_hits(args, table, queries, hits, embed, of_texts or report, used)


def _table_of_hits(
    args: argparse.Namespace, known: Callable[[Embedder], tuple[Vectors, Report | None]], texts: list[str], there: list[int]
) -> int:
    """A table of queries as a job: each with its columns and its hits."""
    from nativebert.cli import common, tables
    from nativebert.errors import BadInputError
    from nativebert.io.read import TABLES, format_of

    if (args.queries is None) == (args.query is None):
        raise BadInputError("a table of queries with their hits takes either --queries FILE or --query")

    def source() -> TableReader:
        from nativebert.io.tables import open_table

        chosen = {"keep": args.keep, "drop": args.drop or ()}
        if args.queries is None:
            return open_table({"query": args.query}, **chosen)
        how = {"delimiter": args.delimiter, "quoting": args.quoting} if format_of(args.queries) in TABLES else {}
        return open_table(args.queries, {"--queries-column": args.queries_column}, usual="query", **how, **chosen)

    def corpus(ask: Embedder) -> Corpus:
        from nativebert.jobs.corpus import Corpus
        from nativebert.tasks.embed import Embedder

        embed = ask
        if args.query_task is not None:
            embed = Embedder(args.model, task=args.task, **common.task_options(args, "pooling", "normalize"))
        return Corpus(known(embed)[0], texts, there, args.top_k, embed.config.similarity or "cosine")

    if args.queries is not None and args.output is not None and not tables.is_folder(args.output):
        common.check_apart(args.output, args.queries)
    call = {"prompt": args.query_prompt, "prompt_name": args.query_prompt_name}
    of_query = argparse.Namespace(**{**vars(args), "task": args.query_task or args.task})
    return tables.run(of_query, "Embedder", {}, make=("pooling", "normalize", "task"), call=call, source=source, corpus=corpus)


def read_vectors_of(args: argparse.Namespace, texts: list[str]) -> tuple[Vectors, Provenance | None]:
    """Vectors that were made of these texts, as far as their file says, and how they were made."""
    import numpy as np

    from nativebert.cli import common
    from nativebert.errors import BadInputError
    from nativebert.io.provenance import digest_of, read_provenance
    from nativebert.io.vectors import read_vectors

    path = args.vectors
    vectors, theirs = read_vectors(path)
    recorded = read_provenance(path)
    if len(vectors) != len(texts):
        raise BadInputError(
            f"{path} has {len(vectors):,} vectors, but there are {len(texts):,} texts: it was computed from another file"
        )
    if theirs is not None and [text or "" for text in theirs] != texts:
        n = next(n for n, (one, other) in enumerate(zip(theirs, texts)) if (one or "") != other)
        raise BadInputError(
            f"{path} was computed from other texts: text {n} is {(theirs[n] or '')[:60]!r} there, and {texts[n][:60]!r} here"
        )
    if recorded is not None and "texts" in recorded and recorded["texts"] != digest_of(texts):
        raise BadInputError(
            f"{path} was computed from other texts than those in {common.name(args.file, 'input')}, or in another order"
        )
    if any(text.strip() and not there for text, there in zip(texts, ~np.isnan(vectors[:, 0]))):
        raise BadInputError(f"{path} has no vector for some of the texts: compute the vectors again")
    return vectors, recorded
