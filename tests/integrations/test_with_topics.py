"""The backends in BERTopic and KeyBERT."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import minilm, one_thread

import nativebert as nb

DOCS = [
    f"{who} {does} {what}"
    for who in ("my cat", "a dog", "the hamster")
    for does in ("eats", "sees")
    for what in ("food", "a toy", "a ball", "the bed")
]
DOCS += [
    f"{who} {does} {when}"
    for who in ("stocks", "bonds", "the market")
    for does in ("fell", "rose")
    for when in ("today", "on Monday", "again", "in May")
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def embed() -> nb.Embedder:
    return nb.Embedder(minilm(), device="cpu")


def test_keybert_takes_this_model(embed: nb.Embedder) -> None:
    keybert = pytest.importorskip("keybert")
    from keybert.backend._utils import select_backend

    from nativebert.integrations.keybert import NativeBertBackend

    backend = NativeBertBackend(embed)
    assert select_backend(backend) is backend
    assert np.array_equal(backend.embed(DOCS), embed(DOCS))
    text = "Supervised learning is the machine learning task of learning a function that maps an input to an output."
    found = keybert.KeyBERT(model=backend).extract_keywords(text, top_n=3)
    for word, score in found:
        a, b = embed([text, word])
        assert score == pytest.approx(float(a @ b), abs=1e-3)
    several = keybert.KeyBERT(model=backend).extract_keywords([text, "Cats sleep all day long."], use_mmr=True)
    assert len(several) == 2
    flat = keybert.KeyBERT(model=NativeBertBackend(minilm(), device="cpu", truncate_dim=8))
    assert flat.extract_embeddings([text])[0].shape == (1, 8)


@pytest.fixture(scope="module")
def topics(embed: nb.Embedder) -> Any:
    bertopic = pytest.importorskip("bertopic")
    from nativebert.integrations.bertopic import NativeBertBackend

    model = bertopic.BERTopic(embedding_model=NativeBertBackend(embed), min_topic_size=8)
    model.fit_transform(DOCS)
    return model


def test_bertopic_takes_this_model(topics: Any, embed: nb.Embedder) -> None:
    from bertopic.backend._utils import select_backend

    backend = topics.embedding_model
    assert select_backend(backend) is backend
    assert backend.embedding_model is embed
    for kind in ("document", "word"):
        assert np.array_equal(topics._extract_embeddings(DOCS, method=kind), embed(DOCS))
    halves = topics.topics_[: len(DOCS) // 2], topics.topics_[len(DOCS) // 2 :]
    assert not set(halves[0]) & set(halves[1]), "animals and markets are different topics"
    found, _ = topics.find_topics("finance and money", top_n=1)
    assert found[0] in halves[1]


def test_topics_are_kept(topics: Any, tmp_path: Path) -> None:
    import bertopic

    from nativebert.integrations.bertopic import NativeBertBackend

    topics.save(str(tmp_path / "pickled"), serialization="pickle")
    assert (tmp_path / "pickled").stat().st_size < 20_000_000, "without the weights"
    again = bertopic.BERTopic.load(str(tmp_path / "pickled"))
    assert np.array_equal(again.embedding_model.embed(DOCS), topics.embedding_model.embed(DOCS))
    assert list(again.transform(DOCS[:5])[0]) == list(topics.transform(DOCS[:5])[0])
    topics.save(str(tmp_path / "folder"), serialization="safetensors", save_embedding_model=False)
    again = bertopic.BERTopic.load(str(tmp_path / "folder"), embedding_model=NativeBertBackend(minilm(), device="cpu"))
    assert len(again.transform(DOCS[:5])[0]) == 5


def test_bertopic_represents_topics_with_it(embed: nb.Embedder) -> None:
    bertopic = pytest.importorskip("bertopic")
    from bertopic.representation import KeyBERTInspired

    from nativebert.integrations.bertopic import NativeBertBackend

    model = bertopic.BERTopic(
        embedding_model=NativeBertBackend(embed), min_topic_size=8, representation_model=KeyBERTInspired()
    )
    model.fit_transform(DOCS, embeddings=embed(DOCS))
    assert len(model.get_topics()) >= 2
