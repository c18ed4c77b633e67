"""``nativebert tokenize``: texts as a model sees them."""

from __future__ import annotations

import argparse

from nativebert.cli import options


def define(parser: options.Parser) -> None:
    parser.usage = "%(prog)s TEXT ... [options]"
    parser.description = (
        "Show the tokens of texts, with their ids, character offsets and words. "
        "Texts are not truncated; the title says if a text is longer than the model's maximum length."
    )
    parser.add_argument(
        "text", type=options.unicode, nargs="+", metavar="TEXT", help="texts; - for standard input, one text per line"
    )
    options.add_model(parser, options.DEFAULT_MODEL)
    parser.add_argument("--pair", type=options.unicode, metavar="TEXT", help="second text, paired with each text")
    parser.add_argument("--json", action="store_true", help="print one JSON object per text, one per line")


def run(args: argparse.Namespace) -> int:
    from nativebert.cli.common import notes, print_json, say_waiting
    from nativebert.console import short, table
    from nativebert.hub import resolve
    from nativebert.inspect import sentence_tokenizer
    from nativebert.io.read import read_texts

    with notes(args):
        snapshot = resolve(args.model, revision=args.revision, offline=args.offline, weights=False)
        tokenizer = sentence_tokenizer(snapshot)
    if "-" in args.text:
        say_waiting("-")
    texts = [line for text in args.text for line in (read_texts("-").texts if text == "-" else [text])]
    for n, text in enumerate(texts):
        e = tokenizer.encode(text, args.pair)
        if args.json:
            fields = {"ids": e.ids, "tokens": e.tokens, "offsets": e.offsets, "word_ids": e.word_ids}
            whole = {"text": text, **({} if args.pair is None else {"pair": args.pair}), **fields}
            print_json({**whole, "type_ids": e.type_ids})
            continue
        rows = [
            (
                str(position),
                str(number),
                token,
                "" if special else f"{start}:{end}",
                "" if word is None else str(word),
                str(segment),
            )
            for position, (number, token, (start, end), word, segment, special) in enumerate(
                zip(e.ids, e.tokens, e.offsets, e.word_ids, e.type_ids, e.special)
            )
        ]
        both = short(text) if args.pair is None else f"{short(text)} | {short(args.pair)}"
        long = tokenizer.max_length is not None and len(e) > tokenizer.max_length
        more = f", the model's maximum is {tokenizer.max_length:,}" if long else ""
        if n:
            print()
        title = f"{both}  ({len(e):,} tokens{more})"
        table(rows, ["#", "id", "token", "characters", "word", "segment"], title=title)
    return 0
