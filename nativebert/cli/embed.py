"""``nativebert embed``: texts to vectors."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, TextIO

from nativebert.cli import options
from nativebert.errors import BadInputError

if TYPE_CHECKING:
    from nativebert.hub import Snapshot
    from nativebert.io.read import Table
    from nativebert.io.write import Records
    from nativebert.tasks.embed import Embedder, Vectors


KINDS = ("dense", "sparse", "tokens")


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s FILE -o OUT [options]"
    parser.where = "Name the output file: -o vectors.npy, .csv, .jsonl, .npz, .parquet or .rds, -o OUT/ for a folder, or -o - for standard output"
    parser.description = (
        "Compute the embedding of each text of a file, in the order of the file. Pooling, normalization, prompts and "
        "maximum length are taken from the model's files. Longer texts are truncated and counted by default. "
        "Models that give a text the weights of a few tokens (SPLADE), or a vector for each token (ColBERT), are recognized by their files."
    )
    options.add_file(parser)
    options.add_column(parser)
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True,
        help="output file: .npy, .csv, .jsonl, .parquet, .feather, .tsv, .rds or .RData; .csv, .jsonl or .npz for weights or vectors of tokens; OUT/ for a folder of "
        "shards; - writes JSON lines to standard output",
    )  # fmt: skip
    options.add_model(parser, options.DEFAULT_MODEL)
    options.add_base(parser)
    parser.add_argument("--pairs", type=options.count, metavar="N", help="also print the N most similar pairs of texts")
    parser.add_argument(
        "--vector-type", choices=("float32", "float16", "int8", "binary"), default="float32",
        help="numbers of the vectors in tables and folders; what fewer bytes cost in the order of neighbours is measured (default: float32)",
    )  # fmt: skip
    options.add_quiet(parser)

    parser.add_argument(
        "--task", type=options.unicode, metavar="NAME",
        help="of a model with an adapter for each task (jina-embeddings-v3: retrieval.query, retrieval.passage, separation, classification, "
        "text-matching), the one to use, with its instruction before each text (default: none)",
    )  # fmt: skip

    other = parser.add_argument_group("weights of tokens (SPLADE) and vectors of tokens (ColBERT)")
    other.add_argument(
        "--kind", choices=("auto", *KINDS), default="auto",
        help="dense: one vector per text; sparse: weights of tokens; tokens: one vector per token (default: by the model's files)",
    )  # fmt: skip
    other.add_argument(
        "--top-k", type=options.count, metavar="N", help="of weights of tokens, the N largest of each text (default: all)"
    )
    other.add_argument(
        "--as", dest="role", choices=("query", "document"), help="of vectors of tokens, what the texts are (default: document)"
    )

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
    from nativebert.io.write import write_vectors
    from nativebert.jobs.provenance import provenance_of

    if tables.is_table_job(args):
        _check_kind(args, "dense" if args.kind == "auto" else args.kind, table=True)
        return tables.run(
            args,
            "Embedder",
            {"--column": args.column},
            make=("pooling", "normalize", "task"),
            call={"prompt": args.prompt, "prompt_name": args.prompt_name},
            vectors=args.vector_type,
        )
    _check_output(args.output, args.kind)  # before the work, not after it
    if args.output != "-":
        check_writable(args.output)
    table = common.read_file(args, args.file, {"--column": args.column}, main=True)
    common.check_apart(args.output, args.file)
    common.check_apart(provenance_file(args.output), args.file)
    texts = [text for (text,) in table.rows]
    with common.at_work(args):
        from nativebert.loading import open_snapshot
        from nativebert.sentence import kind_of_vectors
        from nativebert.tasks.embed import Embedder

        files = open_snapshot(args.model, revision=args.revision, offline=args.offline, base=args.base)
        kind = kind_of_vectors(files) if args.kind == "auto" else args.kind
        _check_kind(args, kind)
        _check_output(args.output, kind)
        if kind != "dense":
            return _run_other(args, kind, files, table)
        embedder = Embedder(files, **common.task_options(args, "pooling", "normalize", "task"))
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
    results = [*common.of_task(embedder), ("vectors", f"{len(vectors):,} x {vectors.shape[1]:,} float32 in {where}")]
    common.summarize(args, report, embedder.snapshot, common.source(args.file, table), results, out)
    if args.pairs:
        _print_pairs(embedder, vectors, texts, args.pairs, out)
    return 0


# ---- weights of tokens, vectors of tokens

_NAMES = {"dense": "vectors of texts", "sparse": "weights of tokens", "tokens": "vectors of tokens"}
_NOT_FOR = {
    "dense": ("top_k", "role"), "sparse": ("role", "pooling", "normalize", "pairs", "task"),
    "tokens": ("top_k", "pooling", "normalize", "pairs", "task"),
}  # fmt: skip


def _check_output(output: str, kind: str) -> None:
    """Check the ending and the place of the output; of a kind that is not known yet, that one of them has it."""
    from nativebert.io.write import WRITERS, check_ending

    own = [] if kind == "dense" else [".csv", ".jsonl", ".npz"]
    both = list(WRITERS) if kind in ("dense", "auto") else []
    check_ending(output, [*both, *(ending for ending in own if ending not in both)], "vectors.npy" if both else "vectors.npz")


def _check_kind(args: argparse.Namespace, kind: str, table: bool = False) -> None:
    """Refuse options that are for vectors of another kind."""
    if given := [name for name in _NOT_FOR[kind] if getattr(args, name) is not None]:
        option = "as" if given[0] == "role" else given[0].replace("_", "-")
        raise BadInputError(f"--{option} means nothing for {_NAMES[kind]}, which {args.model} gives: leave it out")
    if table and kind != "dense":
        raise BadInputError(
            f"{_NAMES[kind]} are written to a .csv, .jsonl or .npz file, or to standard output (-): choose one of them"
        )


def _run_other(args: argparse.Namespace, kind: str, files: Snapshot, table: Table) -> int:
    """Write weights of tokens, or vectors of tokens."""
    from nativebert.cli import common
    from nativebert.io.provenance import write_provenance
    from nativebert.io.write import write_arrays, write_records
    from nativebert.jobs.provenance import provenance_of

    args.columns_read = table.columns
    texts = [text for (text,) in table.rows]
    asked = {"prompt": args.prompt, "prompt_name": args.prompt_name, "top_k": args.top_k, "kind": args.role}
    call = {name: value for name, value in asked.items() if value is not None}
    task = _task(args, kind, files)
    vectors, report = task(texts, return_report=True, progress=common.progress(args), **call)
    if args.output.lower().endswith(".npz"):
        write_arrays(args.output, _arrays(vectors))
    else:
        write_records(args.output, common.beside_other_columns(args, _records(task, vectors, texts)))
    if args.output != "-":
        write_provenance(args.output, provenance_of(task) | {"kind": kind, "call": call}, texts)
    if kind == "sparse":
        what = f"{len(vectors.data):,} weights of {task.dimension:,} tokens"
    else:
        what = f"{sum(map(len, vectors)):,} vectors of {task.dimension:,} numbers"
    out = sys.stderr if args.output == "-" else sys.stdout
    results = [("vectors", f"{what} for {common.plural(len(texts), 'text')} in {common.name(args.output, 'output')}")]
    common.summarize(args, report, task.snapshot, common.source(args.file, table), results, out)
    return 0


def _task(args: argparse.Namespace, kind: str, files: Snapshot) -> Any:
    from nativebert.cli import common

    if kind == "sparse":
        from nativebert.tasks.sparse import SparseEmbedder

        return SparseEmbedder(files, **common.task_options(args))
    from nativebert.tasks.multivector import MultiVectorEmbedder

    return MultiVectorEmbedder(files, **common.task_options(args))


def _arrays(vectors: Any) -> dict[str, Any]:
    """For a .npz file: a matrix as ``scipy.sparse.load_npz`` reads it, or the vectors of all texts with where each text's begin."""
    import numpy as np

    from nativebert.tasks.sparse import SparseVectors

    if isinstance(vectors, SparseVectors):
        arrays = {"indices": vectors.indices, "indptr": vectors.indptr, "data": vectors.data}
        return {**arrays, "shape": np.array(vectors.shape), "format": np.array(b"csr")}
    return {"vectors": np.concatenate(vectors), "offsets": np.cumsum([0, *map(len, vectors)])}


def _records(task: Any, vectors: Any, texts: list[str]) -> Records:
    """JSON lines: a line for each text; a table: a row for each weight or vector."""
    from nativebert.io.write import Records, digits
    from nativebert.tasks.sparse import SparseVectors

    if isinstance(vectors, SparseVectors):
        weights = [{token: float(digits(w)) for token, w in row.items()} for row in task.tokens(vectors)]
        records = [{"text": text, "weights": row} for text, row in zip(texts, weights, strict=True)]
        rows = [
            [n, text, token, w] for n, (text, row) in enumerate(zip(texts, weights, strict=True)) for token, w in row.items()
        ]
        return Records(records, ["index", "text", "token", "weight"], rows)
    numbers = [[[float(digits(x)) for x in vector] for vector in of.tolist()] for of in vectors]
    records = [{"text": text, "vectors": of} for text, of in zip(texts, numbers, strict=True)]
    rows = [
        [n, text, k, *vector] for n, (text, of) in enumerate(zip(texts, numbers, strict=True)) for k, vector in enumerate(of)
    ]
    return Records(records, ["index", "text", "token", *(f"d{n + 1}" for n in range(task.dimension))], rows)


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
