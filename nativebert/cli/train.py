"""``nativebert train``: fine-tune a model on a table of examples."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from nativebert.cli import options

TASKS = {
    "classify": "classify texts, or pairs of texts: one label, several, or numbers",
    "tag": "label words: entities, parts of speech",
    "answer": "find answers in texts",
    "embed": "bring the vectors of related texts closer together",
    "rank": "score documents for queries, with a cross-encoder",
    "fill": "continue masked-LM training on texts from your own field",
}
# Options that only some tasks have -> those
_OWN = {
    "text": ("classify", "tag", "fill"), "text_pair": ("classify",), "label": ("classify", "rank"), "query": ("rank",), "document": ("rank",), "class_weights": ("classify",),
    "problem_type": ("classify",), "tokens": ("tag",), "tags": ("tag",), "entities": ("tag",), "question": ("answer",),
    "context": ("answer",), "answers": ("answer",), "stride": ("answer",), "mlm_probability": ("fill",),
    "too_long": ("classify", "tag", "fill"), "score": ("embed",), "loss": ("embed",), "columns": ("embed",), "mini_batch_size": ("embed",),
    "matryoshka_dims": ("embed",),
}  # fmt: skip
_TRAINING = (
    "epochs", "max_steps", "batch_size", "gradient_accumulation_steps", "learning_rate", "weight_decay", "lr_scheduler_type",
    "warmup_steps", "max_grad_norm", "label_smoothing_factor", "layer_decay", "gradient_checkpointing", "bf16", "logging_steps",
    "eval_strategy", "eval_steps", "save_strategy", "save_steps", "save_total_limit", "load_best_model_at_end",
    "metric_for_best_model", "greater_is_better", "early_stopping_patience", "seed", "fast", "max_length", "validation_split",
    "evaluation", "missing", "dropout", "freeze", "distributed", "device", "revision", "offline",
)  # fmt: skip


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s TASK DATA -m MODEL -o DIR [options]"
    parser.description = (
        "Fine-tune a model on a table of examples, evaluate it during training, and save it to a folder that nativebert and transformers load. "
        "Run it under torchrun to share the work among several processes."
    )
    parser.add_argument(
        "task", choices=TASKS, metavar="TASK", help="; ".join(f"{name}: {what}" for name, what in TASKS.items())
    )
    parser.add_argument("data", metavar="DATA", help="training examples: csv, tsv, jsonl, json or parquet; for fill also txt")
    options.add_model(parser)
    parser.add_argument(
        "-o", "--output", metavar="DIR", required=True, help="folder for checkpoints, and at the end for the model"
    )
    data = parser.add_argument_group("data")
    data.add_argument("--evaluation", metavar="FILE", help="examples to evaluate with (default: a share of DATA)")
    data.add_argument(
        "--validation-split", type=float, metavar="X",
        help="share of DATA to evaluate with, by the hash of the text; 0 for none (default: 0.1)",
    )  # fmt: skip
    for name, what in (
        ("text", "texts: text, sentence, ..., or sentence1 with sentence2"), ("text-pair", "second texts of pairs"),
        ("label", "labels: label, labels, category, ..."), ("tokens", "lists of words: tokens, words"),
        ("tags", "lists of their labels: tags, ner_tags, ..."),
        ("entities", "lists of entities, {start, end, label} in characters: entities, spans"), ("question", "questions: question"),
        ("context", "texts that hold the answers: context"), ("answers", "answers, as in SQuAD: answers"),
        ("query", "queries: query, question, ..."), ("document", "documents: document, passage, ..."),
    ):  # fmt: skip
        found = f"column of the {what}"
        data.add_argument(f"--{name}", type=options.unicode, metavar="COLUMN", help=found)
    kinds = ("single_label_classification", "multi_label_classification", "regression")
    data.add_argument("--problem-type", choices=kinds, help="what the labels are (default: what the data shows)")
    data.add_argument("--class-weights", choices=("balanced",), help="weigh labels by the inverse of their frequency")
    data.add_argument("--max-length", type=options.count, metavar="N", help="maximum tokens of a text (default: the model's)")
    data.add_argument(
        "--too-long", choices=("truncate", "window", "error"), help="what to do with longer texts; cut tokens are counted"
    )
    data.add_argument("--stride", type=options.whole, metavar="N", help="overlap of adjacent windows, in tokens")
    data.add_argument(
        "--columns",
        nargs="+",
        metavar="COLUMN",
        help="embed: columns of the texts (default: anchor, positive, negative, or sentence1, sentence2)",
    )
    data.add_argument("--score", metavar="COLUMN", help="embed: column of the scores (default: score, label, ...)")
    losses = ("multiple_negatives", "cosine_similarity", "cosent", "triplet")
    data.add_argument("--loss", choices=losses, help="embed: loss (default: cosent with scores, else multiple_negatives)")
    data.add_argument("--mini-batch-size", type=options.count, metavar="N", help="embed: rows at a time, for large batches")
    data.add_argument("--matryoshka-dims", nargs="+", type=options.count, metavar="N", help="embed: train shorter vectors, too")
    data.add_argument("--missing", choices=("error", "drop"), help="what to do with rows without a value (default: error)")
    data.add_argument("--mlm-probability", type=float, metavar="X", help="share of the tokens that are masked (default: 0.15)")
    run = parser.add_argument_group("training")
    run.add_argument("--epochs", type=float, metavar="N", help="passes over the data (default: 3)")
    run.add_argument("--max-steps", type=options.count, metavar="N", help="optimizer steps, in place of --epochs")
    run.add_argument("--batch-size", type=options.count, metavar="N", help="examples in a batch (default: 16)")
    run.add_argument(
        "--gradient-accumulation-steps", type=options.count, metavar="N", help="batches for each step (default: 1)"
    )
    run.add_argument("--learning-rate", type=float, metavar="X", help="highest learning rate (default: 5e-5)")
    run.add_argument("--weight-decay", type=float, metavar="X", help="decoupled weight decay (default: 0.01)")
    run.add_argument(
        "--lr-scheduler-type", choices=("linear", "cosine", "constant", "constant_with_warmup"), help="default: linear"
    )
    run.add_argument(
        "--warmup-steps", type=float, metavar="X", help="steps of the warm-up, or below 1 their share (default: 0.1)"
    )
    run.add_argument(
        "--max-grad-norm", type=float, metavar="X", help="clip the gradient to this norm; 0 for never (default: 1)"
    )
    run.add_argument("--label-smoothing-factor", type=float, metavar="X", help="default: 0")
    run.add_argument(
        "--layer-decay", type=float, metavar="X", help="factor of the learning rate from each layer to the one below"
    )
    run.add_argument("--dropout", type=float, metavar="X", help="default: the model's own")
    run.add_argument(
        "--freeze", action="append", metavar="PART", help="keep a part as it is: embed, layers.0-3; can be repeated"
    )
    run.add_argument("--lora-rank", type=options.count, metavar="N", help="train adapters of this rank in place of the encoder")
    run.add_argument("--gradient-checkpointing", action="store_true", default=None, help="less memory, more time")
    run.add_argument("--bf16", action="store_true", default=None, help="products in bfloat16")
    run.add_argument(
        "--fast", action=argparse.BooleanOptionalAction, help="require, or forbid, the fast step (default: where supported)"
    )
    run.add_argument("--distributed", choices=("ddp", "fsdp"), help="how processes of torchrun share the work (default: ddp)")
    run.add_argument("--seed", type=options.whole, metavar="N", help="default: 42")
    way = parser.add_argument_group("evaluation and checkpoints")
    way.add_argument("--eval-strategy", choices=("no", "steps", "epoch"), help="default: epoch")
    way.add_argument("--eval-steps", type=options.count, metavar="N", help="evaluate every N steps")
    way.add_argument("--save-strategy", choices=("no", "steps", "epoch"), help="default: epoch, or steps with --save-steps")
    way.add_argument("--save-steps", type=options.count, metavar="N", help="write a checkpoint every N steps")
    way.add_argument(
        "--save-total-limit", type=options.count, metavar="N", help="checkpoints to keep, beside the best (default: 2)"
    )
    way.add_argument("--logging-steps", type=options.count, metavar="N", help="default: 50")
    way.add_argument("--metric-for-best-model", metavar="NAME", help="default: the task's own")
    way.add_argument("--greater-is-better", action=argparse.BooleanOptionalAction, help="default: what the metric's name says")
    way.add_argument(
        "--load-best-model-at-end",
        action=argparse.BooleanOptionalAction,
        help="save the best checkpoint, not the last step (default: yes)",
    )
    way.add_argument(
        "--early-stopping-patience", type=options.count, metavar="N", help="stop after N evaluations without improvement"
    )
    way.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in DIR; begin if there is none")
    place = parser.add_argument_group("performance")
    options.add_place(place)
    options.add_threads(place)
    options.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    from nativebert.cli import common
    from nativebert.errors import BadInputError

    names = [*_TRAINING, *(name for name, tasks in _OWN.items() if args.task in tasks)]
    for name, tasks in _OWN.items():
        if args.task not in tasks and getattr(args, name) is not None:
            raise BadInputError(f"--{name.replace('_', '-')} is for {' and '.join(tasks)}, not for {args.task}")
    settings: dict[str, Any] = common.selected(args, *names)
    for steps, strategy in (("save_steps", "save_strategy"), ("eval_steps", "eval_strategy")):
        if steps in settings:
            settings.setdefault(strategy, "steps")
    with common.at_work(args):
        from nativebert import train
        from nativebert.train.distributed import processes

        if args.lora_rank is not None:
            settings["lora"] = train.LoraOptions(rank=args.lora_rank)
        functions = {
            "classify": train.classify,
            "tag": train.tag,
            "answer": train.answer,
            "embed": train.embed,
            "rank": train.rank,
            "fill": train.continue_pretraining,
        }
        result = functions[args.task](
            args.data, args.model, args.output, **settings, resume=args.resume, progress=not args.quiet
        )
        team = processes()
        metrics = "  ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
        if team.is_main and not args.quiet:
            print(f"Saved to {args.output}{'  ' if metrics else ''}{metrics}", file=sys.stderr)
        del result
        team.leave()
    return 0
