"""Examples to token sequences: what is cut is counted, and every label stands at its word."""

from __future__ import annotations

import pytest
import torch
from classifiers import FAMILIES, classifier
from models import minilm

import nativebert as nb
from nativebert.errors import BadInputError, TooLongError
from nativebert.loading import LoadedModel
from nativebert.train.encode import (
    encode_questions,
    encode_tagged,
    encode_texts,
    encode_windows,
    max_tokens,
    words_as_text,
    words_of_spans,
)
from nativebert.train.losses import IGNORED


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return nb.load(minilm())


@pytest.fixture(scope="module", params=FAMILIES)
def any_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.manual_seed(0)
    return nb.load(classifier(tmp_path_factory.mktemp(request.param), request.param, ["a", "b"]))


def test_short_texts_are_what_the_tokenizer_gives(any_model: LoadedModel) -> None:
    texts = ["the cat sat", "a dog", ""]
    encoded = encode_texts(any_model, texts, limit=20)
    assert encoded.ids == any_model.tokenizer.ids_batch(texts).ids
    assert encoded.cut_tokens is not None
    assert not encoded.cut_tokens.any()


def test_long_texts_are_cut_and_counted(any_model: LoadedModel) -> None:
    text = "the cat sat on a mat " * 5
    whole = any_model.tokenizer.encode(text).ids
    encoded = encode_texts(any_model, ["the cat", text], limit=10)
    _, suffix = any_model.tokenizer.frame
    assert encoded.ids[1] == whole[: 10 - len(suffix)] + suffix
    assert encoded.cut_tokens is not None
    assert encoded.cut_tokens.tolist() == [0, len(whole) - 10]
    with pytest.raises(TooLongError, match=rf"text 1 has {len(whole)} tokens and the limit is 10"):
        encode_texts(any_model, ["the cat", text], limit=10, too_long="error")


def test_pairs_are_cut_at_the_longer_text(model: LoadedModel) -> None:
    encoded = encode_texts(model, [("one two", "a b c d e f g h")], limit=9)
    ids, segments = encoded.ids[0], (encoded.segments or [])[0]
    tokens = [model.tokenizer.id_to_token(n) for n in ids]
    assert tokens == ["[CLS]", "one", "two", "[SEP]", "a", "b", "c", "d", "[SEP]"]
    assert segments == [0] * 4 + [1] * 5


def test_the_limit(model: LoadedModel) -> None:
    assert max_tokens(model) == 512
    assert max_tokens(model, 100) == 100
    with pytest.raises(BadInputError, match="max_length=600 is more than the 512"):
        max_tokens(model, 600)


def test_each_word_has_its_label_at_its_first_token(any_model: LoadedModel) -> None:
    words = ["the", "learning", "cat", "sat", "deep"]
    text, spans = words_as_text(words)
    encoded = encode_tagged(any_model, [text], [[(start, end, n) for n, (start, end) in enumerate(spans)]], limit=60)
    labels, encoding = encoded.targets["labels"][0], any_model.tokenizer.encode(text)
    assert [label for label in labels if label != IGNORED] == [0, 1, 2, 3, 4]
    for token, label in enumerate(labels):
        if label != IGNORED:  # the token begins where its word does, but for a space
            start, end = encoding.offsets[token]
            assert text[start:end].strip()
            assert words[label].lower().startswith(text[start:end].strip().lower())


def test_windows_label_each_word_once(any_model: LoadedModel) -> None:
    words = ["the", "learning", "cat", "sat", "on", "a", "deep", "mat"] * 5
    text, spans = words_as_text(words)
    labels = [(start, end, n) for n, (start, end) in enumerate(spans)]
    for stride in (0, 3):
        encoded = encode_tagged(any_model, [text, text], [labels, labels], limit=12, stride=stride)
        assert max(map(len, encoded.ids)) <= 12
        for example in (0, 1):
            rows = [row for row, n in zip(encoded.targets["labels"], encoded.examples or []) if n == example]
            assert [label for row in rows for label in row if label != IGNORED] == list(range(len(words)))
    cut = encode_tagged(any_model, [text], [labels], limit=12, too_long="truncate")
    assert len(cut) == 1
    assert cut.cut_tokens is not None
    assert cut.cut_tokens[0] == len(any_model.tokenizer.encode(text)) - 12


def test_spans_of_characters_are_labels_of_words(model: LoadedModel) -> None:
    text = "Anna Lind met ACME, Inc. in Oslo."
    found = words_of_spans(model.tokenizer.encode(text), [(28, 32, "LOC"), (0, 9, "PER"), (14, 24, "ORG")])
    assert [(text[start:end], label) for start, end, label in found if label != "O"] == [
        ("Anna", "B-PER"), ("Lind", "I-PER"), ("ACME", "B-ORG"), (",", "I-ORG"), ("Inc", "I-ORG"), (".", "I-ORG"), ("Oslo", "B-LOC"),
    ]  # fmt: skip
    with pytest.raises(BadInputError, match="overlap at character 5"):
        words_of_spans(model.tokenizer.encode(text), [(0, 9, "PER"), (5, 12, "ORG")])


def test_answers(model: LoadedModel) -> None:
    context = "The ferry to Bergen leaves at half past nine from quay three."
    question, answer = "When does it leave?", "half past nine"
    start = context.index(answer)
    whole = encode_questions(model, [question, question], [context, context], [(start, start + len(answer)), None])
    first, last = whole.targets["start_positions"][0], whole.targets["end_positions"][0]
    assert model.tokenizer.decode(whole.ids[0][first : last + 1]) == answer
    assert (whole.targets["start_positions"][1], whole.targets["end_positions"][1]) == (0, 0)

    small = encode_questions(model, [question], [context], [(start, start + len(answer))], limit=14, stride=3)
    assert len(small) > 1
    assert max(map(len, small.ids)) <= 14
    texts = []
    for ids, a, b in zip(small.ids, small.targets["start_positions"], small.targets["end_positions"]):
        inside = answer in model.tokenizer.decode(ids)
        assert (a > 0) == inside
        texts += [model.tokenizer.decode(ids[a : b + 1])] if inside else []
    assert set(texts) == {answer}
    with pytest.raises(TooLongError, match="shorten the question"):
        encode_questions(model, [question * 10], [context], [None], limit=20)


def test_windows_hold_every_token_once(model: LoadedModel) -> None:
    text = "the quick brown fox jumps over the lazy dog " * 4
    encoded = encode_windows(model, [text, "short"], limit=16)
    own = [n for ids, example in zip(encoded.ids, encoded.examples or []) if example == 0 for n in ids[1:-1]]
    assert set(model.tokenizer.encode(text).ids[1:-1]) == set(own)
    assert encoded.examples is not None
    assert encoded.examples[-1] == 1
