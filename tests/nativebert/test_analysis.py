"""Near-duplicates, labels by nearness, clusters, evaluation and the cache of vectors, against what they should be by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from models import minilm
from test_cli import Run, one_line
from test_cli import run as run
from test_cli_tasks import models as models

import nativebert as nb
from nativebert.analysis.cache import VectorCache
from nativebert.analysis.clusters import clusters
from nativebert.analysis.duplicates import near_duplicates
from nativebert.analysis.evaluate import evaluate_labels, evaluate_pairs, evaluate_retrieval
from nativebert.analysis.labels import NearestLabel
from nativebert.errors import BadInputError, CorruptError
from nativebert.search import connected_groups, pairwise_similarity

ANIMALS = ["a cat sleeps on the sofa", "the dog barks at the postman", "a small bird sings in the tree"]
MONEY = ["the bank raised its interest rate", "shares fell on the stock market", "the company reported a loss"]


@pytest.fixture(scope="module")
def embed() -> nb.Embedder:
    return nb.Embedder(minilm())


def grouped_by_hand(scores: np.ndarray, threshold: float) -> list[int]:
    """The first of each row's component, by spreading the smallest number along links until nothing changes."""
    first = np.arange(len(scores))
    while True:
        spread = np.where(scores >= threshold, first[None], len(scores)).min(axis=1)
        spread = np.minimum(first, spread)
        if (spread == first).all():
            return first.tolist()
        first = spread


@pytest.mark.parametrize("measure", ["cosine", "dot", "euclidean"])
def test_groups_are_connected_components(measure: str) -> None:
    x = np.random.default_rng(0).standard_normal((300, 3)).astype(np.float32)
    scores = np.array(
        [[pairwise_similarity(x[i : i + 1], x[j : j + 1], measure=measure)[0] for j in range(60)] for i in range(60)]
    )
    for threshold in np.quantile(scores[np.triu_indices(60, 1)], [0.9, 0.98, 1.0]):
        want = grouped_by_hand(scores, threshold)
        for block in (7, 60, 1024):
            assert connected_groups(x[:60], float(threshold), measure=measure, block=block).tolist() == want
    assert connected_groups(x, 2.0 if measure == "cosine" else 1e9).tolist() == list(range(300))
    assert len(set(connected_groups(np.ones((2000, 4), np.float32), 0.99))) == 1  # two million links


def test_near_duplicates(embed: nb.Embedder) -> None:
    texts = [
        "an unrelated text",
        *ANIMALS[:1],
        "a cat sleeps on the sofa.",
        "the cat is asleep on a sofa",
        *MONEY[:1],
        MONEY[0] + "!",
        "another matter",
    ]
    found = near_duplicates(embed(texts), texts, threshold=0.9)
    assert [(row["group"], row["index"]) for row in found] == [(0, 1), (0, 2), (0, 3), (1, 4), (1, 5)]
    assert found[0]["score"] == pytest.approx(1)
    assert found[0]["text"] == ANIMALS[0]
    assert found[2]["score"] == pytest.approx(float(embed.similarity(*embed([texts[3], texts[1]])[:, None])[0, 0]), abs=1e-6)
    assert near_duplicates(embed(ANIMALS), threshold=0.99) == []
    with pytest.raises(BadInputError, match="there are 1 texts and 3 vectors"):
        near_duplicates(embed(ANIMALS), ["a"])


def test_nearest_label(embed: nb.Embedder) -> None:
    for method in ("centroid", "neighbors"):
        near = NearestLabel(embed, ANIMALS[:2] + MONEY[:2], ["animal"] * 2 + ["money"] * 2, method=method, neighbors=3)
        assert near.labels == ["animal", "money"]
        assert [one["label"] for one in near([ANIMALS[2], MONEY[2]])] == ["animal", "money"]
    shares = near.scores(["a puppy"])
    assert shares.sum() == pytest.approx(1)
    assert [one["label"] for one in near(["a puppy"], top_k=None)[0]] == ["animal", "money"]
    names = NearestLabel.of_names(embed, ["animals", "finance"], template="This text is about {}.")
    assert [one["label"] for one in names([*ANIMALS, *MONEY])] == ["animals"] * 3 + ["finance"] * 3
    wanted = embed(["This text is about animals.", "This text is about finance."])
    assert names.scores(ANIMALS) == pytest.approx(embed(ANIMALS) @ wanted.T, abs=1e-5)
    with pytest.raises(BadInputError, match=r"2 examples and 1 labels"):
        NearestLabel(embed, ANIMALS[:2], ["a"])
    with pytest.raises(BadInputError, match=r"template must contain \{\}"):
        NearestLabel.of_names(embed, ["a"], template="x")


def test_clusters(embed: nb.Embedder) -> None:
    pytest.importorskip("sklearn", reason="clusters need scikit-learn (extra train)")
    found = clusters(embed([*MONEY, *ANIMALS, "a horse eats grass"]), [*MONEY, *ANIMALS, "a horse eats grass"], 2, key_texts=2)
    assert found.of.tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert [(one["size"], set(one["texts"]) < {*ANIMALS, "a horse eats grass"}) for one in found.about] == [
        (4, True),
        (3, False),
    ]
    assert len(found.about[0]["texts"]) == 2
    with pytest.raises(BadInputError, match="3 clusters need as many texts"):
        clusters(embed(ANIMALS[:2]), ANIMALS[:2], 3)


def test_the_cache(embed: nb.Embedder, tmp_path: Path) -> None:
    cached = VectorCache(embed, tmp_path / "vectors.db")
    assert np.array_equal(cached(["a", "b", "a"]), embed(["a", "b", "a"]))
    assert (cached.found, cached.computed) == (1, 2)
    again = VectorCache(nb.Embedder(minilm()), tmp_path / "vectors.db")
    assert np.array_equal(again([*map(str, range(1200)), "b"]), embed([*map(str, range(1200)), "b"]))
    assert (again.found, again.computed) == (1, 1200)
    for other in ({"prompt": "query: "}, {"max_tokens": 5}):  # what the vector depends on is part of the key
        assert np.array_equal(again(["b"], **other), embed(["b"], **other))
    cls = VectorCache(nb.Embedder(minilm(), pooling="cls"), tmp_path / "vectors.db")
    assert not np.array_equal(cls(["b"]), embed(["b"]))
    assert (again.computed, cls.computed) == (1202, 1)
    (tmp_path / "no.db").write_text("x" * 5000)
    with pytest.raises(CorruptError, match="is not a cache of vectors"):
        VectorCache(embed, tmp_path / "no.db")
    with pytest.raises(BadInputError, match="text 1 is not a string"):
        cached(["a", 5])


def test_evaluate(embed: nb.Embedder) -> None:
    pytest.importorskip("sklearn", reason="metrics come from scikit-learn (extra train)")
    near = NearestLabel(embed, ANIMALS[:2] + MONEY[:2], ["animal"] * 2 + ["money"] * 2)
    assert evaluate_labels(near, [*ANIMALS, *MONEY], ["animal"] * 3 + ["money"] * 3)["accuracy"] == 1
    assert evaluate_labels(near, [*ANIMALS, *MONEY], ["animal"] * 2 + ["money"] * 4)["accuracy"] == pytest.approx(5 / 6)
    with pytest.raises(BadInputError, match="the labels 'x' are none of the model's: 'animal', 'money'"):
        evaluate_labels(near, ["a"], ["x"])
    pairs = [(ANIMALS[0], ANIMALS[0]), (ANIMALS[0], ANIMALS[2]), (ANIMALS[0], MONEY[0])]
    assert evaluate_pairs(embed, pairs, [5, 2, 0])["spearman"] == pytest.approx(1)
    assert evaluate_pairs(embed, pairs, [0, 2, 5])["spearman"] == pytest.approx(-1)
    found = evaluate_retrieval(embed, ["a sleeping cat", "interest rates", "a dog"], [*ANIMALS, *MONEY], [[0], [3, 4], [5]])
    assert found["recall@1"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert found["recall@10"] == 1
    order = np.argsort(-(embed(["a dog"]) @ embed([*ANIMALS, *MONEY]).T)[0]).tolist().index(5)
    second = np.argsort(-(embed(["interest rates"]) @ embed([*ANIMALS, *MONEY]).T)[0]).tolist()
    assert found["mrr@10"] == pytest.approx((1 + 1 + 1 / (order + 1)) / 3)
    gain = sum(1 / np.log2(second.index(n) + 2) for n in (3, 4)) / (1 + 1 / np.log2(3))
    assert found["ndcg@10"] == pytest.approx((1 + gain + 1 / np.log2(order + 2)) / 3)
    with pytest.raises(BadInputError, match=r"query 0 has the documents \[7\]"):
        evaluate_retrieval(embed, ["a"], ANIMALS, [[7]])


def test_results_beside_the_columns_of_their_table(models: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="tables need pyarrow (extra tables)")
    pd = pytest.importorskip("pandas", reason="data frames need pandas (extra tables)")
    columns = {"id": [7, 8], "label": ["x", "y"], "text": ["the cat sat", "a dog"]}
    results = nb.Classifier(models / "classify")(columns["text"], top_k=2)
    for source in (columns, pd.DataFrame(columns), pa.table(columns)):
        table = results.to_arrow(source)
        assert table.column_names == ["item", "rank", "label", "score", "id", "input_label", "text"]
        assert table["id"].to_pylist() == [7, 7, 8, 8]
        assert table["input_label"].to_pylist() == ["x", "x", "y", "y"]
    assert results.to_pandas(columns)["id"].tolist() == [7, 7, 8, 8]
    with pytest.raises(BadInputError, match="results of 2 texts and a table of 1 rows"):
        results.to_pandas({"id": [1]})


def test_the_commands(run: Run, models: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="metrics come from scikit-learn (extra train)")
    table = tmp_path / "in.csv"
    rows = [
        "text,other,label,score,query",
        "the cat sat,the cat sat,good,5,a cat",
        "a dog,the mat,bad,1,dogs",
        "the cat sat,a dog,good,0,cats",
    ]
    table.write_text("\n".join(rows) + "\n")
    done = run("duplicates", table, "--column", "text", "-m", models / "embed", "--threshold", "0.999", "-o", "-")
    assert [json.loads(line)["index"] for line in done.out.splitlines()] == [0, 2]
    run("duplicates", table, "--column", "text", "-m", models / "embed", "-o", tmp_path / "d.csv")
    assert (tmp_path / "d.csv").read_text().splitlines()[0] == "group,index,score,text,other,label,input_score,query"
    argv = ("evaluate", table, "--column", "text", "--json", "-m")
    found = json.loads(run(*argv, models / "classify", "--label-column", "label").out)
    predicted = [one["label"] for one in nb.Classifier(models / "classify")(["the cat sat", "a dog", "the cat sat"])]
    assert found["accuracy"] == pytest.approx(np.mean([a == b for a, b in zip(predicted, ["good", "bad", "good"])]))
    found = json.loads(run(*argv, models / "embed", "--score-column", "score", "--pair-column", "other").out)
    assert found["rows"] == 3
    assert -1 <= found["spearman"] <= 1
    found = json.loads(run(*argv, models / "embed", "--query-column", "query").out)
    assert found["recall@5"] == 1  # there are two documents
    assert "--score-column requires --pair-column" in one_line(run(*argv, "m", "--score-column", "score"))
    pytest.importorskip("plotly", reason="pages need plotly (extra plot)")
    done = run("map", table, "-m", models / "embed", "--column", "text", "--labels-from", "label", "-o", tmp_path / "m.html")
    assert done.code == 0, done.err
    assert "good" in (tmp_path / "m.html").read_text()
    assert "--labels-from requires -m" in one_line(run("map", table, "--labels-from", "label", "-o", tmp_path / "m.html"))
