"""``python -m weights_map FILE``: what a checkpoint holds and, where a family's map fits it, what it means."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from io import TextIOWrapper

from weights_map import report
from weights_map.errors import UnknownName, WeightsMapError
from weights_map.ledger import Ledger
from weights_map.mapping import WeightMap
from weights_map.safetensors import Checkpoint

GROUP = "weights_map.families"
"""Packages that define families register them as entry points of this group; each is a WeightMap."""

FORMATS = {"text": report.text, "markdown": report.markdown, "json": report.as_json}


def families() -> dict[str, WeightMap]:
    """The registered maps by name. One that cannot be imported is named on stderr and left out."""
    found: dict[str, WeightMap] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            family = entry.load()
        except Exception as error:  # somebody else's code, and no reason not to look at a file
            print(f"weights_map: family {entry.name!r} is left out: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        if isinstance(family, WeightMap):
            found[entry.name] = family
    return found


def choose(checkpoint: Checkpoint, known: dict[str, WeightMap], name: str | None) -> Ledger | None:
    """The ledger of the family that was named or, if none was, of the one that knows most of the file's bytes."""
    if name is not None:
        if name not in known:
            raise UnknownName(f"family {name!r} is not installed; installed are {', '.join(known) or 'none'}")
        return known[name].on(checkpoint)
    covered = {entry: family.covers(checkpoint) for entry, family in known.items()}
    share = max(covered.values(), default=0.0)
    if share <= 0.5:
        return None
    best = [entry for entry, covers in covered.items() if covers == share]
    # families may share their names for tensors: then the config beside the file says which it is
    said = _model_type(checkpoint)
    return known[said if said in best else best[0]].on(checkpoint)


def _model_type(checkpoint: Checkpoint) -> str:
    """``model_type`` of the config.json beside the file; "" where there is none."""
    try:
        config = json.loads((checkpoint.files[0].parent / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return ""
    said = config.get("model_type") if isinstance(config, dict) else None
    return said if isinstance(said, str) else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, or 2 for an error, which is told in one line."""
    parser = argparse.ArgumentParser(prog="python -m weights_map", description="Shows what a safetensors checkpoint holds.")
    parser.add_argument("file", metavar="FILE", help="a .safetensors file, an index of shards, or a folder")
    parser.add_argument("--family", metavar="NAME", help="read it as this family's, whatever fits best")
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.add_argument("--all", action="store_true", help="a line for every tensor; layers are folded otherwise")
    options = parser.parse_args(arguments)
    try:
        checkpoint = Checkpoint.open(options.file)
        ledger = choose(checkpoint, families(), options.family)
    except WeightsMapError as error:
        print(f"weights_map: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that cannot show a name still shows the rest
    try:
        print(render(checkpoint, ledger, options.format, options.all), flush=True)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def render(checkpoint: Checkpoint, ledger: Ledger | None, form: str, every: bool) -> str:
    """What the command prints."""
    body = FORMATS[form](ledger or checkpoint, every)
    if form == "json":
        return body
    lines = report.facts(checkpoint)
    width = max(len(name) for name, _ in lines) if form == "text" else 0
    return (
        "\n".join(f"{name.ljust(width)}  {value}" if width else f"- {name}: {value}" for name, value in lines) + f"\n\n{body}"
    )


if __name__ == "__main__":
    sys.exit(main())
