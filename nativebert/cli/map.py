"""``nativebert map``: vectors as a picture."""

from __future__ import annotations

import argparse
import math
from typing import Any

from nativebert.cli import options


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s VECTORS|TABLE -o OUT [options]"
    parser.where = "Name the output file: -o map.html, .png, .svg or .pdf"
    parser.description = (
        "Plot vectors in 2D or 3D, so that texts of similar meaning are close together, as an interactive page (.html; works offline) "
        "or a static image (.png, .svg, .pdf). Points can be colored by labels, e.g. from `nativebert classify -o labels.csv`. "
        "Requires the extra plot."
    )
    parser.add_argument(
        "vectors",
        metavar="VECTORS",
        help="output of `nativebert embed`: .npy, .csv, .jsonl, .parquet, .feather or a folder; with -m, a table of texts",
    )
    parser.add_argument(
        "-m", "--model", metavar="MODEL", help="embed the texts of TABLE (column --column) with this model first"
    )
    parser.add_argument(
        "--labels-from", type=options.unicode, metavar="NAME", help="with -m: the column of TABLE that holds the labels"
    )
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="output file: .html, .png, .svg or .pdf")
    parser.add_argument("--labels", metavar="FILE", help="one label per vector: txt (one per line), csv, tsv or jsonl")
    parser.add_argument(
        "--label-column", type=options.unicode, metavar="NAME", help="column of the labels (default: the only one, or `label`)"
    )
    parser.add_argument("--scale", action="store_true", help="the labels are numbers: use a continuous color scale")
    parser.add_argument("--texts", metavar="FILE", help="one text per vector; needed for .npy, which contains no texts")
    parser.add_argument(
        "--column", type=options.unicode, metavar="NAME", help="column of the texts (default: the only one, or `text`)"
    )
    parser.add_argument(
        "--method", choices=("pca", "umap"), default="pca",
        help="pca (default) preserves distances; umap preserves neighborhoods (requires umap-learn)",
    )  # fmt: skip
    parser.add_argument("--dimensions", type=int, choices=(2, 3), default=2, help="2D or 3D (default: %(default)s)")
    parser.add_argument("--seed", type=options.whole, default=0, metavar="N", help="random seed of umap (default: %(default)s)")
    options.add_tables(parser)
    options.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    import numpy as np

    from nativebert.cli import common
    from nativebert.errors import BadInputError
    from nativebert.io.provenance import digest_of, provenance_file, read_provenance
    from nativebert.io.vectors import read_vectors
    from nativebert.pictures.figure import check_target
    from nativebert.pictures.map import map

    if args.model is not None:
        return _map_table(args)
    if args.labels_from is not None:
        raise BadInputError("--labels-from requires -m MODEL: without it, use --labels FILE")
    for option, of, file in (
        ("label_column", "labels", args.labels),
        ("scale", "labels", args.labels),
        ("column", "texts", args.texts),
    ):
        if getattr(args, option) and file is None:
            raise BadInputError(f"--{option.replace('_', '-')} requires --{of} FILE")
    check_target(args.output)  # before the work, not after it
    vectors, given = read_vectors(args.vectors)
    recorded = read_provenance(args.vectors)
    if args.texts is not None:
        given = [text for (text,) in common.read_file(args, args.texts, {"--column": args.column}).rows]
    labels: list[str | None] | list[float] | None = None
    if args.labels is not None:
        table = common.read_file(args, args.labels, {"--label-column": args.label_column}, usual="label", numbers=True)
        labels = [label or None for (label,) in table.rows]
        if args.scale:
            labels = [_number(label, n, args.labels) for n, label in enumerate(labels, 1)]
    for values, file in ((given, args.texts), (labels, args.labels)):
        if values is not None and len(values) != len(vectors):
            raise BadInputError(
                f"{file} has {len(values):,} lines or rows, but {args.vectors} has {len(vectors):,} vectors: the numbers must be equal"
            )
    if (
        recorded is not None
        and args.texts is not None
        and "texts" in recorded
        and recorded["texts"] != digest_of(text or "" for text in given or [])
    ):
        raise BadInputError(
            f"{args.vectors} was computed from other texts than those in {args.texts}, or in another order. To show other texts at the same "
            f"points, delete {provenance_file(args.vectors)}"
        )
    there = np.flatnonzero(~np.isnan(vectors).all(axis=1)).tolist()
    left_out = len(vectors) - len(there)
    vectors, texts, labels = vectors[there], _at(given, there), _at(labels, there)
    with common.at_work(args):
        picture = map(vectors, labels, texts, method=args.method, seed=args.seed, dimensions=args.dimensions)
        picture.save(args.output)
    if recorded is None:
        common.note_unknown(args, args.vectors)
    if not args.quiet:
        of = f"{len(vectors):,} x {vectors.shape[1]:,} from {args.vectors}"
        by = [] if recorded is None else [("model", str(recorded.get("model")))]
        common.show(
            [
                *by,
                ("vectors", of),
                *([("empty", f"{common.plural(left_out, 'row')} without a vector, not shown")] if left_out else []),
                *((("shown", ", ".join(picture.axes)),) if picture.explained else ()),
                ("picture", args.output),
            ]
        )
    return 0


def _at(values: list[Any] | None, there: list[int]) -> list[Any] | None:
    return None if values is None else [values[n] for n in there]


def _number(label: str | None, line: int, file: str) -> float:
    from nativebert.errors import BadInputError

    try:
        return math.nan if label is None else float(label)
    except ValueError:
        raise BadInputError(f"{file}: label {line} is {label!r}, not a number: remove --scale to color by group") from None


def _map_table(args: argparse.Namespace) -> int:
    """Embed the texts of a table, and draw them."""
    from nativebert.cli import common
    from nativebert.errors import BadInputError
    from nativebert.pictures.figure import check_target
    from nativebert.pictures.map import map

    for option in ("labels", "texts", "label_column"):
        if getattr(args, option) is not None:
            raise BadInputError(
                f"--{option.replace('_', '-')} is for vectors that are computed already: with -m, use --labels-from COLUMN"
            )
    if args.scale and args.labels_from is None:
        raise BadInputError("--scale requires --labels-from COLUMN")
    check_target(args.output)  # before the work, not after it
    wanted = {"--column": args.column} | ({} if args.labels_from is None else {"--labels-from": args.labels_from})
    table = common.read_file(args, args.vectors, wanted, numbers=True)
    there = common.with_texts(args, [row[:1] for row in table.rows])
    texts = [table.rows[n][0] for n in there]
    labels: list[str | None] | list[float] | None = None
    if args.labels_from is not None:
        labels = [table.rows[n][1] or None for n in there]
        if args.scale:
            labels = [_number(label, n, args.vectors) for n, label in enumerate(labels, 1)]
    with common.at_work(args):
        from nativebert.tasks.embed import Embedder

        vectors = Embedder(args.model, **common.task_options(args))(texts, progress=common.progress(args))
        picture = map(vectors, labels, texts, method=args.method, seed=args.seed, dimensions=args.dimensions)
        picture.save(args.output)
    if not args.quiet:
        of = f"{len(vectors):,} texts of {common.name(args.vectors, 'input')}, {args.model}"
        empty = [("empty", f"{common.plural(args.empty, 'row')} with an empty text, not shown")] if args.empty else []
        common.show([("vectors", of), *empty, ("picture", args.output)])
    return 0
