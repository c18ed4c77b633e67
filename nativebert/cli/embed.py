"""``nativebert embed``: texts to vectors."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
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
        help="numbers of the vectors in tables and folders; what fewer bytes cost in the order of neighbours is measured (default: float32)",
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
    import numpy as np

    from nativebert.cli import common, rows, tables
    from nativebert.io.provenance import check_writable, provenance_file, text_line, write_provenance
    from nativebert.io.write import RDATA, RDS, check_target, vector_file
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
    ending = Path(args.output).suffix.lower()
    whole = bool(args.pairs) or ending in (RDS, *RDATA)
    source = rows.open_source(args, {"--column": args.column}, streamed=rows.is_streamed(args) and not whole)
    common.check_apart(args.output, args.file)
    common.check_apart(provenance_file(args.output), args.file)
    totals, digest = rows.Totals(), hashlib.sha256()
    with common.at_work(args):
        from nativebert.tasks.embed import Embedder

        embedder = Embedder(args.model, **common.task_options(args, "pooling", "normalize"))
        prompts = {"prompt": args.prompt, "prompt_name": args.prompt_name}
        taken = ("text", "embedding", *(f"d{n + 1}" for n in range(embedder.dimension)))
        with vector_file(args.output, embedder.dimension) as write:
            for part, computed in rows.computed(
                args,
                source,
                embedder,
                lambda items, more: embedder([str(text) for (text,) in items], **prompts, **more),
                totals,
            ):
                vectors = np.full((len(part.rows), embedder.dimension), np.nan, np.float32)  # of a row without a text
                vectors[part.there] = computed
                texts = [text for (text,) in part.rows]
                for text in texts:
                    digest.update(text_line(text or ""))
                if ending == ".npy":
                    write(vectors, texts)
                else:
                    write(
                        vectors,
                        texts,
                        common.columns_beside(args, source.columns, taken) if source.whole else rows.beside(part, taken),
                    )
        if ending == ".npy":
            rows.note_left_out(args, source)
    if args.output != "-":
        prompt = embedder.prompt_text(args.prompt, args.prompt_name)
        write_provenance(args.output, provenance_of(embedder, prompt, embedder.dimension), digest.hexdigest())
    out = sys.stderr if args.output == "-" else sys.stdout  # what people read must not mix with what programs read
    where = common.name(args.output, "output")
    results = [("vectors", f"{totals.rows:,} x {embedder.dimension:,} float32 in {where}")]
    rows.summarize(args, source, embedder, totals, results, out)
    if args.pairs:
        _print_pairs(embedder, vectors[part.there], [str(texts[n]) for n in part.there], args.pairs, out)
    return rows.REJECTED if totals.rejects else 0


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
