"""``nativebert quality``: what int8, or another precision, costs."""

from __future__ import annotations

import argparse

from nativebert.cli import options


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s MODEL [options]"
    parser.description = (
        "Run texts through a model in int8 (or another precision) and in float32, and say how far the results are apart: the cosine between a "
        "text's two vectors, whether similarities keep their order, and for a classifier whether labels stay the same."
    )
    parser.add_argument("model", metavar="MODEL", help="folder, or name on the Hub")
    parser.add_argument(
        "--against", metavar="REF", help="what float32 is run with (default: MODEL), for a folder from `quantize`"
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu (the default), cuda, cuda:1, mps")
    parser.add_argument("--precision", default="int8", choices=options.PRECISIONS, help="of MODEL (default: %(default)s)")
    options.add_sample(parser, "300 made up")
    group = parser.add_argument_group("is the order the one that people give?")
    group.add_argument("--pairs", metavar="FILE", help="csv, tsv or jsonl of two texts and their similarity, as STS-B")
    group.add_argument(
        "--columns",
        type=options.unicode,
        default="sentence1,sentence2,score",
        metavar="A,B,SCORE",
        help="in it (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON; - for standard output")


def run(args: argparse.Namespace) -> int:
    from nativebert.bench import sentences
    from nativebert.cli.common import check_report, notes, sample, write_report
    from nativebert.console import facts
    from nativebert.parity import quality

    check_report(args.json, args.texts, args.pairs)
    texts, pairs = sample(args) or sentences(300, seed=0), None if args.pairs is None else _pairs(args)
    with notes(args):
        found = quality.check(
            args.model,
            against=args.against,
            precision=args.precision,
            device=args.device,
            texts=texts,
            pairs=pairs,
            revision=args.revision,
            offline=args.offline,
        )
    out = write_report(args.json, found.as_dict())
    lines = []
    if found.cosine_mean is not None:
        lines.append(("cosine to float32", f"mean {found.cosine_mean:.4f}, least {found.cosine_min:.4f}"))
    if found.ranks is not None:
        lines.append(("order of similarities", f"rank correlation {found.ranks:.4f} over the pairs of all texts"))
    if found.spearman is not None:
        before, after = found.spearman
        lines.append(
            ("with people's scores", f"rank correlation {before:.2f} in float32, {after:.2f} so: {after - before:+.2f} points")
        )
    if found.labels is not None:
        lines.append(("labels", f"{found.labels:.1%} the same; scores differ by at most {found.scores:.4f}"))
    facts({"": list(found.facts.items()), "How far apart": lines}, file=out)
    return 0


def _pairs(args: argparse.Namespace) -> list[tuple[str, str, float]]:
    from nativebert.cli.common import read_file
    from nativebert.errors import BadInputError

    path, columns = args.pairs, args.columns
    names = [name.strip() for name in columns.split(",")]
    if len(names) != 3:
        raise BadInputError(f"--columns names three columns with commas between them, two texts and a score; not {columns!r}")
    asked = {"--columns (first)": names[0], "--columns (second)": names[1], "--columns (third)": names[2]}
    table = read_file(args, path, asked, numbers=True)
    found = []
    for number, (one, two, score) in enumerate(table.rows, 1):
        try:
            found.append((one, two, float(score)))
        except ValueError:
            raise BadInputError(f"{path}, record {number}: the score {score!r} is not a number") from None
    return found
