"""The texts that are timed. Made up from a seed, or taken from a file; the same for every contender."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tokenizers import Tokenizer

T = TypeVar("T")


@dataclass(frozen=True)
class Workload:
    """Texts, and what is done with them.

    Attributes:
        name: on the command line and in the results.
        title: in the tables.
        mode: ``"vectors"`` (text to vector) or ``"hidden"`` (token ids to the last hidden states of every token).
        batches: batch sizes that the sweep tries.
        share: the sweep runs on every so manieth text.
        repeat: calls in one round, for work too short to time once.
    """

    name: str
    title: str
    mode: str
    batches: tuple[int, ...]
    share: int = 1
    repeat: int = 1


WORKLOADS = (
    Workload("mixed", "mixed short texts, text to vector", "vectors", (4, 8, 16, 32), share=3),
    Workload("mixed-hidden", "mixed short texts, ids to hidden states", "hidden", (4, 8, 16, 32), share=3),
    Workload("one", "one text of 16 tokens, text to vector", "vectors", (1,), repeat=50),
    Workload("one-hidden", "one text of 16 tokens, ids to hidden states", "hidden", (1,), repeat=50),
    Workload("32x128", "32 texts of 128 tokens, ids to hidden states", "hidden", (4, 8, 16), share=2),
    Workload("8x512", "8 texts of 512 tokens, ids to hidden states", "hidden", (1, 4), share=2),
    Workload("skewed", "short texts and a few long documents, text to vector", "vectors", (4, 16, 32), share=2),
)


@cache
def vocabulary(folder: Path) -> tuple[list[str], list[float]]:
    """The whole words of a BERT tokenizer, and how often each is used, added up: by Zipf's law, for the vocabulary has the usual words
    first. Of how many different words a text is made has a say in how fast it is."""
    vocab = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    words = [w for w in sorted(vocab, key=vocab.__getitem__) if w.isascii() and w.isalpha() and (len(w) > 1 or w in "ai")]
    return words, list(accumulate(1 / (rank + 2.7) for rank in range(len(words))))


def sentences(count: int, folder: Path, seed: int = 0) -> list[str]:
    """Made-up sentences with the lengths of dictionary glosses, 3 to 40 words, most of them short; of words of the model in a folder."""
    r = random.Random(seed)
    words, often = vocabulary(folder)
    return [" ".join(r.choices(words, cum_weights=often, k=min(40, 3 + int(r.expovariate(1 / 9))))) for _ in range(count)]


def of_length(pool: list[str], tokens: int, tokenizer: Tokenizer, seed: int) -> str:
    """Sentences of ``pool`` in a random order, joined and cut to exactly so many tokens, special tokens included."""
    r = random.Random(seed)
    for _ in range(100):
        text = ""
        while len(encoded := tokenizer.encode(text, add_special_tokens=False)) < tokens - 2:
            text = f"{text} {r.choice(pool)}".strip()
        text = text[: encoded.offsets[tokens - 3][1]]  # a WordPiece text cut after a token keeps the tokens before it
        if len(tokenizer.encode(text)) == tokens:
            return text
    raise ValueError(f"no text of exactly {tokens} tokens can be made of these texts")


def documents(pool: list[str], count: int, limit: int, tokenizer: Tokenizer) -> list[str]:
    """Nine in ten are sentences; one in ten is a document of a quarter of ``limit`` to ``limit`` tokens."""
    r = random.Random(1)
    found = []
    for number in range(count):
        if number % 10 == 9:
            found.append(of_length(pool, r.randint(limit // 4, limit), tokenizer, number))
        else:
            found.append(pool[number % len(pool)])
    r.shuffle(found)
    return found


def make(work: Workload, count: int, pool: list[str], limit: int, tokenizer: Tokenizer) -> list[str]:
    """The texts of a workload.

    Args:
        work: which.
        count: of the mixed texts; the skewed corpus has fewer.
        pool: sentences to take, or to make longer texts of.
        limit: most tokens of a text that the model reads in its text-to-vector form.
        tokenizer: the model's, without padding or truncation.
    """
    fixed = {"one": (1, 16), "32x128": (32, 128), "8x512": (8, 512)}
    kind = work.name.removesuffix("-hidden")
    if kind in fixed:
        n, tokens = fixed[kind]
        return [of_length(pool, tokens, tokenizer, number) for number in range(n)]
    if kind == "skewed":
        return documents(pool, max(min(count, 40), count // 4), limit, tokenizer)
    return pool[:count]


def choose(names: str) -> list[Workload]:
    """Workloads by name, separated by commas; ``all`` for all.

    Raises:
        ValueError: no such workload.
    """
    return pick(names, WORKLOADS, lambda w: w.name, "workload")


def pick(names: str, have: Sequence[T], name: Callable[[T], str], noun: str) -> list[T]:
    """Some of ``have`` by their names, in their own order.

    Raises:
        ValueError: a name that none of them has.
    """
    if names == "all":
        return list(have)
    wanted = [part.strip() for part in names.split(",")]
    if unknown := set(wanted) - {name(item) for item in have}:
        raise ValueError(f"no {noun} {', '.join(sorted(unknown))}; there are: all, {', '.join(name(item) for item in have)}")
    return [item for item in have if name(item) in wanted]
