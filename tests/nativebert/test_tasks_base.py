"""What all tasks share: fitting long texts, counting, reports, tables, memory; and the token and word vectors of the Embedder."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from classifiers import FAMILIES, LIMIT, classifier, pairs
from hf_checkpoints import make
from hypothesis import given, settings
from hypothesis import strategies as st
from models import BERT, one_thread, tensors_of, texts, write_folder

import nativebert as nb
from nativebert.errors import BadInputError, TooLongError, Truncated
from nativebert.tasks.call import Call, Chunk, Progress, as_list
from nativebert.tasks.classify import Classifier
from nativebert.tasks.results import Report, Results
from nativebert.tasks.scores import sigmoid, softmax
from nativebert.tasks.windows import of_ids, of_pairs
from nativebert.text.window import windows


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder for a family, made once."""
    root, made = tmp_path_factory.mktemp("families"), {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = classifier(root / family, family, ["bad", "fair", "good"])
        return made[family]

    return folder


@pytest.fixture(scope="module")
def made(folders: Any) -> Any:
    """A classifier with BERT's tokenizer for each policy; the limit is 12 tokens."""
    return {
        policy: Classifier(folders("bert"), device="cpu", too_long=policy, max_tokens=12, stride=3)
        for policy in ("truncate", "window", "error")
    }


# -- fitting


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.sampled_from(["truncate", "window"]))
def test_every_token_is_read_or_counted_as_cut(made: Any, sizes: list[int], policy: str) -> None:
    task, r = made[policy], random.Random(str(sizes))
    own = [[r.randrange(5, 60) for _ in range(size)] for size in sizes]
    call = Call(task, [""] * (len(own) + 2), {"progress": False})
    sequences = of_ids(Chunk(call, own, 2), [[2, *ids, 3] for ids in own])
    assert call.used[:2].tolist() == call.cut[:2].tolist() == [0, 0]
    assert (call.used + call.cut)[2:].tolist() == [size + 2 for size in sizes]
    assert call.windows[2:].tolist() == [sequences.text.count(n) for n in range(len(own))]
    assert sequences.starts.tolist() == [sequences.text.index(n) for n in range(len(own))]
    assert sequences.segments is None
    assert all(ids[0] == 2 and ids[-1] == 3 and len(ids) <= 12 for ids in sequences.ids)
    joined = sequences.merge([torch.tensor(ids) for ids in sequences.ids], len(own))
    kept = own if policy == "window" else [ids[:10] for ids in own]
    assert [x.tolist() for x in joined] == kept
    assert (call.cut[2:] > 0).tolist() == [policy == "truncate" and size > 10 for size in sizes]
    some = np.flatnonzero(np.array(sequences.text) % 2 == 0)
    assert sequences.select(some).ids == [ids for ids, n in zip(sequences.ids, sequences.text) if n % 2 == 0]


@settings(max_examples=100, deadline=None)
@given(a=st.integers(0, 30), b=st.integers(0, 30))
def test_pairs_are_cut_as_the_tokenizers_library_cuts_them(made: Any, a: int, b: int) -> None:
    task = made["truncate"]
    core = task.tokenizer.core()
    core.enable_truncation(12, strategy="longest_first")
    pair = ("cat " * a, "dog " * b)
    expected = core.encode(*pair)
    call = Call(task, [""], {"progress": False})
    sequences = of_pairs(Chunk(call, [pair], 0))
    assert sequences.ids == [expected.ids]
    assert sequences.segments == [expected.type_ids]
    assert call.cut.tolist() == [max(0, a + b + 3 - 12)]


def test_a_limit_below_the_special_tokens_of_a_pair(folders: Any) -> None:
    classify = Classifier(folders("roberta"), device="cpu", max_tokens=3)  # enough for a text, and not for <s></s></s></s>
    with pytest.raises(TooLongError, match="a pair has 4 special tokens and the limit is 3"):
        classify([("the cat", "a dog")])


def test_windows_of_a_pair_hold_the_first_text_whole(made: Any) -> None:
    task = made["window"]
    second = texts(1, 30, seed=5)[0] + " cat sat on the mat" * 5
    call = Call(task, ["", ""], {"progress": False})
    sequences = of_pairs(Chunk(call, [("the dog", second), ("a", "dog")], 0))
    first, own = (task.tokenizer.ids_batch([text], special_tokens=False).ids[0] for text in ("the dog", second))
    assert sequences.segments is not None
    for ids, segments in zip(sequences.ids[:-1], sequences.segments[:-1], strict=True):
        assert ids[:4] == [2, *first, 3]
        assert len(ids) == len(segments) == 12
        assert segments == [0] * 4 + [1] * 8
    joined = sequences.merge([torch.tensor(ids) for ids in sequences.ids], 2)
    assert joined[0].tolist() == own
    assert call.windows.tolist() == [len(sequences.ids) - 1, 1]
    with pytest.raises(TooLongError, match="text 0 has 32 tokens, and 31 of them must stand in every window of 12"):
        of_pairs(Chunk(Call(task, [""], {"progress": False}), [("cat " * 28, "dog")], 0))


def test_an_error_names_the_text(made: Any) -> None:
    with pytest.raises(TooLongError, match=r"text 2 has 14 tokens and the limit is 12 \(2 texts are too long\)"):
        made["error"].scores(["cat", "dog", "cat " * 12, "a", "dog " * 20])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_tokens": 0}, "batch_tokens must be a whole number, 1 or more"),
        ({"batch_tokens": "8"}, "batch_tokens must be a whole number, 1 or more, not '8'"),
        ({"stride": -1}, "stride must be a whole number, 0 or more"),
        ({"stride": None}, "stride must be a whole number, 0 or more, not None"),
        ({"stride": 1.5}, "stride must be a whole number, 0 or more, not 1.5"),
        ({"too_long": "cut"}, "too_long must be"),
        ({"max_tokens": LIMIT + 3}, "max_tokens must be between 1 and"),
        ({"max_tokens": 8.5}, "max_tokens must be between 1 and the model's .* positions, not 8.5"),
        ({"max_tokens": float("nan")}, "max_tokens must be between 1 and the model's .* positions, not nan"),
        ({"max_tokens": True}, "max_tokens must be between 1 and the model's .* positions, not True"),
        ({"batch_tokens": 32.5}, "batch_tokens must be a whole number, 1 or more, not 32.5"),
        ({"batch_tokens": float("inf")}, "batch_tokens must be a whole number, 1 or more, not inf"),
        ({"max_tokens": 2}, "leaves no room for text beside 2 special tokens"),
        ({"device": "tpu"}, "device must be"),
        ({"precision": "int3"}, "precision must be"),
    ],
)
def test_wrong_arguments(folders: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        Classifier(folders("bert"), **{"device": "cpu", **given})


@pytest.mark.parametrize("task", [Classifier, nb.Embedder])
@pytest.mark.parametrize("model", [None, 5, ["a"]])
def test_what_is_no_model(task: Any, model: Any) -> None:
    with pytest.raises(BadInputError, match="model must be a folder, a name on the Hub or a loaded model, not "):
        task(model, device="cpu")


class Column(list[str]):
    """As pyarrow's: iterating gives no strings."""

    def to_pylist(self) -> list[str]:
        return list(self)

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("iterated over")


class Frame:
    """As a data frame: iterating gives the names of columns."""

    columns = ("text",)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


def test_as_list() -> None:
    assert as_list("a") == ["a"]
    assert as_list(("a", "b")) == as_list(x for x in "ab") == as_list(np.array(["a", "b"])) == ["a", "b"]
    assert as_list([]) == []
    with pytest.raises(AssertionError):
        list(Column(["a"]))
    for wrong in (b"a", {"a": 1}, {"a"}, 3, None, str, np.array("a"), torch.tensor(3), Frame()):
        with pytest.raises(
            BadInputError, match=f"words must be a list of strings, or one column of a table, not {type(wrong).__name__}"
        ):
            as_list(wrong, "words")


# -- scores


def test_softmax_and_sigmoid() -> None:
    x = torch.tensor([[0.0, 1.0, -2.0], [1000.0, 0.0, -1000.0], [-3e38, -3e38, -3e38]])
    assert np.allclose(softmax(x), torch.softmax(x.double(), -1), atol=1e-7)
    assert np.allclose(sigmoid(x), torch.sigmoid(x.double()), atol=1e-7)
    assert softmax(x).dtype == sigmoid(x).dtype == np.float32
    assert softmax(torch.empty(0, 3)).shape == (0, 3)
    # rounding to float32 once, from float64
    y = torch.randn(1000, 7, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(softmax(y), torch.softmax(y.double(), -1).float().numpy())


# -- reports and tables


def report(n: int, cut: int = 0) -> Report:
    counts = np.full(n, 10), np.array([cut] * n), np.ones(n, np.int64)
    return Report(*counts, batches=1, padding=0.0, seconds=2.0, model="m", device="cpu", precision="float32")


def test_reports_in_words() -> None:
    assert str(report(2000)) == ("2,000 texts, 20,000 tokens, none cut off; 2.00 s (10,000 tokens/s) with m on cpu, float32")
    assert "1 text, 10 tokens, 3 cut off in 1 text; " in str(report(1, 3))


def test_what_a_call_counts(made: Any) -> None:
    some = ["cat", "dog " * 30, ""]
    _, found = made["window"].scores(some, return_report=True)
    assert found.tokens.tolist() == [3, 32, 2]
    assert found.cut.tolist() == [0, 0, 0]
    assert found.windows.tolist() == [1, 4, 1]
    assert found.batches == 1
    assert found.padding == 0
    with pytest.warns(Truncated, match=r"1 of 3 texts is longer than 12 tokens and was cut: 20 of 37 tokens \(54\.1%\)"):
        _, found = made["truncate"].scores(some, return_report=True)
    assert found.tokens.tolist() == [3, 12, 2]
    assert found.cut.tolist() == [0, 20, 0]
    # without the kernels at least 16 rows are computed at a time: 3 of them hold tokens
    _, alone = made["truncate"].scores(["cat"], return_report=True)
    assert alone.padding == pytest.approx(13 / 16 if made["truncate"].plan.min_rows == 16 else 0)
    assert alone.seconds > 0
    assert (alone.device, alone.precision) == ("cpu", "float32")
    assert alone.model == made["truncate"].reference


@pytest.mark.parametrize(
    ("found", "rows"),
    [
        ([{"label": "a", "score": 1.0}, {"label": "b", "score": 0.5}], [(0, "a", 1.0), (1, "b", 0.5)]),
        ([[{"label": "a"}, {"label": "b"}], [], [{"label": "c"}]], [(0, 0, "a"), (0, 1, "b"), (2, 0, "c")]),
        ([[[{"token": "a"}], [{"token": "b"}, {"token": "c"}]]], [(0, 0, 0, "a"), (0, 1, 0, "b"), (0, 1, 1, "c")]),
        ([{"text": "t", "labels": ["x", "y"], "scores": [0.9, 0.1]}], [(0, "t", 0, "x", 0.9), (0, "t", 1, "y", 0.1)]),
        ([[{"label": "x", "labels": [{"label": "x"}, {"label": "y"}]}], []], [(0, 0, "x", 0), (0, 0, "y", 1)]),
    ],
)
def test_results_as_rows(found: list[Any], rows: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results(found, report(len(found)), found[0])
    assert results == found
    assert [tuple(row.values()) for row in results.rows()] == rows
    assert next(iter(results.rows()[0])) == "item"
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: ("frame", rows)))
    table = SimpleNamespace(from_pylist=lambda rows: ("table", rows))
    monkeypatch.setitem(sys.modules, "pyarrow", SimpleNamespace(Table=table))
    assert results.to_pandas() == ("frame", results.rows())
    assert results.to_arrow() == ("table", results.rows())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make(tmp_path_factory.mktemp("models"))


MAKE_TABLES: dict[str, Callable[[dict[str, str], list[str]], Results[Any]]] = {
    "labels": lambda m, texts: nb.Classifier(m["sentiment"])(texts),
    "all labels": lambda m, texts: nb.Classifier(m["sentiment"])(texts, top_k=2),
    "labels above": lambda m, texts: nb.Classifier(m["toxic"])(texts, threshold=0.0),
    "entities": lambda m, texts: nb.Tagger(m["ner"])(texts),
    "words": lambda m, texts: nb.Tagger(m["ner"]).words([text.split() for text in texts]),
    "entities with labels": lambda m, texts: nb.Tagger(m["ner"])(texts, top_k=2),
    "words with labels": lambda m, texts: nb.Tagger(m["ner"]).words([text.split() for text in texts], top_k=None),
    "answers": lambda m, texts: nb.Answerer(m["qa"])(["Who?"] * len(texts), texts),
    "best answers": lambda m, texts: nb.Answerer(m["qa"])(["Who?"] * len(texts), texts, top_k=2),
    "masks": lambda m, texts: nb.MaskFiller(m["mlm"])([f"{text} [MASK]" for text in texts]),
    "zero-shot": lambda m, texts: nb.ZeroShot(m["nli"])(texts, ["travel", "rain"]),
    "vectors of tokens": lambda m, texts: nb.Embedder(m["minilm"]).tokens(texts),
    "vectors of words": lambda m, texts: nb.Embedder(m["minilm"]).words(texts),
}


@pytest.mark.parametrize("kind", MAKE_TABLES)
def test_a_table_without_rows_has_the_columns_of_one_with_rows(kind: str, models: dict[str, str]) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("pandas")
    full, empty = (MAKE_TABLES[kind](models, texts) for texts in (["Anna went to Paris with Acme."], []))
    assert len(full.to_pandas()) > len(empty.to_pandas()) == 0
    assert empty.to_pandas().dtypes.to_dict() == full.to_pandas().dtypes.to_dict()
    assert len(empty.to_arrow()) == 0
    assert empty.to_arrow().schema == full.to_arrow().schema


def test_token_vectors_as_rows(folders: Any) -> None:
    embed = nb.Embedder(folders("bert"), device="cpu", pooling="mean")
    (found,) = results = embed.tokens(["the cat"])
    rows = results.rows()
    assert [(row["item"], row["rank"], row["token"], row["offset"]) for row in rows] == [
        (0, 0, "the", (0, 3)),
        (0, 1, "cat", (4, 7)),
    ]
    assert all(np.array_equal(row["vector"], x) for row, x in zip(rows, found["vectors"], strict=True))


# -- token and word vectors


@pytest.mark.reference
@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_of_tokens_as_in_the_reference(folders: Any, family: str) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = folders(family)
    embed = nb.Embedder(folder, device="cpu", pooling="mean")
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    some = [*texts(12, 6), "", "the Cat, running!"]
    layers: list[Any] = [0, 1, 2, -1, -2, [1, 3], [-1, -2, 0], (0, 1, 2, 3)]
    found = {str(chosen): embed.tokens(some, layers=chosen) for chosen in layers}
    for n, text in enumerate(some):
        given = tokenizer(text, return_tensors="pt", return_offsets_mapping=True, return_special_tokens_mask=True)
        offsets, special = given.pop("offset_mapping")[0].tolist(), given.pop("special_tokens_mask")[0]
        own = (special == 0).nonzero()[:, 0]
        with torch.no_grad():
            states = model(**given, output_hidden_states=True).hidden_states
        for chosen in layers:
            one = found[str(chosen)][n]
            theirs = torch.stack([states[layer][0] for layer in ([chosen] if isinstance(chosen, int) else chosen)]).mean(0)
            assert one["vectors"].dtype == np.float32
            assert one["vectors"].shape == (len(own), embed.encoder.width)
            assert np.abs(one["vectors"] - theirs[own].numpy()).max(initial=0) <= 1e-5
            assert one["tokens"] == [given.tokens()[p] for p in own]
            assert one["offsets"] == [tuple(offsets[p]) for p in own]
    default = embed.tokens(some)
    assert all(np.array_equal(a["vectors"], b["vectors"]) for a, b in zip(default, found["-1"], strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_words_are_means_of_their_tokens(folders: Any, family: str) -> None:
    embed = nb.Embedder(folders(family), device="cpu", pooling="mean")
    some = [
        "the cat, running  to unbelievable mats!",
        " deep",
        "",
        "  ",
        "a\nb",
        "don't",
        f"a {embed.tokenizer.mask_token} cat",
    ]
    for text, words, tokens in zip(some, embed.words(some, layers=[1, 2]), embed.tokens(some, layers=[1, 2]), strict=True):
        assert words["words"] == [text[a:b] for a, b in words["offsets"]]
        assert all(word and word == word.strip() for word in words["words"])
        assert "".join(words["words"]) == "".join(text.split())
        assert words["vectors"].shape == (len(words["words"]), embed.encoder.width)
        for (start, end), vector in zip(words["offsets"], words["vectors"], strict=True):
            mine = [n for n, (a, b) in enumerate(tokens["offsets"]) if a < end and b > start]
            # a token of white space alone may count to the word after it
            before = [n for n in (mine[0] - 1,) if n >= 0 and not text[slice(*tokens["offsets"][n])].strip()]
            candidates = [mine, before + mine]
            assert min(np.abs(tokens["vectors"][some_].mean(0) - vector).max() for some_ in candidates) <= 1e-6


def test_words_by_hand(folders: Any) -> None:
    embed = nb.Embedder(folders("bert"), device="cpu", pooling="mean")
    tokens, words = embed.tokens("Powerful cat, is")[0], embed.words("Powerful cat, is")[0]
    assert tokens["tokens"] == ["power", "##ful", "cat", ",", "is"]
    assert words["words"] == ["Powerful", "cat", ",", "is"]
    assert words["offsets"] == [(0, 8), (9, 12), (12, 13), (14, 16)]
    assert np.array_equal(words["vectors"][0], tokens["vectors"][:2].mean(0))
    assert np.array_equal(words["vectors"][1:], tokens["vectors"][2:])


def test_tokens_of_long_texts_are_from_the_window_that_owns_them(folders: Any) -> None:
    given: dict[str, Any] = {"device": "cpu", "pooling": "mean", "max_tokens": 12}
    r = random.Random(0)
    words = r.choices("the cat sat on mat a dog deep is . ?".split(), k=37)
    long = " ".join(words)
    embed = nb.Embedder(folders("bert"), too_long="window", stride=4, **given)
    short = nb.Embedder(folders("bert"), **given)
    found, report = embed.tokens(["cat", long], return_report=True)
    assert found[1]["tokens"] == words
    assert [long[a:b] for a, b in found[1]["offsets"]] == words
    expected = np.empty_like(found[1]["vectors"])
    for w in windows(len(words), 10, 4):
        (part,) = short.tokens(" ".join(words[w.start : w.end]))
        expected[w.own_start : w.own_end] = part["vectors"][w.own_start - w.start : w.own_end - w.start]
    assert np.array_equal(found[1]["vectors"], expected)
    assert report.windows.tolist() == [1, 6]
    assert report.cut.sum() == 0
    with pytest.warns(Truncated):
        cut = short.tokens([long])[0]
    assert cut["tokens"] == words[:10]
    assert len(cut["vectors"]) == len(cut["offsets"]) == 10
    with pytest.warns(Truncated):
        assert short.words(["cat " * 9 + "powerful"])[0]["words"] == ["cat"] * 9 + ["power"]


def test_bits_of_tokens_do_not_depend_on_company(folders: Any) -> None:
    embed = nb.Embedder(folders("bert"), device="cpu", pooling="mean", too_long="window", max_tokens=12)
    some = texts(25, 20)
    whole = embed.tokens(some, layers=[0, -1])
    for n in range(0, 25, 3):
        assert np.array_equal(embed.tokens(some[n], layers=[0, -1])[0]["vectors"], whole[n]["vectors"])


@pytest.mark.parametrize("number", [float, np.float32, np.float64, np.int16, np.uint8, Fraction])
def test_whole_numbers_of_any_kind(folders: Any, number: Any) -> None:
    """R sends 32.0 for 32, and a table an int64."""
    options = {"batch_tokens": 100, "max_tokens": 12, "stride": 4}
    plain = nb.Embedder(folders("bert"), device="cpu", pooling="mean", too_long="window", truncate_dim=8, **options)
    others: Any = {name: number(value) for name, value in options.items()}
    other = nb.Embedder(folders("bert"), device="cpu", pooling="mean", too_long="window", truncate_dim=number(8), **others)
    assert [type(value) for value in (other.batch_tokens, other.max_tokens, other.stride)] == [int, int, int]
    some = texts(10, 20)
    assert np.array_equal(other(some), plain(some))
    assert np.array_equal(other.tokens(some[0], layers=number(1))[0]["vectors"], plain.tokens(some[0], layers=1)[0]["vectors"])
    found, expected = (c("the cat", top_k=k) for c in [Classifier(folders("bert"), device="cpu")] for k in (number(2), 2))
    assert found == expected


@pytest.mark.parametrize("layers", [4, -5, [0, 4], "1", 1.5, [1.5], True, float("nan"), None, []])
def test_wrong_layers(folders: Any, layers: Any) -> None:
    embed = nb.Embedder(folders("bert"), device="cpu", pooling="mean")
    with pytest.raises(BadInputError, match=r"layers must be among 0 \(the embeddings\) to 3|layers is empty"):
        embed.tokens("a", layers=layers)


@pytest.mark.parametrize("call", ["__call__", "tokens", "words"])
def test_the_embedder_takes_no_pairs(folders: Any, call: str) -> None:
    embed = nb.Embedder(folders("bert"), device="cpu", pooling="mean")
    with pytest.raises(BadInputError, match="text 0 is a tuple"):
        getattr(embed, call)(pairs(2, 3))
    with pytest.raises(BadInputError, match="text 1 is None"):
        getattr(embed, call)(["a", None])


# -- memory

CHILD = """
import json, sys, threading, time
import psutil, torch
torch.set_num_threads(1)
import nativebert as nb
from nativebert.tasks.classify import Classifier
from nativebert.tasks.zeroshot import ZeroShot

name, folder = sys.argv[1:]
given = {"device": "cpu", "too_long": "window"}
task = {
    "classify": lambda: Classifier(folder, **given),
    "zero-shot": lambda: ZeroShot(folder, entailment=1, contradiction=0, **given),
    "rank": lambda: nb.Ranker(folder, **given),
    "embed": lambda: nb.Embedder(folder, pooling="mean", **given),
}[name]()
if name == "zero-shot":
    run = lambda text: task([text], ["cat", "dog"], return_report=True)
else:
    run = lambda text: task([("a cat", text)] if name == "rank" else [text], return_report=True)
process = psutil.Process()

def grown(tokens):
    # bytes above what the process held before, at the worst moment
    text = "cat " * tokens
    ids = task.tokenizer.ids_batch([text])  # what the text itself takes is held before
    held, done = [process.memory_info().rss], threading.Event()

    def watch():
        while not done.is_set():
            held.append(process.memory_info().rss)
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, report = run(text)
    done.set()
    watcher.join()
    assert report.cut.sum() == 0 and report.tokens[0] >= tokens, report
    return max(held) - held[0], int(report.windows[0])

run("cat")
short, long = grown(2_000), grown(20_000)
print(json.dumps({"short": short, "long": long}))
"""


@pytest.mark.parametrize("name", ["classify", "zero-shot", "rank", "embed"])
@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_text(tmp_path: Path, name: str) -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 2048, "num_hidden_layers": 1, "max_position_embeddings": 512}
    kind = "BertModel" if name == "embed" else "BertForSequenceClassification"
    config = {
        **BERT,
        **sizes,
        "architectures": [kind],
        "id2label": {"0": "no", "1": "yes"} if name != "rank" else {"0": "score"},
    }
    tensors = tensors_of(config)
    if name != "embed":
        count = len(config["id2label"])
        tensors = {f"bert.{key}": x for key, x in tensors.items()}
        tensors |= {"classifier.weight": torch.randn(count, 256), "classifier.bias": torch.zeros(count)}
    folder = write_folder(tmp_path / "m", config, tensors)
    exact = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}  # large tensors go back to the system at once (glibc)
    ran = subprocess.run([sys.executable, "-c", CHILD, name, str(folder)], capture_output=True, text=True, env=exact)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    (short, few), (long, many) = found["short"], found["long"]
    assert many >= 8 * few
    text = 500 * 20_000  # bytes for a token: its text, id, offsets; whoever kept its last hidden state would need 1,024 more
    assert long < 1.2 * short + text, found


class Silent:
    """A stream of a program with windows: it has a method that writes, and nothing else."""

    def write(self, text: str) -> None:
        raise OSError("nobody listens")


@pytest.mark.parametrize("stream", ["none", "closed", "silent", "open"])
@pytest.mark.parametrize("show", [None, True, False])
def test_work_does_not_depend_on_standard_error(monkeypatch: pytest.MonkeyPatch, stream: str, show: bool | None) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", {"none": None, "closed": closed, "silent": Silent(), "open": io.StringIO()}[stream])
    bar = Progress(3, show)
    for done in (1, 2, 3):
        bar.reach(done)
        if bar._bar is not None and not bar._bar.disable:
            bar._bar.start_t -= 60  # as if it had taken long: the bar is delayed
            bar._bar.last_print_t -= 60
    bar.close()
    if stream == "open" and show:
        assert "3/3" in sys.stderr.getvalue()  # type: ignore[attr-defined]
