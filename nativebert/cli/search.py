"""``nativebert search``: the texts of a file that are nearest to a query in meaning."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from nativebert.cli import options

if TYPE_CHECKING:
    from nativebert.io.provenance import Provenance
    from nativebert.tasks.embed import Vectors


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
    parser.add_argument("--top-k", type=options.count, default=10, metavar="N", help="texts per query (default: %(default)s)")
    parser.add_argument("--vectors", metavar="FILE", help="precomputed vectors of the texts: .npy, .csv or .jsonl")
    text = parser.add_argument_group("overrides of the model's settings")
    text.add_argument("--prompt", type=options.unicode, metavar="TEXT", help="prompt to prepend to each text of the file")
    text.add_argument("--prompt-name", type=options.unicode, metavar="NAME", help="name of one of the model's prompts")
    text.add_argument("--query-prompt", type=options.unicode, metavar="TEXT", help="prompt to prepend to each query")
    text.add_argument("--query-prompt-name", type=options.unicode, metavar="NAME", help="name of one of the model's prompts")
    options.add_long_texts(text, default="truncate")
    options.add_pooling(text)
    options.add_speed(parser)


def run(args: argparse.Namespace) -> int:
    from nativebert.cli import common
    from nativebert.cli.provenance import check_provenance
    from nativebert.errors import BadInputError
    from nativebert.io.provenance import read_provenance
    from nativebert.jobs.provenance import provenance_of

    queries = common.queries(args)
    table = common.read(args, {"--column": args.column})
    texts = [text for (text,) in table.rows]
    vectors, recorded = None, None
    prompted = args.prompt is not None or args.prompt_name is not None
    if args.vectors is not None:
        if prompted and read_provenance(args.vectors) is None:
            raise BadInputError("--vectors are already computed, so --prompt and --prompt-name have no effect: remove them")
        vectors, recorded = read_vectors_of(args, texts)
    with common.at_work(args):
        from nativebert.search import semantic_search
        from nativebert.tasks.embed import Embedder

        embed = Embedder(args.model, **common.task_options(args, "pooling", "normalize"))
        if recorded is not None:
            prompt = embed.prompt_text(args.prompt, args.prompt_name) if prompted else None
            check_provenance(args.vectors, recorded, provenance_of(embed, "", embed.dimension), prompt)
        show: dict[str, Any] = {"return_report": True, "progress": common.progress(args)}
        query_vectors, report = embed(queries, prompt=args.query_prompt, prompt_name=args.query_prompt_name, **show)
        if vectors is None:
            vectors, report = embed(texts, prompt=args.prompt, prompt_name=args.prompt_name, **show)
        near = semantic_search(query_vectors, vectors, top_k=args.top_k, measure=embed.config.similarity)
    if args.vectors is not None and recorded is None:
        common.note_unknown(args, args.vectors)
    hits = [[{**hit, "text": texts[hit["index"]]} for hit in of_query] for of_query in near]
    return common.finish_hits(args, table, queries, hits, embed, report)


def read_vectors_of(args: argparse.Namespace, texts: list[str]) -> tuple[Vectors, Provenance | None]:
    """Vectors that were made of these texts, as far as their file says, and how they were made."""
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
    if theirs is not None and theirs != texts:
        n = next(n for n, (one, other) in enumerate(zip(theirs, texts)) if one != other)
        raise BadInputError(
            f"{path} was computed from other texts: text {n} is {theirs[n][:60]!r} there, and {texts[n][:60]!r} here"
        )
    if recorded is not None and "texts" in recorded and recorded["texts"] != digest_of(texts):
        raise BadInputError(
            f"{path} was computed from other texts than those in {common.name(args.file, 'input')}, or in another order"
        )
    return vectors, recorded
