"""``nativebert answer``: answers to questions, found in texts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nativebert.cli import options

if TYPE_CHECKING:
    from nativebert.tasks.answer import Answerer


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s FILE -m MODEL [--question TEXT] [-o OUT] [options]"
    parser.description = (
        "Extract the answer to a question from a text (the context), with its character offsets. A csv, tsv or jsonl file "
        "contains a question and a context in each row; with --question, one question is asked of every context in the file."
    )
    options.add_file(parser)
    parser.add_argument(
        "--question", type=options.unicode, metavar="TEXT", help="question for all contexts, instead of a column of questions"
    )
    parser.add_argument(
        "--question-column",
        type=options.unicode,
        metavar="NAME",
        help="column (or JSON key) of the questions (default: question)",
    )
    parser.add_argument(
        "--context-column", type=options.unicode, metavar="NAME",
        help="column (or JSON key) of the contexts (default: context, or the only column with --question)",
    )  # fmt: skip
    options.add_results(parser)
    options.add_model(parser)
    options.add_base(parser)
    parser.add_argument(
        "--top-k", type=options.count, default=1, metavar="N", help="answers per question (default: %(default)s)"
    )
    parser.add_argument("--no-answer", action="store_true", help="allow no answer: the empty answer is also a candidate")
    parser.add_argument(
        "--max-answer-tokens", type=options.count, metavar="N", help="maximum length of an answer in tokens (default: 15)"
    )
    parser.add_argument(
        "--align-to-words", action=argparse.BooleanOptionalAction,
        help="extend answers to whole words (default); turn off for languages without spaces",
    )  # fmt: skip
    options.add_long_texts(parser.add_argument_group("long contexts"), default="window")
    options.add_jobs(parser)
    options.add_speed(parser)


def run(args: argparse.Namespace) -> int:
    from nativebert.cli import common, rows, tables
    from nativebert.errors import BadInputError
    from nativebert.io.write import Records

    if tables.is_table_job(args):
        wanted = {"--context-column": args.context_column}
        if args.question is None:
            wanted = {
                "--question-column": args.question_column or "question",
                "--context-column": args.context_column or "context",
            }
        call = {"question": args.question, "top_k": args.top_k, "no_answer": args.no_answer}
        return tables.run(args, "Answerer", wanted, make=("max_answer_tokens", "align_to_words"), call=call, usual="context")
    if args.question is not None and args.question_column is not None:
        raise BadInputError("--question and --question-column cannot be combined: use one of them")
    wanted = {"--context-column": args.context_column}
    if args.question is None:
        wanted = {
            "--question-column": args.question_column or "question",
            "--context-column": args.context_column or "context",
        }
    names = ["answer", "score", "start", "end"]

    def pair(row: rows.Row) -> tuple[Any, Any]:
        return (args.question, row[0]) if args.question is not None else (row[0], row[1])

    def make() -> Answerer:
        from nativebert.tasks.answer import Answerer

        return Answerer(args.model, **common.task_options(args, "max_answer_tokens", "align_to_words"))

    def call_of(answer: Answerer, items: Sequence[rows.Row], more: dict[str, Any]) -> Any:
        questions, contexts = [pair(row)[0] for row in items], [pair(row)[1] for row in items]
        return answer(questions, contexts, top_k=args.top_k, no_answer=args.no_answer, **more)

    def build(first: int, items: Sequence[rows.Row], results: Sequence[Any]) -> Records:
        keys = [dict(zip(("question", "context"), pair(row))) for row in items]
        if args.top_k == 1:
            none = dict.fromkeys(names)
            records = [key | (one or none) for key, one in zip(keys, results, strict=True)]
            several = [[one or none] for one in results]
        else:
            records = [key | {"answers": answers} for key, answers in zip(keys, results, strict=True)]
            several = [answers or [] for answers in results]
        lines = [
            [first + n, keys[n]["question"], *(one[name] for name in names)]
            for n, answers in enumerate(several)
            for one in answers
        ]
        return Records(records, ["item", "question", *names], lines)

    try:
        return rows.run(
            args,
            wanted,
            make,
            call_of,
            build,
            count=lambda one: 1 if args.top_k == 1 else len(one),
            what=("answer",),
            keys=2,
            usual="context",
        )
    except BadInputError as error:
        if args.question is None and args.question_column is None and "no column" in str(error):
            raise BadInputError(f"{error}; or pass --question to ask one question of every context") from None
        raise
