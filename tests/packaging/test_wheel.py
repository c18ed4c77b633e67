"""What `pip wheel` makes of the sources: one wheel for all Pythons, with the kernels or without."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("nativebert", "weights_map", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="the package was installed, its sources are not here"),
]


def built(folder: Path, **environment: str) -> Path:
    """The wheel that a copy of the sources makes."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(path, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(source),
    ]
    subprocess.run(command, check=True, env=os.environ | environment, capture_output=True, text=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_without_kernels_it_is_for_every_system(tmp_path: Path) -> None:
    wheel = built(tmp_path, NATIVEBERT_BUILD_KERNELS="0")
    assert wheel.name.endswith("-py3-none-any.whl")
    target = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(target)
        names = set(file.namelist())
    assert {
        "nativebert/py.typed",
        "weights_map/py.typed",
        "nativebert/parity/report.html",
        "nativebert/pictures/attention.html",
        "nativebert/train/report.html",
    } <= names
    assert not any(name.startswith(("tests/", "benchmarks/")) or name.endswith((".c", ".h", ".so")) for name in names)
    code = "import nativebert; from nativebert import kernels; print(nativebert.__file__); print(kernels.why_not())"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
    )
    where, reason = ran.stdout.splitlines()
    assert where.startswith(str(target))
    assert reason.startswith("they are not built")


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("gcc") is None, reason="needs Linux and a C compiler")
def test_with_kernels_it_is_for_every_python_of_this_system(tmp_path: Path) -> None:
    wheel = built(tmp_path)
    assert "-py3-none-linux_" in wheel.name
    with zipfile.ZipFile(wheel) as file:
        libraries = [info for info in file.infolist() if info.filename.endswith(".so")]
        content = file.read(libraries[0])
    assert [info.filename for info in libraries] == ["nativebert/kernels/library.so"]
    assert b".debug_info" not in content
    assert len(content) < 2_000_000


def test_the_links_of_the_page_that_an_index_shows() -> None:
    absolute = runpy.run_path(str(ROOT / "packaging" / "absolute_links.py"))["absolute"]
    at = "https://github.com/nativebert/nativebert"
    page = "![a picture](docs/a.png) [speed](docs/b.md#c) [`x=`](docs/d/) [there](https://example.org/e) [here](#f)"
    made = absolute(page, "v1.2.3")
    assert made == (
        f"![a picture]({at}/raw/v1.2.3/docs/a.png) [speed]({at}/blob/v1.2.3/docs/b.md#c) [`x=`]({at}/tree/v1.2.3/docs/d/) "
        "[there](https://example.org/e) [here](#f)"
    )
    assert absolute(made, "v2") == made
    first = absolute((ROOT / "README.md").read_text("utf-8"), "v1.2.3")
    assert not re.search(r"\]\((?!https://|#)", re.sub("```.*?```", "", first, flags=re.DOTALL))
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8")
    assert workflow.count("packaging/absolute_links.py") == 2  # the wheels; the wheel without kernels and the sources


def test_the_image_is_built_from_what_is_there() -> None:
    recipe = (ROOT / "Dockerfile").read_text("utf-8")
    copied = {name for line in re.findall(r"^COPY (?!--from)(.*) \S+$", recipe, re.MULTILINE) for name in line.split()}
    assert copied == {*SOURCES, "constraints.txt"}  # what the wheel is built from
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for image in re.findall(r"^FROM python:([\d.]+)-slim", recipe, re.MULTILINE):
        assert f"Programming Language :: Python :: {image}" in project["classifiers"]
    extras = re.findall(r"\.whl\)\[(.*?)\]", recipe)[0].split(",")
    assert set(extras) <= project["optional-dependencies"].keys()
    assert '"with C kernels"' in recipe
    assert 'ENTRYPOINT ["nativebert"]' in recipe


def test_the_release_builds_what_the_metadata_say() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    oldest = project["project"]["requires-python"].removeprefix(">=")
    assert project["tool"]["cibuildwheel"]["build"] == f"cp{oldest.replace('.', '')}-*"
    tested = (ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8")
    for name in project["project"]["classifiers"]:
        version = name.removeprefix("Programming Language :: Python :: ")
        assert version == name or " " in version or f'"{version}"' in tested, version
