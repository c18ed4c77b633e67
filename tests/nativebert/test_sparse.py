"""Sparse vectors: what sentence-transformers' SparseEncoder gives, in any company."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import Made
from models import BERT, one_thread, texts, unlike, write_folder

import nativebert as nb
from nativebert.errors import Assumed, BadInputError, RefusedError, TooLongError
from nativebert.tasks.sparse import SparseVectors
from nativebert.text.window import windows

TEXTS = ["the cat sat on a mat", "", "deep learning is powerful", "dogs!", "the dog " * 9, "running and unbelievable rain"]
KINDS = {"max": ("max", "relu"), "sum": ("sum", "log1p_relu"), "max log": ("max", "log1p_relu")}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny encoder with a masked-LM head, with the files of sentence-transformers."""
    transformers = pytest.importorskip("transformers")
    found = {}
    for name, (pooling, activation) in KINDS.items():
        folder = found[name] = write_folder(tmp_path_factory.mktemp("sparse") / "m", BERT)
        sizes = {key: value for key, value in BERT.items() if key not in ("architectures", "model_type")}
        model = unlike(transformers.BertForMaskedLM(transformers.BertConfig(**sizes)), 3)
        model.tie_weights()
        model.save_pretrained(folder)
        kind = "sentence_transformers.sparse_encoder.modules"
        write(folder / "modules.json", [
            {"idx": 0, "name": "0", "path": "", "type": f"{kind}.mlm_transformer.MLMTransformer"},
            {"idx": 1, "name": "1", "path": "1_SpladePooling", "type": f"{kind}.splade_pooling.SpladePooling"},
        ])  # fmt: skip
        (folder / "1_SpladePooling").mkdir()
        write(folder / "1_SpladePooling" / "config.json", {"pooling_strategy": pooling, "activation_function": activation})
        write(folder / "config_sentence_transformers.json", {"model_type": "SparseEncoder", "prompts": {"query": "the "}})
        write(folder / "sentence_bert_config.json", {"max_seq_length": 24, "do_lower_case": False})
    return found


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore::nativebert.errors.Truncated")
@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_sentence_transformers(kind: str, folders: dict[str, Path]) -> None:
    from sentence_transformers import SparseEncoder

    from nativebert import hf

    theirs, ours = SparseEncoder(str(folders[kind]), device="cpu"), hf.SparseEncoder(folders[kind], device="cpu")
    assert (ours.max_seq_length, ours.get_embedding_dimension()) == (theirs.max_seq_length, BERT["vocab_size"])
    with one_thread():
        for prompt in ({}, {"prompt_name": "query"}, {"prompt": "a dog "}, {"max_active_dims": 5}):
            expected, found = theirs.encode(TEXTS, **prompt), ours.encode(TEXTS, **prompt)
            assert found.is_sparse
            scale = float(expected.to_dense().max())
            torch.testing.assert_close(found.to_dense(), expected.to_dense(), rtol=0, atol=2e-6 * max(1.0, scale))
        torch.testing.assert_close(
            ours.encode_query(TEXTS[0]).to_dense(), theirs.encode_query(TEXTS[0]).to_dense(), rtol=0, atol=5e-6
        )
        expected, found = theirs.encode(TEXTS), ours.encode(TEXTS)
    torch.testing.assert_close(
        ours.similarity(found, found), theirs.similarity(expected, expected).to_dense(), rtol=1e-5, atol=0
    )
    assert torch.equal(ours.similarity(found, found).argsort(1), theirs.similarity(expected, expected).to_dense().argsort(1))
    assert [[t for t, _ in row] for row in ours.decode(found, 4)] == [[t for t, _ in row] for row in theirs.decode(expected, 4)]
    assert ours.sparsity(found) == pytest.approx(theirs.sparsity(expected))
    assert ours.encode([]).shape == theirs.encode([]).shape
    with pytest.raises(RefusedError, match="device="):
        ours.encode(TEXTS, device="cuda")


@pytest.mark.filterwarnings("ignore::nativebert.errors.Truncated")
def test_the_same_bits_in_any_company(folders: dict[str, Path]) -> None:
    many = texts(40, 12)
    for kind in KINDS:
        embedder = nb.SparseEmbedder(folders[kind])
        together = embedder(many).dense()
        order = np.random.default_rng(0).permutation(len(many))
        assert np.array_equal(embedder([many[n] for n in order], batch_tokens=64).dense(), together[order])
        assert all(np.array_equal(embedder([text]).dense()[0], row) for text, row in zip(many, together, strict=True))


def test_the_forms_of_vectors(folders: dict[str, Path]) -> None:
    embedder = nb.SparseEmbedder(folders["max"])
    vectors = embedder(TEXTS[:4])
    dense = vectors.dense()
    assert vectors.shape == dense.shape == (4, embedder.dimension)
    assert np.array_equal(vectors.scipy().toarray(), dense)
    np.testing.assert_allclose(
        vectors.similarity(embedder(["a dog", ""])), dense @ embedder(["a dog", ""]).dense().T, rtol=1e-5
    )
    empty = SparseVectors(np.empty(0, np.float32), np.empty(0, np.int32), np.zeros(3, np.int64), embedder.dimension)
    assert not empty.similarity(vectors).any()
    assert not vectors.similarity(empty).any()
    weights = embedder.tokens(vectors, 3)[0]
    best = np.argsort(-dense[0])[:3]
    assert list(weights) == [embedder.tokenizer.id_to_token(int(n)) for n in best]
    assert list(weights.values()) == dense[0][best].tolist()
    few = embedder(TEXTS[:4], top_k=2).dense()
    assert (few > 0).sum(1).tolist() == [2, 2, 2, 2]
    assert np.array_equal(few.max(1), dense.max(1))
    assert embedder([]).shape == (0, embedder.dimension)
    assert np.array_equal(pickle.loads(pickle.dumps(embedder))(TEXTS[:2]).dense(), dense[:2])
    with pytest.raises(BadInputError, match="use one model"):
        vectors.similarity(vectors._replace(width=7))
    with pytest.raises(BadInputError, match="no prompt named 'x'"):
        embedder(TEXTS, prompt_name="x")
    with pytest.raises(BadInputError, match="top_k"):
        embedder(TEXTS, top_k=0)
    with pytest.raises(TooLongError, match="the prompt alone"):
        embedder(TEXTS, prompt="the " * 30)


def test_windows_give_the_maximum(folders: dict[str, Path]) -> None:
    embedder = nb.SparseEmbedder(folders["max"])
    long = "the cat sat on a mat and a dog is running quietly . " * 3
    whole, report = embedder([long, "a dog"], too_long="window", stride=4, return_report=True)
    assert report.windows[0] > 1
    tokens = embedder.tokenizer.encode(long, special_tokens=False).ids
    parts = [tokens[w.start : w.end] for w in windows(len(tokens), 24 - 2, 4)]
    plan = embedder.plan
    cls, sep = embedder.tokenizer.cls_id, embedder.tokenizer.sep_id
    logits = plan.logits(embedder.pack([[cls, *part, sep] for part in parts]), "lm", reduce="max")
    expected = torch.log1p(logits.relu()).amax(0).numpy()
    np.testing.assert_allclose(whole.dense()[0], expected, atol=1e-5)
    with pytest.raises(RefusedError, match="sums over tokens"):
        nb.SparseEmbedder(folders["sum"])([long], too_long="window")


def test_files_that_are_something_else(folders: dict[str, Path], tmp_path: Path) -> None:
    plain = write_folder(tmp_path / "plain", BERT)
    with pytest.raises(nb.NativeBertError, match="no head for 'lm'"):
        nb.SparseEmbedder(plain)
    Made("bert", "ForMaskedLM").model(vocab_size=BERT["vocab_size"]).save_pretrained(plain)
    with pytest.warns(Assumed, match="the maximum over all tokens"):
        assert nb.SparseEmbedder(plain).config.pooling == "max"
    modules = json.loads((folders["max"] / "modules.json").read_text())
    write(plain / "modules.json", [modules[0], modules[1] | {"type": "sentence_transformers.models.Pooling"}])
    with pytest.raises(RefusedError, match="MLMTransformer, Pooling; nativebert computes"):
        nb.SparseEmbedder(plain)
    write(plain / "modules.json", modules)
    (plain / "1_SpladePooling").mkdir()
    write(plain / "1_SpladePooling" / "config.json", {"pooling_strategy": "mean"})
    with pytest.raises(RefusedError, match="pooling_strategy 'mean'"):
        nb.SparseEmbedder(plain)
    with pytest.raises(RefusedError, match="SparseEncoder"):
        nb.Embedder(folders["max"])


def test_on_the_command_line(folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The kind is told by the files; weights by token, the largest first, and a matrix that scipy reads."""
    import csv

    from nativebert import cli

    (tmp_path / "texts.csv").write_text("name,text\na,the cat sat on a mat\nb,\nc,dogs!\n")
    given = ["the cat sat on a mat", "", "dogs!"]
    embed = ["embed", str(tmp_path / "texts.csv"), "--column", "text", "-m", str(folders["max"]), "--device", "cpu", "-o"]
    embedder = nb.SparseEmbedder(folders["max"], device="cpu")
    assert cli.main([*embed, str(tmp_path / "v.jsonl"), "--top-k", "4", "--prompt-name", "query"]) == 0
    out = capsys.readouterr().out
    assert "8 weights in" in out
    assert "1 row with an empty text, without a result" in out
    records = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert records[1]["weights"] is None
    found = [records[n]["weights"] for n in (0, 2)]
    expected = embedder.tokens(embedder([given[n] for n in (0, 2)], top_k=4, prompt_name="query"))
    assert [list(row) for row in found] == [list(row) for row in expected]
    assert [np.float32(w) for row in found for w in row.values()] == [np.float32(w) for row in expected for w in row.values()]
    assert [(r["text"] or "", r["name"]) for r in records] == [*zip(given, "abc", strict=True)]
    assert json.loads((tmp_path / "v.jsonl.json").read_text())["call"] == {"prompt_name": "query", "top_k": 4}

    assert cli.main([*embed, str(tmp_path / "v.csv"), "--top-k", "2", "--quiet"]) == 0
    with (tmp_path / "v.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = embedder.tokens(embedder(given, top_k=2))
    assert [(int(r["item"]), r["token"]) for r in rows] == [
        (n, token) for n, row in enumerate(expected) for token in row if n != 1
    ]
    assert {(r["item"], r["name"]) for r in rows} == {("0", "a"), ("2", "c")}

    assert cli.main([*embed, str(tmp_path / "v.npz"), "--quiet"]) == 0
    with np.load(tmp_path / "v.npz") as file:
        again = SparseVectors(file["data"], file["indices"], file["indptr"], int(file["shape"][1]))
    dense = embedder(given).dense()
    dense[1] = 0
    assert np.array_equal(again.dense(), dense)
    if (scipy := pytest.importorskip("scipy.sparse")) is not None:
        assert np.array_equal(scipy.load_npz(tmp_path / "v.npz").toarray(), dense)

    for words, says in (
        (["v.npy"], "unknown format of .*use one of the extensions .csv, .jsonl, .npz"),
        (["v.npz", "--pooling", "cls"], "--pooling means nothing for weights of tokens"),
        (["out/"], "model_type is 'SparseEncoder'"),
        (["out/", "--kind", "sparse"], "are written to a .csv, .jsonl or .npz file"),
    ):
        assert cli.main([*embed, str(tmp_path / words[0]) + "/" * words[0].endswith("/"), *words[1:]]) == 2
        assert re.search(says, capsys.readouterr().err)
