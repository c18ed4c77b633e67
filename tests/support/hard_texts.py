"""Texts that tokenizers disagree about, made by a seeded generator: the same 500 on every machine and version of Python."""

from __future__ import annotations

import random

SPECIAL = [
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[PAD]",
    "[UNK]",
    "<s>",
    "</s>",
    "<pad>",
    "<unk>",
    "<mask>",
    "<unk",
    "[MASK",
    "##ing",
    "\u2581",
    "<|endoftext|>",
    "</s>NOTUSED",
]
WORDS = [
    "the",
    "cat",
    "The",
    "CAT",
    "naïve",
    "Straße",
    "İstanbul",
    "don't",
    "e.g.",
    "learning",
    "power",
    "ful",
    "1,000",
    "3.14",
    "ﬁne",
    "ＡＢ",
    "x²",
    "½",
    "ǅ",
    "Σίσυφος",
    "ſ",
    "㎏",
    "№",
]
RANGES = {
    "latin with accents": [(0xC0, 0x24F), (0x1E00, 0x1EFF)],
    "combining marks": [(0x300, 0x36F), (0x1DC0, 0x1DFF), (0x20D0, 0x20F0)],
    "compatibility forms": [(0xFB00, 0xFB06), (0xFF01, 0xFF9F), (0x2100, 0x214F), (0x2460, 0x24FF), (0x3300, 0x33FF), (0x1D400, 0x1D7FF)],
    "zero width and format": [(0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x2069), (0xFEFF, 0xFEFF), (0xAD, 0xAD), (0x180B, 0x180E)],
    "white space": [(0x9, 0xD), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F), (0x3000, 0x3000)],
    "controls": [(0x0, 0x1F), (0x7F, 0x9F)],
    "right to left": [(0x5D0, 0x5EA), (0x591, 0x5BD), (0x621, 0x64A), (0x64B, 0x652), (0x660, 0x669), (0xFE70, 0xFEFC)],
    "cjk": [(0x4E00, 0x9FFF), (0x3040, 0x30FF), (0x3400, 0x34FF), (0x20000, 0x200FF), (0xF900, 0xFA6D), (0x3001, 0x303F)],
    "hangul": [(0xAC00, 0xD7A3), (0x1100, 0x11FF), (0x3131, 0x318E)],
    "south and south-east asian": [(0xE01, 0xE5B), (0x900, 0x97F), (0xB80, 0xBFF), (0x1000, 0x109F), (0x1780, 0x17DD)],
    "cyrillic and greek": [(0x400, 0x52F), (0x370, 0x3FF), (0x1F00, 0x1FFE)],
    "punctuation and symbols": [(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E), (0xA1, 0xBF), (0x2010, 0x205E), (0x2190, 0x22FF), (0x25A0, 0x26FF)],
    "digits": [(0x30, 0x39), (0x660, 0x669), (0x966, 0x96F), (0xFF10, 0xFF19), (0x2070, 0x2079), (0x1D7CE, 0x1D7FF)],
    "emoji": [(0x1F300, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F900, 0x1F9FF), (0x1F1E6, 0x1F1FF), (0x1F3FB, 0x1F3FF), (0xFE0E, 0xFE0F), (0x20E3, 0x20E3)],
    "private use and unassigned": [(0xE000, 0xF8FF), (0xF0000, 0xF00FF), (0x10FF00, 0x10FFFF), (0x378, 0x379), (0xFDD0, 0xFDEF), (0xFFFD, 0xFFFF)],
    "anything": [(0x0, 0xD7FF), (0xE000, 0x10FFFF)],
}  # fmt: skip
"""Kind -> ranges of code points, without surrogates, which no text in UTF-8 has."""


def hard_texts(count: int = 500, seed: int = 20) -> list[str]:
    """So many different texts: of one kind of character, of words of several kinds, with special tokens inside, and long runs."""
    r, found = random.Random(seed), dict.fromkeys(["", " ", "\n"])
    kinds = [*RANGES]
    while len(found) < count:
        number = len(found)
        kind = kinds[number % len(kinds)]
        match number % 5:
            case 0:
                text = _characters(r, kind, r.randint(1, 12))
            case 1:
                text = " ".join(_word(r, r.choice([kind, *kinds])) for _ in range(r.randint(1, 8)))
            case 2:
                text = _joined(r, [_word(r, kind), r.choice(SPECIAL), r.choice(WORDS), r.choice(SPECIAL), _word(r, kind)])
            case 3:
                text = _joined(r, [r.choice(WORDS), *_characters(r, kind, r.randint(1, 4)), r.choice(WORDS)])
            case _:
                text = _run(r, kind)
        found[text] = None
    return [*found]


def _characters(r: random.Random, kind: str, count: int) -> str:
    text = []
    for _ in range(count):
        low, high = r.choice(RANGES[kind])
        text.append(chr(r.randint(low, high)))
    return "".join(text)


def _word(r: random.Random, kind: str) -> str:
    """A word of the kind, an ordinary one, or one with marks on its letters."""
    match r.randint(0, 3):
        case 0:
            return r.choice(WORDS)
        case 1:
            return "".join(c + _characters(r, "combining marks", r.randint(0, 2)) for c in r.choice(WORDS))
        case _:
            return _characters(r, kind, r.randint(1, 6))


def _joined(r: random.Random, parts: list[str]) -> str:
    """With or without something between them, and at either end."""
    between = ["", "", " ", "  ", "\t", "\n", "\u00a0", "\u200b", "\u200d", "."]
    return r.choice(between) + "".join(part + r.choice(between) for part in parts)


def _run(r: random.Random, kind: str) -> str:
    """Something over and over: letters, spaces, marks, digits, emoji in a family."""
    unit = r.choice(
        [
            _characters(r, kind, 1),
            r.choice(WORDS),
            "a",
            " ",
            ".",
            "\u0301",
            "12",
            "\U0001f468\u200d\U0001f469\u200d",
            "ab ",
            "[MASK]",
        ]
    )
    return r.choice(["", "x "]) + unit * r.choice([2, 3, 30, 99, 100, 101, 150]) + r.choice(["", " end"])
