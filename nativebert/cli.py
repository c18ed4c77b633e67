"""The command line. Each command imports what it needs when it runs, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from nativebert import __version__

if TYPE_CHECKING:
    from nativebert.tasks.embed import Embedder, EmbedReport, Vectors

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

PAIRS_AT_ONCE = 2**22  # compared in one go: memory stays small for any number of texts

# Exit codes: an answer that is bad news, or a bug; an error that the message explains; Ctrl-C
BAD, ERROR, INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0; 1 where ``inspect`` finds that a model would not work, where ``parity`` or ``invariance`` fail, or for a bug in
    nativebert; 2 for an error, which is told in one line; 130 when interrupted. ``--debug`` lets errors out as they are.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter still shows the rest
    args = _parse(sys.argv[1:] if argv is None else argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output (head, less) has seen enough
        _discard_output()
        return 0
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except Exception as error:
        if args.debug:
            raise
        return _explain(error, args)


def _explain(error: Exception, args: argparse.Namespace) -> int:
    """Tell an error in one line."""
    from nativebert.errors import NativeBertError
    from weights_map.errors import Mismatch, WeightsMapError

    if isinstance(error, Mismatch):
        folder = error.ledger.checkpoint.path
        return _fail(f"{str(error).splitlines()[0]}; `nativebert inspect {folder}` shows every tensor")
    if isinstance(error, NativeBertError | WeightsMapError):
        return _fail(_as_options(args, str(error)))
    if isinstance(error, OSError) and error.strerror:
        if error.filename is None:
            _discard_output()  # else Python tells it again when it ends
        return _fail(f"{error.filename or 'standard output'}: {error.strerror}")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return _fail("out of memory: try a smaller --batch-tokens, or fewer texts at once")
    _say(f"internal error, a bug in nativebert: {type(error).__name__}: {error}. Run again with --debug, and report it")
    return BAD


def _as_options(args: argparse.Namespace, message: str) -> str:
    """A message that speaks of the library's arguments (too_long='window'), in terms of options (--too-long window)."""
    import re

    def option(match: re.Match[str]) -> str:
        name, value = match[1], match[2].strip("'")
        return f"--{name.replace('_', '-')}{value and ' ' + value}" if name in vars(args) else match[0]

    message = re.sub(r"\b(?:token|cache_dir)=(?: or|,) ", "", message)  # for which variables do, named next to them
    return re.sub(r"\b([a-z_]+)=('[^']*'|\w*)", option, message)


def _fail(message: str) -> int:
    _say(message)
    return ERROR


def _say(message: str) -> None:
    from nativebert.console import say

    say(message)


def _discard_output() -> None:
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


# ---- what may be asked


class _Parser(argparse.ArgumentParser):
    """Errors in one line, options in full, and help that names the values once."""

    def __init__(self, **options: Any) -> None:
        shape = lambda prog: argparse.HelpFormatter(prog, max_help_position=26)  # noqa: E731
        super().__init__(formatter_class=shape, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        message = message.replace("the following arguments are required:", "what is missing:")
        if "missing:" in message and "--output" in message:
            message += ". Say where the vectors go: -o vectors.npy, .csv or .jsonl, or -o - for standard output"
        _fail(f"{message} ({self.prog} --help tells more)")
        raise SystemExit(ERROR)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    if not argv:
        parser.print_help(sys.stderr)
        raise SystemExit(ERROR)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        import difflib

        asked: _Parser = args.parser
        options = [option for action in asked._actions for option in action.option_strings]
        near = difflib.get_close_matches(unknown[0].partition("=")[0], options, n=1)
        dash = unknown[0].startswith("-")
        hint = (
            f"; did you mean {near[0]}?"
            if near
            else "; before a text or file that begins with a dash, write --"
            if dash
            else ""
        )
        asked.error(f"unknown option {unknown[0]!r}{hint}" if dash else f"one argument too many: {unknown[0]!r}")
    return args


def _count(text: str) -> int:
    """A whole number above 0."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="nativebert",
        description="BERT encoders you can audit: embed texts, inspect models, tokenize, prove that the numbers are right.",
        epilog="`nativebert COMMAND --help` tells more. A model is a folder, or its name on the Hub, owner/name, "
        "with @revision if wanted; the Hub is asked only for what is not on this machine yet.",
    )
    parser.add_argument("--version", action="version", version=f"nativebert {__version__}", help="show the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    for describe in (
        _embed_options,
        _inspect_options,
        _tokenize_options,
        _parity_options,
        _invariance_options,
        _convert_options,
    ):
        command = describe(commands)
        where = command.add_argument_group("options of every command")
        where.add_argument("--revision", metavar="REV", help="branch, tag or commit of the model on the Hub")
        where.add_argument("--offline", action="store_true", default=None, help="touch no network")
        where.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(parser=command)
    return parser


def _embed_options(commands: Any) -> _Parser:
    parser: _Parser = commands.add_parser(
        "embed",
        usage="%(prog)s FILE -o OUT [options]",
        help="texts in, sentence vectors out",
        description="Turn each text of a file into a vector, in the file's order. Pooling, normalisation, prompts and "
        "the longest text are the model's own. Texts that are too long are cut, and counted, unless you say otherwise.",
    )
    parser.add_argument("file", metavar="FILE", help="txt (a text a line), csv, tsv or jsonl; - for standard input")
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True,
        help="where to: a file ending in .npy, .csv or .jsonl; - writes JSON lines to standard output",
    )  # fmt: skip
    parser.add_argument("-m", "--model", metavar="MODEL", default=DEFAULT_MODEL, help="default: %(default)s")
    parser.add_argument("--column", metavar="NAME", help="column (or JSON key) that holds the text")
    formats = ("txt", "csv", "tsv", "jsonl")
    parser.add_argument("--format", choices=formats, help="of the input (default: by its ending)")
    parser.add_argument("--pairs", type=_count, metavar="N", help="also print the N most similar pairs of texts")
    parser.add_argument("--quiet", action="store_true", help="print no summary and no progress")

    text = parser.add_argument_group("in place of what the model says")
    text.add_argument("--prompt", metavar="TEXT", help="text to put before each text")
    text.add_argument("--prompt-name", metavar="NAME", help="or one of the model's own prompts")
    text.add_argument("--max-tokens", type=_count, metavar="N", help="the longest text, special tokens included")
    text.add_argument(
        "--too-long", choices=("truncate", "window", "error"), default="truncate",
        help="cut longer texts (the default), read them in overlapping windows, or stop",
    )  # fmt: skip
    text.add_argument("--pooling", action="append", metavar="MODE", help="mean, cls, max, ...; again to concatenate")
    text.add_argument("--normalize", action=argparse.BooleanOptionalAction, help="to unit length, or not")

    speed = parser.add_argument_group("how it is computed")
    speed.add_argument("--device", default="auto", metavar="NAME", help="auto (the default), cpu, cuda, cuda:1, mps")
    precisions = ("float32", "bfloat16", "float16", "int8")
    speed.add_argument("--precision", default="float32", choices=precisions, help="default: %(default)s")
    speed.add_argument("--threads", type=_count, metavar="N", help="on the CPU (default: torch's choice)")
    speed.add_argument("--batch-tokens", type=_count, metavar="N", help="most tokens at once; the result is the same")
    parser.set_defaults(run=_embed)
    return parser


def _inspect_options(commands: Any) -> _Parser:
    parser: _Parser = commands.add_parser(
        "inspect",
        usage="%(prog)s MODEL [options]",
        help="what a model is, and what becomes of each of its tensors",
        description="Sizes, tokenizer, pooling, limits, licence, and the weight map as a table, from the files' "
        "headers: no weight is read. A model that is not on this machine yet is downloaded, weights included. "
        "The exit code is 1 if the model would not load, or could not turn texts into vectors.",
    )
    parser.add_argument("model", metavar="MODEL", help="folder, or name on the Hub")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="all of it as JSON, with a row for every tensor")
    form.add_argument("--explain", metavar="NAME", help="all about one tensor of the file, or one parameter")
    parser.set_defaults(run=_inspect)
    return parser


def _tokenize_options(commands: Any) -> _Parser:
    parser: _Parser = commands.add_parser(
        "tokenize",
        usage="%(prog)s TEXT ... [options]",
        help="texts as a model sees them",
        description="Show the tokens of texts: ids, which characters each stands for, and which word it belongs to. "
        "Nothing is cut: what is longer than the model takes is said.",
    )
    parser.add_argument("text", nargs="+", metavar="TEXT", help="texts; - for standard input, a text a line")
    parser.add_argument("-m", "--model", metavar="MODEL", default=DEFAULT_MODEL, help="default: %(default)s")
    parser.add_argument("--pair", metavar="TEXT", help="a second text, to go with each")
    parser.add_argument("--json", action="store_true", help="a JSON object for each text, on a line")
    parser.set_defaults(run=_tokenize)
    return parser


def _parity_options(commands: Any) -> _Parser:
    parser: _Parser = commands.add_parser(
        "parity",
        usage="%(prog)s MODEL [options]",
        help="is it the same model as transformers reads from the same files?",
        description="Run a checkpoint through nativebert and through transformers (in float64), compare every layer, the "
        "outputs, the weights, the settings and the token ids, and say where the two part. The exit code is 1 if they do. "
        "Needs the extra parity.",
    )
    parser.add_argument("model", metavar="MODEL", help="folder, or name on the Hub")
    parser.add_argument("--against", metavar="REF", help="what transformers reads instead: another folder or name")
    parser.add_argument("--texts", metavar="FILE", help="texts to run: txt, csv, tsv or jsonl (default: eight built in)")
    parser.add_argument("--head", default="auto", metavar="TASK", help="of the model: lm, classify, ...; none for no head")
    dtypes = ("float32", "bfloat16", "float16")
    parser.add_argument("--dtype", default="float32", choices=dtypes, help="default: %(default)s")
    parser.add_argument("--all", action="store_true", help="also show every operation, not only the outputs of layers")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON; - for standard output")
    parser.add_argument("--plot", metavar="FILE", help="draw the differences: .png, .svg or .pdf (extra plot)")
    parser.set_defaults(run=_parity)
    return parser


def _invariance_options(commands: Any) -> _Parser:
    parser: _Parser = commands.add_parser(
        "invariance",
        usage="%(prog)s MODEL [options]",
        help="does a text's vector depend on what it is batched with?",
        description="Embed the same texts in many orders, batch sizes and companies on this machine, and say how equal the "
        "results are: to the last bit, or within what. The exit code is 1 if float32 on the CPU is not equal to the last bit.",
    )
    parser.add_argument("model", metavar="MODEL", help="folder, or name on the Hub")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto (the default), cpu, cuda, cuda:1, mps")
    precisions = ("float32", "bfloat16", "float16", "int8")
    parser.add_argument("--precision", default="float32", choices=precisions, help="default: %(default)s")
    parser.add_argument("--trials", type=_count, default=5, metavar="N", help="of each kind (default: %(default)s)")
    parser.add_argument("--texts", metavar="FILE", help="texts to run: txt, csv, tsv or jsonl (default: 32 built in)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the trials (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON; - for standard output")
    parser.set_defaults(run=_invariance)
    return parser


def _convert_options(commands: Any) -> _Parser:
    parser: _Parser = commands.add_parser(
        "convert",
        usage="%(prog)s SOURCE [-o FOLDER] [options]",
        help="pytorch_model.bin -> model.safetensors, without running what a pickle may hide",
        description="Read a folder's pytorch_model.bin (or its shards), or one .bin or .pt file, in a process of its own that "
        "accepts nothing but tensors, and write model.safetensors. A file that holds anything else is refused.",
    )
    parser.add_argument("source", metavar="SOURCE", help="folder with a pytorch_model.bin, or a .bin, .pt or .pth file")
    parser.add_argument("-o", "--output", metavar="FOLDER", help="where to (default: beside the source)")
    parser.add_argument("--time-limit", type=_count, default=600, metavar="SECONDS", help="default: %(default)s")
    parser.set_defaults(run=_convert)
    return parser


# ---- the commands


def _embed(args: argparse.Namespace) -> int:
    from nativebert.console import notes
    from nativebert.errors import BadInput
    from nativebert.io.read import read_texts
    from nativebert.io.write import check_target, write_vectors

    check_target(args.output)  # before the work, not after it
    _explain_waiting(args.file)
    texts, column = read_texts(args.file, column=args.column, format=args.format)
    if not texts:
        raise BadInput(f"{_name(args.file, 'input')} holds no texts")
    if os.path.exists(args.file) and os.path.exists(args.output) and os.path.samefile(args.file, args.output):
        raise BadInput(f"{args.output} is the file that the texts come from: give the vectors another name")
    if args.quiet:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with notes("nativebert", partial(_as_options, args)):
        import torch

        from nativebert.tasks.embed import Embedder

        if args.threads is not None:
            torch.set_num_threads(args.threads)
        embedder = Embedder(
            args.model,
            device=args.device,
            precision=args.precision,
            batch_tokens=args.batch_tokens,
            too_long=args.too_long,
            max_tokens=args.max_tokens,
            pooling=args.pooling,
            normalize=args.normalize,
            revision=args.revision,
            offline=args.offline,
        )
        vectors, report = embedder(
            texts,
            prompt=args.prompt,
            prompt_name=args.prompt_name,
            return_report=True,
            progress=False if args.quiet else None,
        )
    write_vectors(args.output, vectors, texts)
    out = sys.stderr if args.output == "-" else sys.stdout  # what people read must not mix with what programs read
    if not args.quiet:
        _print_summary(args, embedder, vectors, report, column, out)
    if args.pairs:
        _print_pairs(embedder, vectors, texts, args.pairs, out)
    return 0


def _explain_waiting(source: str) -> None:
    if source == "-" and sys.stdin.isatty():
        print("Reading texts, one a line; Ctrl-D ends.", file=sys.stderr)


def _name(path: str, stream: str) -> str:
    return f"standard {stream}" if path == "-" else path


def _print_summary(
    args: argparse.Namespace, embedder: Embedder, vectors: Vectors, report: EmbedReport, column: str | None, out: TextIO
) -> None:
    from nativebert.console import facts

    snapshot = embedder.snapshot
    origin = snapshot and (f"commit {snapshot.revision}" if snapshot.revision else f"from a {snapshot.source}")
    cut, used = int(report.cut.sum()), int(report.tokens.sum())
    texts_cut = int((report.cut > 0).sum())
    left = f"{cut:,} cut off in {texts_cut:,} {'text' if texts_cut == 1 else 'texts'}" if cut else "none cut off"
    batches = f"{report.batches:,} {'batch' if report.batches == 1 else 'batches'}"
    lines = [
        ("model", args.model + (f" ({origin})" if origin else "")),
        ("texts", f"{len(vectors):,} from {_name(args.file, 'input')}" + (f", column {column!r}" if column else "")),
        ("tokens", f"{used:,}, {left}"),
        ("seconds", f"{report.seconds:.2f} on {report.device}, {report.precision}, {batches}"),
        ("vectors", f"{len(vectors):,} x {vectors.shape[1]:,} float32 in {_name(args.output, 'output')}"),
    ]
    facts({"": lines}, file=out)


def _print_pairs(embedder: Embedder, vectors: Vectors, texts: list[str], count: int, out: TextIO) -> None:
    from nativebert.console import short, table

    pairs = most_similar(embedder, vectors, count)
    rows = [(f"{score:.3f}", short(texts[a]), short(texts[b])) for score, a, b in pairs]
    if not rows:
        print("\nThere is one text, and no pair.", file=out)
        return
    print(file=out)
    title = f"The {len(rows)} most similar pairs:" if len(rows) > 1 else "The most similar pair:"
    table(rows, ["similarity", "text", "text"], title=title, file=out)


def most_similar(embedder: Embedder, vectors: Vectors, count: int) -> list[tuple[float, int, int]]:
    """The ``count`` most similar pairs as ``(similarity, first, second)``, best first; where equal, in order."""
    import numpy as np

    best: list[tuple[float, int, int]] = []
    step = max(1, PAIRS_AT_ONCE // len(vectors))  # rows
    for start in range(0, len(vectors) - 1, step):
        scores = embedder.similarity(vectors[start : start + step], vectors[start + 1 :])
        first, second = np.triu_indices(len(scores), m=scores.shape[1])
        found = scores[first, second]
        top = np.argsort(-found, kind="stable")[:count]
        best += zip(found[top].tolist(), (first[top] + start).tolist(), (second[top] + start + 1).tolist())
        best = sorted(best, key=lambda pair: (-pair[0], *pair[1:]))[:count]
    return best


def _inspect(args: argparse.Namespace) -> int:
    from nativebert.console import facts, notes, table
    from nativebert.hub import resolve
    from nativebert.inspect import inspect
    from weights_map import report

    with notes("nativebert", partial(_as_options, args)):
        found = inspect(resolve(args.model, revision=args.revision, offline=args.offline))
    if args.explain:
        print(found.ledger.explain(args.explain))
        return 0
    if args.json:
        print(_json(found.as_dict(), indent=2))
    else:
        facts(found.shown())
        print()
        header, *rows = report.table(found.ledger.rows)
        table(rows, header, title=f"weight map {found.ledger.map.name}: {report.summary(found.ledger.rows)}")
    sys.stdout.flush()
    for problem in found.problems:
        _say(problem)
    return BAD if found.problems else 0


def _tokenize(args: argparse.Namespace) -> int:
    from nativebert.console import notes, short, table
    from nativebert.hub import resolve
    from nativebert.inspect import sentence_tokenizer
    from nativebert.io.read import read_texts

    with notes("nativebert", partial(_as_options, args)):
        snapshot = resolve(args.model, revision=args.revision, offline=args.offline, weights=False)
    tokenizer = sentence_tokenizer(snapshot)
    if "-" in args.text:
        _explain_waiting("-")
    texts = [line for text in args.text for line in (read_texts("-").texts if text == "-" else [text])]
    for n, text in enumerate(texts):
        e = tokenizer.encode(text, args.pair)
        if args.json:
            fields = {"ids": e.ids, "tokens": e.tokens, "offsets": e.offsets, "word_ids": e.word_ids}
            whole = {"text": text, **({} if args.pair is None else {"pair": args.pair}), **fields}
            print(_json({**whole, "type_ids": e.type_ids}))
            continue
        rows = [
            (
                str(place),
                str(number),
                token,
                "" if special else f"{start}:{end}",
                "" if word is None else str(word),
                str(segment),
            )
            for place, (number, token, (start, end), word, segment, special) in enumerate(
                zip(e.ids, e.tokens, e.offsets, e.word_ids, e.type_ids, e.special)
            )
        ]
        both = short(text) if args.pair is None else f"{short(text)} | {short(args.pair)}"
        long = tokenizer.max_length is not None and len(e) > tokenizer.max_length
        more = f", and the model takes {tokenizer.max_length:,}" if long else ""
        if n:
            print()
        title = f"{both}  ({len(e):,} tokens{more})"
        table(rows, ["#", "id", "token", "characters", "word", "segment"], title=title)
    return 0


def _parity(args: argparse.Namespace) -> int:
    from nativebert.console import facts, notes, table
    from nativebert.parity import report

    texts = _texts(args.texts)
    with notes("nativebert", partial(_as_options, args)):
        found = report.check(
            args.model,
            against=args.against,
            texts=texts,
            head=None if args.head == "none" else args.head,
            dtype=args.dtype,
            revision=args.revision,
            offline=args.offline,
        )
    out = _write_report(args.json, found.as_dict())
    if args.plot:
        report.plot(found, args.plot)
    facts({"": list(found.facts.items())}, file=out)
    print(file=out)
    failing = {step.name for step in found.steps if not step.passed}
    shown = [step for step in found.steps if step.kind == "output" or args.all or step.name in failing]
    rows = []
    for s in shown:
        # of an operation that is wrong by itself, that is what matters
        off, allowed = (s.max_abs, s.allowed) if s.local <= s.local_allowed else (s.local, s.local_allowed)
        numbers = (f"{off:.1e}", f"{allowed:.1e}", f"{s.relative:.1e}", f"{s.ulp:,.1f}", _cosine(s.cosine))
        rows.append((s.name, s.kind, *numbers, "" if s.passed else "differs"))
    table(rows, ["step", "", "max abs", "allowed", "relative", "ULP", "1 - cosine", ""], file=out)
    print(file=out)
    print(found.verdict(), file=out)
    return 0 if found.passed else BAD


def _cosine(cosine: float) -> str:
    return f"{max(0.0, 1 - cosine):.0e}"


def _texts(source: str | None) -> list[str] | None:
    from nativebert.errors import BadInput
    from nativebert.io.read import read_texts

    if source is None:
        return None
    _explain_waiting(source)
    texts = read_texts(source).texts
    if not texts:
        raise BadInput(f"{_name(source, 'input')} holds no texts")
    return texts


def _write_report(target: str | None, report: dict[str, Any]) -> TextIO:
    """Write a report, if asked for; returns the stream that is free for people."""
    if target == "-":
        print(_json(report, indent=2))
        return sys.stderr
    if target is not None:
        import json

        with open(target, "w", encoding="utf-8") as file:
            file.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return sys.stdout


def _invariance(args: argparse.Namespace) -> int:
    from nativebert.console import facts, notes, table
    from nativebert.parity import invariance

    texts = _texts(args.texts)
    with notes("nativebert", partial(_as_options, args)):
        found = invariance.check(
            args.model,
            device=args.device,
            precision=args.precision,
            trials=args.trials,
            texts=texts,
            seed=args.seed,
            revision=args.revision,
            offline=args.offline,
        )
    out = _write_report(args.json, found.as_dict())
    facts({"": list(found.facts.items())}, file=out)
    print(file=out)
    rows = [
        (
            k.name,
            str(k.trials),
            f"{k.equal:,} of {k.compared:,}",
            f"{k.vectors:.1e}" if k.vectors else "0",
            f"{k.states:.1e}" if k.states else "0",
        )
        for k in found.kinds
    ]
    table(rows, ["what changes", "trials", "equal to the last bit", "vectors within", "token states within"], file=out)
    print(file=out)
    print(found.verdict(), file=out)
    return 0 if found.passed else BAD


def _convert(args: argparse.Namespace) -> int:
    from nativebert.console import facts
    from nativebert.convert import convert

    done = convert(args.source, args.output, time_limit=args.time_limit)
    for one in done.files:
        lines = [
            ("from", ", ".join(map(str, one.sources))),
            ("to", f"{one.target}, {one.tensors:,} tensors, {one.bytes:,} bytes"),
        ]
        if one.dropped:
            lines.append(("left out, tied", ", ".join(f"{a} (is {b})" for a, b in one.dropped.items())))
        if one.cloned:
            lines.append(("written apart", ", ".join(one.cloned)))
        facts({"": lines})
    if done.copied:
        facts({"": [("copied", ", ".join(done.copied))]})
    return 0


def _json(value: object, indent: int | None = None) -> str:
    import json

    # JSON is UTF-8; where standard output is not, escapes say the same
    utf8 = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    return json.dumps(value, indent=indent, ensure_ascii=not utf8)


if __name__ == "__main__":
    raise SystemExit(main())
