"""States that are not finite make no result: every task refuses them, names the text, and says which precision to take."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import every_task
import numpy as np
import pytest
import torch
from every_task import QUESTION, TASKS, TEXTS
from hf_checkpoints import make

import nativebert as nb
from nativebert import cli, hf, kernels
from nativebert.errors import NotFiniteError

Folders = dict[str, str]

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Tiny models of which a text that says "rain" overflows float16, and any text without it does not."""
    found = make(tmp_path_factory.mktemp("models"))
    found["minilm"] = found["bert"]
    for folder in set(found.values()):
        spoil(Path(folder), 2e6)
    return found


def spoil(folder: Path, size: float) -> None:
    """Of "rain", and of no other token, one state between the layers is ``size``."""
    model = nb.load(folder)
    rain, one, other = model.tokenizer.vocab["rain"], 5, 3
    with torch.no_grad():
        # after its norm, a state of "rain" stands out
        for table in filter(None, (model.embed.token, model.embed.position, model.embed.segment)):
            table.weight[:, one] = 0
        model.embed.token.weight[rain, one] = 100
        block = next(iter(model.blocks()))
        for norm in (model.embed.norm, block.attn_norm):
            norm.weight.fill_(1)
            norm.bias.zero_()
        block.attn.o.weight.zero_()
        block.attn.o.bias.zero_()
        # an inner unit that is about 100 for it, and 0 for all others
        up, down = block.mlp.up, block.mlp.down
        up.weight[0], up.bias[0] = 0, -4000
        up.weight[0, one] = 4100 / (len(up.weight[0]) - 1) ** 0.5
        down.weight[:, 0], down.weight[other, 0] = 0, size / 100
    model.save(folder)


def ask(task: Any, name: str, texts: list[str]) -> Any:
    if name == "answer":
        return task([QUESTION] * len(texts), texts)
    if name == "rank":
        return task([(QUESTION, text) for text in texts])
    if name == "choose":
        return task(texts, ["travel", "weather"])
    return task([f"{text} [MASK]" for text in texts] if name == "fill" else texts)


DRY = ["The ferry leaves at nine.", "A cat."]


@pytest.mark.parametrize("name", TASKS)
def test_every_task_in_float16(name: str, folders: Folders) -> None:
    task = every_task.native(folders, "float16", (name,))[name].made
    ask(task, name, DRY)
    with pytest.raises(NotFiniteError, match=r"(text|pair|question) 2 .*float16 overflows.*choose bfloat16.* or float32"):
        ask(task, name, [*DRY, "it will rain today"])
    for precision in ("bfloat16", "float32", "int8"):
        ask(every_task.native(folders, precision, (name,))[name].made, name, [*DRY, "it will rain today"])


def test_which_text_of_many(folders: Folders) -> None:
    task = nb.Classifier(folders["sentiment"], device="cpu", precision="float16", batch_tokens=64)
    texts = ["a dry day " * (n % 5 + 1) for n in range(300)]
    texts[271] = "rain"
    with pytest.raises(NotFiniteError, match="text 271 in float16"):
        task(texts)
    texts[13] = "rain " * 30
    with pytest.raises(NotFiniteError, match="text 13 "):
        nb.Embedder(folders["bert"], device="cpu", precision="float16", pooling="mean", too_long="window", max_tokens=8)(texts)


def test_states_and_words(folders: Folders) -> None:
    task = nb.Embedder(folders["bert"], device="cpu", precision="float16", pooling=("max", "cls"))
    for call in (task, task.tokens, task.words):
        with pytest.raises(NotFiniteError, match="text 1 "):
            call(["dry", "rain"])


@pytest.mark.parametrize("with_kernels", [True, False], ids=["kernels", "torch"])
@pytest.mark.parametrize("precision", ["float32", "int8", "bfloat16"])
def test_beyond_every_precision(
    precision: str, with_kernels: bool, folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kernels.VARIABLE, "" if with_kernels else "0")
    shutil.copytree(folders["bert"], tmp_path / "m")
    spoil(tmp_path / "m", 1e40)
    for pooling in ("mean", "max", "cls"):
        task = nb.Embedder(tmp_path / "m", device="cpu", precision=precision, pooling=pooling)
        assert np.isfinite(task(DRY)).all()
        with pytest.raises(NotFiniteError, match="no precision is wider" if precision == "float32" else "choose float32"):
            task([*DRY, "rain"])


def test_a_head_that_overflows(folders: Folders, tmp_path: Path) -> None:
    shutil.copytree(folders["sentiment"], tmp_path / "m")
    model = nb.load(tmp_path / "m")
    spec = model.config.heads["classify"]
    with torch.no_grad():
        model.head.get_submodule(f"{spec.name}.{spec.last}").weight.fill_(3e38)
    with pytest.raises(NotFiniteError, match="head"):
        nb.Classifier(model, device="cpu")(DRY)


def test_the_door_and_the_command_line(folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = hf.pipeline("text-classification", folders["sentiment"], device="cpu", dtype=torch.float16)
    with pytest.raises(NotFiniteError, match="text 1"):
        pipe(["dry", "rain"])
    with pytest.raises(NotFiniteError, match="text 1"):
        hf.pipeline("feature-extraction", folders["bert"], device="cpu", dtype="float16")(["dry", "rain"])
    (tmp_path / "t.txt").write_text("dry\nrain\n")
    code = cli.main(
        ["classify", str(tmp_path / "t.txt"), "-m", folders["sentiment"], "--device", "cpu", "--precision", "float16"]
    )
    shown = capsys.readouterr()
    assert code != 0
    assert "NaN" not in shown.out
    assert "text 1" in shown.err


def test_texts_are_all_right_where_nothing_overflows(folders: Folders) -> None:
    assert len(nb.Classifier(folders["sentiment"], device="cpu", precision="float16")(TEXTS[:1])) == 1
