"""``nativebert convert``: a pickled checkpoint to safetensors."""

from __future__ import annotations

import argparse

from nativebert.cli import options


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s SOURCE [-o FOLDER] [options]"
    parser.description = (
        "Read a folder's pytorch_model.bin (or its shards), or one .bin or .pt file, in a separate process that "
        "accepts only tensors, and write model.safetensors. A file that contains anything else is rejected."
    )
    parser.add_argument("source", metavar="SOURCE", help="folder with a pytorch_model.bin, or a .bin, .pt or .pth file")
    parser.add_argument("-o", "--output", metavar="FOLDER", help="output folder (default: the folder of the source)")
    parser.add_argument(
        "--time-limit",
        type=options.count,
        default=600,
        metavar="SECONDS",
        help="time limit of the conversion (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    from nativebert.console import facts
    from nativebert.convert import convert
    from nativebert.io.write import check_folder

    if args.output is not None:
        check_folder(args.output)
    done = convert(args.source, args.output, time_limit=args.time_limit)
    for one in done.files:
        lines = [
            ("from", ", ".join(map(str, one.sources))),
            ("to", f"{one.target}, {one.tensors:,} tensors, {one.bytes:,} bytes"),
        ]
        if one.dropped:
            lines.append(("omitted (tied)", ", ".join(f"{a} (same as {b})" for a, b in one.dropped.items())))
        if one.cloned:
            lines.append(("written separately", ", ".join(one.cloned)))
        facts({"": lines})
    if done.copied:
        facts({"": [("copied", ", ".join(done.copied))]})
    return 0
