"""``nativebert serve``: a server of one model."""

from __future__ import annotations

import argparse
import sys

from nativebert.cli import options

TASKS = ("auto", "embed", "rank", "classify", "tag")


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s MODEL [options]"
    parser.description = (
        "Serve a model over HTTP: OpenAI's /v1/embeddings, /rerank, /classify or /tag, depending on the model; /health and /metrics. Requests are computed "
        "together, and every result has the bits that its text has alone. Stop it with Ctrl-C or SIGTERM: requests that were begun are finished."
    )
    parser.add_argument("model", metavar="MODEL", help="folder, or name on the Hub")
    parser.add_argument("--task", choices=TASKS, default="auto", help="what to serve (default: by the model's head)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s; 0.0.0.0 for other machines)"
    )
    parser.add_argument(
        "--port", type=options.whole, default=8000, metavar="N", help="port to listen on (default: %(default)s)"
    )
    parser.add_argument("--name", type=options.unicode, metavar="NAME", help="name of the model in answers (default: MODEL)")
    parser.add_argument(
        "--max-body", type=options.count, default=8, metavar="MB", help="maximum size of a request (default: %(default)s)"
    )
    parser.add_argument(
        "--max-waiting", type=options.count, default=16_384, metavar="N", help="texts that may wait; more are answered with 503 (default: %(default)s)"
    )  # fmt: skip
    options.add_quiet(parser)
    options.add_long_texts(parser.add_argument_group("long texts"), default="truncate")
    options.add_speed(parser)


def run(args: argparse.Namespace) -> int:
    from nativebert.cli import common, tables

    with common.at_work(args):
        from nativebert.loading import load, open_snapshot
        from nativebert.serve import serve

        kind = args.task
        if kind == "auto":
            model = load(open_snapshot(args.model, revision=args.revision, offline=args.offline), head="auto")
            head = next(iter(model.tasks), None)
            single = head == "classify" and model.config.heads["classify"].classes == 1
            kind = "rank" if single else head if head in TASKS else "embed"
        names = {"embed": "Embedder", "rank": "Ranker", "classify": "Classifier", "tag": "Tagger"}
        task = tables.make_task(args, names[kind], ())
        if not args.quiet:
            print(f"nativebert: serving {args.model} ({kind}) at http://{args.host}:{args.port}", file=sys.stderr, flush=True)
        serve(
            task,
            host=args.host,
            port=args.port,
            model=args.name or args.model,
            max_body=args.max_body << 20,
            most_waiting=args.max_waiting,
        )
    return 0
