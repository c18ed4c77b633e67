"""Entities and labels of words, against transformers' pipeline and against the rules of docs/tasks/tag.md."""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import BERT, WORDS, bert_tensors, one_thread, tensors_of, unlike, write_folder
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

import nativebert as nb
from nativebert.errors import BadInputError, TooLongError, Truncated
from nativebert.tasks.tag import AGGREGATIONS, OF_WORDS, Tagger, merge_tags, read_labels
from nativebert.text.window import windows

BIO = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
BARE = ["O", "PER", "LOC", "CO-OP"]
SCHEMES = {
    "BIO": BIO,
    "BIOES": [*BIO, "E-PER", "S-PER", "E-LOC", "S-LOC"],
    "BILOU": [*BIO, "L-PER", "U-PER", "L-LOC", "U-LOC"],
    "bare": BARE,
}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
CASED = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *LETTERS.upper(), *(f"##{c}" for c in LETTERS + LETTERS.upper()),
    *"0123456789.,!?'-é中国한", "##é", "##ing", "the", "The", "Anna", "went", "Paris", "ᄒ", "##ᄒ", "##ᅡ", "##ᆫ",
]  # fmt: skip
KINDS = ("cased", "uncased", "bpe", "untrimmed")
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def bpe() -> str:
    """tokenizer.json of a byte-level BPE as RoBERTa has it, trained on a few words: no merge crosses into a character of several bytes, and every
    letter is one with the space before it."""
    core = Core(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator([" ".join(WORDS), "".join(f" {c}" for c in LETTERS + LETTERS.upper())] * 3, trainer)
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    return str(core.to_str())


def made(folder: Path, kind: str = "uncased", labels: Sequence[str] = tuple(BIO), seed: int = 0, **more: Any) -> Path:
    """A tiny model with a random token classifier, and one of four tokenizers: ``cased``, ``uncased``, ``bpe``, ``untrimmed`` (a BPE
    whose tokens hold the space before them in their offsets, too)."""
    names = {str(n): label for n, label in enumerate(labels)}
    if kind in ("bpe", "untrimmed"):
        tokenizer = bpe()
        config = {
            **BERT, "model_type": "roberta", "architectures": ["RobertaForTokenClassification"], "pad_token_id": 1, "id2label": names,
            "vocab_size": len(json.loads(tokenizer)["model"]["vocab"]), "max_position_embeddings": 102, **more,
        }  # fmt: skip
        tensors = {f"roberta.{name}": t for name, t in tensors_of(config, seed).items()}
    else:
        config = {
            **BERT, "architectures": ["BertForTokenClassification"], "id2label": names, "vocab_size": len(CASED),
            "max_position_embeddings": 100, **more,
        }  # fmt: skip
        tensors = bert_tensors(config, seed, prefix="bert.", pooler=False)
    g = torch.Generator().manual_seed(seed + 1)
    tensors |= {"classifier.weight": torch.randn(len(labels), 32, generator=g), "classifier.bias": torch.zeros(len(labels))}
    write_folder(folder, config, tensors)
    if kind in ("bpe", "untrimmed"):
        (folder / "vocab.txt").unlink()
        (folder / "tokenizer.json").write_text(tokenizer)
        said: dict[str, Any] = {
            "tokenizer_class": "RobertaTokenizer",
            "cls_token": "<s>",
            "sep_token": "</s>",
            "trim_offsets": kind == "bpe",
        }
    else:
        (folder / "vocab.txt").write_text("\n".join(CASED) + "\n", "utf-8")
        said = {"tokenizer_class": "BertTokenizer", "do_lower_case": kind == "uncased"}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return balanced(folder)


def balanced(folder: Path) -> Path:
    """The same model with the classifier's bias moved until no label is much more likely than another."""
    model = nb.load(folder, head="tag")
    ids = torch.randint(5, model.config.vocab_size, (8, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(ids).logits
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"] -= logits.mean((0, 1))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tag")
    return {kind: made(root / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def taggers(folders: dict[str, Path]) -> dict[str, Tagger]:
    return {kind: Tagger(folder, device="cpu") for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def keeping(folders: dict[str, Path]) -> dict[str, Tagger]:
    """Taggers that leave no label out."""
    return {kind: Tagger(folder, device="cpu", ignore=()) for kind, folder in folders.items()}


# -- against the reference

PLAIN = [
    "Anna went to Paris",
    "The cat sat on a mat Anna",
    "deep learning is powerful",
    "unbelievable winter island of stone and rain quietly",
    "a",
    "x y z running Paris winter Anna Paris",
]
PUNCTUATED = [
    "Anna, went to Paris.",
    "the cat's 'mat' - isn't it?",
    "(Anna) [Paris] unknown-words: 3.14!",
    "Anna  went\tto \n Paris ",
    "中国 Anna 😀 Paris",
    "a [SEP] b [MASK] [UNK]ing",
    "",
    " ",
]


def pipeline(folder: Path) -> Any:
    import transformers
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = transformers.AutoModelForTokenClassification.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return transformers.TokenClassificationPipeline(model=model, tokenizer=tokenizer)


def as_reference(folder: Path, family: str, labels: Sequence[str], tokenizer: str) -> Path:
    """A folder that transformers saved, with its weights."""
    import transformers

    made(folder, tokenizer, labels)
    config = json.loads((folder / "config.json").read_text())
    stem = {"bert": "Bert", "distilbert": "DistilBert", "roberta": "Roberta"}[family]
    sizes = {name: config[name] for name in ("vocab_size", "max_position_embeddings", "id2label")}
    sizes["id2label"] = {int(n): label for n, label in sizes["id2label"].items()}
    small = (
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
        if family == "distilbert"
        else {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    )
    kind = getattr(transformers, f"{stem}ForTokenClassification")
    model = kind(kind.config_class(**sizes, **small)).eval()
    unlike(model, 3).save_pretrained(folder)
    return balanced(folder)


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("labels", [BIO, BARE[:3]], ids=["BIO", "bare"])
@pytest.mark.parametrize(
    ("family", "tokenizer"), [("bert", "cased"), ("bert", "uncased"), ("distilbert", "uncased"), ("roberta", "bpe")]
)
def test_same_entities_as_the_pipeline(tmp_path: Path, family: str, tokenizer: str, labels: list[str]) -> None:
    folder = as_reference(tmp_path / "m", family, labels, tokenizer)
    ours, theirs = Tagger(folder, device="cpu"), pipeline(folder)
    found = 0
    for how in AGGREGATIONS:
        # of a byte-level BPE the pipeline guesses the words by spaces, and keeps the bytes of a character and lone spaces apart
        texts = PLAIN if tokenizer == "bpe" else PLAIN + PUNCTUATED
        if tokenizer == "bpe" and how in ("none", "simple"):
            texts = [*PLAIN, PUNCTUATED[0]]
        expected = [theirs(text, aggregation_strategy=how) if text else [] for text in texts]
        for text, mine, other in zip(texts, ours(texts, aggregation=how), expected, strict=True):
            name = "entity" if how == "none" else "entity_group"
            assert [(e["label"], e["start"], e["end"]) for e in mine] == [(e[name], e["start"], e["end"]) for e in other], (
                how,
                text,
            )
            assert np.allclose([e["score"] for e in mine], [e["score"] for e in other], atol=1e-5), (how, text)
            found += len(mine)
    assert found > 100


@pytest.mark.reference
def test_same_words_as_the_pretokenised_reference(tmp_path: Path) -> None:
    import transformers

    folder = as_reference(tmp_path / "m", "bert", BIO, "uncased")
    model = transformers.AutoModelForTokenClassification.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    r = random.Random(0)
    pool = [*WORDS, "Café", "U.S.", "don't", "中国", "😀", "[SEP]", "cafe\u0301s", "한국", "3,14", "\u200b", ""]
    sentences = [r.choices(pool, k=r.randint(1, 12)) for _ in range(60)]
    ours = Tagger(folder, device="cpu").words(sentences)
    for words, mine in zip(sentences, ours, strict=True):
        given = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        assert given["input_ids"][0].tolist() == tokenizer(" ".join(words))["input_ids"]
        with torch.no_grad():
            p = model(**given).logits[0].softmax(-1)
        owners = given.word_ids()
        for n, item in enumerate(mine):
            assert item["word"] == words[n]
            if n in owners:
                at = owners.index(n)
                assert item["label"] == BIO[int(p[at].argmax())]
                assert abs(item["score"] - float(p[at].max())) <= 1e-5
            else:
                assert words[n] in ("\u200b", "")
                assert (item["label"], item["score"]) == ("O", 0.0)


# -- characters

PIECES = st.sampled_from([
    "😀", "👩‍👩‍👧", "e\u0301", "é", "\u0301", "中国", "한국", "\r\n", "  ", "\t", "\u200b", "\ufeff", "\u00a0", "\u3000", "[SEP]", "[CLS]", "<s>", "</s>",
    "[UNK]", "Anna", "Paris", "the", "ing", ".", "'s", "-", "ﬁ", "½", "ß", "İ", "\x00", "\u0085", "zzzzqq",
])  # fmt: skip
TEXTS = st.lists(st.one_of(PIECES, PIECES, st.text(max_size=3), st.just(" ")), max_size=14).map("".join)


def token_bytes() -> dict[str, int]:
    """The byte that each letter of a byte-level BPE stands for (as GPT-2 maps them)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(others)}


BYTES = token_bytes()


def is_of(token: str, part: str, kind: str) -> bool:
    """Whether a token of the vocabulary can stand for a piece of text."""
    if token in ("[UNK]", *SPECIAL) or token == part:
        return True
    if kind in ("bpe", "untrimmed"):
        return bytes(BYTES[c] for c in token).strip() in part.encode()
    if kind == "uncased":
        part = "".join(c for c in unicodedata.normalize("NFD", part) if unicodedata.category(c) != "Mn").lower()
        token = unicodedata.normalize("NFD", token)
    shown = "".join(c for c in part if unicodedata.category(c) not in ("Cc", "Cf", "Cn", "Co"))
    return token.removeprefix("##") in (shown if kind == "uncased" else [shown])


@pytest.mark.slow
@settings(
    max_examples=2000, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(text=TEXTS, how=st.sampled_from(AGGREGATIONS), kind=st.sampled_from(KINDS), everything=st.booleans())
def test_characters_are_exact(
    text: str, how: str, kind: str, everything: bool, taggers: dict[str, Tagger], keeping: dict[str, Tagger]
) -> None:
    tag = (keeping if everything else taggers)[kind]
    (found,) = tag(text, aggregation=how)
    for entity in found:
        assert text[entity["start"] : entity["end"]] == entity["text"]
        assert entity["text"] == entity["text"].strip() != ""
        assert 0 < entity["score"] <= 1
    if how != "none":
        assert all(a["end"] <= b["start"] for a, b in pairwise(found))
    if not everything:
        return
    encoding = tag.tokenizer.encode(text)
    seen = [n for n in encoding.own if text[slice(*encoding.offsets[n])].strip()]
    if how == "none":
        assert len(found) == len(seen)
        assert all(is_of(encoding.tokens[n], entity["text"], kind) for n, entity in zip(seen, found, strict=True))
    else:  # nothing that some token stands for is lost
        shown = {at for n in seen for at in range(*encoding.offsets[n]) if not text[at].isspace()}
        assert {at for entity in found for at in range(entity["start"], entity["end"])} >= shown


def test_a_character_of_several_tokens_is_one(taggers: dict[str, Tagger], keeping: dict[str, Tagger]) -> None:
    for kind, text in (("bpe", "😀中"), ("uncased", "한한")):
        tag = keeping[kind]
        encoding = tag.tokenizer.encode(text)
        assert len(encoding.own) > 2 * len(text), "every character has several tokens"
        tokens = tag(text, aggregation="none")[0]
        first = [next(t for t in tokens if t["start"] == at) for at in range(len(text))]
        tags = [read_labels(BIO)[1][BIO.index(t["label"])] for t in first]
        expected = [
            {
                "text": text[a:b], "label": label, "start": a, "end": b,
                "score": pytest.approx(np.mean([t["score"] for t in first[a:b]])),
            }
            for a, b, label in merge_tags(tags)
        ]  # fmt: skip
        assert tag(text, aggregation="simple")[0] == expected


def test_the_mark_of_a_word_takes_no_character_from_it(tmp_path: Path) -> None:
    """A Unigram tokenizer that does not know "▁東京" makes it "▁" and "東京", and both of them begin at the same character."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "▁", "東京", "大阪", "▁cat", "s"]
    core = Core(models.Unigram([(token, -float(n)) for n, token in enumerate(tokens)], 3, False))
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    core.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    folder = made(tmp_path / "m", "bpe")
    (folder / "tokenizer.json").write_text(core.to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    tag = Tagger(folder, device="cpu")
    text = "東京 cats 大阪"
    assert tag.tokenizer.encode(text).tokens == ["<s>", "▁", "東京", "▁cat", "s", "▁", "大阪", "</s>"]
    assert tag.tokenizer.encode(text).offsets[1:3] == [(0, 1), (0, 2)]

    def entities(*labels: str) -> list[tuple[str, str]]:
        p = np.eye(len(BIO), dtype=np.float32)[[BIO.index(label) for label in labels]]
        return [(one["text"], one["label"]) for one in tag._entities(text, tag.tokenizer.encode(text), p, "simple", 1)]

    assert entities("O", "B-PER", "O", "O", "O", "I-PER") == [("東京", "PER"), ("大阪", "PER")]
    assert entities("B-LOC", "B-PER", "I-PER", "I-PER", "O", "I-PER") == [("東京 cats 大阪", "PER")]


def test_tokens_of_spaces_do_not_part_an_entity(tmp_path: Path) -> None:
    """Of a byte-level BPE every further space is a token."""
    folder = made(tmp_path / "m", "bpe", ["O", "X"])
    tag = Tagger(folder, device="cpu", ignore=())
    text = "Anna   went \n\n to    Paris"
    encoding = tag.tokenizer.encode(text)
    assert any(not text[slice(*encoding.offsets[n])].strip() for n in encoding.own)
    tokens = tag(text, aggregation="none")[0]
    assert all(t["text"].strip() for t in tokens)
    tags = [read_labels(["O", "X"])[1][["O", "X"].index(t["label"])] for t in tokens]
    expected = [(label, text[tokens[a]["start"] : tokens[b - 1]["end"]]) for a, b, label in merge_tags(tags)]
    assert [(e["label"], e["text"]) for e in tag(text)[0]] == expected


# -- the scheme


@pytest.mark.parametrize(
    ("labels", "scheme", "kinds"),
    [
        (BIO, "BIO", ["O", "PER", "PER", "LOC", "LOC"]),
        (["O", "I-PER", "I-LOC"], "BIO", ["O", "PER", "LOC"]),
        (["O", "B_PER", "I_PER"], "BIO", ["O", "PER", "PER"]),
        (["O", "B-tax-rate", "I-tax-rate"], "BIO", ["O", "tax-rate", "tax-rate"]),
        ([*BIO[:3], "B-DATE", "X", "[CLS]"], "BIO", ["O", "PER", "PER", "DATE", "X", "[CLS]"]),
        ([*BIO[:3], "E-PER", "S-PER", "S-DATE"], "BIOES", ["O", "PER", "PER", "PER", "PER", "DATE"]),
        (["O", "B-X", "M-X", "E-X"], "BIOES", ["O", "X", "X", "X"]),
        (SCHEMES["BILOU"], "BILOU", ["O", *["PER"] * 2, *["LOC"] * 2, *["PER"] * 2, *["LOC"] * 2]),
        (["O", "PER", "LOC", "CO-OP"], "bare", ["O", "PER", "LOC", "CO-OP"]),
        (["LABEL_0", "LABEL_1"], "bare", ["LABEL_0", "LABEL_1"]),
        (["O", "E-MAIL", "PHONE"], "bare", ["O", "E-MAIL", "PHONE"]),
        (["O", "S-BAHN", "U-BAHN"], "bare", ["O", "S-BAHN", "U-BAHN"]),
        (["O", "B-52", "TANK"], "bare", ["O", "B-52", "TANK"]),
        ([*BIO[:3], "E-MAIL"], "BIO", ["O", "PER", "PER", "E-MAIL"]),
        (["NOUN", "VERB"], "bare", ["NOUN", "VERB"]),
        (["O"], "bare", ["O"]),
        (["B", "I", "O"], "bare", ["B", "I", "O"]),
        (["O", "B-O", "I-O"], "BIO", ["O", "O", "O"]),
    ],
)
def test_the_scheme_is_read_from_the_labels(labels: list[str], scheme: str, kinds: list[str]) -> None:
    found, tags = read_labels(labels)
    assert (found, [tag.label for tag in tags]) == (scheme, kinds)


REPAIRS = [
    # whole sequences
    ("BIO", "O B-PER I-PER O B-LOC", "1-3 PER, 4-5 LOC"),
    ("BIO", "I-PER I-PER O I-LOC", "0-2 PER, 3-4 LOC"),  # IOB1
    ("BIO", "I-PER B-PER I-PER", "0-1 PER, 1-3 PER"),  # IOB1: B parts two of one type
    ("BIO", "B-PER B-PER", "0-1 PER, 1-2 PER"),
    ("BIOES", "B-PER I-PER E-PER S-PER", "0-3 PER, 3-4 PER"),
    ("BILOU", "B-PER I-PER L-PER U-PER", "0-3 PER, 3-4 PER"),
    ("bare", "PER PER O PER LOC", "0-2 PER, 3-4 PER, 4-5 LOC"),
    ("bare", "CO-OP CO-OP", "0-2 CO-OP"),
    # broken ones
    ("BIO", "O I-PER I-PER", "1-3 PER"),
    ("BIO", "B-PER I-LOC I-LOC", "0-1 PER, 1-3 LOC"),
    ("BIO", "B-PER O I-PER", "0-1 PER, 2-3 PER"),
    ("BIO", "B-PER I-LOC I-PER", "0-1 PER, 1-2 LOC, 2-3 PER"),
    ("BIOES", "E-PER", "0-1 PER"),
    ("BIOES", "O I-PER E-PER O", "1-3 PER"),
    ("BIOES", "E-PER E-PER", "0-1 PER, 1-2 PER"),
    ("BIOES", "B-PER E-LOC", "0-1 PER, 1-2 LOC"),
    ("BIOES", "B-PER S-PER", "0-1 PER, 1-2 PER"),
    ("BIOES", "S-PER I-PER E-PER", "0-1 PER, 1-3 PER"),
    ("BIOES", "S-PER S-PER", "0-1 PER, 1-2 PER"),
    ("BIOES", "B-PER E-PER I-PER", "0-2 PER, 2-3 PER"),
    ("BIOES", "B-PER B-PER E-PER", "0-1 PER, 1-3 PER"),
    ("BIOES", "B-PER I-PER O", "0-2 PER"),
    ("BILOU", "L-PER I-PER", "0-1 PER, 1-2 PER"),
    ("BILOU", "U-PER L-PER", "0-1 PER, 1-2 PER"),
    ("BILOU", "B-PER I-LOC L-LOC", "0-1 PER, 1-3 LOC"),
    ("BIO", "", ""),
    ("BIO", "O O", ""),
]


@pytest.mark.parametrize(("scheme", "sequence", "expected"), REPAIRS)
def test_broken_sequences_are_repaired(scheme: str, sequence: str, expected: str) -> None:
    labels = SCHEMES[scheme]
    said = dict(zip(labels, read_labels(labels)[1], strict=True))
    found = merge_tags([None if label == "O" else said[label] for label in sequence.split()])
    assert ", ".join(f"{a}-{b} {label}" for a, b, label in found) == expected


def test_every_sequence_becomes_entities_once() -> None:
    for labels in SCHEMES.values():
        said = [None, *read_labels(labels)[1][1:]]
        r = random.Random(0)
        for _ in range(300):
            tags = r.choices(said, k=8)
            found = merge_tags(tags)
            places = [n for a, b, _ in found for n in range(a, b)]
            assert places == [n for n, tag in enumerate(tags) if tag is not None]
            assert all(tags[n].label == label for a, b, label in found for n in range(a, b))  # type: ignore[union-attr]


# -- what is left out


VARIED = [" ".join(random.Random(n).choices([*WORDS, "anna", "paris", *LETTERS], k=20)) for n in range(20)]


def labels_of(tag: Tagger, how: str) -> set[str]:
    return {entity["label"] for found in tag(VARIED, aggregation=how) for entity in found}


def test_ignore(tmp_path: Path) -> None:
    folder = made(tmp_path / "m", "uncased")
    everything = Tagger(folder, device="cpu", ignore=())(VARIED, aggregation="none")
    assert {e["label"] for found in everything for e in found} == set(BIO), "the random model uses every label"
    for ignore in (("O",), "O", ["O", "PER"], ("O", "B-PER"), ("LOC",)):
        tag = Tagger(folder, device="cpu", ignore=ignore)
        out = {label for label in BIO if label in tag.ignore or label.partition("-")[2] in tag.ignore}
        assert tag(VARIED, aggregation="none") == [[e for e in found if e["label"] not in out] for found in everything]
        assert labels_of(tag, "simple") == {"O", "PER", "LOC"} - set(tag.ignore)
    with pytest.raises(BadInputError, match="ignore names 'per', which the model does not have; its labels are: O, B-PER"):
        Tagger(folder, device="cpu", ignore=("O", "per"))


def test_a_type_named_like_an_ignored_label_stays(tmp_path: Path) -> None:
    tag = Tagger(made(tmp_path / "m", "uncased", ["O", "B-O", "I-O"]), device="cpu")
    assert labels_of(tag, "none") == {"B-O", "I-O"}
    assert labels_of(tag, "simple") == {"O"}


# -- words


def test_words_by_hand(keeping: dict[str, Tagger]) -> None:
    sentences = [["Anna", "went", "to", "Paris", "."], [], ["running"], ["U.S.", "", "\u200b", "two words", "x"], ["   "]]
    for kind, tag in keeping.items():
        for how in OF_WORDS:
            found = tag.words(sentences, aggregation=how)
            assert [[item["word"] for item in items] for items in found] == sentences
            for words, items in zip(sentences, found, strict=True):
                text, at = " ".join(words), 0
                encoding = tag.tokenizer.encode(text)
                with torch.no_grad():
                    model = nb.load(str(tag.reference), head="tag")
                    p = model(torch.tensor([encoding.ids])).logits[0].double().softmax(-1).numpy()
                for word, item in zip(words, items, strict=True):
                    mine = []
                    for n in encoding.own:
                        start, end = encoding.offsets[n]
                        start += len(text[start:end]) - len(text[start:end].lstrip())
                        if at <= start < min(end, at + len(word)):
                            mine.append(n)
                    at += len(word) + 1
                    if not mine:
                        assert item == {"word": word, "label": "O", "score": 0.0}
                        assert not word.strip() or (word == "\u200b" and kind in ("cased", "uncased"))
                        continue
                    mean = {
                        "first": p[mine[0]],
                        "average": p[mine].mean(0),
                        "max": max(p[mine], key=lambda row: row.max()),
                    }[how]
                    assert item["label"] == BIO[mean.argmax()]
                    assert abs(item["score"] - mean.max()) <= 1e-5


def test_words_that_were_cut_are_there(folders: dict[str, Path]) -> None:
    tag = Tagger(folders["uncased"], device="cpu", too_long="truncate", max_tokens=8)
    with pytest.warns(Truncated, match="1 of 2 texts is longer than 8 tokens and was cut: 4 of"):
        found, report = tag.words([["a"] * 10, ["b"]], return_report=True)
    assert [len(items) for items in found] == [10, 1]
    assert all(item == {"word": "a", "label": "O", "score": 0.0} for item in found[0][6:])
    assert all(item["score"] > 0 for item in found[0][:6] + found[1])
    assert report.cut.tolist() == [4, 0]


def test_words_without_a_token_have_a_label_to_leave_out(tmp_path: Path) -> None:
    folder = made(tmp_path / "m", "uncased", ["LABEL_0", "LABEL_1"])
    assert Tagger(folder, device="cpu").words([[""]]) == [[{"word": "", "label": "O", "score": 0.0}]]
    assert Tagger(folder, device="cpu", ignore=("LABEL_1",)).words([[""]])[0][0]["label"] == "LABEL_1"


# -- several labels of an entity


def by_hand(tag: Tagger, text: str) -> Any:
    """Probabilities of the tokens of a short text, by the model itself."""
    ids = tag.tokenizer.encode(text).ids
    with torch.no_grad():
        logits = nb.load(str(tag.reference), head="tag")(torch.tensor([ids])).logits[0]
    return logits[1:-1].double().softmax(-1).numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", AGGREGATIONS)
def test_all_labels_of_entities(taggers: dict[str, Tagger], kind: str, how: str) -> None:
    tag = taggers[kind]
    texts = [*PLAIN, *PUNCTUATED, *VARIED]
    plain, every = tag(texts, aggregation=how), tag(texts, aggregation=how, top_k=None)
    names = list(BIO) if how == "none" else ["O", "PER", "LOC"]
    assert [[{k: v for k, v in e.items() if k != "labels"} for e in found] for found in every] == plain, "the same entities"
    for entity in (e for found in every for e in found):
        assert entity["labels"][0] == {"label": entity["label"], "score": entity["score"]}
        assert sorted(one["label"] for one in entity["labels"]) == sorted(names)
        scores = [one["score"] for one in entity["labels"]]
        assert scores == sorted(scores, reverse=True)
        assert all(type(score) is float and 0 <= score <= 1 for score in scores)
        total = sum(scores)
        assert total == pytest.approx(1, abs=1e-6) if how == "none" else total < 1 + 1e-6
    for k in (2, 3, 99):
        some = tag(texts, aggregation=how, top_k=k)
        assert some == [[e | {"labels": e["labels"][:k]} for e in found] for found in every]
    assert sum(map(len, every)) > 50


def test_labels_by_hand(folders: dict[str, Path]) -> None:
    """Each letter is a token, and "xyz" three tokens of one word."""
    tag = Tagger(folders["uncased"], device="cpu")
    text = "anna paris xyz a b c running"
    p, e = by_hand(tag, text), tag.tokenizer.encode(text)
    offsets, words = e.offsets[1:-1], e.word_ids[1:-1]
    types = {"O": [0], "PER": [1, 2], "LOC": [3, 4]}
    for how in AGGREGATIONS:
        for entity in tag(text, aggregation=how, top_k=None)[0]:
            inside = [n for n, (a, b) in enumerate(offsets) if entity["start"] <= a and b <= entity["end"]]
            rows = p[inside]
            if how in OF_WORDS:
                of_word = [p[[n for n, w in enumerate(words) if w == word]] for word in sorted({words[n] for n in inside})]
                rows = np.stack([
                    {"first": x[0], "average": x.mean(0), "max": x[x.max(1).argmax()]}[how] for x in of_word
                ])  # fmt: skip
            if how == "none":
                expected = dict(zip(BIO, rows[0]))
            else:
                expected = {name: float(np.mean([row[columns].max() for row in rows])) for name, columns in types.items()}
            got = {one["label"]: one["score"] for one in entity["labels"]}
            assert got == pytest.approx(expected, abs=1e-5)


def test_labels_of_schemes_and_of_what_is_ignored(tmp_path: Path) -> None:
    for name, labels in SCHEMES.items():
        folder = made(tmp_path / name, "uncased", labels)
        keep = "CO-OP" if name == "bare" else "LOC"
        for ignore in ((), ("O",), ("O", keep)):
            found = Tagger(folder, device="cpu", ignore=ignore)(VARIED, top_k=None)
            assert sum(map(len, found)) > 20
            for entity in (e for some in found for e in some):
                assert entity["labels"][0] == {"label": entity["label"], "score": entity["score"]}
                assert {one["label"] for one in entity["labels"]} == {tag.label for tag in read_labels(labels)[1]}
                if name == "bare":
                    assert sum(one["score"] for one in entity["labels"]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "first"), [(["A", "A", "B"], "A"), (["I-LOC", "B-PER", "B-LOC", "I-PER"], "PER"), (["O", "B-O", "I-O"], "O")]
)
def test_an_entity_comes_first_among_labels_that_score_the_same(tmp_path: Path, labels: list[str], first: str) -> None:
    """Of equal labels the model's first decides, and a type that another of its labels puts before it must not come before it here."""
    folder = made(tmp_path / "m", "uncased", labels)
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.weight"].zero_()
    likely = {"A": 1, "PER": 1, "O": 1}[first]
    bias = torch.full((len(labels),), -1.0)
    bias[[likely, 2]] = 1.0  # two that are equal, of different types but for the last model
    tensors["classifier.bias"] = bias
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    tag = Tagger(folder, device="cpu", ignore=())
    for how in AGGREGATIONS:
        entity = tag("cat", aggregation=how, top_k=None)[0][0]
        assert entity["labels"][0] == {"label": entity["label"], "score": entity["score"]}
        assert how == "none" or entity["label"] == first
    (word,) = tag.words([["cat"]], top_k=None)[0]
    assert word["labels"][0] == {"label": word["label"], "score": word["score"]}


def test_labels_of_words(taggers: dict[str, Tagger]) -> None:
    tag = taggers["uncased"]
    sentences = [["Anna", "went", "", "to", "\u200b"], [], ["running"]]
    for how in OF_WORDS:
        plain, every = tag.words(sentences, aggregation=how), tag.words(sentences, aggregation=how, top_k=None)
        assert [[{k: v for k, v in w.items() if k != "labels"} for w in words] for words in every] == plain
        for word in (w for words in every for w in words):
            assert word["labels"][0] == {"label": word["label"], "score": word["score"]}
            if word["word"].strip("\u200b"):
                assert sorted(one["label"] for one in word["labels"]) == sorted(BIO)
                assert sum(one["score"] for one in word["labels"]) == pytest.approx(1, abs=1e-6)
            else:
                assert word["labels"] == [{"label": "O", "score": 0.0}]
        assert tag.words(sentences, aggregation=how, top_k=2) == [[w | {"labels": w["labels"][:2]} for w in x] for x in every]


def test_labels_of_a_long_text_are_those_of_its_tokens(folders: dict[str, Path]) -> None:
    tag = Tagger(folders["cased"], device="cpu", max_tokens=30, stride=10, ignore=())
    text = " ".join(random.Random(2).choices(["Anna", "Paris", "went", "island", "rain"], k=200))
    (tokens,) = tag(text, aggregation="none", top_k=None)
    assert len(tokens) > 200
    types = {"O": ["O"], "PER": ["B-PER", "I-PER"], "LOC": ["B-LOC", "I-LOC"]}
    for entity in tag(text, top_k=None)[0]:
        inside = [
            {one["label"]: one["score"] for one in token["labels"]}
            for token in tokens
            if entity["start"] <= token["start"] and token["end"] <= entity["end"]
        ]
        for one in entity["labels"]:
            assert one["score"] == sum(max(token[name] for name in types[one["label"]]) for token in inside) / len(inside)


def test_labels_as_tables_and_json(taggers: dict[str, Tagger]) -> None:
    found = taggers["uncased"](["Anna went to Paris .", "", "the cat"], top_k=2)
    assert json.loads(json.dumps(found)) == found
    rows = found.rows()
    assert [list(row) for row in rows] == [
        ["item", "entity", "text", "label", "score", "start", "end", "rank"]
    ] * (2 * sum(map(len, found)))  # fmt: skip
    own = [(e["text"], one["label"], one["score"]) for entities in found for e in entities for one in e["labels"]]
    assert [(row["text"], row["label"], row["score"]) for row in rows] == own
    words = taggers["uncased"].words([["Anna", ""]], top_k=None)
    assert json.loads(json.dumps(words)) == words
    assert [(row["entity"], row["word"]) for row in words.rows()] == [(0, "Anna")] * len(BIO) + [(1, "")]


def test_a_top_k_that_is_no_number_of_labels(taggers: dict[str, Tagger]) -> None:
    for k in (0, -1, 1.5, "2", True):
        for call in (taggers["uncased"], taggers["uncased"].words):
            with pytest.raises(BadInputError, match="top_k must be a whole number, 1 or more, or None for all labels, not"):
                call([["a"]] if call != taggers["uncased"] else ["a"], top_k=k)


# -- long texts


def test_each_token_of_a_long_text_is_judged_in_the_window_that_owns_it(folders: dict[str, Path]) -> None:
    tag = Tagger(folders["uncased"], device="cpu", ignore=(), max_tokens=20, stride=6)
    model = nb.load(folders["uncased"], head="tag")
    r = random.Random(1)
    text = " ".join(r.choices(WORDS, k=60))
    ids = tag.tokenizer.encode(text).ids
    expected = []
    for w in windows(len(ids) - 2, 18, 6):
        with torch.no_grad():
            logits = model(torch.tensor([[ids[0], *ids[1:-1][w.start : w.end], ids[-1]]])).logits[0]
        expected += logits[1:-1][w.own_start - w.start : w.own_end - w.start].softmax(-1)
    found, report = tag(text, aggregation="none", return_report=True)
    assert report.windows.tolist() == [len(windows(len(ids) - 2, 18, 6))]
    assert report.windows[0] > 5
    assert report.cut.tolist() == [0]
    assert [e["label"] for e in found[0]] == [BIO[int(row.argmax())] for row in expected]
    assert np.allclose([e["score"] for e in found[0]], [float(row.max()) for row in expected], atol=1e-5)


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_a_window_does_not_show_in_the_entities(folders: dict[str, Path], how: str) -> None:
    """Away from the seams, entities of a long text are those of its tokens, whichever window they came from."""
    tag = Tagger(folders["cased"], device="cpu", max_tokens=30, stride=10)
    text = " ".join(random.Random(2).choices(["Anna", "Paris", "went", "island", "rain"], k=200))
    (found,) = tag(text, aggregation=how)
    assert len(found) > 20
    assert all(text[e["start"] : e["end"]] == e["text"] for e in found)
    assert all(a["end"] <= b["start"] for a, b in pairwise(found))
    if how == "simple":
        tokens = Tagger(folders["cased"], device="cpu", max_tokens=30, stride=10, ignore=())(text, aggregation="none")[0]
        tags = [None if t["label"] == "O" else read_labels(BIO)[1][BIO.index(t["label"])] for t in tokens]
        assert [(e["start"], e["end"], e["label"]) for e in found] == [
            (tokens[a]["start"], tokens[b - 1]["end"], label) for a, b, label in merge_tags(tags)
        ]


def test_long_texts_are_cut_or_refused_on_request(folders: dict[str, Path]) -> None:
    text = "the cat sat on a mat " * 10
    cutting = Tagger(folders["uncased"], device="cpu", too_long="truncate", max_tokens=12)
    with pytest.warns(Truncated, match="1 of 2 texts is longer than 12 tokens"):
        found = cutting(["a", text], aggregation="none")
    assert max(e["end"] for e in found[1]) < 50
    with pytest.raises(TooLongError, match="text 1 has"):
        Tagger(folders["uncased"], device="cpu", too_long="error", max_tokens=12)(["a", text])


# -- results


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_bits_do_not_depend_on_order_or_company(folders: dict[str, Path], how: str) -> None:
    r = random.Random(3)
    some = [" ".join(r.choices(WORDS, k=r.randint(0, 30))) for _ in range(40)]
    tag = Tagger(folders["uncased"], device="cpu", aggregation=how, max_tokens=40, stride=8)
    base = tag(some)
    assert tag(some[::-1])[::-1] == base
    assert Tagger(folders["uncased"], device="cpu", aggregation=how, max_tokens=40, stride=8, batch_tokens=30)(some) == base
    assert [tag(text)[0] for text in some] == base
    assert sum(map(len, base)) > 100


def test_results_are_plain(taggers: dict[str, Tagger]) -> None:
    tag = taggers["uncased"]
    found, report = tag(["Anna went to Paris .", "", "the cat"], return_report=True)
    assert json.loads(json.dumps(found)) == found
    assert all(type(value) in (str, float, int) for entities in found for e in entities for value in e.values())
    words = tag.words([["Anna", "went"], [np.str_("x")]])
    assert json.loads(json.dumps(words)) == words
    assert all(type(value) in (str, float) for items in words for item in items for value in item.values())
    assert len(report.tokens) == 3
    assert tag([]) == [] and tag.words([]) == [] and tag.words([[]]) == [[]]  # noqa: PT018
    assert tag("Anna") == tag(["Anna"])
    rows = found.rows()
    assert [list(row) for row in rows] == [["item", "rank", "text", "label", "score", "start", "end"]] * len(rows)
    assert len(rows) == sum(map(len, found)) > 0


def test_results_as_tables(taggers: dict[str, Tagger]) -> None:
    found = taggers["uncased"](["Anna went to Paris .", "", "the cat"])
    columns = ["item", "rank", "text", "label", "score", "start", "end"]
    pandas = pytest.importorskip("pandas")
    frame = found.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == columns
    pytest.importorskip("pyarrow")
    assert found.to_arrow().column_names == columns


def test_the_aggregation_of_a_call_goes_before_the_taggers_own(folders: dict[str, Path]) -> None:
    text = "unbelievable winter island"
    tag = Tagger(folders["uncased"], device="cpu", aggregation="none", ignore=())
    assert len(tag(text)[0]) > len(tag(text, aggregation="first")[0])
    assert tag(text) == tag(text, aggregation="none")
    assert "aggregation='none'" in repr(tag)
    assert "5 labels (BIO)" in repr(tag)


def test_what_is_wrong_is_told(folders: dict[str, Path], taggers: dict[str, Tagger]) -> None:
    tag = taggers["uncased"]
    with pytest.raises(BadInputError, match="aggregation must be one of none, simple, first, average, max, not 'last'"):
        tag(["a"], aggregation="last")
    with pytest.raises(BadInputError, match="aggregation must be one of none"):
        Tagger(folders["uncased"], aggregation="SIMPLE", device="cpu")
    with pytest.raises(BadInputError, match="aggregation must be one of first, average, max, not 'simple'"):
        tag.words([["a"]], aggregation="simple")
    with pytest.raises(BadInputError, match=r"text 1 is a list, not a str: for texts that are split into words, use \.words"):
        tag(["a", ["b", "c"]])
    with pytest.raises(BadInputError, match="text 1 is None"):
        tag(["a", None])
    with pytest.raises(BadInputError, match="sentence 0 must be a list of words, not 'Apple'"):
        tag.words(["Apple", "is"])
    with pytest.raises(BadInputError, match="word 1 of sentence 0 must be a string, not 'None'"):
        tag.words([["a", None]])
    with pytest.raises(BadInputError, match="ignore must be a list of strings, or one column of a table, not NoneType"):
        Tagger(folders["uncased"], ignore=None, device="cpu")  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="sentences must be a list"):
        tag.words(7)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="needs a model with the head 'tag'"):
        Tagger(nb.load(folders["uncased"], head=None), device="cpu")
