"""``nativebert answer``: answers to questions, found in texts."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from nativebert.cli import options

if TYPE_CHECKING:
    from nativebert.io.read import Table


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
    from nativebert.cli import common, tables
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
    table, questions, contexts = _pairs(args)
    with common.at_work(args):
        from nativebert.tasks.answer import Answerer

        answer = Answerer(args.model, **common.task_options(args, "max_answer_tokens", "align_to_words"))
        results, report = answer(
            questions, contexts, top_k=args.top_k, no_answer=args.no_answer, return_report=True, progress=common.progress(args)
        )
    keys = [{"question": question, "context": context} for question, context in zip(questions, contexts, strict=True)]
    candidates = results if args.top_k > 1 else [[one] for one in results]
    if args.top_k == 1:
        records = [key | one for key, one in zip(keys, results, strict=True)]
    else:
        records = [key | {"answers": answers} for key, answers in zip(keys, results, strict=True)]
    names = ["answer", "score", "start", "end"]
    rows = [[n, questions[n], *(one[name] for name in names)] for n, answers in enumerate(candidates) for one in answers]
    output = Records(records, ["item", "question", *names], rows)
    show, inputs = partial(common.show_table, output, 2), common.source(args.file, table)
    return common.finish(args, output, show, answer, report, inputs, common.plural(len(rows), "answer"))


def _pairs(args: argparse.Namespace) -> tuple[Table, list[str], list[str]]:
    """The file, and the questions and contexts that it comes to."""
    from nativebert.cli import common
    from nativebert.errors import BadInputError

    if args.question is None:
        columns = {
            "--question-column": args.question_column or "question",
            "--context-column": args.context_column or "context",
        }
        try:
            table = common.read(args, columns)
        except BadInputError as error:
            raise (
                error
                if args.question_column
                else BadInputError(f"{error}; or pass --question to ask one question of every context")
            ) from None
        return table, [question for question, _ in table.rows], [context for _, context in table.rows]
    if args.question_column is not None:
        raise BadInputError("--question and --question-column cannot be combined: use one of them")
    table = common.read(args, {"--context-column": args.context_column}, usual="context")
    return table, [args.question] * len(table.rows), [context for (context,) in table.rows]
