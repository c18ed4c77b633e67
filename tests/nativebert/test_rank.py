"""Cross-encoder scores, against sentence-transformers' CrossEncoder."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import BERT, DISTILBERT, WORDS, bert_tensors, distilbert_tensors, write_folder

import nativebert as nb
from nativebert.errors import BadInputError, RefusedError, TooLongError, Truncated


def cross_encoder(folder: Path, family: str, outputs: int, **more: Any) -> Path:
    """A tiny model with a random classifier, and a limit of 40 tokens."""
    base = BERT if family == "bert" else DISTILBERT
    names = {"bert": "BertForSequenceClassification", "distilbert": "DistilBertForSequenceClassification"}
    labels = {str(n): f"LABEL_{n}" for n in range(outputs)}
    config = {**base, "architectures": [names[family]], "id2label": labels, **more}
    g = torch.Generator().manual_seed(1)
    tensors = (bert_tensors if family == "bert" else distilbert_tensors)(config, prefix=f"{family}.")
    if family == "distilbert":
        tensors |= {
            "pre_classifier.weight": torch.randn(32, 32, generator=g) * 0.3,
            "pre_classifier.bias": torch.randn(32, generator=g),
        }
    tensors |= {
        "classifier.weight": torch.randn(outputs, 32, generator=g),
        "classifier.bias": torch.randn(outputs, generator=g),
    }
    return write_folder(folder, config, tensors)


def pairs(count: int, longest: int) -> list[tuple[str, str]]:
    r = random.Random(0)
    return [
        (" ".join(r.choices(WORDS, k=r.randint(1, longest))), " ".join(r.choices(WORDS, k=r.randint(1, longest))))
        for _ in range(count)
    ]


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore::nativebert.errors.Truncated")
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_scores_as_in_the_reference(tmp_path: Path, family: str, outputs: int) -> None:
    from sentence_transformers import CrossEncoder

    folder, some = (
        cross_encoder(tmp_path / "m", family, outputs),
        [*pairs(40, 6), *pairs(10, 25), ("a", "dog " * 60), ("dog " * 60, "a")],
    )
    ours = nb.Ranker(folder, device="cpu")(some)
    theirs = CrossEncoder(str(folder), device="cpu", max_length=40).predict(some)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-5
    assert np.ptp(ours) > 0.1


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_bits_do_not_depend_on_order_or_company(tmp_path: Path, family: str) -> None:
    folder, some = cross_encoder(tmp_path / "m", family, 1), pairs(50, 5)
    rank = nb.Ranker(folder, device="cpu")
    base = rank(some)
    assert np.array_equal(rank(some[::-1])[::-1], base)
    assert np.array_equal(nb.Ranker(folder, device="cpu", batch_tokens=30)(some), base)
    assert all(rank([pair])[0] == score for pair, score in zip(some, base, strict=True))


LONG = " ".join(random.Random(0).choices("the cat sat on mat a dog deep is . ?".split(), k=150))  # a token each


def test_windows_slide_over_the_document_and_the_best_one_counts(tmp_path: Path) -> None:
    folder, words = cross_encoder(tmp_path / "m", "bert", 1), LONG.split()
    short = nb.Ranker(folder, device="cpu")
    room = 40 - 3 - 2  # three special tokens, two of the query
    starts = [*range(0, len(words) - room, room - 10), len(words) - room]
    each = short([("a dog", " ".join(words[start : start + room])) for start in starts])
    windowed = nb.Ranker(folder, device="cpu", too_long="window", stride=10)
    scores, report = windowed([("a dog", LONG), ("a dog", "the cat")], return_report=True)
    assert scores[0] == each.max() > each.min()
    assert scores[1] == short([("a dog", "the cat")])[0]
    assert report.windows.tolist() == [len(starts), 1]
    assert report.tokens.tolist() == [150 + 2 + 3, 2 + 2 + 3]
    assert report.cut.tolist() == [0, 0]
    assert windowed.rank("a dog", ["the cat", LONG])[0]["score"] == max(scores)
    with pytest.raises(
        TooLongError, match="pair 0 has 154 tokens, and 153 of them must stand in every window of 40: shorten its first part"
    ):
        windowed([(LONG, "a")])


def test_windows_with_several_outputs(tmp_path: Path) -> None:
    folder, words = cross_encoder(tmp_path / "m", "bert", 3), LONG.split()
    room = 40 - 3 - 1
    starts = [*range(0, len(words) - room, room // 2), len(words) - room]
    each = nb.Ranker(folder, device="cpu")([("a", " ".join(words[start : start + room])) for start in starts])
    # neighbours never share more than half a window
    found = nb.Ranker(folder, device="cpu", too_long="window", stride=39)([("a", LONG)])
    assert np.array_equal(found, each.max(0, keepdims=True))


def test_bits_in_windows_do_not_depend_on_company(tmp_path: Path) -> None:
    folder = cross_encoder(tmp_path / "m", "bert", 1)
    rank = nb.Ranker(folder, device="cpu", too_long="window", stride=5)
    some = [(a[:10], b) for a, b in pairs(25, 40)]
    base = rank(some)
    assert np.array_equal(rank(some[::-1])[::-1], base)
    assert all(rank([pair])[0] == score for pair, score in zip(some, base, strict=True))
    # what fits is not affected by the policy
    fits = [n for n, (a, b) in enumerate(some) if len(rank.tokenizer.encode(a, b)) <= 40]
    assert 0 < len(fits) < len(some)
    assert np.array_equal(nb.Ranker(folder, device="cpu")([some[n] for n in fits]), base[fits])


def test_a_report_of_pairs(tmp_path: Path) -> None:
    rank = nb.Ranker(cross_encoder(tmp_path / "m", "bert", 1), device="cpu")
    with pytest.warns(Truncated) as told:
        _, report = rank([("a", "dog"), ("a", LONG)], return_report=True)
    assert told[0].filename == __file__
    assert report.tokens.tolist() == [5, 40]
    assert report.cut.tolist() == [0, 150 + 1 + 3 - 40]
    with pytest.warns(Truncated) as told:
        rank.rank("a", [LONG])
    assert told[0].filename == __file__


def test_ranking(tmp_path: Path) -> None:
    rank = nb.Ranker(cross_encoder(tmp_path / "m", "bert", 1), device="cpu")
    documents = ["the cat sat", "a dog", "deep learning is powerful", "a dog"]
    found = rank.rank("the cat", documents)
    scores = rank([("the cat", d) for d in documents])
    assert [hit["score"] for hit in found] == sorted(scores.tolist(), reverse=True)
    assert all(hit["text"] == documents[hit["index"]] and hit["score"] == scores[hit["index"]] for hit in found)
    assert [hit["index"] for hit in found if hit["text"] == "a dog"] == [1, 3]
    assert rank.rank("the cat", documents, top_k=2) == found[:2]
    assert rank([]).shape == (0,)


def test_wrong_arguments_of_ranking(tmp_path: Path) -> None:
    rank = nb.Ranker(cross_encoder(tmp_path / "m", "bert", 1), device="cpu")
    assert [found["text"] for found in rank.rank("a", "the dog", top_k=np.int64(2))] == ["the dog"]  # and not letter by letter
    for top_k in (0, -1, 1.5, "x", True):
        with pytest.raises(BadInputError, match="top_k must be a whole number, 1 or more, or None for all documents, not "):
            rank.rank("a", ["b", "c"], top_k=top_k)  # type: ignore[arg-type]
    for documents in (None, 5, {"b"}, np.array("b")):
        with pytest.raises(BadInputError, match="documents must be a list of strings"):
            rank.rank("a", documents)  # type: ignore[arg-type]


def test_activation_is_read_and_refused(tmp_path: Path) -> None:
    folder = cross_encoder(tmp_path / "m", "bert", 1)
    probability = nb.Ranker(folder, device="cpu")([("a", "dog")])
    config = json.loads((folder / "config.json").read_text())
    for written in (
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
        {"sbert_ce_default_activation_function": "torch.nn.Identity"},
    ):
        (folder / "config.json").write_text(json.dumps({**config, **written}))
        logit = nb.Ranker(folder, device="cpu")([("a", "dog")])
        assert np.allclose(1 / (1 + np.exp(-logit)), probability, atol=1e-6)
    own = folder / "config_sentence_transformers.json"  # is asked first
    own.write_text(json.dumps({"activation_fn": "torch.nn.modules.activation.Sigmoid"}))
    assert np.array_equal(nb.Ranker(folder, device="cpu")([("a", "dog")]), probability)
    own.unlink()
    (folder / "config.json").write_text(json.dumps({**config, "sentence_transformers": {"activation_fn": "os.system"}}))
    with pytest.raises(RefusedError, match=r"os\.system"):
        nb.Ranker(folder, device="cpu")


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    folder = cross_encoder(tmp_path / "m", "bert", 3)
    rank = nb.Ranker(folder, device="cpu")
    with pytest.raises(BadInputError, match="pair 1 must be two strings"):
        rank([("a", "b"), ("a", None)])  # type: ignore[list-item]
    with pytest.raises(BadInputError, match="pair 0 must be two strings"):
        rank("ab")  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="pairs must be a list of pairs of strings, or one column of a table, not NoneType"):
        rank(None)  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match="has 3 outputs"):
        rank.rank("a", ["b"])
    with pytest.warns(Truncated, match=r"1 of 2 pairs is longer than 40 tokens and was cut: 64 of 109 tokens"):
        rank([("a", "b"), ("dog " * 50, "dog " * 51)])
    with pytest.raises(TooLongError, match="pair 1 has 104 tokens and the limit is 40"):
        nb.Ranker(folder, device="cpu", too_long="error")([("a", "b"), ("dog " * 50, "dog " * 51)])
    with pytest.raises(BadInputError, match="needs a model with the head 'classify'"):
        nb.Ranker(nb.load(folder, head=None), device="cpu")
