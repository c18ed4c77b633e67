"""Without a package that nativebert needs: one sentence that says what to install, and no traceback out of the middle of an import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from models import minilm

from nativebert.errors import REQUIRED, NotInstalledError

# A finder that knows nothing of some packages, before all others, as if they were not there.
BLOCK = """
import runpy, sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Nothing())
sys.argv = {argv}
{code}
"""
COMMAND = "runpy.run_module('nativebert', run_name='__main__')"


def run(names: list[str], code: str, *argv: object) -> subprocess.CompletedProcess[str]:
    script = BLOCK.format(names=set(names), argv=["nativebert", *map(str, argv)], code=code)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize(
    "code",
    [
        "import nativebert as nb; nb.Embedder",
        "import nativebert as nb; nb.load",
        "import nativebert as nb; nb.train.classify",
        "from nativebert import Classifier, Tagger",
        "from nativebert.train import classify",
        "from nativebert.hf import AutoModel",
        "from nativebert.pictures import map",
    ],
)
def test_one_sentence_in_python(name: str, code: str) -> None:
    ran = run([name], code)
    lines = ran.stderr.splitlines()
    assert lines[-1].endswith(f"NotInstalledError: {name} is not installed, and nativebert needs it: pip install {name}")
    assert ran.stderr.count("Traceback") == 1
    assert "Error" not in "".join(lines[:-1]).replace("NotInstalledError", "")
    assert ran.returncode == 1


def test_the_import_by_itself_needs_nothing() -> None:
    ran = run(list(REQUIRED), "import nativebert as nb; print(nb.__version__, len(dir(nb))); nb.errors.NativeBertError")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_all_that_is_missing_is_named_at_once() -> None:
    ran = run(["torch", "numpy", "tokenizers"], "import nativebert; nativebert.Tagger")
    says = "torch, numpy and tokenizers are not installed, and nativebert needs them: pip install torch numpy tokenizers"
    assert ran.stderr.splitlines()[-1].endswith(says)
    with pytest.raises(ImportError):
        raise NotInstalledError(("torch",))


@pytest.mark.parametrize("name", ["torch", "numpy", "safetensors", "tokenizers"])
def test_one_line_on_the_command_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a\n")
    ran = run([name], COMMAND, "embed", tmp_path / "texts.txt", "-m", minilm(), "-o", tmp_path / "v.npy")
    assert ran.stderr == f"nativebert: {name} is not installed, and nativebert needs it: pip install {name}\n"
    assert (ran.returncode, ran.stdout) == (2, "")


def test_the_version_tells_what_is_missing() -> None:
    ran = run(["torch", "numpy"], COMMAND, "--version")
    assert ran.stderr == ""
    assert ran.stdout.splitlines()[:2] == [
        "nativebert " + __import__("nativebert").__version__,
        "torch and numpy are not installed, and nativebert needs them: pip install torch numpy",
    ]
    assert ran.returncode == 0
