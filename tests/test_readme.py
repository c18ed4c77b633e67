"""README.md and the guides in docs/: their Python blocks run, and so do the commands of README.md and docs/cli.md.

The blocks of a page run in order, as one program. A stand-in for the Hub serves tiny models with random weights under the names that the
pages use; all-MiniLM-L6-v2 is the real one. A failure names the page and the line. Not run here: the pages of OTHERS, which tests of their own run; R, which
tests/r/test-docs.R runs (README.md, docs/r.md, docs/hf.md) and `make test-r` (docs/r-vignette.md); torchrun (docs/training.md), which
tests/nativebert/train/test_distributed.py starts; and what NOT_RUN names.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from hf_checkpoints import make
from hub_server import HubServer
from models import one_thread
from safetensors.torch import load_file, save_file

from nativebert import cli
from weights_map.__main__ import main as weights_map

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore::nativebert.errors.NativeBertWarning")]

ROOT = Path(__file__).parents[1]
OTHERS = {
    "docs/integrations.md": "tests/integrations/test_recipes.py", "docs/adding-a-family.md": "test_adding_a_family.py",
    "docs/scale.md": "tests/integrations/test_scale.py", "docs/tasks/sparse.md": "test_multivector.py",
}  # fmt: skip
# Names on the Hub -> the tiny model of hf_checkpoints that stands in.
HUB = {
    "distilbert-base-uncased-finetuned-sst-2-english": "sentiment",
    "distilbert/distilbert-base-uncased-finetuned-sst-2-english": "sentiment",
    "dslim/bert-base-NER": "ner",
    "distilbert-base-cased-distilled-squad": "qa",
    "distilbert/distilbert-base-cased-distilled-squad": "qa",
    "bert-base-uncased": "mlm",
    "google-bert/bert-base-uncased": "mlm",
    "cross-encoder/ms-marco-MiniLM-L-6-v2": "cross",
    "cross-encoder/ms-marco-MiniLM-L6-v2": "cross",
    "cross-encoder/nli-distilroberta-base": "nli",
    "typeform/distilbert-base-uncased-mnli": "nli",
}
# A command's MODEL; elsewhere it is all-MiniLM-L6-v2.
MODEL = {"classify": "sentiment", "tag": "ner", "answer": "qa", "fill": "mlm", "rank": "cross", "attention": "bert"}
NOT_RUN = {
    "pip": "installs: .ci/run does it, through make",
    "conda": "installs",
    "docker": "needs a daemon: docs/releasing.md lists it as not run",
    "make": "builds its own environment: .ci/run does it",
    "nativebert bench": "measures for minutes: test_bench.py runs the command",
    "nativebert invariance": "compares for minutes: test_invariance.py runs the command",
    "nativebert serve": "serves until it is stopped: test_serve.py runs the command",
    "nativebert COMMAND": "no command",
    "python -m nativebert COMMAND": "no command",
}
# What the pages leave to the reader: variables, and files of a working folder.
VARIABLES = """
texts = documents = ["A cat sat on the mat.", "The market fell on Monday.", "Dogs bark at night.", "It rained all day."]
topics = ["pets", "markets", "pets", "weather"]
labels = ["weather", "money"]
"""
FILES = {
    "reviews.csv": "text,review,stars\n" + "".join(f"Text {n}.,Review number {n} of a film.,{n % 3}\n" for n in range(24)),
    "rated.csv": "text,label\nA film.,NEGATIVE\nAnother film.,POSITIVE\n",
    "faq.csv": "question,answer\nWhen does it leave?,At nine.\nWho wrote it?,Ada did.\n",
    "pairs.csv": "premise,hypothesis\nIt rains.,It is wet.\nA dog barks.,A cat sleeps.\n",
    "squad.csv": "question,context,q,passage\nWho?,Ada wrote it.,Who?,Ada wrote it.\n",
    "stsb.csv": "sentence1,sentence2,score\nIt rains.,It is wet.,4\nA dog barks.,A cat sleeps.,1\nA dog barks.,Dogs bark.,5\n",
    **dict.fromkeys(
        ("texts.txt", "questions.txt", "passages.txt", "reviews.txt", "news.txt", "reports.txt"),
        "The ferry leaves at nine.\nA cat sat on the mat.\nIt rained all day.\n",
    ),
    "vectors.csv": "text,v0,v1,v2\n" + "".join(f"Text {n}.,{n % 3},{n % 2},{n}\n" for n in range(8)),
    "sentences.txt": "The [MASK] leaves at nine.\n[MASK] sat on the mat.\n",
}


def blocks(page: str, language: str) -> list[tuple[int, str]]:
    """(number, text) of every line in the page's blocks of a language; empty lines for all others."""
    inside, found = "", []
    for number, line in enumerate((ROOT / page).read_text("utf-8").splitlines(), 1):
        fence = re.match(r"```(\w*)", line)
        if fence:
            inside = "" if inside else fence[1] or "text"
        found.append((number, line if inside == language and not fence else ""))
    return found


def pages(language: str) -> list[str]:
    every = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    names = [page.relative_to(ROOT).as_posix() for page in every]
    elsewhere = OTHERS.keys() - ({"docs/scale.md"} if language == "sh" else set())
    return [name for name in names if name not in elsewhere and any(line for _, line in blocks(name, language))]


def commands(page: str) -> list[tuple[int, str]]:
    return [(number, line) for number, line in blocks(page, "sh") if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make(tmp_path_factory.mktemp("models"))


@pytest.fixture
def working(folders: dict[str, str], hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with the pages' files, and a Hub with the pages' models."""
    for name, kind in HUB.items():
        hub.add(name, {file.name: file.read_bytes() for file in Path(folders[kind]).iterdir()})
    work = tmp_path / "work"
    work.mkdir()
    for name, content in FILES.items():
        (work / name).write_text(content, "utf-8")
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(work / "reviews.csv"), work / "reviews.parquet")
    (work / "examples").symlink_to(ROOT / "examples")
    minilm, edited, old = Path(folders["minilm"]), work / "edited", work / "FOLDER"
    (work / "model.safetensors").symlink_to(minilm / "model.safetensors")
    edited.mkdir()
    old.mkdir()
    for file in minilm.glob("*.*"):
        (edited / file.name).write_bytes(file.read_bytes())
    tensors = load_file(edited / "model.safetensors")
    tensors["encoder.layer.3.attention.self.value.weight"][0, 0] += 0.001
    save_file(tensors, edited / "model.safetensors", {"format": "pt"})
    for file in Path(folders["bert"]).glob("*.*"):
        (old / file.name).write_bytes(file.read_bytes())
    torch.save(load_file(old / "model.safetensors"), old / "pytorch_model.bin")
    (old / "model.safetensors").unlink()
    monkeypatch.chdir(work)
    with one_thread():
        yield work


def test_no_page_is_left_out() -> None:
    assert {"README.md", "docs/quickstart.md", "docs/hf.md", "docs/pictures.md", "docs/tasks/tag.md"} <= set(pages("python"))
    assert {"README.md", "docs/quickstart.md", "docs/cli.md"} <= set(pages("sh"))
    for name, test in OTHERS.items():
        assert (ROOT / name).exists()
        assert list((ROOT / "tests").rglob(Path(test).name))


@pytest.mark.parametrize("page", pages("python"))
def test_python(page: str, folders: dict[str, str], working: Path) -> None:
    program = "\n".join(line for _, line in blocks(page, "python"))  # numbered as in the page
    names: dict[str, Any] = {}
    exec(VARIABLES, names)
    if page == "docs/pictures.md":
        import nativebert as nb

        names["classifier"] = nb.load(folders["sentiment"])
    exec(compile(program, str(ROOT / page), "exec"), names)


@pytest.mark.parametrize("page", pages("sh"))
def test_commands(
    page: str, folders: dict[str, str], working: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    skipped = 0
    for number, line in commands(page):
        if any(line.startswith(name) for name in NOT_RUN):
            skipped += 1
            continue
        capfd.readouterr()
        code = _run(line, folders, monkeypatch)
        expected = 1 if "parity edited" in line else 0
        assert code == expected, f"{page}, line {number}: {line}\n{capfd.readouterr()}"
    assert skipped < len(commands(page))


def test_the_other_blocks_of_scale(folders: dict[str, str], working: Path) -> None:
    """Those that are not recipes of an engine. The client of OpenAI is that of test_serve.py, which has a server for it."""
    pandas = pytest.importorskip("pandas")
    program = "\n".join(line for _, line in blocks("docs/scale.md", "py"))
    program, _, client = program.partition("from openai import OpenAI")
    assert "client.embeddings.create(" in client
    assert "client.embeddings.create(" in (ROOT / "tests" / "nativebert" / "test_serve.py").read_text("utf-8")
    names: dict[str, Any] = {"frame": pandas.read_csv("reviews.csv")}
    exec(compile(program.replace(', drop=["raw_html"]', ""), "docs/scale.md", "exec"), names)
    assert names["report"].rows == 24
    assert {"review", "label", "score"} <= set(names["frame"].columns)


def test_the_output_that_the_first_page_shows(working: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = "\n".join(line for _, line in blocks("README.md", "python"))
    exec(compile(program, "README.md", "exec"), {})
    shown = [line for _, line in blocks("README.md", "text") if line][:4]
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == shown[:3]

    def without_time(line: str) -> str:
        return re.sub(r"[\d.]+ s \([\d,]+ tokens/s\)", "", line).replace(" without C kernels", "")

    assert without_time(said[3]) == without_time(shown[3])


def test_the_output_of_search_that_docs_cli_shows(
    folders: dict[str, str], working: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    line = next(line for _, line in commands("docs/cli.md") if line.startswith("nativebert search examples/sentences.txt"))
    shown = [json.loads(text) for _, text in blocks("docs/cli.md", "text") if text.startswith('{"query": "a sleeping animal"')]
    capfd.readouterr()
    assert _run(line, folders, monkeypatch) == 0
    said = [json.loads(text) for text in capfd.readouterr().out.splitlines()]
    assert len(said) == len(shown) == 2
    for ours, theirs in zip(said, shown, strict=True):
        assert abs(ours.pop("score") - theirs.pop("score")) < 1e-5
        assert ours == theirs


def _run(line: str, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> int:
    """One command, in this process; what ``echo`` or ``<`` send into it is its stdin."""
    before, _, command = line.rpartition(" | ")
    words = shlex.split(command, comments=True)
    if "<" in words:
        sent = Path(words[words.index("<") + 1]).read_text("utf-8")
        words = words[: words.index("<")]
    else:
        sent = " ".join(shlex.split(before)[1:])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sent.encode())))
    if words[:3] == ["python", "-m", "weights_map"]:
        return weights_map(words[3:])
    assert words[0] == "nativebert", line
    model = folders[MODEL.get(words[1], "minilm")]
    try:
        return cli.main([model if word == "MODEL" else word for word in words[1:]])
    except SystemExit as end:  # --version
        return int(end.code or 0)
