"""``nativebert classify``: texts, or pairs of texts, to labels."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from nativebert.cli import options

if TYPE_CHECKING:
    from nativebert.tasks.classify import Classifier
    from nativebert.tasks.results import Report

HARDLY = 0.1  # of the word that counts most


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s FILE -m MODEL [-o OUT] [options]"
    parser.description = (
        "Classify each text of a file, with scores, in the order of the file: sentiment, topic, entailment, or whatever the model was "
        "trained for. For multi-label and regression models, use --top-k all."
    )
    options.add_file(parser)
    options.add_column(parser)
    parser.add_argument(
        "--pair-column", type=options.unicode, metavar="NAME", help="column (or JSON key) of the second text of each pair"
    )
    options.add_results(parser)
    options.add_model(parser)
    options.add_base(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--top-k", type=options.count_or_all, default=1, metavar="N", help="labels per text: 1 (default), N, or all"
    )
    which.add_argument(
        "--threshold", type=float, metavar="X", help="return all labels with a score of at least X, instead of --top-k"
    )
    parser.add_argument(
        "--problem", choices=("single", "multi", "regression"),
        help="single-label (softmax), multi-label (sigmoid) or regression (default: from the model's config)",
    )  # fmt: skip
    parser.add_argument(
        "--explain", action="store_true", help="show each text with the words that contribute most to its label (slower)"
    )
    long = parser.add_argument_group("long texts")
    options.add_long_texts(long, default="truncate")
    long.add_argument("--combine", choices=("mean", "max"), help="how to combine the scores of windows (default: mean)")
    options.add_jobs(parser)
    options.add_speed(parser)


def run(args: argparse.Namespace) -> int:
    from nativebert.cli import common, rows, tables
    from nativebert.io.write import Records

    wanted = {"--column": args.column} | ({} if args.pair_column is None else {"--pair-column": args.pair_column})
    if tables.is_table_job(args):
        call = {"top_k": args.top_k, "threshold": args.threshold}
        return tables.run(args, "Classifier", wanted, make=("combine", "problem"), call=call)
    names = ("text", "pair")[: len(wanted)]
    one_label = args.top_k == 1 and args.threshold is None
    models: list[Any] = []  # of --explain, which reads the reference model too

    def make() -> Classifier:
        from nativebert.loading import load, open_snapshot
        from nativebert.tasks.classify import Classifier

        model = args.model
        if args.explain:
            model = load(open_snapshot(model, revision=args.revision, offline=args.offline, base=args.base), head="classify")
            models.append(model)
        return Classifier(model, **common.task_options(args, "combine", "problem"))

    def call_of(classify: Classifier, items: Sequence[rows.Row], more: dict[str, Any]) -> Any:
        texts: list[Any] = [row[0] if len(row) == 1 else row for row in items]
        return classify(texts, top_k=args.top_k, threshold=args.threshold, **more)

    def build(first: int, items: Sequence[rows.Row], labels: Sequence[Any]) -> Records:
        keys = [dict(zip(names, row)) for row in items]
        if one_label:
            labels = [one or {"label": None, "score": None} for one in labels]
            records = [key | one for key, one in zip(keys, labels, strict=True)]
            return Records(records, [*names, "label", "score"], [list(record.values()) for record in records])
        records = [key | {"labels": several} for key, several in zip(keys, labels, strict=True)]
        lines = [
            [first + n, *row, one["label"], one["score"]]
            for n, (row, several) in enumerate(zip(items, labels, strict=True))
            for one in several or ()
        ]
        return Records(records, ["item", *names, "label", "score"], lines)

    def explain(classify: Classifier, items: Any, labels: Any, report: Report, out: TextIO) -> None:
        _explain(models[0], classify, items, labels, report, out)

    return rows.run(
        args, wanted, make, call_of, build,
        count=lambda one: 1 if one_label else len(one), what=("label",), keys=0 if one_label else len(names) + 1,
        explain=explain if args.explain else None,
    )  # fmt: skip


def _explain(
    model: Any, classify: Classifier, texts: Sequence[tuple[str, ...]], results: Sequence[Any], report: Report, out: TextIO
) -> None:
    """Print each text under its best label, with what its words add to that label's logit."""
    from nativebert import console
    from nativebert.saliency import saliency

    how = "cyan for the label, yellow against it" if console.coloured(out) else "each word's contribution to the label's logit"
    print(f"Explanation: {how}. Words with little influence are not marked.", file=out)
    for row, labels, cut, windows in zip(texts, results, report.cut.tolist(), report.windows.tolist(), strict=True):
        best = labels if isinstance(labels, dict) else next(iter(labels), None)
        whole = not cut and windows == 1  # what the model saw at once
        words = saliency(model, *row, target=classify.labels.index(best["label"])).words if best and whole else []
        strongest = max((abs(word.score) for word in words), default=0.0)
        title = f"{best['label']} {best['score']:.3f}" if best else "no label"
        print(f"\n{console.printable(title)}{'' if whole else '  (not explained: over the maximum length)'}", file=out)
        for part, text in enumerate(row):
            marks = [
                console.weighed(word.start, word.end, word.score, strongest)
                for word in words
                if word.part == part and abs(word.score) >= HARDLY * strongest
            ]
            console.passage(text, marks, indent="  ", file=out)
