"""``nativebert quantize``: a model's weights in eight bits."""

from __future__ import annotations

import argparse

from nativebert.cli import options


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s MODEL -o FOLDER"
    parser.description = (
        "Write a copy of a model with layers and token embeddings in int8, with one float32 scale per row: "
        "about a quarter of the size of float32. nativebert loads it like any other model; run it with --precision int8."
    )
    parser.where = "Name the output folder: -o NAME"
    parser.add_argument("model", metavar="MODEL", help="folder, or name on the Hub")
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True, help="output folder")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from nativebert.cli.common import notes
    from nativebert.console import facts
    from nativebert.io.write import check_folder
    from nativebert.loading import load
    from weights_map import Checkpoint, report

    check_folder(args.output)
    with notes(args):
        model = load(args.model, revision=args.revision, offline=args.offline)
        model.save(args.output, precision="int8")
    assert model.ledger is not None
    original, written = model.ledger.checkpoint, Checkpoint.open(args.output)
    small = sum(info.dtype == "I8" for info in written.tensors.values())
    facts(
        {
            "": [
                ("model", str(args.model)),
                ("written to", str(Path(args.output))),
                ("int8", f"{small:,} of {len(original.tensors):,} tensors"),
                (
                    "size",
                    f"{report.megabytes(original.nbytes)} -> {report.megabytes(written.nbytes)} ({written.nbytes / original.nbytes:.0%})",
                ),
                ("measure accuracy", f"nativebert quality {args.output} --against {args.model}"),
            ]
        }
    )
    return 0
