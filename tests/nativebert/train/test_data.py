"""Tables of training examples: what is read, what is refused with which rows, the split, and the report before training."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from nativebert import console
from nativebert.errors import BadInputError, CorruptError
from nativebert.train.data import Table, describe, normalized, read_table, split

LABELLED = {"text": ["a b", "c d", "e f", "g h"], "label": ["x", None, "y", float("nan")]}


# ---- sources


class Feature:
    """A feature of datasets, as far as it is looked at: names of classes, or what a list holds."""

    def __init__(self, names: list[str] | None = None, feature: Any = None) -> None:
        if names is not None:
            self.names = names
        if feature is not None:
            self.feature = feature


class Dataset:
    """A ``datasets.Dataset``, as far as it is looked at."""

    def __init__(self, columns: dict[str, list[Any]], features: dict[str, Feature]) -> None:
        self.columns, self.features, self.column_names = columns, features, list(columns)

    def __getitem__(self, name: str) -> list[Any]:
        return self.columns[name]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def with_format(self, kind: None) -> Dataset:
        return self


def labelled_dataset(labels: list[Any], names: list[str]) -> Dataset:
    texts = [f"text {n}" for n in range(len(labels))]
    return Dataset({"text": texts, "label": labels}, {"text": Feature(), "label": Feature(names)})


def test_classes_of_a_dataset() -> None:
    table = read_table(labelled_dataset([0, 1, -1], ["neg", "pos"]))
    assert table.classes == {"label": ["neg", "pos"]}
    assert table.columns["label"] == [0, 1, None]
    with pytest.raises(BadInputError, match=r"'label' is missing.*row 3"):
        table.present("label")
    with pytest.raises(BadInputError, match="row 2: label is 2, and its 2 classes are numbered from 0"):
        read_table(labelled_dataset([0, 2], ["neg", "pos"]))
    tags = Dataset({"tokens": [["a", "b"]], "tags": [[0, -100]]}, {"tags": Feature(feature=Feature(["O", "B-X"]))})
    with pytest.raises(BadInputError, match="row 1: tags is -100"):
        read_table(tags)


def test_datasets_that_are_no_table() -> None:
    one = labelled_dataset([0, 1], ["neg", "pos"])
    with pytest.raises(BadInputError, match="several datasets, 'train', 'test': pass one"):
        read_table({"train": one, "test": one})

    class Streamed:
        features, column_names = None, None

    with pytest.raises(BadInputError, match="streamed"):
        read_table(Streamed())


def test_a_dataset_itself(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, -1]}, features=features)
    for source in (data, data.with_format("numpy")):
        table = read_table(source)
        assert (table.columns["label"], table.classes["label"]) == ([1, None], ["neg", "pos"])
    with pytest.raises(BadInputError, match="several datasets"):
        read_table(datasets.DatasetDict({"train": data}))
    with pytest.raises(BadInputError, match="streamed"):
        read_table(data.to_iterable_dataset())
    data.to_parquet(str(tmp_path / "a.parquet"))
    assert read_table(tmp_path / "a.parquet").classes == {"label": ["neg", "pos"]}


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    names = {"info": {"features": {"tags": {"feature": {"names": ["O", "B-X"], "_type": "ClassLabel"}, "_type": "List"}}}}
    table = pyarrow.table({"tokens": [["a", "b"]], "tags": [[0, 1]]})
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(names)}), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet").classes == {"tags": ["O", "B-X"]}
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    with pytest.raises(CorruptError, match="cannot be read as parquet"):
        read_table(tmp_path / "b.parquet")


def test_data_frames() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"text": ["a", "b"], "label": pd.array([1, None], dtype="Int64")})
    with pytest.raises(BadInputError, match=r"'label' is missing.*row 2"):
        read_table(frame).present("label")
    with pytest.raises(BadInputError, match="several columns named 'text'"):
        read_table(pd.DataFrame([["a", "b"]], columns=["text", "text"]))


# ---- columns and values


def test_columns() -> None:
    table = Table({"title": ["a"], "review": ["b"], "stars": [1]}, "shop.csv")
    usual = ("text", "review", "title")
    with pytest.raises(BadInputError, match=r"'review' and 'title' could all be the text: name the one with text="):
        table.column("text", usual)
    assert table.column("text", usual, "title") == "title"
    assert Table({"title": ["a"], "text": ["b"]}, "t").column("text", usual) == "text"
    assert Table({"title": ["a"]}, "t").column("text", usual) == "title"
    with pytest.raises(BadInputError, match="none of them is called 'label'"):
        table.column("label", ("label",))


def test_texts() -> None:
    with pytest.raises(BadInputError, match=r"t: column 'text' is invalid Unicode .*row 2;"):
        Table({"text": ["a", "b\ud83d"]}, "t").texts("text")
    with pytest.raises(BadInputError, match=r"rows 1, 2, 3, 4, 5 and 2 more; the first holds None"):
        Table({"text": [None] * 7}, "t").texts("text")


def test_rows_without_a_label_are_left_out_when_asked() -> None:
    table = Table(LABELLED, "t")
    with pytest.raises(BadInputError, match="rows 2, 4"):
        table.present("label")
    rest = table.without_missing(["text", "label"])
    assert (rest.columns["text"], rest.left_out, list(rest.numbers)) == (["a b", "e f"], [2, 4], [1, 3])
    assert rest.select([1]).left_out == [2, 4]
    report = describe(rest, rest.columns["text"], rest.columns["label"])
    assert ("left out, a value is missing", "2 (rows 2, 4)") in report.lines()
    with pytest.raises(BadInputError, match="none of 1 rows has a value in 'label'"):
        table.select([1]).without_missing(["label"])


# ---- the split


@pytest.mark.parametrize("seed", [0, 1])
def test_no_text_is_on_both_sides(seed: int) -> None:
    """Whatever its case, white space, or form of a character; and rows are told apart by their text alone."""
    texts = [f"Straße {n} é" for n in range(200)] + [f" STRASSE  {n} e\u0301" for n in range(200)]
    assert normalized(texts[0]) == normalized(texts[200])
    table = Table({"text": texts, "n": list(range(400))}, "t")
    train, held = split(table, 0.25, seed, ["text"])
    assert {n % 200 for n in train.columns["n"]}.isdisjoint(n % 200 for n in held.columns["n"])
    assert len(train) + len(held) == 400
    assert 0.15 < len(held) / 400 < 0.35
    order = random.Random(0).sample(range(400), 400)
    assert set(split(table.select(order), 0.25, seed, ["text"])[1].columns["n"]) == set(held.columns["n"])
    # what is added later moves nothing
    half = split(table.select(range(100)), 0.25, seed, ["text"])[1].columns["n"]
    assert set(half) == {n for n in held.columns["n"] if n < 100}


def test_both_sides_have_rows() -> None:
    with pytest.raises(BadInputError, match="too few to hold out"):
        split(Table({"text": ["a", "a"]}, "t"), 0.5, 0, ["text"])
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(BadInputError, match="between 0 and 1"):
            split(Table({"text": ["a", "b"]}, "t"), share, 0, ["text"])


# ---- the report


def test_describe(capsys: pytest.CaptureFixture[str]) -> None:
    texts, labels = ["a", "b", "a", "a", "c", "b"], ["x", "y", "y", "x", "x", "y"]
    table = Table({"text": texts, "label": labels}, "t", numbers=[11, 12, 13, 14, 15, 16])
    counts = {"y": 3, "x": 3, "z": 9}
    report = describe(
        table, texts, labels, counts, evaluation=["c", "d", "c"], lengths=(1, 2, 3, 40), limit=30, cut_rows=1, cut_tokens=10
    )
    assert (report.duplicates, report.conflicts, report.shared) == (3, 1, 2)
    assert report.conflict_rows == [[11, 13, 14]]
    assert list(report.labels) == ["z", "y", "x"]
    assert json.loads(json.dumps(report.as_dict()))["cut_tokens"] == 10
    console.facts({"": report.lines()})
    printed = capsys.readouterr().out
    assert "texts with several labels             1 (rows 11, 13, 14)" in printed
    assert "cut to 30 tokens                      1 row, 10 tokens in all" in printed
    many = describe(table, texts, labels, {f"l{n}": 100 - n for n in range(20)})
    assert dict(many.lines())["20 labels"].endswith("l7: 93 and 12 more, the rarest l19: 81")
