"""Tables and messages for people: with rich on a terminal where it is installed (extra ``cli``), plain text everywhere else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO


def table(rows: Sequence[Sequence[str]], header: Sequence[str] | None = None, *, title: str = "", file: TextIO | None = None) -> None:
    """Print rows of cells in columns.

    Args:
        rows: cells, as text.
        header: names of the columns; None for a list of facts, whose first column names them.
        title: a line above.
        file: where to; standard output by default.
    """
    out = file or sys.stdout
    if out.isatty() and (console := _rich(out)) is not None:
        from rich.table import Table
        from rich.text import Text

        grid = Table(title=title or None, title_justify="left", show_header=header is not None, box=None, pad_edge=False, header_style="bold")
        for n, name in enumerate(header or rows[0] if rows else ()):
            grid.add_column(name if header else "", style="cyan" if n == 0 and header is None else None, overflow="fold")
        for row in rows:
            grid.add_row(*map(Text, row))
        console.print(grid)
        return
    lines = [list(header), *map(list, rows)] if header else [list(row) for row in rows]
    if title:
        print(title, file=out)
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))] if lines else []
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip(), file=out)


def _rich(out: TextIO):  # type: ignore[no-untyped-def]
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=out, highlight=False)
