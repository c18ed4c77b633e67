"""What R's package asks for, and what it is told; without R. With R: r/nativebert/tests, by `make test-r`."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import minilm
from r_models import CROSS, NLI, SENTIMENT, make
from rds_reader import read_back, simple

import nativebert as nb
from nativebert import hf, r
from nativebert.errors import BadInputError

TEXTS = ["Apple is in Köln \U0001f600 today.", "été in Berlin", ""]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {name: str(folder) for name, folder in make(tmp_path_factory.mktemp("models")).items()}


def ask(task: str, /, *matrices: np.ndarray, **arguments: Any) -> Any:
    """The value of a call, which gives no error and no warning."""
    reply = simple(
        read_back(bytes(r.call(task, json.dumps(arguments), *(m.astype("<f8").tobytes(order="F") for m in matrices))))
    )
    assert reply["warnings"] == [], reply
    assert "error" not in reply, reply["error"]
    return reply["value"]


def error(task: str, /, **arguments: Any) -> tuple[list[str], str]:
    reply = simple(read_back(bytes(r.call(task, json.dumps(arguments)))))
    return reply["error"]["class"], reply["error"]["message"][0]


def test_vectors_have_the_same_bits() -> None:
    texts = ["Deep learning is powerful.", "café 中文 \U0001f600", ""]
    expected = nb.Embedder(str(minilm()))(texts)
    assert np.array_equal(np.array(ask("embed", texts=texts, model=str(minilm()), options={}), np.float32), expected)
    assert read_back(bytes(r.call("embed", json.dumps({"texts": [], "model": str(minilm()), "options": {}}))))[0][0] == (
        [],
        {"dim": [0, 384]},
    )
    short = ask("embed", texts=texts, model=str(minilm()), options={"truncate_dim": 4.0, "normalize": False})
    assert np.array(short).shape == (3, 4)


def test_options(folders: dict[str, str]) -> None:
    kinds, message = error("embed", texts=["a"], model=str(minilm()), options={"max_token": 3})
    assert kinds == ["BadInput", "NativeBert"]
    assert message == "there is no option 'max_token'; did you mean 'max_tokens'?"
    tagger = {"texts": ["a"], "model": folders["dslim/bert-base-NER"], "numbers": [1]}
    assert "choose from aggregation, base, batch_tokens" in error("tag", **tagger, options={"xyzzy": 2})[1]
    assert "no option 'top_k'" in error("tag", **tagger, options={"top_k": 2})[1]  # its lists do not fit a data frame
    reply = simple(
        read_back(
            bytes(r.call("embed", json.dumps({"texts": ["a b c d e"], "model": str(minilm()), "options": {"max_tokens": 4e0}})))
        )
    )
    (warning,) = reply["warnings"]
    assert warning["class"] == ["Truncated"]
    assert "longer than 4 tokens" in warning["message"][0]
    # again, each time
    again = simple(
        read_back(
            bytes(r.call("embed", json.dumps({"texts": ["a b c d e"], "model": str(minilm()), "options": {"max_tokens": 4}})))
        )
    )
    assert again["warnings"] == reply["warnings"]


def test_labels(folders: dict[str, str]) -> None:
    classify = nb.Classifier(folders[SENTIMENT])
    expected = classify.scores(TEXTS)
    frame = ask("classify", texts=TEXTS, model=folders[SENTIMENT], options={})
    assert list(frame) == ["label", "score", "p_NEGATIVE", "p_POSITIVE"]
    assert frame["label"] == [one["label"] for one in classify(TEXTS)]
    assert np.array_equal(np.array([frame["p_NEGATIVE"], frame["p_POSITIVE"]], np.float32).T, expected)
    assert frame["score"] == expected.max(1).tolist()
    assert ask("classify", texts=[], model=folders[SENTIMENT], options={}) == {
        "label": [],
        "score": [],
        "p_NEGATIVE": [],
        "p_POSITIVE": [],
    }
    pairs = ask("classify", texts=TEXTS, pairs=TEXTS[::-1], model=folders[SENTIMENT], options={})
    assert pairs["score"] == classify.scores([*zip(TEXTS, TEXTS[::-1])]).max(1).tolist()
    raw = ask("classify", texts=TEXTS, model=folders[SENTIMENT], options={"problem": "regression"})
    assert np.array_equal(np.array([*raw.values()], np.float32).T, classify.scores(TEXTS, problem="regression"))


def test_entities(folders: dict[str, str]) -> None:
    frame = ask("tag", texts=TEXTS, model=folders["dslim/bert-base-NER"], options={}, numbers=[3, 7, 9])
    assert {3, 7} <= set(frame["item"])
    texts = dict(zip([3, 7, 9], TEXTS))
    for item, text, start, end in zip(frame["item"], frame["text"], frame["start"], frame["end"], strict=True):
        assert texts[item][start - 1 : end] == text
    empty = read_back(
        bytes(r.call("tag", json.dumps({"texts": [], "model": folders["dslim/bert-base-NER"], "options": {}, "numbers": []})))
    )
    assert simple(empty)["value"] == {name: [] for name in ("item", "text", "label", "score", "start", "end")}


def test_answers(folders: dict[str, str]) -> None:
    model = folders["distilbert-base-cased-distilled-squad"]
    contexts = ["The ferry leaves at nine.", "It rains in Köln."]
    for options, places in (({}, [1, 1]), ({"top_k": 2}, [1, 2, 1, 2])):
        frame = ask("answer", questions=["When?", "Where?"], contexts=contexts, model=model, options=options, numbers=[1, 2])
        assert frame["rank"] == places
        for item, answer, start, end in zip(frame["item"], frame["answer"], frame["start"], frame["end"], strict=True):
            assert contexts[item - 1][start - 1 : end] == answer
    assert ask("answer", questions=[], contexts=[], model=model, options={}, numbers=[])["item"] == []


def test_masks(folders: dict[str, str]) -> None:
    model = folders["bert-base-uncased"]
    frame = ask("fill", texts=["The [MASK] leaves.", "[MASK] [MASK]"], model=model, options={"top_k": 2}, numbers=[2, 5])
    assert frame["item"] == [2, 2, 5, 5, 5, 5]
    assert frame["mask"] == [1, 1, 1, 1, 2, 2]
    assert frame["rank"] == [1, 2] * 3
    expected = nb.MaskFiller(model)(["The [MASK] leaves."], top_k=2)[0][0]
    assert [frame["token"][0], frame["id"][0], frame["score"][0], frame["text"][0]] == [*expected[0].values()]
    kinds, message = error("fill", texts=["[MASK]", "none"], model=model, options={}, numbers=[4, 9])
    assert kinds[0] == "BadInput"
    assert message.startswith("text 9 ")  # as R counts, and not the second of these


def test_pairs_and_labels_of_ones_own(folders: dict[str, str]) -> None:
    scores = ask("rank", queries=["a", "b"], documents=["c", "d"], model=folders[CROSS], options={})
    assert scores == nb.Ranker(folders[CROSS])([("a", "c"), ("b", "d")]).tolist()
    frame = ask("zeroshot", texts=TEXTS, labels=["food", "law"], model=folders[NLI], options={"multi_label": True})
    expected = nb.ZeroShot(folders[NLI])(TEXTS, ["food", "law"], multi_label=True)
    assert frame["label"] == [one["labels"][0] for one in expected]
    assert frame["score"] == [one["scores"][0] for one in expected]
    assert list(frame) == ["label", "score", "p_food", "p_law"]
    assert ask("zeroshot", texts=[], labels=["a", "b"], model=folders[NLI], options={})["p_b"] == []


def test_search() -> None:
    corpus, queries = np.random.default_rng(0).standard_normal((20, 3)), np.eye(3)[:2]
    frame = ask("search", queries, corpus, queries=[2, 3], corpus=[20, 3], options={"top_k": 4})
    hits = nb.semantic_search(queries, corpus, top_k=4)
    assert frame["query"] == [1] * 4 + [2] * 4
    assert frame["item"] == [hit["index"] + 1 for of_query in hits for hit in of_query]
    assert frame["score"] == [hit["score"] for of_query in hits for hit in of_query]
    assert ask("search", np.zeros((0, 3)), corpus, queries=[0, 3], corpus=[20, 3], options={})["item"] == []


def test_tokens_and_states(folders: dict[str, str]) -> None:
    model = folders["bert-base-uncased"]
    frame, _, empty = ask("tokenize", texts=TEXTS, model=model)
    assert frame["token"][:3] == ["[CLS]", "apple", "is"]
    assert [TEXTS[0][a - 1 : b] for a, b in zip(frame["start"][1:-1], frame["end"][1:-1])][:4] == ["Apple", "is", "in", "Köln"]
    assert frame["start"][0] == frame["word"][0] == -(2**31)
    assert frame["word"][1:4] == [1, 2, 3]
    assert empty["token"] == ["[CLS]", "[SEP]"]
    assert ask("tokenize", texts=["a"], pairs=["b"], model=model)[0]["type"] == [0, 0, 0, 1, 1]
    assert ask("tokenize", texts=["a"], model=model, special_tokens=False)[0]["token"] == ["a"]
    loaded = nb.load(model)
    for layer in (None, 0, 1):
        states = ask("hidden_states", texts=TEXTS, model=model, options={}, layer=layer)
        ids = torch.tensor([loaded.tokenizer.encode(TEXTS[1]).ids])
        expected = loaded(ids, output_hidden_states=True).hidden_states[-1 if layer is None else layer][0]
        assert np.abs(np.array(states[1]) - expected.detach().numpy()).max() < 1e-5
    assert "between 0 (the embeddings) and 2" in error("hidden_states", texts=["a"], model=model, options={}, layer=3)[1]
    assert error("hidden_states", texts=["a", "a " * 70], model=model, options={}, numbers=[5, 6]) == (
        ["TooLong", "NativeBert"], "text 6 has 72 tokens, and the model reads 64: shorten it"
    )  # fmt: skip


def test_weights(folders: dict[str, str]) -> None:
    frame = ask("weights", model=folders["distilbert-base-uncased"])
    row = frame["name"].index("distilbert.embeddings.word_embeddings.weight")
    assert frame["parameter"][row] == "embed.token.weight"
    assert frame["shape"][row] == "30522 x 32"
    assert (frame["dtype"][row], frame["status"][row]) == ("F32", "loaded")
    assert len(frame["name"]) == len(nb.load(folders["distilbert-base-uncased"]).ledger.rows)


def test_training(folders: dict[str, str], tmp_path: Path) -> None:
    texts = [f"{word} {n}" for n in range(20) for word in ("good", "bad")]
    data = {"review": texts, "stars": ["good", "bad"] * 20}
    options = {"text": "review", "label": "stars", "epochs": 1.0, "batch_size": 8.0, "learning_rate": 1e-3, "progress": False}
    arguments = {"task": "classify", "data": data, "model": folders["distilbert-base-uncased"], "evaluation": None}
    reply = simple(
        read_back(bytes(r.call("train", json.dumps({**arguments, "output": str(tmp_path / "m"), "options": options}))))
    )
    fit = reply["value"]
    assert fit["labels"] == ["bad", "good"]
    assert 0 <= fit["metrics"][0][1] <= 1
    assert len(fit["history"]["step"]) >= 2
    assert ask("head_of", model=str(tmp_path / "m")) == ["classify"]
    before = ask("classify", texts=["good 1"], model=str(tmp_path / "m"), options={})
    # a folder that was trained in once is not written over
    assert "resume" in error("train", **arguments, output=str(tmp_path / "m"), options=options)[1]
    # and one whose files are others now is read again
    r.call("train", json.dumps({**arguments, "output": str(tmp_path / "other"), "options": options | {"seed": 3}}))
    shutil.rmtree(tmp_path / "m")
    (tmp_path / "other").rename(tmp_path / "m")
    after = ask("classify", texts=["good 1"], model=str(tmp_path / "m"), options={})
    assert before["score"] != after["score"]
    kinds, message = error("train", **arguments, output=str(tmp_path / "n"), options={"no_such": 1})
    assert kinds[0] == "BadInput"
    assert "no_such" in message


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds, message = error("embed", texts=["a"], model=str(tmp_path / "no"), options={})
    assert kinds == ["NotFound", "NativeBert"]
    assert "Traceback" not in message
    (tmp_path / "config.json").write_text("{")
    assert error("weights", model=str(tmp_path))[0][0] in ("Corrupt", "NotFound")
    assert error("embed", texts=["a"], model=7, options={})[0][0] == "BadInput"
    monkeypatch.setitem(r.TASKS, "bug", lambda: 1 / 0)
    assert error("bug") == (["Internal"], "ZeroDivisionError: division by zero. This is a bug of nativebert: please report it")
    monkeypatch.setitem(r.TASKS, "nul", lambda: "a\0b")
    assert error("nul")[0][0] == "BadInput"


def test_tensors() -> None:
    def of(value: Any) -> Any:
        return read_back(bytes(r.array(value)))

    assert of(torch.tensor([[1.5, 2.0], [3.0, 4.0]], requires_grad=True)) == ([1.5, 3.0, 2.0, 4.0], {"dim": [2, 2]})
    assert of(torch.tensor([1.5], dtype=torch.bfloat16)) == [1.5]
    assert of(torch.tensor([True])) == [1]
    assert of(torch.tensor(2**40)) == [float(2**40)]
    assert of(np.arange(3, dtype=np.int32)) == [0, 1, 2]
    assert read_back(bytes(r.shape(torch.zeros(2, 0, 3)))) == [2, 0, 3]
    assert read_back(bytes(r.shape(torch.tensor(1)))) == []


# ---- for those who come by reticulate, without the package


def test_an_encoding_is_an_argument(folders: dict[str, str]) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(folders["bert-base-uncased"])
    model = hf.AutoModel.from_pretrained(folders["bert-base-uncased"])
    tokens = tokenizer(["a b c", "d"], padding=True, return_tensors="pt")
    expected = model(**tokens, output_hidden_states=True)
    found = model(tokens, output_hidden_states=True)
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)
    assert len(found.hidden_states) == 3
    assert torch.equal(model(dict(tokens)).last_hidden_state, expected.last_hidden_state)
    assert isinstance(model(tokens, return_dict=False), tuple)
    with pytest.raises(BadInputError, match="attention_mask is passed twice"):
        model(tokens, tokens["attention_mask"])


def test_numbers_and_names_that_r_can_take(folders: dict[str, str], tmp_path: Path) -> None:
    folder = Path(folders["bert-base-uncased"])
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {
        "model_max_length": 1000000000000000019884624838656
    }
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = hf.AutoTokenizer.from_pretrained(str(tmp_path / "m"))
    assert tokenizer.model_max_length == 2**31 - 1
    assert len(tokenizer("a " * 70, truncation=True)["input_ids"]) == 72  # which means no limit
    tokenizer.model_max_length = 1e30
    assert tokenizer.model_max_length == 2**31 - 1
    assert repr(nb.load(str(folder)).ledger) == str(nb.load(str(folder)).ledger)
    assert {"Embedder", "load", "train"} <= set(dir(nb))
    assert not {"importlib", "Any", "annotations", "TYPE_CHECKING"} & set(dir(nb))


def test_read_only_arrays() -> None:
    vectors = np.eye(3, dtype=np.float32)
    vectors.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nb.semantic_search(vectors, vectors, top_k=1)[2][0]["index"] == 2
        assert hf.util.cos_sim(vectors, [*vectors]).tolist() == vectors.tolist()
        assert np.allclose(nb.Embedder(str(minilm())).similarity(vectors), vectors)
