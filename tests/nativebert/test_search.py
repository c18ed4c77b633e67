"""Search against brute force in float64 and against sentence-transformers: any measure, any block, ties, and memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from models import one_thread

from nativebert.errors import BadInputError
from nativebert.search import MEASURES, paraphrase_mining, semantic_search


@pytest.fixture(autouse=True)
def _quickly():
    with one_thread():
        yield


def vectors(n: int, width: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def scores(a: np.ndarray, b: np.ndarray, measure: str) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    if measure == "cosine":
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    if measure in ("cosine", "dot"):
        return a @ b.T
    apart = a[:, None] - b[None]
    return -(np.sqrt((apart**2).sum(-1)) if measure == "euclidean" else np.abs(apart).sum(-1))


def best_pairs(x: np.ndarray, measure: str) -> list[tuple[float, int, int]]:
    table = scores(x, x, measure)
    return sorted((-table[i, j], i, j) for i in range(len(x)) for j in range(i + 1, len(x)))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("block", [1, 7, 64, 1024])
def test_search_is_brute_force(measure: str, block: int) -> None:
    queries, corpus = vectors(23), vectors(101, seed=1)
    table = scores(queries, corpus, measure)
    for row, found in zip(table, semantic_search(queries, corpus, top_k=9, measure=measure, block=block), strict=True):
        best = np.argsort(-row, kind="stable")[:9]
        assert [hit["index"] for hit in found] == best.tolist()
        assert np.allclose([hit["score"] for hit in found], row[best], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("measure", MEASURES)
def test_results_do_not_depend_on_the_blocks(measure: str) -> None:
    """To the last bit, and with many copies of the same vectors, so that most of the order is made of ties."""
    corpus = vectors(200, 48)[np.random.default_rng(2).integers(0, 30, 200)]
    queries = corpus[:40] + vectors(40, 48, seed=3) * (np.arange(40) % 2)[:, None].astype(np.float32)
    found = [semantic_search(queries, corpus, top_k=50, measure=measure, block=block) for block in (13, 64, 1000)]
    assert all(same == found[0] for same in found)
    for most in (20, 300):
        given = [{"block": block, "top_k": top_k} for block in (19, 1000) for top_k in (199, None)]
        pairs = [paraphrase_mining(corpus, max_pairs=most, measure=measure, **some) for some in given]
        assert all(same == pairs[0] for same in pairs)


def test_equal_scores_are_in_the_order_of_their_indices() -> None:
    corpus = np.repeat(vectors(3), 40, 0)[np.random.default_rng(0).permutation(120)]
    for query, found in zip(corpus, semantic_search(corpus, corpus, top_k=40, block=11)):
        assert [hit["index"] for hit in found] == np.flatnonzero((corpus == query).all(1)).tolist()
        assert {hit["score"] for hit in found} == {1.0}  # not 1.0000001


def test_no_zero_has_a_sign() -> None:
    for measure in ("euclidean", "manhattan"):
        assert str(semantic_search([1.0], [[1.0]], measure=measure)[0][0]["score"]) == "0.0"
        assert str(paraphrase_mining([[1.0], [1.0]], top_k=None, measure=measure)[0]["score"]) == "0.0"


def test_scores_below_zero_are_in_order() -> None:
    corpus = np.array([[-3.0], [-1.0], [2.0], [-2.0], [0.5]])
    assert [hit["index"] for hit in semantic_search([1.0], corpus, measure="dot", block=2)[0]] == [2, 4, 1, 3, 0]


def test_a_vector_of_zeros_is_like_nothing() -> None:
    assert [hit["score"] for hit in semantic_search(np.zeros((1, 4)), vectors(3, 4))[0]] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("kind", ["float16", "float64", "bfloat16", "int8", "list"])
def test_any_kind_of_numbers(kind: str) -> None:
    x = np.round(vectors(20) * 4)
    given = {
        "bfloat16": lambda: torch.from_numpy(x).bfloat16(),
        "list": lambda: x.tolist(),
    }.get(kind, lambda: x.astype(kind))()
    assert semantic_search(given, x) == semantic_search(x, given) == semantic_search(torch.from_numpy(x), x)


def test_nothing_asked_nothing_known_and_fewer_than_asked_for() -> None:
    x = vectors(3)
    assert semantic_search(x[:0], x) == []
    assert semantic_search(x, x[:0]) == [[], [], []]
    assert [len(found) for found in semantic_search(x, x, top_k=50)] == [3, 3, 3]
    assert len(semantic_search(x[0], x)) == 1
    assert paraphrase_mining(x[:1]) == paraphrase_mining(x[:0]) == paraphrase_mining(x[:1], top_k=None) == []


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("top_k", [None, 59, 4])
@pytest.mark.parametrize("max_pairs", [1, 25, 5000])
@pytest.mark.parametrize("block", [7, 1024])
def test_mining_is_brute_force(measure: str, top_k: int | None, max_pairs: int, block: int) -> None:
    x = vectors(60)
    order = np.argsort(-(scores(x, x, measure) - 1e9 * np.eye(len(x))), axis=1, kind="stable")[:, : top_k or len(x)]
    near = {(i, j) for i in range(len(x)) for j in order[i]}
    expected = [(s, i, j) for s, i, j in best_pairs(x, measure) if (i, j) in near or (j, i) in near][:max_pairs]
    found = paraphrase_mining(x, top_k=top_k, max_pairs=max_pairs, measure=measure, block=block)
    assert [(pair["first"], pair["second"]) for pair in found] == [(i, j) for _, i, j in expected]
    assert np.allclose([pair["score"] for pair in found], [-s for s, _, _ in expected], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("top_k", [None, 100])
def test_a_threshold_cuts_off(top_k: int | None) -> None:
    x = vectors(50, 4)
    whole = paraphrase_mining(x, top_k=top_k)
    found = paraphrase_mining(x, top_k=top_k, threshold=0.8)
    assert 0 < len(found) < len(whole)
    assert found == [pair for pair in whole if pair["score"] >= 0.8]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"corpus": vectors(3, 8)}, "dimension 16 and the corpus 8"),
        ({"corpus": vectors(3)[None]}, r"shape \(n, dimension\)"),
        ({"corpus": np.empty((3, 0))}, r"shape \(n, dimension\)"),
        ({"corpus": np.array([["a"] * 16])}, "must be numeric"),
        ({"corpus": np.ones((2, 16), complex)}, "must be numeric"),
        ({"corpus": [[1.0] * 16, [1.0]]}, "not a numeric array"),
        ({"corpus": np.array([[1.0] * 16, [np.nan] * 16])}, "row 1 of corpus contains NaN"),
        ({"queries": np.full((1, 16), 1e39)}, "row 0 of queries contains NaN"),
        ({"top_k": 0}, "top_k must be a whole number, 1 or more"),
        ({"top_k": float("nan")}, "top_k must be a whole number, 1 or more, not nan"),
        ({"top_k": True}, "top_k must be a whole number, 1 or more, not True"),
        ({"top_k": 1.5}, "top_k must be a whole number, 1 or more, not 1.5"),
        ({"top_k": None}, "top_k must be a whole number, 1 or more, not None"),
        ({"block": 0}, "block must be a whole number, 1 or more"),
        ({"block": "8"}, "block must be a whole number, 1 or more, not '8'"),
        ({"measure": "angle"}, "measure must be one of"),
    ],
)
def test_what_cannot_be_searched(given: dict, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        semantic_search(**{"queries": vectors(2), "corpus": vectors(3), **given})


@pytest.mark.parametrize(
    "given",
    [
        {"top_k": 0}, {"top_k": 1.5}, {"max_pairs": 0}, {"max_pairs": np.nan}, {"threshold": np.nan}, {"threshold": "0.5"},
        {"vectors": np.full((3, 3), np.inf)},
    ],
)  # fmt: skip
def test_what_cannot_be_mined(given: dict) -> None:
    with pytest.raises(BadInputError):
        paraphrase_mining(**{"vectors": vectors(3), **given})


@pytest.mark.parametrize("job", ["semantic_search(x, x, top_k=1)", "paraphrase_mining(x, top_k=None, max_pairs=1000)"])
@pytest.mark.slow
def test_memory_stays_flat(job: str) -> None:
    """20,000 by 20,000 scores are 1.6 GB; 100 MB must do. In a process of its own, for the peak."""
    code = f"""
import resource, numpy as np, torch
from nativebert.search import paraphrase_mining, semantic_search
torch.set_num_threads(1)
x = np.random.default_rng(0).standard_normal((20000, 32)).astype(np.float32)
semantic_search(x[:2], x[:9])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = {job}
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    peak = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert peak < 100


@pytest.mark.reference
@pytest.mark.parametrize("measure", MEASURES)
def test_as_sentence_transformers(measure: str) -> None:
    from sentence_transformers import util

    theirs = {"cosine": util.cos_sim, "dot": util.dot_score, "euclidean": util.euclidean_sim, "manhattan": util.manhattan_sim}[
        measure
    ]
    queries, corpus = torch.from_numpy(vectors(30, 32)), torch.from_numpy(vectors(300, 32, seed=1))
    expected = util.semantic_search(queries, corpus, score_function=theirs)
    for ours, reference in zip(semantic_search(queries, corpus, measure=measure), expected, strict=True):
        assert [hit["index"] for hit in ours] == [hit["corpus_id"] for hit in reference]
        assert np.allclose([hit["score"] for hit in ours], [hit["score"] for hit in reference], atol=1e-5)
    for top_k, max_pairs in ((3, 10_000), (100, 500)):
        pairs = util.paraphrase_mining_embeddings(corpus, score_function=theirs, top_k=top_k, max_pairs=max_pairs)
        found = paraphrase_mining(corpus, measure=measure, top_k=top_k, max_pairs=max_pairs)
        assert [(pair["first"], pair["second"]) for pair in found] == [(i, j) for _, i, j in pairs]
        assert np.allclose([pair["score"] for pair in found], [score for score, _, _ in pairs], atol=1e-5)


@pytest.mark.parametrize("number", [float, np.float32, np.int32])
def test_whole_numbers_of_any_kind(number):
    x = vectors(20)
    assert semantic_search(x[:2], x, top_k=number(3), block=number(7)) == semantic_search(x[:2], x, top_k=3)
    found = paraphrase_mining(x, top_k=number(3), max_pairs=number(5), block=number(7))
    assert found == paraphrase_mining(x, top_k=3, max_pairs=5)
