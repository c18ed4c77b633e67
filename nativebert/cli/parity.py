"""``nativebert parity``: a checkpoint against transformers."""

from __future__ import annotations

import argparse

from nativebert.cli import options


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s MODEL [options]"
    parser.description = (
        "Run a model in nativebert and in transformers (in float64), compare every layer, the "
        "outputs, the weights, the settings and the token ids, and report the first difference. The exit code is 1 if they differ. "
        "Requires the extra parity."
    )
    parser.add_argument("model", metavar="MODEL", help="folder, or name on the Hub")
    parser.add_argument(
        "--against", metavar="REF", help="model to load in transformers: folder, or name on the Hub (default: MODEL)"
    )
    options.add_sample(parser, "8 built-in texts")
    parser.add_argument(
        "--head", default="auto", metavar="TASK", help="head to compare: lm, classify, ...; none for no head (default: auto)"
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16", "float16"),
        help="dtype of nativebert's model (default: %(default)s)",
    )
    parser.add_argument("--all", action="store_true", help="show every operation in addition to the layer outputs")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the report as a page, .html (works offline)")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON; - for standard output")
    parser.add_argument("--plot", metavar="FILE", help="plot the differences: .png, .svg or .pdf (requires the extra plot)")


def run(args: argparse.Namespace) -> int:
    from nativebert.cli.common import BAD, check_report, notes, sample, selected, write_report
    from nativebert.console import facts, table
    from nativebert.parity.check import check
    from nativebert.parity.report import check_page
    from nativebert.pictures.differences import check_plot, plot

    check_report(args.json, args.texts, args.plot, args.output)
    if args.output is not None:
        check_page(args.output)
    if args.plot is not None:
        check_plot(args.plot)
    texts = sample(args)
    with notes(args):
        head = None if args.head == "none" else args.head
        report = check(args.model, texts=texts, head=head, **selected(args, "against", "dtype", "revision", "offline"))
    out = write_report(args.json, report.as_dict())
    if args.output:
        report.save(args.output)
    if args.plot:
        outputs = [step for step in report.steps if step.kind == "output"]
        plot(outputs, f"{report.facts['model']}, {report.facts['dtype']}: {'pass' if report.passed else 'fail'}", args.plot)
    facts({"": list(report.facts.items())}, file=out)
    print(file=out)
    failing = {step.name for step in report.steps if not step.passed}
    shown = [step for step in report.steps if step.kind == "output" or args.all or step.name in failing]
    rows = []
    for s in shown:
        # of an operation that is wrong by itself, that is what matters
        off, allowed = (s.max_abs, s.allowed) if s.local <= s.local_allowed else (s.local, s.local_allowed)
        numbers = (f"{off:.1e}", f"{allowed:.1e}", f"{s.relative:.1e}", f"{s.ulp:,.1f}", _cosine(s.cosine))
        rows.append((s.name, s.kind, *numbers, "" if s.passed else "differs"))
    table(rows, ["step", "", "max abs", "allowed", "relative", "ULP", "1 - cosine", ""], file=out)
    print(file=out)
    print(report.verdict(), file=out)
    return 0 if report.passed else BAD


def _cosine(cosine: float) -> str:
    return f"{max(0.0, 1 - cosine):.0e}"
