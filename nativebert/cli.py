"""The command line. Each command imports what it needs when it runs, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from nativebert import __version__

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code: 0; 2 for an error that the message explains; 130 when interrupted."""
    args = _parser().parse_args(argv)
    if args.threads is not None and args.threads < 1:
        return _fail("--threads must be at least 1")
    from nativebert.errors import NativeBertError
    from weights_map.errors import WeightsMapError

    try:
        code: int = args.run(args)
        return code
    except (NativeBertError, WeightsMapError) as error:
        if args.debug:
            raise
        return _fail(str(error))
    except BrokenPipeError:  # the reader of our output has gone: not an error of ours
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130


def _fail(message: str) -> int:
    print(f"nativebert: {message}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    shared.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    shared.add_argument("--offline", action="store_true", default=None, help="touch no network")
    shared.add_argument("--revision", metavar="REV", help="branch, tag or commit on the Hub")

    parser = argparse.ArgumentParser(prog="nativebert", description="BERT encoders you can audit: embed texts, inspect models, tokenize.")
    parser.add_argument("--version", action="version", version=f"nativebert {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    embed = commands.add_parser(
        "embed", parents=[shared], help="texts in, sentence vectors out",
        description="Turn each text of a file into a vector. Texts that are too long are cut, and counted, unless you say otherwise.",
    )  # fmt: skip
    embed.add_argument("file", metavar="FILE", help="txt (a text a line), csv, tsv or jsonl; - for standard input")
    embed.add_argument("-m", "--model", default=DEFAULT_MODEL, help="folder or Hub id, with @revision if wanted (default: %(default)s)")
    embed.add_argument("-o", "--output", required=True, metavar="OUT", help="file ending in .npy, .csv or .jsonl; - for JSON lines on standard output")
    embed.add_argument("--column", metavar="NAME", help="column (or JSON key) that holds the text")
    embed.add_argument("--format", choices=("txt", "csv", "tsv", "jsonl"), help="of the input (default: by its ending)")
    embed.add_argument("--pairs", type=int, default=0, metavar="N", help="also print the N most similar pairs of texts")
    embed.add_argument("--too-long", choices=("truncate", "window", "error"), default="truncate", help="what to do with texts over the limit (default: %(default)s)")
    embed.add_argument("--max-tokens", type=int, metavar="N", help="the limit (default: the model's own)")
    embed.add_argument("--pooling", action="append", metavar="MODE", help="in place of the model's own: mean, cls, max, ... (again to concatenate)")
    embed.add_argument("--normalize", action=argparse.BooleanOptionalAction, help="unit length or not, in place of what the model says")
    embed.add_argument("--prompt", metavar="TEXT", help="text to put before each text")
    embed.add_argument("--prompt-name", metavar="NAME", help="or one of the model's own prompts")
    embed.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    embed.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "float16"), help="of the encoder (default: %(default)s)")
    embed.add_argument("--batch-tokens", type=int, metavar="N", help="most tokens in a batch; changes the speed, not the result")
    embed.add_argument("--quiet", action="store_true", help="print no summary and no progress")
    embed.set_defaults(run=_embed)

    inspect = commands.add_parser(
        "inspect", parents=[shared], help="what a model is, and what becomes of each of its tensors",
        description="Sizes, tokenizer, pooling, limits, licence, and the weight map as a table, from the files' headers: no weight is read.",
    )  # fmt: skip
    inspect.add_argument("model", metavar="MODEL", help="folder or Hub id")
    inspect.add_argument("--json", action="store_true", help="all of it as JSON")
    inspect.add_argument("--explain", metavar="NAME", help="tell all about one tensor or parameter")
    inspect.set_defaults(run=_inspect)

    tokenize = commands.add_parser(
        "tokenize", parents=[shared], help="texts as a model sees them",
        description="Show the tokens of texts: ids, where each stands in its text, and which word it belongs to.",
    )  # fmt: skip
    tokenize.add_argument("text", nargs="+", metavar="TEXT", help="texts; - for standard input, a text a line")
    tokenize.add_argument("-m", "--model", default=DEFAULT_MODEL, help="folder or Hub id (default: %(default)s)")
    tokenize.add_argument("--pair", metavar="TEXT", help="a second text, to go with each")
    tokenize.add_argument("--json", action="store_true", help="one JSON object a text")
    tokenize.set_defaults(run=_tokenize)
    return parser


def _embed(args: argparse.Namespace) -> int:
    from nativebert.errors import BadInput
    from nativebert.io.read import read_texts
    from nativebert.io.write import check_target, write_vectors

    check_target(args.output)
    texts = read_texts(args.file, column=args.column, format=args.format)
    if not texts:
        raise BadInput(f"{args.file} holds no texts")
    _set_threads(args)
    with _warnings_as_notes():
        from nativebert.tasks.embed import Embedder

        embedder = Embedder(
            args.model, device=args.device, precision=args.precision, batch_tokens=args.batch_tokens, too_long=args.too_long,
            max_tokens=args.max_tokens, pooling=args.pooling, normalize=args.normalize, revision=args.revision, offline=args.offline,
        )  # fmt: skip
        vectors, report = embedder(
            texts, prompt=args.prompt, prompt_name=args.prompt_name, return_report=True, progress=False if args.quiet else None
        )
    write_vectors(args.output, vectors, texts)
    if not args.quiet:
        from nativebert.console import table

        shape = f"{len(vectors):,} x {vectors.shape[1]} float32"
        facts = [
            ("model", f"{args.model} ({embedder.snapshot.revision or embedder.snapshot.source})"),
            ("texts", f"{len(texts):,}"),
            ("tokens", f"{int(report.tokens.sum()):,} used, {int(report.cut.sum()):,} cut off"),
            ("seconds", f"{report.seconds:.3f} on {report.device}, {report.precision}, {report.batches} batches"),
            ("vectors", f"{shape} in {'standard output' if args.output == '-' else args.output}"),
        ]
        table(facts, file=sys.stderr if args.output == "-" else sys.stdout)
    if args.pairs > 0:
        _print_pairs(embedder, vectors, texts, args.pairs, sys.stderr if args.output == "-" else sys.stdout)
    return 0


def _print_pairs(embedder: Any, vectors: Any, texts: list[str], count: int, out: Any) -> None:
    import numpy as np

    from nativebert.console import table

    if len(texts) > 5000:
        print(f"--pairs compares every text with every other: not done for {len(texts):,} texts (at most 5,000)", file=sys.stderr)
        return
    scores = embedder.similarity(vectors)
    first, second = np.triu_indices(len(texts), k=1)
    best = np.argsort(-scores[first, second], kind="stable")[:count]
    rows = [(f"{scores[first[i], second[i]]:.3f}", _short(texts[first[i]]), _short(texts[second[i]])) for i in best]
    print(file=out)
    table(rows, ["similarity", "text", "text"], title=f"The {len(rows)} most similar pairs:", file=out)


def _inspect(args: argparse.Namespace) -> int:
    import json

    from nativebert.console import table
    from nativebert.hub import resolve
    from nativebert.inspect import inspect

    found = inspect(resolve(args.model, revision=args.revision, offline=args.offline))
    if args.explain:
        print(found.ledger.explain(args.explain))
    elif args.json:
        print(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
    else:
        groups: dict[str, list[tuple[str, str]]] = {}
        for group, name, value in found.facts:
            groups.setdefault(group, []).append((name, value))
        width = max(len(name) for _, name, _ in found.facts)
        for group, rows in groups.items():
            table([(name.ljust(width), value) for name, value in rows], title=f"{group}:")
            print()
        print(found.ledger)
    return 0


def _tokenize(args: argparse.Namespace) -> int:
    import json

    from nativebert.console import table
    from nativebert.hub import resolve
    from nativebert.io.read import read_texts
    from nativebert.text.tokenizer import Tokenizer

    snapshot = resolve(args.model, revision=args.revision, offline=args.offline, weights=False)
    tokenizer = Tokenizer.from_folder(snapshot.folder)
    texts = [line for text in args.text for line in (read_texts("-") if text == "-" else [text])]
    for text in texts:
        e = tokenizer.encode(text, args.pair)
        if args.json:
            print(json.dumps({"text": text, "ids": e.ids, "tokens": e.tokens, "offsets": e.offsets, "type_ids": e.type_ids, "word_ids": e.word_ids}, ensure_ascii=False))
            continue
        rows = [
            (str(i), str(id), token, "" if special else f"{start}:{end}", "" if word is None else str(word), str(kind))
            for i, (id, token, (start, end), word, kind, special) in enumerate(zip(e.ids, e.tokens, e.offsets, e.word_ids, e.type_ids, e.special))
        ]
        table(rows, ["#", "id", "token", "characters", "word", "segment"], title=f"{_short(text, 70)}  ({len(e.ids)} tokens)")
        print()
    return 0


def _set_threads(args: argparse.Namespace) -> None:
    if args.threads is not None:
        import torch

        torch.set_num_threads(args.threads)


def _warnings_as_notes() -> Any:
    """Warnings of ours as one line each, in the style of the errors."""
    import contextlib
    import warnings

    @contextlib.contextmanager
    def noted() -> Any:
        with warnings.catch_warnings():
            show = warnings.showwarning

            def note(message: Warning | str, category: type[Warning], *rest: Any, **options: Any) -> None:
                if category.__module__.startswith("nativebert"):
                    print(f"nativebert: note: {message}", file=sys.stderr)
                else:
                    show(message, category, *rest, **options)

            warnings.showwarning = note
            yield

    return noted()


def _short(text: str, most: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


if __name__ == "__main__":
    raise SystemExit(main())
