"""What `import nativebert` shows."""

from __future__ import annotations

import doctest
import subprocess
import sys

import pytest

import nativebert as nb


def test_the_example_of_help() -> None:
    assert doctest.testmod(nb).attempted == 5
    assert not doctest.testmod(nb).failed


def test_dir_shows_the_public_names_and_nothing_else() -> None:
    assert [name for name in dir(nb) if not name.startswith("__")] == sorted(nb.__all__)
    assert all(getattr(nb, name) is not None for name in nb.__all__)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("embedder", r"did you mean Embedder\?$"),
        ("Clasifier", r"did you mean Classifier\?$"),
        ("zero_shot", r"did you mean ZeroShot\?$"),
        ("AutoModel", r"such as nativebert\.hf\.AutoModel$"),
        ("pipeline", r"such as nativebert\.hf\.pipeline$"),
        ("no_such_thing", r"no attribute 'no_such_thing'$"),
    ],
)
def test_a_name_that_is_not_there(name: str, says: str) -> None:
    with pytest.raises(AttributeError, match=says):
        getattr(nb, name)


def test_the_import_is_fast() -> None:
    code = "import sys, nativebert; nativebert.__all__; dir(nativebert); print(*{'torch', 'numpy', 'huggingface_hub', 'difflib'} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
