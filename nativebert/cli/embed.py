"""``nativebert embed``: texts to vectors."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from nativebert.cli import options
from nativebert.errors import BadInputError

if TYPE_CHECKING:
    from nativebert.hub import Snapshot
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
        help="number format of the vectors in tables and folders; the effect of a smaller one on the order of neighbours is measured (default: float32)",
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
    import numpy as np

    from nativebert.cli import common, rows, tables
    from nativebert.io.provenance import check_writable, provenance_file, text_line, write_provenance
    from nativebert.io.write import RDATA, RDS, vector_file
    from nativebert.jobs.provenance import provenance_of
    from nativebert.loading import open_snapshot
    from nativebert.sentence import kind_of_vectors

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
    with common.at_work(args):
        files = open_snapshot(args.model, revision=args.revision, offline=args.offline, base=args.base)
        kind = kind_of_vectors(files) if args.kind == "auto" else args.kind
    _check_kind(args, kind)
    _check_output(args.output, kind)
    if kind != "dense":
        return _run_other(args, kind, files)
    ending = Path(args.output).suffix.lower()
    whole = bool(args.pairs) or ending in (RDS, *RDATA)
    source = rows.open_source(args, {"--column": args.column}, streamed=rows.is_streamed(args) and not whole)
    common.check_apart(args.output, args.file)
    common.check_apart(provenance_file(args.output), args.file)
    totals, digest = rows.Totals(), hashlib.sha256()
    with common.at_work(args):
        from nativebert.tasks.embed import Embedder

        embedder = Embedder(files, **common.task_options(args, "pooling", "normalize", "task"))
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
    results = [*common.of_task(embedder), ("vectors", f"{totals.rows:,} x {embedder.dimension:,} float32 in {where}")]
    rows.summarize(args, source, embedder, totals, results, out)
    if args.pairs:
        _print_pairs(embedder, vectors[part.there], [str(texts[n]) for n in part.there], args.pairs, out)
    return common.REJECTED if totals.rejects else 0


# ---- weights of tokens, vectors of tokens

_NAMES = {"dense": "vectors of texts", "sparse": "weights of tokens", "tokens": "vectors of tokens"}
_NOT_FOR = {
    "dense": ("top_k", "role"), "sparse": ("role", "pooling", "normalize", "pairs", "task"),
    "tokens": ("top_k", "pooling", "normalize", "pairs", "task"),
}  # fmt: skip


def _check_output(output: str, kind: str) -> None:
    """Check the ending and the place of the output; of a kind that is not known yet, that one of them has it."""
    from nativebert.io.write import VECTOR_ENDINGS, check_ending

    own = [] if kind == "dense" else [".csv", ".jsonl", ".npz"]
    both = list(VECTOR_ENDINGS) if kind in ("dense", "auto") else []
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


def _run_other(args: argparse.Namespace, kind: str, files: Snapshot) -> int:
    """Write weights of tokens, or vectors of tokens."""
    from nativebert.cli import rows
    from nativebert.io.provenance import text_line, write_provenance
    from nativebert.jobs.provenance import provenance_of

    asked = {"prompt": args.prompt, "prompt_name": args.prompt_name, "top_k": args.top_k, "kind": args.role}
    options_of_call = {name: value for name, value in asked.items() if value is not None}
    digest, made = hashlib.sha256(), list[Any]()

    def make() -> Any:
        made.append(_task(args, kind, files))
        return made[0]

    def call(task: Any, items: Sequence[rows.Row], more: dict[str, Any]) -> Any:
        vectors, report = task([str(text) for (text,) in items], **options_of_call, **more)
        return vectors if kind == "tokens" else _weights(task, vectors), report

    def build(first: int, items: Sequence[rows.Row], results: Sequence[Any]) -> Records:
        for (text,) in items:
            digest.update(text_line(text or ""))
        texts = [text for (text,) in items]
        return (
            _token_vectors(first, texts, results, made[0].dimension)
            if kind == "tokens"
            else _token_weights(first, texts, results)
        )

    what = ("vector",) if kind == "tokens" else ("weight",)
    if args.output.lower().endswith(".npz"):
        code = _run_arrays(args, kind, make, options_of_call, digest, what)
    else:
        code = rows.run(args, {"--column": args.column}, make, call, build, count=len, what=what, keys=3)
    if args.output != "-":
        write_provenance(args.output, provenance_of(made[0]) | {"kind": kind, "call": options_of_call}, digest.hexdigest())
    return code


def _run_arrays(
    args: argparse.Namespace,
    kind: str,
    make: Callable[[], Any],
    options_of_call: dict[str, Any],
    digest: Any,
    what: tuple[str, ...],
) -> int:
    """Write a .npz file: a matrix as ``scipy.sparse.load_npz`` reads it, or the vectors of all texts with where each text's begin. A text that is
    empty has no weights, and no vectors."""
    import numpy as np

    from nativebert.cli import common, rows
    from nativebert.io.provenance import text_line
    from nativebert.io.write import write_arrays

    source, totals = rows.open_source(args, {"--column": args.column}, streamed=False), rows.Totals()
    with common.at_work(args):
        task = make()

        def call(items: list[rows.Row], more: dict[str, Any]) -> Any:
            return task([str(text) for (text,) in items], **options_of_call, **more)

        ((part, vectors),) = rows.computed(args, source, task, call, totals)
    counts = np.zeros(len(part.rows), np.int64)
    if kind == "sparse":
        counts[part.there], total = np.diff(vectors.indptr), len(vectors.data)
        matrix = {"indices": vectors.indices, "data": vectors.data, "shape": np.array((len(counts), task.dimension))}
        arrays = {**matrix, "indptr": np.append(0, counts.cumsum()).astype(vectors.indptr.dtype), "format": np.array(b"csr")}
    else:
        counts[part.there], total = list(map(len, vectors)), sum(map(len, vectors))
        arrays = {"vectors": np.concatenate(vectors), "offsets": np.append(0, counts.cumsum())}
    write_arrays(args.output, arrays)
    for (text,) in part.rows:
        digest.update(text_line(text or ""))
    rows.summarize(args, source, task, totals, common.target(args, common.plural(total, *what)), sys.stdout)
    return 0


def _task(args: argparse.Namespace, kind: str, files: Snapshot) -> Any:
    from nativebert.cli import common

    if kind == "sparse":
        from nativebert.tasks.sparse import SparseEmbedder

        return SparseEmbedder(files, **common.task_options(args))
    from nativebert.tasks.multivector import MultiVectorEmbedder

    return MultiVectorEmbedder(files, **common.task_options(args))


def _weights(task: Any, vectors: Any) -> list[dict[str, float]]:
    """The weights of each text, by token, in digits that bring a float32 back."""
    from nativebert.io.write import digits

    return [{token: float(digits(weight)) for token, weight in row.items()} for row in task.tokens(vectors)]


def _token_weights(first: int, texts: Sequence[str | None], weights: Sequence[dict[str, float] | None]) -> Records:
    """JSON lines: a line for each text; a table: a row for each weight."""
    from nativebert.io.write import Records

    records = [{"text": text, "weights": row} for text, row in zip(texts, weights, strict=True)]
    rows = [[first + n, texts[n], token, weight] for n, row in enumerate(weights) for token, weight in (row or {}).items()]
    return Records(records, ["item", "text", "token", "weight"], rows)


def _token_vectors(first: int, texts: Sequence[str | None], vectors: Sequence[Any], width: int) -> Records:
    """JSON lines: a line for each text; a table: a row for each vector."""
    from nativebert.io.write import Records, digits

    numbers = [None if of is None else [[float(digits(x)) for x in vector] for vector in of.tolist()] for of in vectors]
    records = [{"text": text, "vectors": of} for text, of in zip(texts, numbers, strict=True)]
    rows = [[first + n, texts[n], k, *vector] for n, of in enumerate(numbers) for k, vector in enumerate(of or ())]
    return Records(records, ["item", "text", "token", *(f"d{n + 1}" for n in range(width))], rows)


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
