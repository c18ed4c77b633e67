"""Tiny question-answering models and questions for them, the same wherever they are made: nothing here needs nativebert."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from models import BERT, DISTILBERT, TINY, WORDS, bert_tensors, distilbert_tensors, write_folder
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

POSITIONS = 202
FAMILIES = ("bert", "distilbert", "roberta")
# Arguments of the pipeline, by our names
SETTINGS: list[dict[str, Any]] = [
    {"top_k": 1},
    {"top_k": 4},
    {"top_k": 1, "no_answer": True},
    {"top_k": 3, "no_answer": True, "max_answer_tokens": 4},
    {"top_k": 3, "align_to_words": False},
]


def qa_tensors(family: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The config and the random weights of a model with a span head."""
    base = {"bert": BERT, "distilbert": DISTILBERT, "roberta": TINY["roberta"]}[family]
    names = {"bert": "Bert", "distilbert": "DistilBert", "roberta": "Roberta"}
    config = base | {"architectures": [f"{names[family]}ForQuestionAnswering"], "max_position_embeddings": POSITIONS}
    if family == "distilbert":
        tensors = distilbert_tensors(config, prefix="distilbert.")
    else:
        if family == "roberta":
            config["vocab_size"] = byte_level().get_vocab_size()
        tensors = bert_tensors(config, prefix=f"{family}.", pooler=False)
    g = torch.Generator().manual_seed(3)
    head = {"qa_outputs.weight": torch.randn(2, 32, generator=g) * 0.4, "qa_outputs.bias": torch.randn(2, generator=g)}
    return config, tensors | head


def qa_folder(folder: Path, family: str) -> Path:
    """A model folder with a span head."""
    write_folder(folder, *qa_tensors(family))
    if family == "roberta":
        write_tokenizer(folder, byte_level(), "RobertaTokenizer")
    if family == "distilbert":  # by the name, transformers knows that the model takes no segments
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"do_lower_case": True, "tokenizer_class": "DistilBertTokenizer"})
        )
    return folder


def fingerprint(family: str) -> float:
    """A number that changes if the weights do."""
    return float(
        sum((t.double() * torch.arange(1, t.numel() + 1).view(t.shape).sin()).sum() for t in qa_tensors(family)[1].values())
    )


def byte_level() -> Tokenizer:
    """A byte-level BPE like RoBERTa's, that knows a few words whole, with and without the space before them."""
    vocab = {
        token: n for n, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())])
    }
    merges = []
    words = [
        "the",
        "cat",
        "sat",
        "on",
        "mat",
        "dog",
        "deep",
        "is",
        "rain",
        "power",
        "win",
        *"abcdefghijklmnopqrstuvwxyz.,?(TCÃæç",
    ]
    for word in [*(f"Ġ{word}" for word in words), "cat", "ful"]:
        for end in range(1, len(word)):
            left, right = word[:end], word[end]
            if left + right not in vocab:
                vocab[left + right] = len(vocab)
                merges.append((left, right))
    core = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    core.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True, special=True)])
    return core


def sentence_pieces() -> Tokenizer:
    """A unigram vocabulary like XLM-RoBERTa's."""
    words = ["▁", "▁the", "▁cat", "cat", "s", "▁sat", "▁on", "on", "▁a", "▁mat", "▁dog", "dog", ".", ","]
    scored = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")] + [
        (word, -1.0 - n / 8) for n, word in enumerate(words)
    ]
    core = Tokenizer(models.Unigram(scored + [(c, -9.0) for c in "abcdefghijklmnopqrtuvwxyz"], unk_id=3))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    core.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B </s>", [("<s>", 0), ("</s>", 2)])
    core.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True, special=True)])
    return core


def write_tokenizer(folder: Path, core: Tokenizer, kind: str) -> None:
    """Put a tokenizer with RoBERTa's special tokens into a folder."""
    (folder / "vocab.txt").unlink(missing_ok=True)
    core.save(str(folder / "tokenizer.json"))
    named = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    config = {"tokenizer_class": kind, "add_prefix_space": False} | {f"{name}_token": token for name, token in named.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def pairs() -> list[tuple[str, str]]:
    """Questions and contexts that fit into one window: words of several tokens, capitals, accents, punctuation, names that repeat."""
    r = random.Random(5)
    found = []
    for length in [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 26] * 2:
        words = r.choices([*WORDS, "Café", "Ünder", "don't", "Cat", "(mat)", "winter-island"], k=length)
        found.append((" ".join(r.choices(WORDS, k=r.randint(1, 6))) + "?", " ".join(words)))
    return [*found, ("the cat?", "the cat the Cat THE CAT the cat"), ("who?", "日本 the 猫 cat")]
