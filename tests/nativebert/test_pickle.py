"""Tasks, and the objects of nativebert.hf, pickled and copied: the same bits, and small where the model has files."""

from __future__ import annotations

import copy
import io
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import every_task
import numpy as np
import pytest
import torch
from every_task import TASKS, same
from hf_checkpoints import make

import nativebert as nb
from nativebert import hf, kernels
from nativebert.hub import Snapshot

Folders = dict[str, str]
SMALL = 10_000  # bytes

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return make(tmp_path_factory.mktemp("models"))


def pickled(x: Any) -> Any:
    return pickle.loads(pickle.dumps(x))


def saved(x: Any) -> Any:
    """By torch, which pickles with storages of its own."""
    file = io.BytesIO()
    torch.save(x, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": pickled,
    "old pickle": lambda x: pickle.loads(pickle.dumps(x, protocol=2)),
    "torch.save": saved,
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.parametrize("with_kernels", [True, False], ids=["kernels", "torch"])
@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("name", TASKS)
def test_tasks(name: str, precision: str, with_kernels: bool, folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.VARIABLE, "" if with_kernels else "0")
    task = every_task.native(folders, precision, (name,))[name]
    assert len(pickle.dumps(task.made)) < SMALL
    expected = task.result()
    for way, make_twin in WAYS.items():
        twin = make_twin(task.made)
        assert type(twin) is type(task.made)
        assert repr(twin) == repr(task.made)
        assert same(task.result(twin), expected), way


@pytest.mark.parametrize("name", every_task.DOOR)
def test_the_door(name: str, folders: Folders) -> None:
    one = every_task.door(folders, (name,))[name]
    expected = one.result()
    assert name == "AutoTokenizer" or len(pickle.dumps(one.made)) < SMALL
    for way, make_twin in WAYS.items():
        assert same(one.result(make_twin(one.made)), expected), way


def test_settings_travel(folders: Folders) -> None:
    task = nb.Embedder(
        folders["bert"],
        device="cpu",
        pooling=("max", "cls"),
        normalize=True,
        truncate_dim=40,
        max_tokens=24,
        too_long="window",
        stride=6,
    )
    twin = pickled(task)
    assert (twin.pooling, twin.max_tokens, twin.too_long, twin.stride) == (("max", "cls"), 24, "window", 6)
    assert twin.dimension == 40
    assert same(twin(every_task.TEXTS), task(every_task.TEXTS))
    assert twin.options == task.options


def test_a_model_in_memory_travels_with_its_weights(folders: Folders, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    shutil.copytree(folders["bert"], folder)
    model = nb.load(folder)
    with torch.no_grad():
        model.embed.token.weight += 0.5
    task = nb.Embedder(model, device="cpu", pooling="mean")
    expected, data = task(every_task.TEXTS), pickle.dumps(task)
    assert len(data) > model.embed.token.weight.nbytes
    shutil.rmtree(folder)
    twin = pickle.loads(data)
    assert same(twin(every_task.TEXTS), expected)
    assert same(pickled(twin)(every_task.TEXTS), expected)  # and on to the next process


def test_an_untouched_model_travels_as_its_files(folders: Folders) -> None:
    model = nb.load(folders["sentiment"])
    task = nb.Classifier(model, device="cpu")
    expected, before = task(every_task.TEXTS), len(pickle.dumps(task))
    with torch.no_grad():
        model.embed.token.weight[7] *= 2
    with pytest.raises(nb.NativeBertError, match="changed since the task was made"):
        pickle.dumps(task)
    with torch.no_grad():
        model.embed.token.weight[7] /= 2
    assert len(pickle.dumps(task)) == before
    assert same(pickled(task)(every_task.TEXTS), expected)
    assert before < model.embed.token.weight.nbytes / 2


def test_a_model_by_itself_is_pickled_with_its_weights(folders: Folders) -> None:
    model = nb.load(folders["bert"])
    data = pickle.dumps(model)
    assert len(data) > sum(p.nbytes for p in model.parameters())
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(pickle.loads(data)(ids).last_hidden_state, model(ids).last_hidden_state)


@pytest.mark.parametrize("what", ["weights", "config"])
def test_files_that_changed_meanwhile(what: str, folders: Folders, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        shutil.copytree(folders["bert"], tmp_path / folder)
    data = pickle.dumps(nb.Embedder(tmp_path / "a", device="cpu", pooling="mean"))
    if what == "weights":
        model = nb.load(tmp_path / "b")
        with torch.no_grad():
            for p in model.parameters():
                p *= 1.5
        model.save(tmp_path / "b")
        shutil.copyfile(tmp_path / "b" / "model.safetensors", tmp_path / "a" / "model.safetensors")
    else:
        config = tmp_path / "a" / "config.json"
        config.write_text(config.read_text().replace('"gelu"', '"gelu_new"'))
    with pytest.raises(nb.NativeBertError, match=r"make the (model or )?task again"):
        pickle.loads(data)
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(nb.NativeBertError, match="a"):
        pickle.loads(data)


def test_a_model_of_the_hub_is_looked_for_at_its_commit(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine, whose cache is elsewhere."""
    shutil.copytree(folders["bert"], tmp_path / "cache")
    here = Snapshot("owner/name@main", tmp_path / "cache", "owner/name", "a" * 40, "hub")
    data = pickle.dumps(nb.Embedder(here, device="cpu", pooling="mean"))
    (tmp_path / "cache").rename(tmp_path / "other")
    asked = []

    def resolve(reference: str, *, revision: str | None, base: str | None) -> Snapshot:
        assert base is None
        asked.append((reference, revision))
        return Snapshot(reference, tmp_path / "other", "owner/name", revision, "hub")

    monkeypatch.setattr("nativebert.pickling.open_snapshot", resolve)
    twin = pickle.loads(data)
    assert asked == [("owner/name", "a" * 40)]
    assert twin.reference == "owner/name@main"
    assert twin(["Rain."]).shape == (1, 32)


def test_subclasses(folders: Folders) -> None:
    twin = pickled(Loud(folders["minilm"], device="cpu"))
    assert type(twin) is Loud
    assert np.array_equal(twin(["Rain."]), nb.Embedder(folders["minilm"], device="cpu")(["RAIN."]))


class Loud(nb.Embedder):
    def __call__(self, texts: Any, **options: Any) -> Any:
        return super().__call__([text.upper() for text in texts], **options)


def test_pipelines_with_other_labels_and_tokenizers(folders: Folders) -> None:
    model = hf.AutoModelForSequenceClassification.from_pretrained(folders["sentiment"], id2label={0: "bad", 1: "good"})
    pipe = hf.pipeline("text-classification", model, tokenizer=folders["bert"], device="cpu")
    expected = pipe(every_task.TEXTS)
    twin = pickled(pipe)
    assert twin(every_task.TEXTS) == expected
    assert {one["label"] for one in expected} <= {"bad", "good"}


@pytest.mark.parametrize("with_kernels", [True, False], ids=["kernels", "torch"])
def test_a_model_that_is_trained_on_does_not_change_its_tasks(
    with_kernels: bool, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kernels.VARIABLE, "" if with_kernels else "0")
    for name in ("sentiment", "bert"):
        model = nb.load(folders[name])
        task = nb.Embedder(model, device="cpu", pooling="mean")
        expected = task(every_task.TEXTS)
        with torch.no_grad():
            for number, p in enumerate(model.parameters()):
                p.add_(torch.arange(p.numel()).view_as(p) % (number + 3))
        assert same(task(["Oslo and Bergen.", *every_task.TEXTS])[1:], expected)
        assert not same(nb.Embedder(model, device="cpu", pooling="mean")(every_task.TEXTS), expected)
