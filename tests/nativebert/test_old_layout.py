"""Old sentence-transformers folders, which keep the encoder's files in one of its own: ``0_Transformer``."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import HubServer
from models import minilm

import nativebert as nb
from nativebert import cli, hf
from nativebert.errors import NotFoundError, RefusedError
from nativebert.hub import resolve

TEXTS = ["The ferry leaves at half past nine.", "Rain.", ""]
INSIDE = "0_Transformer"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """MiniLM as it was laid out in 2021: no config.json, no normalisation, the encoder in a folder."""
    folder = tmp_path / "old"
    shutil.copytree(minilm() / "1_Pooling", folder / "1_Pooling")
    (folder / INSIDE).mkdir()
    for file in minilm().iterdir():
        if file.is_file() and file.name not in ("modules.json", "config_sentence_transformers.json", "README.md"):
            shutil.copyfile(file, folder / INSIDE / file.name)
    kinds = {INSIDE: "Transformer", "1_Pooling": "Pooling"}
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


@pytest.fixture
def expected() -> np.ndarray:
    found: np.ndarray = nb.Embedder("all-MiniLM-L6-v2", device="cpu", normalize=False)(TEXTS)
    return found


def vectors(folder: Path) -> np.ndarray:
    task = nb.Embedder(folder, device="cpu")
    assert task.max_tokens == 256  # of its sentence_bert_config.json
    found: np.ndarray = task(TEXTS)
    return found


def test_it_is_read(old: Path, expected: np.ndarray) -> None:
    task = nb.Embedder(old, device="cpu")
    for one in (task, pickle.loads(pickle.dumps(task))):
        assert np.array_equal(one(TEXTS), expected)
    assert np.array_equal(hf.SentenceTransformer(str(old), device="cpu").encode(TEXTS), expected)
    assert nb.load(old).tokenizer.encode("Rain.").tokens == ["[CLS]", "rain", ".", "[SEP]"]
    assert hf.AutoTokenizer.from_pretrained(old)("Rain.")["input_ids"] == [101, 4542, 1012, 102]


@pytest.mark.reference
def test_it_is_saved_as_it_was(old: Path, expected: np.ndarray, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    nb.load(old).save(tmp_path / "a")
    weights = f"{INSIDE}/model.safetensors"
    assert (tmp_path / "a" / weights).read_bytes() == (old / weights).read_bytes()
    assert not (tmp_path / "a" / "model.safetensors").exists()
    door = hf.SentenceTransformer(str(old), device="cpu")
    door.max_seq_length = 128
    door.save_pretrained(str(tmp_path / "b"))
    assert nb.Embedder(tmp_path / "b", device="cpu").max_tokens == 128
    for folder in (old, tmp_path / "a", tmp_path / "b"):
        theirs = SentenceTransformer(str(folder), device="cpu")
        np.testing.assert_allclose(theirs.encode(TEXTS), expected, rtol=0, atol=1e-5)
    assert np.array_equal(vectors(tmp_path / "a"), expected)


def test_changed_weights_are_saved(old: Path, expected: np.ndarray, tmp_path: Path) -> None:
    model = nb.load(old)
    with torch.no_grad():
        model.embed.token.weight *= 1.5
    changed = nb.Embedder(model, device="cpu")(TEXTS)
    assert not np.array_equal(changed, expected)
    model.save(tmp_path / "a")
    assert np.array_equal(vectors(tmp_path / "a"), changed)


def test_from_the_hub(old: Path, expected: np.ndarray, hub: HubServer) -> None:
    names = [path.relative_to(old).as_posix() for path in old.rglob("*") if path.is_file()]
    hub.add("owner/old", {name: (old / name).read_bytes() for name in names})
    assert np.array_equal(nb.Embedder("owner/old", device="cpu")(TEXTS), expected)
    assert f"{INSIDE}/model.safetensors" in hub.fetched
    assert np.array_equal(nb.Embedder(resolve("owner/old", offline=True), device="cpu")(TEXTS), expected)


def test_on_the_command_line(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(old)]) == 0
    (tmp_path / "t.txt").write_text("Rain.\n")
    assert cli.main(["embed", str(tmp_path / "t.txt"), "-m", str(old), "--device", "cpu", "-o", str(tmp_path / "v.npy")]) == 0
    assert "1 x 384" in capsys.readouterr().out


def test_what_is_missing_there(old: Path) -> None:
    (old / INSIDE / "model.safetensors").rename(old / INSIDE / "pytorch_model.bin")
    with pytest.raises(RefusedError, match=r"pytorch_model\.bin"):
        nb.Embedder(old)
    (old / INSIDE / "pytorch_model.bin").unlink()
    with pytest.raises(NotFoundError, match=f"{INSIDE} has no weights"):
        nb.Embedder(old)
    (old / INSIDE / "config.json").unlink()
    with pytest.raises(NotFoundError, match=r"no config\.json"):
        nb.Embedder(old)
