"""Tiny classifiers of every family as transformers saves them, each with a tokenizer of its family's own kind."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from families import Made
from models import VOCAB, WORDS

FAMILIES = ["bert", "distilbert", "roberta", "xlm-roberta", "camembert", "electra", "ernie", "albert", "mpnet", "modernbert"]
LIMIT = 64
"""Most tokens of a text."""


def tokenizer(family: str) -> Any:
    """WordPiece, byte-level BPE, or Unigram, as the family has it, with the family's special tokens."""
    import tokenizers
    import transformers as hf

    limit = {"model_max_length": LIMIT}
    letters = sorted({letter for word in WORDS for letter in word})
    pieces = [*(f"▁{word}" for word in ("the", "cat", "dog", "deep")), "ing", "▁", *letters]
    unigram = [(token, -2.0 - 0.1 * n) for n, token in enumerate(pieces)]
    if family in ("bert", "distilbert", "electra", "ernie"):
        return hf.BertTokenizer(vocab=_numbered(VOCAB), **limit)
    if family == "mpnet":
        return hf.MPNetTokenizer(vocab=_numbered(["<s>", "<pad>", "</s>", "[UNK]", *VOCAB[5:], "<mask>"]), **limit)
    if family in ("xlm-roberta", "camembert"):
        kind = hf.XLMRobertaTokenizer if family == "xlm-roberta" else hf.CamembertTokenizer
        special = ["<s>", "<pad>", "</s>", "<unk>"]
        return kind(vocab=[*((token, 0.0) for token in special), *unigram, ("<mask>", 0.0)], **limit)
    if family == "albert":
        special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
        return hf.AlbertTokenizer(vocab=[*((token, 0.0) for token in special), *unigram], **limit)
    special = (
        ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if family == "roberta" else ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    )
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("a", "t"), ("Ġ", "c"), ("Ġc", "at"), ("i", "n"), ("in", "g")]
    vocab = _numbered([*special, *alphabet, *map("".join, merges)])
    if family == "roberta":
        return hf.RobertaTokenizer(vocab=vocab, merges=merges, **limit)
    core = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, merges))
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "cls", "sep", "unk", "mask")}
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=core, model_input_names=["input_ids", "attention_mask"], **names, **limit
    )


def _numbered(tokens: list[str]) -> dict[str, int]:
    return {token: n for n, token in enumerate(dict.fromkeys(tokens))}


def classifier(folder: Path, family: str, labels: list[str], **config: Any) -> Path:
    """A folder with a model of random weights and these labels, and its tokenizer."""
    words = tokenizer(family)
    named = {"id2label": dict(enumerate(labels)), "label2id": {label: n for n, label in enumerate(labels)}}
    sizes = {"vocab_size": len(words), "max_position_embeddings": LIMIT + 2, "num_labels": len(labels)}
    Made(family, "ForSequenceClassification").model(**sizes, **named, **config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def pairs(count: int, longest: int, seed: int = 0) -> list[tuple[str, str]]:
    """Random pairs of texts of 1 to ``longest`` words."""
    r = random.Random(seed)
    return [(_words(r, longest), _words(r, longest)) for _ in range(count)]


def _words(r: random.Random, longest: int) -> str:
    return " ".join(r.choices(WORDS, k=r.randint(1, longest)))


def pipeline(task: str, folder: Path, family: str) -> Any:
    """The pipeline of transformers on the CPU."""
    import transformers as hf

    words = hf.AutoTokenizer.from_pretrained(folder)
    if family == "albert":  # which transformers 5 forgets for some families (its issue 48128)
        words.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return hf.pipeline(task, str(folder), tokenizer=words, device="cpu")
