"""Options that commands share, and how wrong ones are reported. Imports nothing heavy: ``--help`` is quick."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
FORMATS = ("txt", "csv", "tsv", "jsonl", "parquet", "feather")
SHARDS = ("parquet", "feather", "csv", "tsv", "jsonl", "npy")
QUOTINGS = ("double", "none")
PRECISIONS = ("float32", "bfloat16", "float16", "int8")
# A model's head -> the command that uses it
COMMAND_OF = {"classify": "classify", "tag": "tag", "answer": "answer", "lm": "fill"}

ERROR = 2  # exit code


class Parser(argparse.ArgumentParser):
    """Errors in one line, options in full, and help that names the values once."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_shape, allow_abbrev=False, **options)
        self.where = ""  # what to say where --output is missing
        self.words: Sequence[str] = ()  # of the command line

    def error(self, message: str) -> NoReturn:
        message = message.replace("the following arguments are required:", "missing arguments:")
        if message.endswith("expected one argument") and (option := re.search(r"--[\w-]+", message)):
            message += f"; for a value that begins with a dash, write {option[0]}=-..."
        if "missing arguments:" in message and (word := self._dashed()) is not None:
            self.refuse(word)
        if "missing arguments:" in message and "--output" in message and self.where:
            message += f". {self.where}"
        raise SystemExit(fail(f"{message} (see {self.prog} --help)"))

    def _dashed(self) -> str | None:
        """The first word that begins with a dash and is not an option: it may be a text or a file, and not be seen as one."""
        known = {option for action in self._actions for option in action.option_strings}
        for word in self.words[: self.words.index("--") if "--" in self.words else None]:
            named = word.partition("=")[0] in known or (not word.startswith("--") and word[:2] in known)
            if word.startswith("-") and word != "-" and (not named or os.path.exists(word)):
                return word
        return None

    def no_command(self, word: str, commands: Iterable[str]) -> NoReturn:
        """Report that there is no such command."""
        import difflib

        near = difflib.get_close_matches(word, commands, n=1)
        self.error(
            f"unknown command {word!r}; " + (f"did you mean {near[0]}?" if near else f"choose from {', '.join(commands)}")
        )

    def refuse(self, word: str) -> NoReturn:
        """Tell that a word of the command line is not understood."""
        import difflib

        if not word.startswith("-"):
            self.error(f"unexpected argument {word!r}")
        options = [option for action in self._actions for option in action.option_strings]
        near = difflib.get_close_matches(word.partition("=")[0], options, n=1)
        if os.path.exists(word):
            hint = f"if it is a file, write ./{word}"
        else:
            hint = (
                f"did you mean {near[0]}?"
                if near
                else "if it is a text or a file, put it after all options and write -- before it"
            )
        self.error(f"unknown option {word!r}; {hint}")


def _shape(prog: str) -> argparse.HelpFormatter:
    shape = argparse.HelpFormatter(prog, max_help_position=26)
    shape._action_max_length = 14  # argparse forgets that the list of commands is indented
    return shape


def fail(message: str) -> int:
    """Say what went wrong; returns the exit code of an error."""
    from nativebert.console import say

    say(message)
    return ERROR


def as_options(args: argparse.Namespace, message: str) -> str:
    """A message with the library's arguments (too_long='window') rewritten as options (--too-long window)."""

    def option(match: re.Match[str]) -> str:
        name, value = match[1], match[2].strip("'")
        value = "" if value == "True" else value and f" {value}"  # of a switch
        return f"--{name.replace('_', '-')}{value}" if name in vars(args) else match[0]

    def command(match: re.Match[str]) -> str:
        return f"`nativebert {COMMAND_OF[match[1]]}` reads it" if match[1] in COMMAND_OF else "Take another checkpoint"

    if "head" not in vars(args):
        message = re.sub(r"\. Load it with head='(\w+)'.*", lambda match: f". {command(match)}", message)
    message = re.sub(r"\b(?:token|cache_dir)=(?: or|,) ", "", message)  # for which variables do, named next to them
    return re.sub(r"\b([a-z_]+)=('[^']*'|\w*)", option, message)


def count(text: str) -> int:
    """A whole number above 0."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def whole(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.strip().isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)


def delimiter(text: str) -> str:
    """The character between the fields of a table: itself, or ``tab``, or an escape."""
    character = {"tab": "\t", r"\t": "\t"}.get(text, text)
    if re.fullmatch(r"\\x[0-9a-fA-F]{2}", text):
        character = chr(int(text[2:], 16))
    if len(character) != 1 or character in '"\r\n\0' or "\ud800" <= character <= "\udfff":
        raise argparse.ArgumentTypeError(
            rf"{text!r} is not a single character such as ';' or '|', the word tab, or an escape such as '\x01'"
        )
    return character


def unicode(text: str) -> str:
    """A text, which must have come as UTF-8, or in what the terminal's locale says."""
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        shown = ascii(text).replace(r"\udc", r"\x")  # the byte that Python could not read
        raise argparse.ArgumentTypeError(f"{shown} is not UTF-8: set the terminal to UTF-8, or put the text into a UTF-8 file")
    return text


def count_or_all(text: str) -> int | None:
    """A whole number above 0; None for ``all``."""
    return None if text == "all" else count(text)


def names(text: str) -> list[str]:
    """Names between commas."""
    return [unicode(name) for name in text.split(",") if name]


def add_file(
    parser: Parser,
    what: str = "txt (one text per line), csv, tsv, jsonl, parquet or feather; a folder or pattern of them; - for standard input",
) -> None:
    """The file that the texts come from."""
    parser.add_argument("file", metavar="FILE", help=what)
    parser.add_argument("--format", choices=FORMATS, help="input format (default: from the file extension)")
    add_tables(parser)


def add_sample(parser: Parser, default: str) -> None:
    """A file of texts to run a check on."""
    parser.add_argument("--texts", metavar="FILE", help=f"texts to use: txt, csv, tsv or jsonl (default: {default})")
    parser.add_argument("--format", choices=FORMATS, help="format of the --texts file (default: from the file extension)")
    add_column(parser)
    add_tables(parser)


def add_tables(parser: Parser) -> None:
    """Options for csv and tsv files."""
    parser.add_argument(
        "--delimiter", type=delimiter, metavar="C", help="field delimiter of csv and tsv files (default: comma; tab for tsv)"
    )
    parser.add_argument(
        "--quoting", choices=QUOTINGS,
        help="whether double quotes enclose fields or are ordinary characters (default: double; none for tsv)",
    )  # fmt: skip
    parser.add_argument(
        "--na", type=unicode, metavar="TEXT", help="missing value of csv and tsv files, such as NA: read as an empty text"
    )


def add_column(parser: Parser) -> None:
    """Options that select the texts of a file."""
    parser.add_argument("--column", type=unicode, metavar="NAME", help="column (or JSON key) of the texts")


def add_model(parser: Parser, default: str | None = None) -> None:
    """The model: one must be named where there is no default."""
    kind = "folder, or name on the Hub (default: %(default)s)" if default else "folder, or name on the Hub"
    parser.add_argument("-m", "--model", metavar="MODEL", default=default, required=default is None, help=kind)


def add_base(group: Any) -> None:
    """The base model of an adapter."""
    group.add_argument(
        "--base", metavar="MODEL", help="base model of an adapter of peft (default: the one that its adapter_config.json names)"
    )


def add_queries(parser: Parser) -> None:
    """One query or more."""
    parser.add_argument("--query", action="append", type=unicode, metavar="TEXT", help="query; can be repeated")
    parser.add_argument("--queries", metavar="FILE", help="file of queries: txt, csv, tsv or jsonl; - for standard input")
    parser.add_argument("--queries-column", type=unicode, metavar="NAME", help="column (or JSON key) of the --queries file")


def add_results(parser: Parser) -> None:
    """Options for the output of records."""
    parser.add_argument(
        "-o", "--output", metavar="OUT",
        help="output file, .csv, .jsonl, .rds or .RData; - writes JSON lines to standard output (default: "
        "a table on a terminal, else JSON lines)",
    )  # fmt: skip
    add_quiet(parser)


def add_jobs(parser: Parser) -> None:
    """Options for tables, and for folders of them that a long job writes and can go on with."""
    group = parser.add_argument_group(
        "tables and long jobs",
        "with a folder as the output (OUT/), rows are computed in shards, each written completely or not at all",
    )
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--keep", type=names, metavar="A,B", help="columns of the input to keep beside the results (default: all)"
    )
    which.add_argument("--drop", type=names, metavar="A,B", help="columns of the input to leave out")
    group.add_argument(
        "--strict", action="store_true", help="stop at a row without a text, instead of leaving its result empty"
    )
    group.add_argument("--resume", action="store_true", help="go on with the job in the output folder")
    group.add_argument("--shard-rows", type=count, metavar="N", help="rows per file of the output folder (default: 32768)")
    group.add_argument("--output-format", choices=SHARDS, help="format of the files of the output folder (default: parquet)")
    group.add_argument(
        "--log-json", action="store_true", help="write a JSON line to standard error for every shard, instead of a progress bar"
    )


def add_quiet(parser: Parser) -> None:
    """Results and errors, and nothing else."""
    parser.add_argument("--quiet", action="store_true", help="hide the summary and the progress bar")


def add_long_texts(group: Any, *, default: str, windows: bool = True) -> None:
    """Options for texts longer than the model's maximum. ``default`` is the task's own."""
    group.add_argument(
        "--max-tokens", type=count, metavar="N", help="maximum length of a text in tokens, including special tokens"
    )
    policies = ("truncate", "window", "error") if windows else ("truncate", "error")
    what = (
        "truncate longer texts, read them in overlapping windows, or stop with an error"
        if windows
        else "truncate longer texts, or stop with an error"
    )
    group.add_argument("--too-long", choices=policies, default=default, help=f"{what} (default: %(default)s)")
    if windows:
        group.add_argument("--stride", type=whole, metavar="N", help="overlap of adjacent windows, in tokens")


def add_pooling(group: Any) -> None:
    """Options for pooling, in place of the model's own."""
    group.add_argument("--pooling", action="append", metavar="MODE", help="mean, cls, max, ...; repeat to concatenate")
    group.add_argument("--normalize", action=argparse.BooleanOptionalAction, help="scale vectors to unit length")


def add_speed(parser: Parser) -> None:
    """Options for the computation; only ``--precision`` changes results."""
    group = parser.add_argument_group("performance")
    add_device(group)
    add_threads(group)
    group.add_argument(
        "--batch-tokens", type=count, metavar="N", help="maximum number of tokens per batch; does not affect results"
    )


def add_device(group: Any) -> None:
    """Options for device and precision."""
    add_place(group)
    group.add_argument("--precision", choices=PRECISIONS, help="number format of the computation (default: float32)")


def add_place(group: Any) -> None:
    """Option for the device."""
    group.add_argument("--device", default="auto", metavar="NAME", help="device: auto (default), cpu, cuda, cuda:1, mps")


def add_threads(group: Any) -> None:
    """On how many cores."""
    group.add_argument("--threads", type=count, metavar="N", help="number of CPU threads (default: set by torch)")
