"""The command line: one file a command. A command is imported when it is asked for, and imports what it needs when it runs."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

from nativebert import __version__
from nativebert.cli.options import ERROR, Parser, as_options, fail

BUG, INTERRUPTED = 1, 130

# Command (a module of this package, with `define` and `run`) -> its line in the help
COMMANDS = {
    "embed": "texts in, sentence vectors out",
    "search": "the texts nearest to a query, by their vectors",
    "rank": "texts by how well they answer a query (cross-encoders)",
    "classify": "the label of each text, or pair of texts",
    "tag": "the entities in each text",
    "answer": "answers to questions, found in texts",
    "fill": "what could stand where a text says [MASK]",
    "map": "a picture of vectors: near in meaning, near on the page",
    "attention": "a picture of what each token of a text looks at",
    "tokenize": "texts as a model sees them",
    "inspect": "what a model is, and what becomes of each of its tensors",
    "convert": "pytorch_model.bin -> model.safetensors, without running what a pickle may hide",
    "quantize": "a model's weights in eight bits, a quarter of the size",
    "quality": "what int8 costs: vectors, ranks and labels against float32",
    "parity": "is it the same model as transformers reads from the same files?",
    "invariance": "does a text's vector depend on what it is batched with?",
    "bench": "how fast is a model on this machine?",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0; 1 where ``inspect`` finds that a model would not work, where ``parity`` or ``invariance`` fail, or for a bug in
    nativebert; 2 for an error, which is told in one line; 130 when interrupted. ``--debug`` lets errors out as they are.
    """
    _occupy()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter still shows the rest
    args = _parse(sys.argv[1:] if argv is None else argv)
    try:
        code: int = args.run(args)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output (head, less) has seen enough
        _discard_output()
        return 0
    except KeyboardInterrupt:
        fail("interrupted")
        return INTERRUPTED
    except Exception as error:
        if args.debug:
            raise
        return _tell(error, args)


def _tell(error: Exception, args: argparse.Namespace) -> int:
    """Tell an error in one line."""
    from nativebert.errors import NativeBertError
    from weights_map import MismatchError, WeightsMapError

    if isinstance(error, MismatchError):
        folder = error.ledger.checkpoint.path
        return fail(f"{str(error).splitlines()[0]}; `nativebert inspect {folder}` shows every tensor")
    if isinstance(error, NativeBertError | WeightsMapError):
        return fail(as_options(args, str(error)))
    if isinstance(error, OSError) and error.strerror:
        if error.filename is None:
            _discard_output()  # else Python tells it again when it ends
        return fail(f"{error.filename or 'standard output'}: {error.strerror}")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return fail("out of memory: try a smaller --batch-tokens, or fewer texts at once")
    fail(f"internal error, a bug in nativebert: {type(error).__name__}: {error}. Run again with --debug, and report it")
    return BUG


def _occupy() -> None:
    """Give the numbers of streams that are closed to nowhere, before a file is opened under them; a closed stream is None in Python.

    What is said on standard error goes nowhere too: ``print(file=None)`` would print it among the results."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _discard_output() -> None:
    if sys.stdout is None:
        return
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


# ---- what may be asked


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    command = next((word for word in argv if not word.startswith("-")), None)  # no option before it takes a value
    parser = _parser(command, argv)
    if not argv:
        parser.print_help(sys.stderr)
        raise SystemExit(ERROR)
    if argv[0] == command and command not in COMMANDS:
        parser.no_command(command, COMMANDS)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        asked: Parser = args.parser
        asked.refuse(unknown[0])
    return args


def _parser(command: str | None, argv: Sequence[str]) -> Parser:
    """The parser; of the commands, only the one that is asked for has its options."""
    parser = Parser(
        prog="nativebert",
        description="BERT encoders you can audit: from texts to vectors, labels, entities and answers; what a model is; and the proof that "
        "its numbers are right.",
        epilog="`nativebert COMMAND --help` tells more. A model is a folder, or its name on the Hub, owner/name, "
        "with @revision if wanted; the Hub is asked only for what is not on this machine yet.",
    )
    parser.add_argument("--version", action="version", version=f"nativebert {__version__}", help="show the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for name, line in COMMANDS.items():
        one: Parser = commands.add_parser(name, help=line)
        if name != command:
            continue
        module = importlib.import_module(f"nativebert.cli.{name}")
        module.define(one)
        one.words = argv
        one.set_defaults(run=module.run, parser=one)
        every = one.add_argument_group("options of every command")
        every.add_argument("--revision", metavar="REV", help="branch, tag or commit of the model on the Hub")
        every.add_argument("--offline", action="store_true", default=None, help="touch no network")
        every.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
