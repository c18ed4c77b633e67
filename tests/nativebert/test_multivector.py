"""Late interaction: what sentence-transformers' MultiVectorEncoder gives for its own folders and PyLate's, in any company."""

from __future__ import annotations

import json
import pickle
import re
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import Made
from models import BERT, one_thread, texts, write_folder
from safetensors.torch import save_file

import nativebert as nb
from nativebert.errors import BadInputError, RefusedError

QUERIES = ["the cat", "deep learning is powerful and running", "", "dogs!"]
DOCUMENTS = ["the cat sat on a mat .", "deep learning is , powerful", "", "the dog " * 19, "running"]
FIXED = {"strategy": "fixed", "attend": False, "length": 12}
KINDS: dict[str, dict[str, Any]] = {
    "classic": {"query_expansion": FIXED, "query_length": 12, "document_length": 20},
    "attend": {"query_expansion": FIXED | {"attend": True, "token": "the"}, "document_length": 20},
    "min": {"query_expansion": FIXED | {"strategy": "min", "length": 9}},
    "none": {"query_length": 10},
    "pylate": {},
    "pylate, marks of its own": {},
}
ST = "sentence_transformers.base.modules"


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def make(folder: Path, kind: str) -> Path:
    write_folder(folder, BERT)
    pylate = kind.startswith("pylate")
    own = [] if pylate else [("2_Mask", "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask"),
                             ("3_Normalize", f"{ST}.normalize.Normalize")]  # fmt: skip
    dense = "pylate.models.Dense.Dense" if pylate else f"{ST}.dense.Dense"
    kinds = [("", "sentence_transformers.models.Transformer"), ("1_Dense", dense), *own]
    modules = [{"idx": n, "name": str(n), "path": path, "type": name} for n, (path, name) in enumerate(kinds)]
    write(folder / "modules.json", modules)
    names = {} if pylate else {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    write(folder / "1_Dense" / "config.json", {
        "in_features": 32, "out_features": 8, "bias": False, "activation_function": "torch.nn.modules.linear.Identity", **names,
    })  # fmt: skip
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(1))
    save_file({"linear.weight": weight}, folder / "1_Dense" / "model.safetensors")
    write(folder / "sentence_bert_config.json", {"max_seq_length": 30, "do_lower_case": False} | KINDS[kind])
    if pylate:
        marks = ("[SEP]", "[D] ") if "own" in kind else ("[Q] ", "[SEP]")  # of the vocabulary, or text
        write(folder / "config_sentence_transformers.json", {
            "model_type": "ColBERT", "prompts": {}, "query_prefix": marks[0], "document_prefix": marks[1], "query_length": 14, "document_length": 22,
            "attend_to_expansion_tokens": "own" in kind, "skiplist_words": list(string.punctuation), "similarity_fn_name": "MaxSim",
        })  # fmt: skip
    else:
        write(folder / "2_Mask" / "config.json", {"skiplist_words": [".", ",", "nothing"], "skiplist_tasks": ["document"]})
        write(folder / "3_Normalize" / "config.json", names)
        write(folder / "config_sentence_transformers.json", {
            "model_type": "MultiVectorEncoder", "prompts": {"query": "a ", "document": "on "}, "similarity_fn_name": "maxsim",
        })  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: make(tmp_path_factory.mktemp("late") / "m", kind) for kind in KINDS}


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_vectors_scores_and_ranks_are_those_of_sentence_transformers(kind: str, folders: dict[str, Path]) -> None:
    from sentence_transformers import MultiVectorEncoder

    theirs, ours = MultiVectorEncoder(str(folders[kind]), device="cpu"), nb.MultiVectorEmbedder(folders[kind])
    with one_thread():
        queries, documents = theirs.encode_query(QUERIES), theirs.encode_document(DOCUMENTS)
        mine, others = ours.queries(QUERIES), ours.documents(DOCUMENTS)
    for expected, found in zip([*queries, *documents], [*mine, *others], strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-6)
    scores = theirs.similarity(queries, documents).numpy()
    np.testing.assert_allclose(ours.similarity(mine, others), scores, rtol=0, atol=1e-5)
    ranks = [[hit["document"] for hit in hits] for hits in ours.rank(mine, others)]
    assert ranks == np.argsort(-scores, axis=1, kind="stable").tolist()


@pytest.mark.filterwarnings("ignore::nativebert.errors.Truncated")
def test_the_same_bits_in_any_company(folders: dict[str, Path]) -> None:
    many = texts(30, 14)
    order = np.random.default_rng(0).permutation(len(many))
    for kind in ("classic", "none"):
        embedder = nb.MultiVectorEmbedder(folders[kind])
        for embed in (embedder.queries, embedder.documents):
            together = embed(many)
            shuffled = embed([many[n] for n in order], batch_tokens=50)
            assert all(np.array_equal(shuffled[at], together[n]) for at, n in enumerate(order))
            assert all(np.array_equal(embed([text])[0], x) for text, x in zip(many, together, strict=True))


def test_scores_do_not_depend_on_the_blocks(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = nb.MultiVectorEmbedder(folders["none"])
    queries, documents = embedder.queries(QUERIES), embedder.documents(texts(30, 8))
    documents.insert(3, np.empty((0, 8), np.float32))  # a text of tokens that are left out
    scores = embedder.similarity(queries, documents)
    expected = [[(q @ d.T).max(1).sum() if len(d) else 0.0 for d in documents] for q in queries]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    hits = embedder.rank(queries, documents, top_k=7)
    monkeypatch.setattr("nativebert.tasks.multivector.SCORES_AT_ONCE", 60)
    np.testing.assert_allclose(embedder.similarity(queries, documents), scores, atol=1e-6)
    again = embedder.rank(queries, documents, top_k=7)
    assert [[hit["document"] for hit in row] for row in again] == [[hit["document"] for hit in row] for row in hits]
    assert [hit["document"] for hit in hits[0]] == np.argsort(-scores[0], kind="stable")[:7].tolist()


def test_windows_of_a_document(folders: dict[str, Path]) -> None:
    embedder = nb.MultiVectorEmbedder(folders["classic"])
    long = "the cat sat on a mat and a dog is deep . " * 4
    (vectors,) = embedder.documents([long], too_long="window", stride=6)
    skipped = [embedder.tokenizer.token_to_id(word) for word in (".", ",")]
    ids = embedder.tokenizer.encode("on " + long).ids
    assert len(vectors) == sum(n not in skipped for n in ids)
    with pytest.warns(nb.errors.Truncated):
        (cut,) = embedder.documents([long])
    np.testing.assert_allclose(vectors[:5], cut[:5], atol=1e-6)  # owned by the first window, which is the cut text
    with pytest.raises(RefusedError, match="not read in windows"):
        embedder.queries([long], too_long="window")


def test_options_and_files(folders: dict[str, Path], tmp_path: Path) -> None:
    embedder = nb.MultiVectorEmbedder(folders["classic"])
    (by_name,), (by_text,) = embedder.documents(["a cat"], prompt_name="query"), embedder.documents(["a cat"], prompt="a ")
    assert np.array_equal(by_name, by_text)
    assert np.array_equal(pickle.loads(pickle.dumps(embedder)).queries(QUERIES)[1], embedder.queries(QUERIES)[1])
    assert embedder([]) == []
    assert embedder.queries(QUERIES, return_report=True)[1].tokens.tolist()
    with pytest.raises(BadInputError, match="kind must be"):
        embedder(["x"], kind="passage")
    with pytest.raises(BadInputError, match=r"shape \(tokens, 8\)"):
        embedder.similarity([np.zeros((2, 7), np.float32)], [])
    with pytest.raises(RefusedError, match="float32"):
        nb.MultiVectorEmbedder(folders["classic"], precision="int8")
    with pytest.raises(BadInputError, match="folder or a name"):
        nb.MultiVectorEmbedder(nb.load(folders["none"]).bare())
    with pytest.raises(RefusedError, match="model_type is None"):
        nb.MultiVectorEmbedder(write_folder(tmp_path / "plain", BERT))
    with pytest.raises(RefusedError, match="MultiVectorEncoder"):
        nb.Embedder(folders["none"])
    other = make(tmp_path / "other", "none")
    write(other / "2_Mask" / "config.json", {"keep_only_token_ids": [3]})
    with pytest.raises(RefusedError, match="keep_only_token_ids"):
        nb.MultiVectorEmbedder(other)
    modules = json.loads((other / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.multi_vector_encoder.modules.token_pooling.HierarchicalTokenPooling"
    write(other / "modules.json", modules)
    with pytest.raises(RefusedError, match="HierarchicalTokenPooling as module 2"):
        nb.MultiVectorEmbedder(other)


@pytest.mark.filterwarnings("ignore")
def test_the_page(folders: dict[str, Path], tmp_path: Path) -> None:
    """docs/tasks/sparse.md, with small models in place of those that it names."""
    from test_static import make as make_static

    pytest.importorskip("transformers")
    sparse = write_folder(tmp_path / "sparse", BERT)
    Made("bert", "ForMaskedLM").model(vocab_size=BERT["vocab_size"]).save_pretrained(sparse)
    page = (Path(__file__).parents[2] / "docs" / "tasks" / "sparse.md").read_text("utf-8")
    names = {
        "naver/splade-cocondenser-ensembledistil": sparse,
        "lightonai/GTE-ModernColBERT-v1": folders["none"],
        "potion-base-8M": make_static(tmp_path / "static", "model2vec"),
    }
    for name, folder in names.items():
        assert f'"{name}"' in page
        page = page.replace(name, str(folder))
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3
    scope: dict[str, Any] = {}
    for block in blocks:
        exec(block, scope)
    assert scope["embed"](["a cat"]).shape == (1, 6)


def test_on_the_command_line(folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from nativebert import cli

    (tmp_path / "texts.txt").write_text("\n".join(["the cat", "dogs!", "deep learning"]))
    given = ["the cat", "dogs!", "deep learning"]
    embed = ["embed", str(tmp_path / "texts.txt"), "-m", str(folders["none"]), "--device", "cpu", "-o"]
    embedder = nb.MultiVectorEmbedder(folders["none"], device="cpu")
    assert cli.main([*embed, str(tmp_path / "v.npz")]) == 0
    documents, queries = embedder.documents(given), embedder.queries(given)
    assert f"{sum(map(len, documents))} vectors in" in capsys.readouterr().out
    with np.load(tmp_path / "v.npz") as found:
        parts = np.split(found["vectors"], found["offsets"][1:-1])
    assert all(np.array_equal(part, vectors) for part, vectors in zip(parts, documents, strict=True))
    assert cli.main([*embed, str(tmp_path / "v.jsonl"), "--as", "query", "--quiet"]) == 0
    records = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert all(np.array_equal(np.array(r["vectors"], np.float32), vectors) for r, vectors in zip(records, queries, strict=True))
    assert cli.main([*embed, str(tmp_path / "v.csv"), "--quiet"]) == 0
    lines = (tmp_path / "v.csv").read_text().splitlines()
    assert lines[0] == "item,text,token,d1,d2,d3,d4,d5,d6,d7,d8"
    assert len(lines) - 1 == sum(map(len, documents))
    assert cli.main([*embed, str(tmp_path / "v.npz"), "--top-k", "3"]) == 2
    assert "--top-k means nothing for vectors of tokens" in capsys.readouterr().err
