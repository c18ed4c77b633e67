"""From a table to a saved model, for every task; and what a table may be, and may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training
from classifiers import classifier
from models import minilm
from training import reviews

import nativebert as nb
from nativebert import train
from nativebert.cli import main
from nativebert.errors import BadInputError, NotFoundError
from nativebert.train import data as tables
from nativebert.train.data import Table

SHORT: dict[str, Any] = {"max_steps": 4, "batch_size": 8, "learning_rate": 1e-3, "progress": False}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.folder(tmp_path_factory.mktemp("tiny"))


def rows(count: int = 60) -> list[dict[str, Any]]:
    return [{"text": text, "label": ("bad", "good")[label]} for text, label in zip(*reviews(count))]


# ---- tables


def test_the_same_table_from_everywhere(tmp_path: Path) -> None:
    import pandas as pd

    table = rows(20)
    frame = pd.DataFrame(table)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, table)))
    (tmp_path / "a.json").write_text(json.dumps(table))
    columns = {name: [row[name] for row in table] for name in ("text", "label")}
    sources = [*(tmp_path / f"a.{end}" for end in ("csv", "tsv", "parquet", "jsonl", "json")), frame, columns, table]
    assert len({tables.read_table(source).fingerprint for source in sources}) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "has no rows"), ({"text": ["a"], "label": []}, "different lengths"), (7, "must be a path"), (["a text"], "row 1 is a str"),
    ],
)  # fmt: skip
def test_what_is_no_table(source: Any, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        tables.read_table(source)


def test_missing_files_and_kinds(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is not a file"):
        tables.read_table(tmp_path / "none.csv")
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(BadInputError, match="is not a table"):
        tables.read_table(tmp_path / "a.xlsx")


def test_the_split_is_by_text() -> None:
    """Duplicates, whatever their case and white space, are on one side; the order of the rows changes nothing."""
    texts = [f"text {n}" for n in range(300)] + [f" TEXT  {n} " for n in range(300)]
    table = Table({"text": texts, "n": list(range(600))}, "t")
    one, other = tables.split(table, 0.2, 0, ["text"])
    assert {n % 300 for n in one.columns["n"]}.isdisjoint({n % 300 for n in other.columns["n"]})
    assert 0.12 < len(other) / 600 < 0.28
    turned = table.select(range(599, -1, -1))
    assert set(tables.split(turned, 0.2, 0, ["text"])[1].columns["n"]) == set(other.columns["n"])
    assert set(tables.split(table, 0.2, 1, ["text"])[1].columns["n"]) != set(other.columns["n"])
    with pytest.raises(BadInputError, match="too few to hold out"):
        tables.split(table.select([0]), 0.2, 0, ["text"])


# ---- classification


def test_classify(tiny: Path, tmp_path: Path) -> None:
    result = train.classify(rows(200), tiny, tmp_path / "out", epochs=6, batch_size=8, learning_rate=2e-3, progress=False)
    assert result.metrics["accuracy"] > 0.8
    assert result.data.labels.keys() == {"bad", "good"}
    saved = nb.Classifier(tmp_path / "out")
    assert saved.labels == ("bad", "good")
    assert saved("deep power learning learning")[0]["label"] == "good"
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["problem_type"] == "single_label_classification"
    assert config["label2id"] == {"bad": 0, "good": 1}
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "Confusion matrix" in page
    assert "Calibration" in page
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert card.startswith("---")
    assert "accuracy" in card


@pytest.mark.reference
def test_transformers_loads_the_result(tiny: Path, tmp_path: Path) -> None:
    import transformers as hf

    train.classify(rows(), tiny, tmp_path, **SHORT)
    theirs, info = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    words = hf.AutoTokenizer.from_pretrained(tmp_path)("the cat sat", return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(nb.load(tmp_path)(**words).logits, theirs.eval()(**words).logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("column", "values", "kind", "classes"),
    [
        ("label", ["b", "a", "c"], "single_label_classification", ["a", "b", "c"]),
        ("label", ["1", "0", "2"], "single_label_classification", ["0", "1", "2"]),
        ("label", [1.0, 0.0, 2.0], "single_label_classification", ["0", "1", "2"]),
        ("labels", [["a", "b"], [], ["c"]], "multi_label_classification", ["a", "b", "c"]),
        ("score", [0.5, 1.25, 3.0], "regression", ["score"]),
    ],
)
def test_what_labels_are(column: str, values: list[Any], kind: str, classes: list[str], tiny: Path, tmp_path: Path) -> None:
    texts, _ = reviews(30)
    data = {"text": texts, column: values * 10}
    result = train.classify(data, tiny, tmp_path, **SHORT)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["problem_type"] == kind
    assert list(config["id2label"].values()) == classes
    assert np.isfinite(result.metrics["loss"])


def test_several_columns_are_several_labels(tiny: Path) -> None:
    texts, labels = reviews(30)
    data = {"text": texts, "rude": labels, "loud": labels[::-1]}
    result = train.classify(data, tiny, label=["rude", "loud"], **SHORT)
    assert result.model.config.labels == ("rude", "loud")
    assert "f1_micro" in result.metrics


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"label": ["x"] * 60}, {}, "every training example has the label 'x'"),
        ({"label": [*["bad", "good"] * 29, None, ""]}, {}, r"'label' is missing.*rows 59, 60"),
        ({"text": [*map(str, range(59)), "  "]}, {}, r"'text' is empty.*row 60"),
        ({"text": [*map(str, range(59)), 3]}, {}, r"'text' is not text.*row 60"),
        ({}, {"label": "lable"}, r"no column 'lable'; the columns are 'text', 'label'; did you mean 'label'"),
        ({}, {"evaluation": [{"text": "a", "label": "ugly"}]}, "row 1: the label 'ugly' was not trained; the labels are 'bad', 'good'"),
        ({}, {"learning_rat": 1}, r"'learning_rat' is not an option of training: did you mean learning_rate\?$"),
        ({}, {"lr": 1}, "it is called learning_rate$"),
        ({}, {"num_train_epochs": 1}, "it is called epochs"),
        ({}, {"batch_size": 0}, "batch_size must be a whole number, 1 or more"),
        ({}, {"class_weights": {"ugly": 2}}, "class_weights names 'ugly'"),
        ({}, {"fast": True, "bf16": True}, "the fast step does not support this run: bf16=True"),
    ],
)  # fmt: skip
def test_what_cannot_be_learnt(change: dict[str, Any], options: dict[str, Any], message: str, tiny: Path) -> None:
    table = {"text": [row["text"] for row in rows()], "label": [row["label"] for row in rows()]} | change
    with pytest.raises(BadInputError, match=message):
        train.classify(table, tiny, **SHORT | options)


def test_class_weights(tiny: Path) -> None:
    texts, labels = reviews(80)
    rare = [0 if n % 8 else label for n, label in enumerate(labels)]
    plain = train.classify({"text": texts, "label": rare}, tiny, validation_split=0, seed=1, **SHORT)
    weighted = train.classify(
        {"text": texts, "label": rare}, tiny, validation_split=0, seed=1, class_weights="balanced", **SHORT
    )
    ids = torch.tensor([[2, 40, 41, 3]])
    difference = weighted.model(ids).logits - plain.model(ids).logits
    assert float((difference[0, 1] - difference[0, 0]).detach()) > 0


def test_long_texts_are_counted(tiny: Path) -> None:
    data = rows(20)
    data[3]["text"] = "deep learning is powerful " * 40
    result = train.classify(data, tiny, max_length=30, validation_split=0, **SHORT)
    lengths = [len(nb.load(tiny).tokenizer.encode(row["text"]).ids) for row in data]
    assert (result.data.cut_rows, result.data.limit) == (sum(n > 30 for n in lengths), 30)
    assert result.data.cut_tokens == sum(max(0, n - 30) for n in lengths)
    with pytest.raises(nb.errors.TooLongError):
        train.classify(data, tiny, max_length=30, too_long="error", **SHORT)


def test_resuming_takes_the_same_data(tiny: Path, tmp_path: Path) -> None:
    train.classify(rows(60), tiny, tmp_path, save_strategy="steps", save_steps=2, **SHORT)
    with pytest.raises(BadInputError, match="earlier run"):
        train.classify(rows(60), tiny, tmp_path, **SHORT)
    with pytest.raises(BadInputError, match="data was"):
        train.classify(rows(61), tiny, tmp_path, resume=True, **SHORT)
    train.classify(rows(60), tiny, tmp_path, resume=True, **SHORT)


@pytest.mark.parametrize("how", [{"lora": train.LoraOptions(rank=2)}, {"freeze": ["embed"]}, {"dropout": 0.0, "fast": False}])
def test_ways_to_train(how: dict[str, Any], tiny: Path, tmp_path: Path) -> None:
    train.classify(rows(), tiny, tmp_path, **SHORT, **how)
    assert "lora" not in "".join(nb.load(tmp_path).state_dict())


# ---- the other tasks


def test_tag(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = classifier(tmp_path / "m", "bert", ["a", "b"])
    words = [["the", "cat", "sat"], ["a", "dog", "is", "deep"]] * 20
    tags = [["O", "B-PET", "O"], ["O", "B-PET", "O", "O"]] * 20
    result = train.tag({"tokens": words, "tags": tags}, folder, tmp_path / "out", epochs=15, batch_size=8, learning_rate=2e-3,
                       validation_split=0, evaluation={"tokens": words, "tags": tags}, progress=False)  # fmt: skip
    assert result.metrics["f1"] == 1.0
    assert [e["text"] for e in nb.Tagger(tmp_path / "out")("a dog is deep")[0]] == ["dog"]
    spans = [
        {"text": "the cat sat", "entities": [{"start": 4, "end": 7, "label": "PET"}]},
        {"text": "a mat", "entities": []},
    ] * 10
    same = train.tag(spans, folder, validation_split=0, **SHORT)
    assert same.model.config.labels == ("O", "B-PET", "I-PET")
    with pytest.raises(BadInputError, match="row 1 has 3 words and 2 labels"):
        train.tag({"tokens": [["a", "b", "c"]], "tags": [["O", "O"]]}, folder, validation_split=0)
    with pytest.raises(BadInputError, match="row 1: the entity 4:99 is not within the text"):
        train.tag([{"text": "the cat", "entities": [(4, 99, "X")]}], folder, validation_split=0)


def test_answer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = classifier(tmp_path / "m", "bert", ["a", "b"])
    context = "the cat sat on the mat"
    data = [
        {"question": "a cat ?", "context": context + " ." * n, "answers": {"text": ["mat"], "answer_start": [19]}}
        for n in range(8)
    ]
    result = train.answer(data, folder, tmp_path / "out", epochs=30, batch_size=4, learning_rate=2e-3, validation_split=0, evaluation=data,
                          max_length=40, stride=8, progress=False)  # fmt: skip
    assert result.metrics["exact_match"] == 100
    with pytest.raises(BadInputError, match="row 1: the answer 'mat' has 'the'"):
        train.answer([data[0] | {"answers": {"text": ["mat"], "answer_start": [15]}}], folder, validation_split=0)


def test_continue_pretraining(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = classifier(tmp_path / "m", "bert", ["a", "b"])
    (tmp_path / "texts.txt").write_text("\n".join(reviews(60, longest=80)[0]))
    result = train.continue_pretraining(
        tmp_path / "texts.txt", folder, tmp_path / "out", epochs=4, batch_size=8, learning_rate=3e-3, progress=False
    )
    first, last = (line["eval_loss"] for line in (lambda e: (e[0], e[-1]))([h for h in result.history if "eval_loss" in h]))
    assert last < first
    assert result.metrics["perplexity"] == pytest.approx(np.exp(result.metrics["loss"]))
    assert nb.MaskFiller(tmp_path / "out")("the [MASK] sat")


def test_embed(tmp_path: Path) -> None:
    data = {
        "sentence1": ["a plane takes off", "rain"] * 8,
        "sentence2": ["an airplane departs", "a red car"] * 8,
        "score": [5.0, 0.0] * 8,
    }
    result = train.embed(data, minilm(), tmp_path, evaluation=data, max_steps=3, batch_size=8, progress=False)
    assert result.metrics["spearman_cosine"] > 0.8
    assert nb.Embedder(tmp_path)(["a plane"]).shape == (1, 384)
    for loss in ("cosine_similarity", "multiple_negatives"):
        train.embed(data, minilm(), validation_split=0, loss=loss, max_steps=1, batch_size=4, progress=False)
    with pytest.raises(BadInputError, match="needs an anchor, a positive and a negative"):
        train.embed(data, minilm(), loss="triplet")


def test_rank(tiny: Path, tmp_path: Path) -> None:
    data = [
        {"query": f"{word} ?", "document": f"the {other} sat on a mat", "label": int(other == "cat")}
        for word in ("cat", "dog", "deep", "power")
        for other in ("cat", "dog", "deep", "power")
    ]
    result = train.rank(data, tiny, tmp_path, evaluation=data, epochs=60, batch_size=8, learning_rate=2e-3, progress=False)
    assert result.metrics["ndcg@10"] > 0.9
    assert "score by label" in (tmp_path / "report.html").read_text("utf-8")
    ranker = nb.Ranker(tmp_path)
    assert ranker.rank("dog ?", ["the dog sat on a mat", "the cat sat on a mat"])[0]["index"] == 1
    with pytest.raises(BadInputError, match="every label is 1"):
        train.rank([row | {"label": 1} for row in data], tiny, validation_split=0, progress=False)
    with pytest.raises(BadInputError, match="'label' is not a number"):
        train.rank([row | {"label": "x"} for row in data], tiny, validation_split=0, progress=False)


@pytest.mark.reference
def test_sentence_transformers_loads_a_cross_encoder(tiny: Path, tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    pairs = [("a cat", "the mat"), ("deep learning", "power")]
    data = {"query": [a for a, _ in pairs] * 4, "document": [b for _, b in pairs] * 4, "label": [1, 0] * 4}
    train.rank(data, tiny, tmp_path, validation_split=0, **SHORT)
    np.testing.assert_allclose(CrossEncoder(str(tmp_path), device="cpu").predict(pairs), nb.Ranker(tmp_path)(pairs), atol=1e-6)


def test_rows_without_a_value_can_be_left_out(tiny: Path) -> None:
    data = rows(40)
    data[4]["label"], data[7]["text"] = None, ""
    with pytest.raises(BadInputError, match="row 5"):
        train.classify(data, tiny, **SHORT)
    result = train.classify(data, tiny, missing="drop", **SHORT)
    assert result.data.left_out == [5, 8]


def test_the_command(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows(40))))
    command = [
        "train",
        "classify",
        str(path),
        "-m",
        str(tiny),
        "-o",
        str(tmp_path / "out"),
        "--max-steps",
        "4",
        "--save-steps",
        "2",
    ]
    assert main(command) == 0
    told = capsys.readouterr().err
    assert "Saved to" in told
    assert "accuracy" in told
    assert nb.Classifier(tmp_path / "out")("the cat")
    assert main(command) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert main(["train", "tag", str(path), "-m", str(tiny), "-o", str(tmp_path / "x"), "--label", "a"]) == 2
    assert "--label is for classify and rank, not for tag" in capsys.readouterr().err
