"""Tables and messages for people: with rich on a terminal where it is installed (extra ``cli``), plain text elsewhere.

Rich colours terminals only, and honours ``NO_COLOR`` and ``TERM=dumb``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, TextIO

Rows = Sequence[Sequence[str]]

# What a cell of a table may be drawn in, by its text
COLOURS = {
    **dict.fromkeys(("missing", "unexpected", "shape"), "bold red"),
    **dict.fromkeys(("untied", "new"), "yellow"),
    **dict.fromkeys(("carried", "derived", "tied"), "dim"),
}

# What the labels of a text are drawn in, one after the other
LABELS = ("bright_cyan", "bright_yellow", "bright_green", "bright_magenta", "bright_red", "bright_blue")


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
    if is_terminal(out) and (console := _rich(out)) is not None:
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


class Mark(NamedTuple):
    """A stretch of a text to be marked: in colour, or as ``[Apple](ORG)`` where there are no colours.

    Attributes:
        start, end: its first character, and the one after its last.
        note: what is said of it.
        style: its colours, in rich's words.
        note_style: those of the note; "" to leave the note out where there are colours.
    """

    start: int
    end: int
    note: str
    style: str
    note_style: str = ""


def labelled(start: int, end: int, label: str, colours: dict[str, str]) -> Mark:
    """A stretch with a label. ``colours`` remembers which label has which colour."""
    colour = colours.setdefault(label, LABELS[len(colours) % len(LABELS)])
    return Mark(start, end, label, f"black on {colour}", f"bold {colour}")


def weighed(start: int, end: int, score: float, strongest: float) -> Mark:
    """A stretch with a score: cyan above 0, yellow below, which colour-blind people can tell apart; stronger the nearer to the strongest."""
    colour = "cyan" if score > 0 else "yellow"
    share = abs(score) / strongest if strongest else 0.0
    style = f"bold black on bright_{colour}" if share > 2 / 3 else f"black on {colour}" if share > 1 / 3 else colour
    return Mark(start, end, f"{score:+.2f}", style)


def passage(text: str, marks: Sequence[Mark], *, indent: str = "", file: TextIO | None = None) -> None:
    """Print a text with stretches of it marked.

    Args:
        text: the text, from anybody.
        marks: in order; what two of them share is the first one's.
        indent: what stands before the text.
        file: where to; standard output by default.
    """
    out = file or sys.stdout
    console = _coloured(out)
    parts, at = [(indent, "")], 0
    for start, end, note, style, note_style in marks:
        start = max(start, at)
        if end <= start:
            continue
        marked = printable(text[start:end])
        parts.append((printable(text[at:start]), ""))
        if console is None:
            parts.append((f"[{marked}]({printable(note)})", ""))
        else:
            parts += [(marked, style), (f" {printable(note)}" if note_style else "", note_style)]
        at = end
    parts.append((printable(text[at:]), ""))
    if console is None:
        print("".join(part for part, _ in parts), file=out)
        return
    from rich.text import Text

    console.print(Text.assemble(*parts))


def coloured(out: TextIO) -> bool:
    """Are there colours, and are they wanted?"""
    return _coloured(out) is not None


def is_terminal(out: TextIO | None) -> bool:
    """Whether a stream is a terminal; a closed one (None) is not."""
    return out is not None and out.isatty()


def _coloured(out: TextIO) -> Any:
    """A console with colours; None where colours are not available or not wanted."""
    console = _rich(out) if is_terminal(out) else None
    return None if console is None or console.no_color or console.color_system is None else console


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


def notes(words: Callable[[str], str] = str) -> AbstractContextManager[None]:
    """While it lasts, warnings of nativebert are one line each, in the style of the errors; ``words`` rewords them."""
    import warnings

    from nativebert.errors import NativeBertWarning

    @contextmanager
    def noted() -> Iterator[None]:
        with warnings.catch_warnings():
            warnings.simplefilter("always", NativeBertWarning)
            show: Callable[..., None] = warnings.showwarning

            def note(message: Warning | str, category: type[Warning], *rest: Any, **options: Any) -> None:
                if issubclass(category, NativeBertWarning):
                    say(f"note: {words(str(message))}")
                else:
                    show(message, category, *rest, **options)

            warnings.showwarning = note
            yield

    return noted()
