"""``nativebert quality``: what int8, or another precision, costs."""

from __future__ import annotations

import argparse

from nativebert.cli import options


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s MODEL [options]"
    parser.description = (
        "Run a model in int8 (or another precision) and in float32 and compare the results: the cosine similarity between the two vectors of "
        "each text, the ranking of similarities, and for classifiers the labels."
    )
    parser.add_argument("model", metavar="MODEL", help="folder, or name on the Hub")
    parser.add_argument(
        "--against",
        metavar="REF",
        help="model to run in float32 (default: MODEL); for a folder written by `quantize`, the original",
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help="device: cpu (default), cuda, cuda:1, mps")
    parser.add_argument(
        "--precision", default="int8", choices=options.PRECISIONS, help="number format of MODEL (default: %(default)s)"
    )
    options.add_sample(parser, "300 generated texts")
    group = parser.add_argument_group("agreement with human scores")
    group.add_argument(
        "--pairs", metavar="FILE", help="file of text pairs with similarity scores, such as STS-B: csv, tsv or jsonl"
    )
    group.add_argument(
        "--columns",
        type=options.unicode,
        default="sentence1,sentence2,score",
        metavar="A,B,SCORE",
        help="columns of the --pairs file (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON; - for standard output")


def run(args: argparse.Namespace) -> int:
    from nativebert.bench import sentences
    from nativebert.cli.common import check_report, notes, sample, selected, write_report
    from nativebert.console import facts
    from nativebert.parity import quality

    check_report(args.json, args.texts, args.pairs)
    texts, pairs = sample(args) or sentences(300, seed=0), None if args.pairs is None else _pairs(args)
    with notes(args):
        how = selected(args, "against", "precision", "device", "revision", "offline")
        result = quality.check(args.model, texts=texts, pairs=pairs, **how)
    out = write_report(args.json, result.as_dict())
    lines = []
    if result.cosine_mean is not None:
        lines.append(("cosine to float32", f"mean {result.cosine_mean:.4f}, min {result.cosine_min:.4f}"))
    if result.ranks is not None:
        lines.append(("ranking of similarities", f"Spearman {result.ranks:.4f} over all pairs of texts"))
    if result.spearman is not None:
        reference, score = result.spearman
        lines.append(
            (
                "agreement with human scores",
                f"Spearman x 100: float32 {reference:.2f}, {args.precision} {score:.2f} ({score - reference:+.2f})",
            )
        )
    if result.labels is not None:
        lines.append(("labels", f"{result.labels:.1%} equal; maximum difference of a score {result.scores:.4f}"))
    facts({"": list(result.facts.items()), "Comparison": lines}, file=out)
    return 0


def _pairs(args: argparse.Namespace) -> list[tuple[str, str, float]]:
    from nativebert.cli.common import read_file
    from nativebert.errors import BadInputError

    path, columns = args.pairs, args.columns
    names = [name.strip() for name in columns.split(",")]
    if len(names) != 3:
        raise BadInputError(
            f"--columns must be three column names separated by commas (two texts and a score), not {columns!r}"
        )
    wanted = {"--columns (first)": names[0], "--columns (second)": names[1], "--columns (third)": names[2]}
    table = read_file(args, path, wanted, numbers=True)
    pairs = []
    for number, (one, two, score) in enumerate(table.rows, 1):
        try:
            pairs.append((one, two, float(score)))
        except ValueError:
            raise BadInputError(f"{path}, record {number}: the score {score!r} is not a number") from None
    return pairs
