"""Tables and messages for people: with rich on a terminal where it is installed (extra ``cli``), plain text elsewhere.

Rich colours terminals only, and honours ``NO_COLOR`` and ``TERM=dumb``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TextIO

Rows = Sequence[Sequence[str]]

# What a cell of a table may be drawn in, by its text
COLOURS = {
    **dict.fromkeys(("missing", "unexpected", "shape"), "bold red"),
    **dict.fromkeys(("untied", "new"), "yellow"),
    **dict.fromkeys(("carried", "derived", "tied"), "dim"),
}


def table(rows: Rows, header: Sequence[str], *, title: str = "", file: TextIO | None = None) -> None:
    """Print rows of cells in columns.

    Args:
        rows: cells, as text.
        header: names of the columns.
        title: a line above.
        file: where to; standard output by default.
    """
    _grid([[printable(cell) for cell in row] for row in rows], header, printable(title), file or sys.stdout)


def facts(groups: Mapping[str, Sequence[tuple[str, str]]], *, file: TextIO | None = None) -> None:
    """Print names with their values, aligned over all groups; a group's name, if it has one, stands above it.

    Args:
        groups: name of a group ("" for none) -> ``(name, value)``.
        file: where to; standard output by default.
    """
    out = file or sys.stdout
    width = max((len(name) for group in groups.values() for name, _ in group), default=0)
    for n, (title, group) in enumerate(groups.items()):
        if n:
            print(file=out)
        rows = [[printable(name).ljust(width), printable(value)] for name, value in group]
        _grid(rows, None, title, out)


def _grid(rows: Rows, header: Sequence[str] | None, title: str, out: TextIO) -> None:
    if out.isatty() and (console := _rich(out)) is not None:
        from rich.table import Table
        from rich.text import Text

        if title:
            console.print(Text(title, "bold"), soft_wrap=True)
        grid = Table(show_header=header is not None, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for n in range(len(header or rows[0])) if header or rows else ():
            fact = "cyan" if header is None and n == 0 else None
            grid.add_column(header[n] if header else "", style=fact, overflow="fold", no_wrap=fact is not None)
        for row in rows:
            grid.add_row(*(Text(cell, COLOURS.get(cell, "") if header else "") for cell in row))
        console.print(grid)
        return
    if title:
        print(title, file=out)
    lines = [header, *rows] if header else rows
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip(), file=out)


def _rich(out: TextIO) -> Any:
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=out, highlight=False)


def printable(text: str) -> str:
    """Text from strangers, made fit for a terminal: line breaks and control sequences are shown, not obeyed."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def short(text: str, most: int = 60) -> str:
    """The beginning of a text, on one line."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def say(message: str) -> None:
    """One line to standard error."""
    print(f"nativebert: {printable(' '.join(message.split()))}", file=sys.stderr)


def notes(package: str, words: Callable[[str], str] = str) -> AbstractContextManager[None]:
    """While it lasts, warnings of a package are one line each, in the style of the errors; ``words`` rewords them."""
    import warnings

    @contextmanager
    def noted() -> Iterator[None]:
        with warnings.catch_warnings():
            warnings.filterwarnings("always", category=UserWarning, module=rf"{package}(\.|$)")
            show: Callable[..., None] = warnings.showwarning

            def note(message: Warning | str, category: type[Warning], *rest: Any, **options: Any) -> None:
                if category.__module__.partition(".")[0] == package:
                    say(f"note: {words(str(message))}")
                else:
                    show(message, category, *rest, **options)

            warnings.showwarning = note
            yield

    return noted()
