"""``nativebert embed``: texts to vectors."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, TextIO

from nativebert.cli import options

if TYPE_CHECKING:
    from nativebert.tasks.embed import Embedder, Vectors


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s FILE -o OUT [options]"
    parser.where = "Name the output file: -o vectors.npy, .csv, .jsonl, .parquet or .rds, -o OUT/ for a folder, or -o - for standard output"
    parser.description = (
        "Compute the embedding of each text of a file, in the order of the file. Pooling, normalization, prompts and "
        "maximum length are taken from the model's files. Longer texts are truncated and counted by default."
    )
    options.add_file(parser)
    options.add_column(parser)
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True,
        help="output file: .npy, .csv, .jsonl, .parquet, .feather, .tsv, .rds or .RData; OUT/ for a folder of shards; - writes JSON lines to standard output",
    )  # fmt: skip
    options.add_model(parser, options.DEFAULT_MODEL)
    parser.add_argument("--pairs", type=options.count, metavar="N", help="also print the N most similar pairs of texts")
    parser.add_argument(
        "--vector-type", choices=("float32", "float16", "int8", "binary"), default="float32",
        help="number format of the vectors in tables and folders; the effect of a smaller one on the order of neighbours is measured (default: float32)",
    )  # fmt: skip
    options.add_quiet(parser)

    text = parser.add_argument_group("overrides of the model's settings")
    text.add_argument("--prompt", type=options.unicode, metavar="TEXT", help="prompt to prepend to each text")
    text.add_argument("--prompt-name", type=options.unicode, metavar="NAME", help="name of one of the model's prompts")
    options.add_long_texts(text, default="truncate")
    options.add_pooling(text)
    options.add_jobs(parser)
    options.add_speed(parser)


def run(args: argparse.Namespace) -> int:
    from nativebert.cli import common, tables
    from nativebert.io.provenance import check_writable, provenance_file, write_provenance
    from nativebert.io.write import check_target, write_vectors
    from nativebert.jobs.provenance import provenance_of

    if tables.is_table_job(args):
        return tables.run(
            args,
            "Embedder",
            {"--column": args.column},
            make=("pooling", "normalize"),
            call={"prompt": args.prompt, "prompt_name": args.prompt_name},
            vectors=args.vector_type,
        )
    check_target(args.output)  # before the work, not after it
    if args.output != "-":
        check_writable(args.output)
    table = common.read_file(args, args.file, {"--column": args.column}, main=True)
    common.check_apart(args.output, args.file)
    common.check_apart(provenance_file(args.output), args.file)
    texts = [text for (text,) in table.rows]
    with common.at_work(args):
        from nativebert.tasks.embed import Embedder

        embedder = Embedder(args.model, **common.task_options(args, "pooling", "normalize"))
        vectors, report = embedder(
            texts, prompt=args.prompt, prompt_name=args.prompt_name, return_report=True, progress=common.progress(args)
        )
    beside = common.columns_beside(args, table.columns, ("text", "embedding", *(f"d{n + 1}" for n in range(vectors.shape[1]))))
    write_vectors(args.output, vectors, texts, beside)
    if args.output != "-":
        prompt = embedder.prompt_text(args.prompt, args.prompt_name)
        write_provenance(args.output, provenance_of(embedder, prompt, vectors.shape[1]), texts)
    out = sys.stderr if args.output == "-" else sys.stdout  # what people read must not mix with what programs read
    where = common.name(args.output, "output")
    results = [("vectors", f"{len(vectors):,} x {vectors.shape[1]:,} float32 in {where}")]
    common.summarize(args, report, embedder.snapshot, common.source(args.file, table), results, out)
    if args.pairs:
        _print_pairs(embedder, vectors, texts, args.pairs, out)
    return 0


def _print_pairs(embedder: Embedder, vectors: Vectors, texts: list[str], most: int, out: TextIO) -> None:
    from nativebert.console import short, table
    from nativebert.search import paraphrase_mining

    pairs = paraphrase_mining(vectors, top_k=None, max_pairs=most, measure=embedder.config.similarity)
    if not pairs:
        print("\nNo pairs: there is only one text.", file=out)
        return
    rows = [(f"{pair['score']:.3f}", short(texts[pair["first"]]), short(texts[pair["second"]])) for pair in pairs]
    print(file=out)
    title = f"The {len(rows)} most similar pairs:" if len(rows) > 1 else "The most similar pair:"
    table(rows, ["similarity", "text", "text"], title=title, file=out)
