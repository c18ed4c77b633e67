"""Embeddings and the reranker in LangChain."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hf_checkpoints import make
from models import minilm, one_thread

import nativebert as nb
from nativebert.errors import BadInputError, RefusedError

pytest.importorskip("langchain_core")

from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

from nativebert.integrations.langchain import NativeBertEmbeddings, NativeBertReranker

TEXTS = ["A cat sat on the mat.", "The market fell on Monday.", "Dogs bark at night.", ""]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    pytest.importorskip("transformers")
    return make(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def embed() -> nb.Embedder:
    return nb.Embedder(minilm(), device="cpu")


def test_vectors_are_the_embedders(embed: nb.Embedder) -> None:
    expected = embed(TEXTS).tolist()
    for made in (NativeBertEmbeddings(embed), NativeBertEmbeddings(str(minilm()), device="cpu")):
        assert isinstance(made, Embeddings)
        assert made.embed_documents(TEXTS) == expected
        assert made.embed_documents([]) == []
        assert [made.embed_query(text) for text in TEXTS] == expected
        assert asyncio.run(made.aembed_documents(TEXTS)) == expected
        assert asyncio.run(made.aembed_query(TEXTS[1])) == expected[1]
    assert len(NativeBertEmbeddings(minilm(), truncate_dim=5).embed_query("a")) == 5
    assert all(type(x) is float for x in made.embed_query("a"))


@pytest.mark.parametrize(
    ("prompts", "query", "document"),
    [
        ({}, "", ""),
        ({"query": "q: "}, "q: ", ""),
        ({"query": "q: ", "passage": "p: "}, "q: ", "p: "),
        ({"corpus": "c: ", "passage": "p: "}, "", "p: "),
        ({"document": "d: ", "passage": "p: ", "other": "o: "}, "", "d: "),
    ],
)
@pytest.mark.parametrize("default", [None, "other"])
def test_prompts(tmp_path: Path, prompts: dict[str, str], query: str, document: str, default: str | None) -> None:
    folder = shutil.copytree(minilm(), tmp_path / "m")
    said = {"prompts": {"other": "o: ", **prompts}, "default_prompt_name": default}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(said))
    embed = nb.Embedder(folder, device="cpu")
    made = NativeBertEmbeddings(embed)
    assert made.embed_query("a") == embed("a", prompt=query)[0].tolist()
    assert made.embed_documents(["a"]) == embed("a", prompt=document).tolist()
    own = NativeBertEmbeddings(embed, query_prompt="Q: ", document_prompt="")
    assert own.embed_query("a") == embed("a", prompt="Q: ")[0].tolist()
    assert own.embed_documents(["a"]) == embed("a", prompt="").tolist()


def test_a_store_finds(embed: nb.Embedder) -> None:
    store = InMemoryVectorStore.from_texts(TEXTS, NativeBertEmbeddings(embed))
    found = store.similarity_search_with_score("kittens", k=2)
    assert found[0][0].page_content == TEXTS[0]
    assert found[0][1] == pytest.approx(float(embed.similarity(embed("kittens"), embed(TEXTS[0]))[0, 0]), abs=1e-6)
    assert [document.page_content for document in store.as_retriever(search_kwargs={"k": 1}).invoke("stocks")] == [TEXTS[1]]


def test_reranking(models: dict[str, str]) -> None:
    rank = nb.Ranker(models["cross"], device="cpu")
    documents = [Document(page_content=text, metadata={"n": n}, id=str(n)) for n, text in enumerate(TEXTS)]
    expected = rank.rank("kittens", TEXTS)
    for made in (NativeBertReranker(model=rank), NativeBertReranker(model=models["cross"], options={"device": "cpu"})):
        assert isinstance(made, BaseDocumentCompressor)
        found = made.compress_documents(documents, "kittens")
        assert [d.page_content for d in found] == [one["text"] for one in expected]
        assert [d.metadata for d in found] == [{"n": one["index"], "relevance_score": one["score"]} for one in expected]
        assert [d.id for d in found] == [str(one["index"]) for one in expected]
        assert asyncio.run(made.acompress_documents(documents, "kittens")) == found
        assert made.compress_documents([], "kittens") == []
    assert [d.metadata for d in documents] == [{"n": n} for n in range(4)], "the documents that came in stay as they are"
    assert NativeBertReranker(model=rank, top_n=2).compress_documents(documents, "kittens") == found[:2]


def test_what_is_wrong_is_told(models: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        NativeBertReranker(model=models["cross"], top_n=0)
    with pytest.raises(ValueError, match="device: given with Ranker that is made already"):
        NativeBertReranker(model=nb.Ranker(models["cross"], device="cpu"), options={"device": "cpu"})
    with pytest.raises(RefusedError, match="3 outputs for each pair"):
        NativeBertReranker(model=models["nli"]).compress_documents([Document(page_content="a")], "b")
    with pytest.raises(BadInputError, match="text 0 is"):
        NativeBertEmbeddings(minilm()).embed_documents([None])  # type: ignore[list-item]
