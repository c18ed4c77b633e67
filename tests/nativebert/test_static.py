"""Static models: what sentence-transformers' StaticEmbedding gives for folders of its own and of model2vec."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from models import BERT, VOCAB, texts, write_folder
from safetensors.torch import save_file

import nativebert as nb
from nativebert.errors import BadInputError, CorruptError, NotFoundError, RefusedError

TABLE = torch.randn(len(VOCAB), 6, generator=torch.Generator().manual_seed(0))
MAPPING = torch.arange(len(VOCAB)).flip(0)
WEIGHTS = torch.rand(len(VOCAB), generator=torch.Generator().manual_seed(1))
FILES = {
    "model2vec": {"embeddings": TABLE},
    "quantised": {"embeddings": TABLE.half(), "mapping": MAPPING, "weights": WEIGHTS},
    "own": {"embedding.weight": TABLE},
}


def make(folder: Path, kind: str) -> Path:
    """A folder with a tokenizer.json, as these models have."""
    inner = folder / "0_StaticEmbedding" if kind == "own" else folder
    core = nb.Tokenizer.from_folder(write_folder(folder / "made", BERT)).backend
    inner.mkdir(parents=True, exist_ok=True)
    core.save(str(inner / "tokenizer.json"))
    for file in (folder / "made").iterdir():
        file.unlink()
    (folder / "made").rmdir()
    save_file({name: t.contiguous() for name, t in FILES[kind].items()}, inner / "model.safetensors")
    modules = [
        {
            "idx": 0,
            "name": "0",
            "path": "0_StaticEmbedding" if kind == "own" else ".",
            "type": "sentence_transformers.models.StaticEmbedding",
        }
    ]
    if kind != "own":
        (folder / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}))
        modules.append({"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"})
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FILES)
def test_vectors_are_those_of_sentence_transformers(kind: str, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder, many = make(tmp_path, kind), [*texts(50, 12), "", "nothing of it ~~~"]
    theirs, ours = SentenceTransformer(str(folder), device="cpu"), nb.StaticEmbedder(folder)
    assert (ours.dimension, ours.normalize) == (6, kind != "own")
    np.testing.assert_allclose(ours(many), theirs.encode(many), rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours(many, prompt="the "), theirs.encode(many, prompt="the "), rtol=0, atol=1e-6)
    assert np.array_equal(ours(many[7])[0], ours(many)[7])


@pytest.mark.filterwarnings("ignore")
def test_what_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", "model2vec")
    unnormed = nb.StaticEmbedder(folder, normalize=False)
    assert np.abs(np.linalg.norm(unnormed(["the cat"])) - 1) > 1e-3
    (folder / "modules.json").unlink()
    assert nb.StaticEmbedder(folder).normalize
    with pytest.raises(BadInputError, match="is a int"):
        unnormed([3])
    save_file({"embeddings": TABLE[:5].contiguous()}, folder / "model.safetensors")
    with pytest.raises(CorruptError, match="5 vectors for a vocabulary"):
        nb.StaticEmbedder(folder)
    save_file({"embeddings": TABLE, "mapping": MAPPING + 1}, folder / "model.safetensors")
    with pytest.raises(CorruptError, match="not there"):
        nb.StaticEmbedder(folder)
    save_file({"embeddings": TABLE, "other": TABLE.clone()}, folder / "model.safetensors")
    with pytest.raises(CorruptError, match="a static model has"):
        nb.StaticEmbedder(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(NotFoundError, match="keeps its vectors"):
        nb.StaticEmbedder(folder)
    with pytest.raises(RefusedError, match="not a static model"):
        nb.StaticEmbedder(write_folder(tmp_path / "bert", BERT))
    with pytest.raises(NotFoundError, match="not a folder"):
        nb.StaticEmbedder(tmp_path / "nowhere")
    (folder / "modules.json").write_text(json.dumps([{"type": "a.StaticEmbedding", "path": "../.."}]))
    with pytest.raises(RefusedError, match="out of the folder"):
        nb.StaticEmbedder(folder)
    (folder / "modules.json").write_text(json.dumps([{"type": "a.Transformer", "path": ""}]))
    with pytest.raises(RefusedError, match="Use Embedder"):
        nb.StaticEmbedder(folder)
