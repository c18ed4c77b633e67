"""``nativebert attention``: what attends to what, as a picture."""

from __future__ import annotations

import argparse

from nativebert.cli import options


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s MODEL TEXT -o OUT [options]"
    parser.where = "Name the output file: -o attention.html, .png, .svg or .pdf"
    parser.description = (
        "Draw the attention weights between the tokens of a text, for every layer and head, as an interactive page "
        "(.html; works offline) or a static grid (.png, .svg, .pdf; requires the extra plot). Layers and heads are numbered from 0."
    )
    parser.add_argument("model", metavar="MODEL", help="folder, or name on the Hub")
    parser.add_argument("text", type=options.unicode, metavar="TEXT", help="the text")
    parser.add_argument("--pair", type=options.unicode, metavar="TEXT", help="second text of a pair")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="output file: .html, .png, .svg or .pdf")
    parser.add_argument("--layers", type=_places, metavar="N,N", help="layers to draw; -1 is the last (default: all)")
    parser.add_argument("--heads", type=_places, metavar="N,N", help="heads to draw (default: all)")
    options.add_quiet(parser)


def _places(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 0,3") from None


def run(args: argparse.Namespace) -> int:
    from nativebert.cli import common
    from nativebert.pictures.figure import check_target

    check_target(args.output)  # before the work, not after it
    with common.at_work(args):
        from nativebert.loading import load, open_snapshot
        from nativebert.pictures.attention import attention

        model = load(open_snapshot(args.model, revision=args.revision, offline=args.offline), head=None)
        picture = attention(model, args.text, args.pair, layers=args.layers, heads=args.heads)
        picture.save(args.output)
    if not args.quiet:
        layers, heads, tokens = len(picture.layers), len(picture.heads), len(picture.tokens)
        what = ", ".join(common.plural(*part) for part in ((layers, "layer"), (heads, "head"), (tokens, "token")))
        common.show([("model", common.origin(args, model.snapshot)), ("attention", what), ("picture", args.output)])
    return 0
