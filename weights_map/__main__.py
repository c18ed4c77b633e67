"""``python -m weights_map FILE``: the tensors of a checkpoint and, if a registered family matches it, their parameters."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from io import TextIOWrapper

from weights_map import report
from weights_map.errors import UnknownNameError, WeightsMapError
from weights_map.files import parse_json
from weights_map.ledger import Ledger
from weights_map.mapping import WeightMap
from weights_map.matching import match
from weights_map.safetensors import Checkpoint

GROUP = "weights_map.families"
"""Entry-point group under which packages register the WeightMaps of their families."""

FORMATS = {"text": report.text, "markdown": report.markdown, "json": report.as_json}


def families() -> dict[str, WeightMap]:
    """The registered maps by name. One that cannot be imported is reported on stderr and left out."""
    maps: dict[str, WeightMap] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            family = entry.load()
        except Exception as error:  # code of other packages; the file can be shown without it
            print(f"weights_map: family {entry.name!r} is left out: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        if isinstance(family, WeightMap):
            maps[entry.name] = family
    return maps


def choose(checkpoint: Checkpoint, maps: dict[str, WeightMap], name: str | None) -> Ledger | None:
    """The ledger with the named family's map or, without a name, with the map that covers most of the file; None below half."""
    if name is not None:
        if name not in maps:
            raise UnknownNameError(f"family {name!r} is not installed; installed are {', '.join(maps) or 'none'}", [name])
        return match(maps[name], checkpoint)
    coverage = {entry: family.covers(checkpoint) for entry, family in maps.items()}
    highest = max(coverage.values(), default=0.0)
    if highest <= 0.5:
        return None
    best = [entry for entry, share in coverage.items() if share == highest]
    # families may have the same tensor names; then config.json beside the file decides
    model_type = _model_type(checkpoint)
    return match(maps[model_type if model_type in best else best[0]], checkpoint)


def _model_type(checkpoint: Checkpoint) -> str:
    """``model_type`` of the config.json beside the file; "" if there is none."""
    try:
        config = parse_json((checkpoint.files[0].parent / "config.json").read_bytes())
    except (OSError, ValueError):
        return ""
    model_type = config.get("model_type") if isinstance(config, dict) else None
    return model_type if isinstance(model_type, str) else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, or 2 after an error, which is printed in one line."""
    parser = argparse.ArgumentParser(prog="python -m weights_map", description="Show the tensors of a safetensors checkpoint.")
    parser.add_argument("file", metavar="FILE", help="a .safetensors file, an index of shards, or a folder")
    parser.add_argument("--family", metavar="NAME", help="use this family's map (default: the one that matches best)")
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.add_argument(
        "--all", action="store_true", help="one line per tensor (default: one line for the same tensor of all layers)"
    )
    options = parser.parse_args(arguments)
    try:
        checkpoint = Checkpoint.open(options.file)
        ledger = choose(checkpoint, families(), options.family)
    except WeightsMapError as error:
        print(f"weights_map: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for characters that the terminal cannot show
    try:
        print(render(checkpoint, ledger, options.format, options.all), flush=True)
    except BrokenPipeError:  # the reader (head, less) has stopped
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def render(checkpoint: Checkpoint, ledger: Ledger | None, form: str, every: bool) -> str:
    """The output of the command."""
    body = FORMATS[form](ledger or checkpoint, every)
    if form == "json":
        return body
    facts = report.facts(checkpoint)
    width = max(len(name) for name, _ in facts)
    line = "- {}: {}".format if form == "markdown" else lambda name, value: f"{name.ljust(width)}  {value}"
    return "\n".join(line(*fact) for fact in facts) + f"\n\n{body}"


if __name__ == "__main__":
    sys.exit(main())
