"""The command line: one file a command. A command is imported when it is asked for, and imports what it needs when it runs."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from nativebert import __version__
from nativebert.cli.options import ERROR, Parser, as_options, fail

BUG, INTERRUPTED = 1, 130

# Command (a module of this package, with `define` and `run`) -> its line in the help
COMMANDS = {
    "embed": "compute sentence embeddings",
    "search": "find the texts most similar to a query, by their embeddings",
    "rank": "rank texts by relevance to a query, with a cross-encoder",
    "classify": "classify texts or pairs of texts",
    "tag": "find named entities, or label tokens",
    "answer": "extract answers to questions from texts",
    "fill": "fill masked tokens",
    "serve": "serve a model over HTTP, with OpenAI's API for embeddings",
    "plan": "estimate what a job over a table will take",
    "verify": "check the output folder of a job",
    "train": "fine-tune a model on a table of examples",
    "duplicates": "find groups of near-duplicate texts",
    "evaluate": "measure a model on a table: accuracy, correlation, retrieval",
    "map": "plot vectors in 2D or 3D",
    "attention": "draw the attention weights of a text",
    "tokenize": "show the tokens of texts",
    "inspect": "show a model's configuration and weight map",
    "convert": "convert pytorch_model.bin to model.safetensors without executing code",
    "quantize": "write a copy of a model with int8 weights, a quarter of the size",
    "quality": "measure the accuracy of int8 against float32",
    "parity": "compare a model with transformers, layer by layer",
    "invariance": "check that results do not depend on the batch",
    "bench": "measure the speed of a model on this machine",
}


class _Version(argparse.Action):
    """Prints what is installed, without importing it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        from nativebert import kernels
        from nativebert.errors import NotInstalledError, missing_packages

        print(f"nativebert {__version__}")
        missing = missing_packages()
        if "torch" not in missing:
            print(f"torch {version('torch')}")
        if missing:
            print(NotInstalledError(missing))
        print("with C kernels" if kernels.PATH.exists() else f"without C kernels: {kernels.NOT_BUILT}")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0; 1 where ``inspect`` finds that a model would not work, where ``parity`` or ``invariance`` fail, or for a bug in
    nativebert; 2 for an error, which is reported in one line; 130 when interrupted. ``--debug`` lets errors out as they are.
    """
    _reserve_streams()
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
        return _print_error(error, args)


def _print_error(error: Exception, args: argparse.Namespace) -> int:
    """Report an error in one line."""
    from nativebert.errors import NativeBertError, NotInstalledError, missing_packages

    if isinstance(error, ImportError) and (missing := missing_packages()):
        return fail(str(NotInstalledError(missing)))
    from weights_map import MismatchError, WeightsMapError

    if isinstance(error, MismatchError):
        folder = error.ledger.checkpoint.path
        return fail(f"{str(error).splitlines()[0]}; `nativebert inspect {folder}` shows every tensor")
    if isinstance(error, NativeBertError | WeightsMapError):
        return fail(as_options(args, str(error)))
    if isinstance(error, OSError) and error.strerror:
        if error.filename is None:
            _discard_output()  # else Python reports it again when it ends
        return fail(f"{error.filename or 'standard output'}: {error.strerror}")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return fail("out of memory: try a smaller --batch-tokens, or fewer texts")
    fail(f"internal error, a bug in nativebert: {type(error).__name__}: {error}. Please report it, with the output of --debug")
    return BUG


def _reserve_streams() -> None:
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
        subparser: Parser = args.parser
        subparser.refuse(unknown[0])
    return args


def _parser(command: str | None, argv: Sequence[str]) -> Parser:
    """The parser; of the commands, only the one that is asked for has its options."""
    parser = Parser(
        prog="nativebert",
        description="Turn text into vectors, labels, entities and answers with BERT-family models, inspect models, and verify their results "
        "against transformers.",
        epilog="Run `nativebert COMMAND --help` for the options of a command. A model is a local folder or a name on the Hugging Face Hub: "
        "owner/name or owner/name@revision. Only missing files are downloaded.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version, and whether the C kernels are there")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for name, line in COMMANDS.items():
        one: Parser = commands.add_parser(name, help=line)
        if name != command:
            continue
        module = importlib.import_module(f"nativebert.cli.{name}")
        module.define(one)
        one.words = argv
        one.set_defaults(run=module.run, parser=one)
        every = one.add_argument_group("common options")
        every.add_argument("--revision", metavar="REV", help="branch, tag or commit of the model on the Hub")
        every.add_argument("--offline", action="store_true", default=None, help="disable network access")
        every.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
