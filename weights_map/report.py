"""The ledger as text, markdown or JSON, and the texts of error messages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from itertools import groupby
from typing import TYPE_CHECKING

from weights_map.rows import Row
from weights_map.safetensors import Checkpoint, describe
from weights_map.template import is_integer

if TYPE_CHECKING:
    from weights_map.ledger import Ledger

_MAX_LINES = 8  # table lines per status in an error message
_MAX_COMPARED = 500  # names compared for a "did you mean"


def counts(rows: Iterable[Row]) -> dict[str, int]:
    """Status -> number of rows, in order of first occurrence."""
    return dict(Counter(row.status for row in rows))


def summary(rows: Iterable[Row]) -> str:
    """``197 loaded, 1 tied, 2 carried``."""
    return ", ".join(f"{count} {status}" for status, count in counts(rows).items()) or "no tensors"


def text(what: Ledger | Checkpoint, every: bool = False) -> str:
    """A ledger, or a file without a map, as an aligned table.

    Args:
        what: the ledger or the file.
        every: a line for each tensor; otherwise the tensors of all layers share a line.
    """
    title, lines, totals = _content(what, every)
    return "\n\n".join(filter(None, [title, align(lines), totals]))


def markdown(what: Ledger | Checkpoint, every: bool = False) -> str:
    """Like :func:`text`, as a markdown table."""
    title, (head, *lines), totals = _content(what, every)
    rows = [[printable(cell).replace("|", "\\|") for cell in line] for line in lines]
    body = "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])
    return "\n\n".join(filter(None, [title, body, totals]))


def as_json(what: Ledger | Checkpoint, every: bool = True) -> str:
    """Like :func:`text`, as JSON with all fields of all rows, one row per line. Equal ledgers give equal texts."""
    checkpoint = what if isinstance(what, Checkpoint) else what.checkpoint
    head: dict[str, object] = {
        "path": str(checkpoint.path),
        "files": [file.name for file in checkpoint.files],
        "bytes": checkpoint.nbytes,
        "metadata": dict(checkpoint.metadata),
    }
    if isinstance(what, Checkpoint):
        rows = [{"name": info.name, "shape": info.shape, "dtype": info.dtype} for info in checkpoint.tensors.values()]
    else:
        head |= {
            "map": what.map.name,
            "prefix": what.wrapper + what.prefix,
            "dims": dict(what.dims),
            "counts": counts(what.rows),
        }
        rows = [asdict(row) for row in what.rows]
    lines = [f"{_json(key)}: {_json(value)}" for key, value in head.items()]
    lines.append('"rows": [' + ",".join(f"\n    {_json(row)}" for row in rows) + "\n  ]")
    return "{\n  " + ",\n  ".join(lines) + "\n}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _content(what: Ledger | Checkpoint, every: bool) -> tuple[str, list[list[str]], str]:
    """Title, table cells and totals."""
    if isinstance(what, Checkpoint):
        rows = [Row("unexpected", (info.name,), (), info.shape, info.dtype) for info in what.tensors.values()]
        return "", [[line[0], *line[2:5]] for line in table(rows, every)], ""
    title = [f"{what.checkpoint.path} as {what.map.name}", f"{len(what.checkpoint.tensors)} tensors"]
    title.append(megabytes(what.checkpoint.nbytes))
    title += [f"wrapped in {what.wrapper!r}"] if what.wrapper else []
    title += [f"prefix {what.prefix!r}"] if what.prefix else []
    title += [" ".join(f"{symbol}={size}" for symbol, size in what.dims.items())] if what.dims else []
    return "; ".join(title), table(what.rows, every), summary(what.rows)


def megabytes(count: int) -> str:
    """A number of bytes as MB (10^6 bytes); below one MB, in bytes."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count:,} bytes"


def size(shape: Sequence[int] | None) -> str:
    """``30522 x 384``; ``()`` for a scalar; ``?`` if unknown."""
    return "?" if shape is None else describe("", shape)


# -------------------------------------------------------------------- tables


def table(rows: Iterable[Row], every: bool = False) -> list[list[str]]:
    """Table cells, header first: source, target, shape, dtype, count, status and, if any row has one, note."""
    lines = [["source", "target", "shape", "dtype", "count", "status", "note"]]
    for sources, targets, group in fold(rows) if not every else ((row.sources, row.targets, [row]) for row in rows):
        row = group[0]
        note = row.note if len({row.note for row in group}) == 1 else f"{row.note}, and similar" if row.note else ""
        names = [" + ".join(side) or "-" for side in (sources, targets)]
        lines.append([*names, size(row.shape), row.dtype or "-", f"x{len(group)}", row.status, note])
    if not any(line[-1] for line in lines[1:]):
        lines = [line[:-1] for line in lines]
    return lines


def align(lines: Sequence[Sequence[str]]) -> str:
    """Cells in aligned columns, with a line under the header."""
    lines = [[printable(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines)]
    ruled = [lines[0], ["-" * width for width in widths], *lines[1:]]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in ruled)


Folded = tuple[tuple[str, ...], tuple[str, ...], list[Row]]


def fold(rows: Iterable[Row]) -> list[Folded]:
    """Groups of rows that differ only in numbers: sources and targets as ``layers.{0-5}.attn.q.weight``, and the rows."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        key = (_numberless(row.sources), _numberless(row.targets), row.shape, row.dtype, row.status, row.rule)
        groups.setdefault(key, []).append(row)
    return [
        (_folded([row.sources for row in group]), _folded([row.targets for row in group]), group) for group in groups.values()
    ]


def _numberless(names: tuple[str, ...]) -> tuple[tuple[str | None, ...], ...]:
    return tuple(tuple(None if is_integer(part) else part for part in name.split(".")) for name in names)


def _folded(sides: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    names = []
    for column in zip(*sides):
        segments = zip(*(name.split(".") for name in column))
        names.append(".".join(same[0] if len(set(same)) == 1 else f"{{{ranges(map(int, same))}}}" for same in segments))
    return tuple(names)


def ranges(numbers: Iterable[int]) -> str:
    """``0-3,5`` for 0, 1, 2, 3, 5."""
    consecutive = groupby(enumerate(sorted(set(numbers))), lambda pair: pair[1] - pair[0])
    runs = [[number for _, number in run] for _, run in consecutive]
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def printable(text: str) -> str:
    """Text with line breaks and control characters escaped, as tensor names from a file may contain them."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


# -------------------------------------------------------------------- messages


def hint(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?``, or "" if no name is similar."""
    near = get_close_matches(name, list(dict.fromkeys(known))[:_MAX_COMPARED], n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else ""


ADVICE = {
    "missing": "a parameter that may be absent from the file: check(new=[pattern])",
    "unexpected": "a tensor that the model does not need: check(unexpected=[pattern])",
    "shape": "a parameter that should not be read: check(shape=[pattern]); otherwise the config is of another model",
}
"""How to accept a row that is wrong, by its status."""


def mismatch(ledger: Ledger, wrong: Sequence[Row], advice: Mapping[str, str] = ADVICE) -> str:
    """The message of a MismatchError: totals, the wrong rows, similar names, and how to accept them (``advice``, by status)."""
    lines = [f"{ledger.checkpoint.path}: does not fit the model (map {ledger.map.name!r}): {summary(wrong)}"]
    for status in ADVICE:
        rows = [row for row in wrong if row.status == status]
        folded = fold(rows)
        if not rows:
            continue
        shown = [row for _, _, group in folded[:_MAX_LINES] for row in group]
        lines += ["", align(table(shown))]
        if len(folded) > _MAX_LINES:
            lines.append(f"... and {len(rows) - len(shown)} more; print(error.ledger) shows all")
        if status == "missing":
            lines += _similar(ledger, wrong, [group[0] for _, _, group in folded[:_MAX_LINES]])
        if how := advice.get(status):
            lines.append(f"To accept it, {how}.")
    return "\n".join(lines)


def _similar(ledger: Ledger, wrong: Sequence[Row], missing: Sequence[Row]) -> list[str]:
    """For missing parameters: tensors that no rule matches, but with a name similar to the expected one."""
    unmatched = [source for row in wrong if row.status == "unexpected" and not row.targets for source in row.sources]
    lines = []
    for row in missing:
        for target in row.targets:
            for source in ledger.map.sources_of(target, ledger.prefix) or (target,):
                if source not in row.sources and (
                    near := get_close_matches(source, unmatched[:_MAX_COMPARED], n=1, cutoff=0.7)
                ):
                    lines.append(f"{target} is expected as {source!r}; did you mean {near[0]!r}, which no rule matches?")
    return lines


def explain(ledger: Ledger, row: Row) -> str:
    """One row, one fact per line."""
    facts = [("parameter", ", ".join(row.targets) or "none"), ("status", row.status)]
    if row.note:
        facts.append(("note", row.note))
    facts.append(("rule", row.rule or "none"))
    for source in row.sources:
        info = ledger.checkpoint.tensors[source]
        facts.append(("tensor", f"{source}: {info.dtype}, shape {size(info.shape)}"))
        facts.append(("bytes", f"{info.start} to {info.end} of {info.file}"))
    if not row.sources:
        facts.append(("tensor", f"none in {ledger.checkpoint.path}"))
        facts.append(("shape", size(row.shape)))
    if row.prefix:
        facts.append(("prefix", f"{row.prefix!r} stands before the rule's name"))
    if row.spelling:
        facts.append(("spelling", f"{row.spelling!r} for {ledger.map.spellings.get(row.spelling)!r}"))
    width = max(len(name) for name, _ in facts)
    return "\n".join(f"{name.ljust(width)}  {printable(value)}" for name, value in facts)


def facts(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """Properties of a file that need no map, as (name, value) pairs."""
    infos = checkpoint.tensors.values()
    dtypes = Counter(info.dtype for info in infos)
    properties = [
        ("path", str(checkpoint.path)),
        ("bytes", f"{checkpoint.nbytes:,} of tensors"),
        ("tensors", f"{len(infos):,}"),
        ("parameters", f"{sum(info.count for info in infos):,}"),
        ("dtypes", ", ".join(f"{dtype} x{count}" for dtype, count in dtypes.most_common())),
        ("metadata", ", ".join(f"{key}={value[:80]}" for key, value in checkpoint.metadata.items())),
    ]
    if len(checkpoint.files) > 1:
        properties.append(("shards", f"{len(checkpoint.files)}: {', '.join(file.name for file in checkpoint.files)}"))
    return [(name, printable(value)) for name, value in properties if value]
