"""``nativebert evaluate``: how good a model is on a table."""

from __future__ import annotations

import argparse

from nativebert.cli import options


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s FILE -m MODEL (--label-column | --pair-column --score-column | --query-column) [options]"
    parser.description = (
        "Measure a model on a table: accuracy and F1 of a classifier against a column of labels; correlation of an embedding model with the scores of pairs (STS); or retrieval: "
        "how often an embedding model finds the text of a row for the row's query, among the texts of all rows. Metrics are scikit-learn's (extra train)."
    )
    options.add_file(parser)
    options.add_column(parser)
    options.add_model(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--label-column", type=options.unicode, metavar="NAME", help="column of the right labels: evaluate a classifier"
    )
    which.add_argument(
        "--score-column",
        type=options.unicode,
        metavar="NAME",
        help="column of the scores of pairs: evaluate an embedding model",
    )
    which.add_argument("--query-column", type=options.unicode, metavar="NAME", help="column of the queries: evaluate retrieval")
    parser.add_argument("--pair-column", type=options.unicode, metavar="NAME", help="column of the second text of each pair")
    parser.add_argument("--query-prompt-name", type=options.unicode, metavar="NAME", help="the model's prompt for queries")
    parser.add_argument(
        "--prompt-name", type=options.unicode, metavar="NAME", help="the model's prompt for the texts that are searched"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead")
    options.add_quiet(parser)
    options.add_long_texts(parser.add_argument_group("long texts"), default="truncate")
    options.add_speed(parser)


def run(args: argparse.Namespace) -> int:
    from nativebert.cli import common
    from nativebert.errors import BadInputError

    if (args.score_column is not None) and args.pair_column is None:
        raise BadInputError("--score-column requires --pair-column, the second text of each pair")
    pair = {} if args.pair_column is None else {"--pair-column": args.pair_column}
    option = next(name for name in ("label_column", "score_column", "query_column") if getattr(args, name) is not None)
    wanted = {"--column": args.column, **pair, f"--{option.replace('_', '-')}": getattr(args, option)}
    table = common.read_file(args, args.file, wanted, numbers=True, main=True)
    texts = [row[:-1] if pair else row[0] for row in table.rows]
    truth = [row[-1] for row in table.rows]
    with common.at_work(args):
        from nativebert.analysis import evaluate
        from nativebert.tasks.classify import Classifier
        from nativebert.tasks.embed import Embedder

        made = common.task_options(args)
        if option == "label_column":
            found = evaluate.evaluate_labels(Classifier(args.model, **made), texts, truth)
        elif option == "score_column":
            pairs = [(row[0], row[1]) for row in table.rows]
            found = evaluate.evaluate_pairs(
                Embedder(args.model, **made), pairs, [_number(value, n) for n, value in enumerate(truth)]
            )
        else:
            documents = list(dict.fromkeys(str(text) for text in texts))
            at = {text: n for n, text in enumerate(documents)}
            belongs: dict[str, list[int]] = {}
            for query, text in zip(truth, texts):
                belongs.setdefault(query, []).append(at[str(text)])
            prompts = (args.query_prompt_name, args.prompt_name)
            found = evaluate.evaluate_retrieval(
                Embedder(args.model, **made), list(belongs), documents, list(belongs.values()), prompts=prompts
            )
    if args.json:
        common.print_json({"rows": len(table.rows), **found}, indent=2)
    else:
        common.show(
            [
                ("rows", f"{len(table.rows):,} from {common.name(args.file, 'input')}"),
                *((name, f"{value:.4f}") for name, value in found.items()),
            ]
        )
    return 0


def _number(value: str, row: int) -> float:
    from nativebert.errors import BadInputError

    try:
        return float(value)
    except ValueError:
        raise BadInputError(f"row {row} (from 0): the score {value!r} is not a number") from None
