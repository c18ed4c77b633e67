"""``pytorch_model.bin`` -> ``model.safetensors``, once, and only when asked.

A ``.bin`` or ``.pt`` file is a pickle, and a pickle is a program. It is opened in a process of its own, by ``torch.load`` with
``weights_only=True``, which builds tensors and plain containers and runs nothing that the file names; what it refuses is refused, and there
is no other way in. That process has a time limit and, where the system can, a memory limit. It writes a draft, which is checked and moved
into place here.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from nativebert.arch import FAMILIES, family
from nativebert.errors import BadInputError, CorruptError, NativeBertError, NotFoundError, RefusedError
from nativebert.files import new_file_mode, read_json
from nativebert.hub import OLD_TOKENIZERS, SETTINGS, WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

TIME_LIMIT = 600  # seconds
PICKLE, SHARDS = "pytorch_model.bin", "pytorch_model.bin.index.json"
COPIED = (*SETTINGS, *OLD_TOKENIZERS, "config.json", "README.md", "LICENSE*")
ROOM = 2**31  # bytes of address space that reading may take beyond the file's own


@dataclass(frozen=True)
class Converted:
    """One file that was written.

    Attributes:
        sources: the pickles.
        target: the new file.
        tensors: how many it holds.
        bytes: its size.
        dropped: tied tensors that were left out, each with the tensor that it is.
        cloned: tensors that shared memory with others, and were written with bytes of their own.
    """

    sources: tuple[Path, ...]
    target: Path
    tensors: int
    bytes: int
    dropped: dict[str, str] = field(default_factory=dict)
    cloned: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conversion:
    """Result of :func:`convert`: files written, and names of files copied beside them."""

    files: tuple[Converted, ...]
    copied: tuple[str, ...]


def convert(
    source: str | os.PathLike[str], output: str | os.PathLike[str] | None = None, *, time_limit: float = TIME_LIMIT
) -> Conversion:
    """Write the tensors of a pickle as safetensors: same names, same dtypes, same values.

    Args:
        source: a folder with ``pytorch_model.bin`` or its shards (those of sentence-transformers parts, ``2_Dense/``, are converted too), or
            one ``.bin``, ``.pt`` or ``.pth`` file.
        output: folder to write to; by default the source's own. Another folder also gets the configuration and the tokenizer.
        time_limit: most seconds for each file.

    Raises:
        NotFoundError: there is no such folder or file, or nothing in it to convert.
        RefusedError: the pickle holds something else than tensors, or tensors that cannot be what they seem; or the target is there already.
        CorruptError: the file is damaged, or too slow or too large to be read.
    """
    path = Path(os.path.expanduser(source))
    if path.is_dir():
        folder, jobs = path, _jobs(path)
    elif path.is_file():
        if path.suffix not in (".bin", ".pt", ".pth"):
            raise BadInputError(f"{path} is neither a folder nor a .bin, .pt or .pth file")
        folder, jobs = path.parent, {"": [path]}
    else:
        raise NotFoundError(f"there is no folder and no file {path}")
    to = folder if output is None else Path(os.path.expanduser(output))
    for part in jobs:
        if (to / part / WEIGHTS).exists():
            raise RefusedError(
                f"{to / part / WEIGHTS} is there already, and is not overwritten. Choose another folder with --output."
            )
    ties = _ties(folder)
    done: list[Converted] = []
    try:
        for part, sources in jobs.items():
            done.append(_convert(sources, to / part / WEIGHTS, {} if part else ties, time_limit))
    except BaseException:
        for part in list(jobs)[: len(done)]:  # all of a model or nothing: none of these was there before
            (to / part / WEIGHTS).unlink(missing_ok=True)
        raise
    return Conversion(tuple(done), tuple(_copy(folder, to)) if to.absolute() != folder.absolute() else ())


def _jobs(folder: Path) -> dict[str, list[Path]]:
    """Part of the model ("" for the encoder, "2_Dense") -> its pickles."""
    jobs = {}
    for part in [folder, *sorted(child for child in folder.iterdir() if child.is_dir())]:
        name = "" if part == folder else part.name
        if (part / WEIGHTS).exists() and name:
            continue
        if (part / PICKLE).is_file():
            jobs[name] = [part / PICKLE]
        elif (part / SHARDS).is_file():
            jobs[name] = [part / shard for shard in _shards(part / SHARDS)]
    if not jobs:
        raise NotFoundError(f"{folder} has no {PICKLE} and no {SHARDS}: there is nothing to convert")
    return jobs


def _shards(index: Path) -> list[str]:
    try:
        shards = sorted(set(read_json(index)["weight_map"].values()))
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptError(f"{index} is not an index of shards: {error!r}. Download it again.") from error
    for shard in shards:
        path = PurePosixPath(str(shard))
        if not isinstance(shard, str) or len(path.parts) != 1 or path.name in ("..", "") or re.search(r"[\\:\0/]", shard):
            raise RefusedError(f"{index} names a file outside its own folder, {shard!r}: do not trust this model.")
        if not (index.parent / shard).is_file():
            raise NotFoundError(f"{index.parent} lacks {shard}, named in {index.name}: its weights are incomplete.")
    if not shards:
        raise CorruptError(f"{index} names no shards. Download it again.")
    return shards


def _ties(folder: Path) -> dict[str, str]:
    """The family of the folder's config.json, for its ties; nothing where there is none that we know."""
    try:
        name = read_json(folder / "config.json").get("model_type")
    except (OSError, CorruptError):
        return {}
    return {"family": name} if isinstance(name, str) and name in FAMILIES else {}


def _convert(sources: list[Path], target: Path, ties: dict[str, str], time_limit: float) -> Converted:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".converting-", dir=target.parent) as scratch:
        draft = Path(scratch, WEIGHTS)
        job = {"sources": [str(path.absolute()) for path in sources], "draft": str(draft.absolute()), **ties}
        home = str(Path(__file__).absolute().parents[1])
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TORCH_FORCE", "PYTHONINSPECT", "PYTHONSTARTUP"))}
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
        try:
            ended = subprocess.run(
                [sys.executable, "-P", "-m", "nativebert.convert"],
                input=json.dumps(job),
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=time_limit,
                env=kept,
                cwd=scratch,
            )
        except subprocess.TimeoutExpired:
            raise CorruptError(
                f"{sources[0]} took longer than {time_limit:g} seconds to read, and was given up. Allow more with --time-limit, if you trust it."
            ) from None
        answer = _answer(ended.stdout)
        if "error" in answer:
            raise {"RefusedError": RefusedError, "CorruptError": CorruptError}.get(str(answer.get("kind")), NativeBertError)(
                str(answer["error"])
            )
        if ended.returncode or not draft.is_file():
            message = (ended.stderr.strip().splitlines() or ["no message"])[-1]
            raise CorruptError(
                f"reading {sources[0]} ended with code {ended.returncode} ({message[:200]}): the file is damaged or hostile"
            )
        tensors = _check(draft)
        size = draft.stat().st_size
        os.chmod(draft, new_file_mode())
        draft.replace(target)
    return Converted(tuple(sources), target, tensors, size, dict(answer["dropped"]), tuple(answer["cloned"]))


def _answer(text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError, IndexError):
        answer = json.loads(text.strip().splitlines()[-1])
        if isinstance(answer, dict):
            return answer
    return {}


def _check(draft: Path) -> int:
    from weights_map import Checkpoint

    return len(Checkpoint.open(draft).tensors)


def _copy(folder: Path, to: Path) -> Iterator[str]:
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        name = path.relative_to(folder).as_posix()
        wanted = any(fnmatch.fnmatch(path.name, pattern) for pattern in COPIED)  # the encoder may lie in a part, 0_Transformer
        if wanted and path.is_file() and not name.startswith("."):
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to / name)
            yield name


# ---- in the other process


def _main() -> None:
    job = json.loads(sys.stdin.read())
    try:
        answer = _work(job)
    except NativeBertError as error:
        answer = {"error": str(error), "kind": type(error).__name__}
    except (MemoryError, RecursionError) as error:
        wants = f"{job['sources'][0]} wants more memory than its tensors can need ({type(error).__name__})"
        answer = {"error": f"{wants}: it is damaged or hostile", "kind": "RefusedError"}
    print(json.dumps(answer))


def _work(job: Mapping[str, Any]) -> dict[str, Any]:
    import torch
    from safetensors.torch import save_file

    paths = [Path(name) for name in job["sources"]]
    size = sum(path.stat().st_size for path in paths)
    torch.set_num_threads(1)
    _limit_memory(6 * size + ROOM)
    tensors: dict[str, Tensor] = {}
    for path in paths:
        for name, tensor in _read(path).items():
            if name in tensors:
                raise RefusedError(f"{path.name} holds {name}, which another shard holds already")
            tensors[name] = tensor
    if not tensors:
        raise RefusedError(f"{paths[0].name} holds no tensors")
    dropped, cloned = _apart(tensors, job.get("family"))
    if sum(t.numel() * t.element_size() for t in tensors.values()) > 2 * size:
        raise RefusedError(f"{paths[0].name} would grow to more than twice its size: many of its tensors share the same bytes")
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, job["draft"], metadata={"format": "pt"})
    except (ValueError, KeyError, RuntimeError) as error:
        raise RefusedError(f"safetensors cannot hold this: {str(error).splitlines()[0]}") from error
    return {"dropped": dropped, "cloned": cloned}


def _limit_memory(extra: int) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + extra
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of one file."""
    import torch

    zipped = zipfile.is_zipfile(path)
    if zipped:
        try:
            with zipfile.ZipFile(path) as archive:
                compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error) as error:
            raise CorruptError(f"{path.name} cannot be read: {error}. Download it again.") from error
        if compressed:
            raise RefusedError(
                f"{path.name} is a compressed archive, as torch writes none: what it would unpack to is not known"
            )
    try:
        loaded = torch.load(path, weights_only=True, map_location="cpu", mmap=zipped)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # a damaged pickle may raise anything at all
        message = str(error)
        if named := re.search(r"GLOBAL ([\w.]+)|Unsupported (?:class|global|operand|type)[^\n]*?([\w.]+\.[\w.]+)", message):
            what = named[1] or named[2]
            raise RefusedError(
                f"{path.name} holds more than tensors: it asks for {what}. Opening it could run code hidden in it, so it stays closed. Take "
                "the weights from a source that you trust, as safetensors."
            ) from error
        if ".tar" in message:
            raise RefusedError(
                f"{path.name} is in the .tar format that torch wrote before 2018, which cannot be read without running it. Take the weights "
                "from elsewhere."
            ) from error
        if isinstance(error, RuntimeError) and "memory" in message:
            raise MemoryError from error
        if "weights_only" in message or "Weights only" in message:
            reason = re.sub(r"(?s).*WeightsUnpickler error:\s*", "", message).strip().splitlines() or [""]
            raise RefusedError(f"{path.name} is a pickle of more than tensors, and stays closed ({reason[0][:160]})") from error
        reason = message.strip().splitlines() or [type(error).__name__]
        raise CorruptError(f"{path.name} cannot be read: {reason[0][:200]}. Download it again.") from error
    return _tensors(loaded, path.name)


def _tensors(loaded: object, file: str) -> dict[str, Tensor]:
    import torch

    if not isinstance(loaded, Mapping):
        raise RefusedError(f"{file} holds a {type(loaded).__name__}, where names with tensors belong")
    for name, t in loaded.items():
        if not isinstance(name, str):
            raise RefusedError(f"{file} has a name that is not text: {name!r}"[:200])
        if not isinstance(t, torch.Tensor):
            raise RefusedError(
                f"{file} is not a plain file of weights: {name!r} is a {type(t).__name__}. Save only its weights: model.state_dict() alone"
            )
        if t.layout != torch.strided or t.device.type != "cpu" or t.is_quantized or t.is_complex():
            raise RefusedError(f"{name} in {file} is not a plain tensor: {t.layout}, {t.dtype}, {t.device}")
        if t.numel() * t.element_size() > t.untyped_storage().nbytes():
            raise RefusedError(f"{name} in {file} says that it is larger than its bytes in the file")
    return {name: t.detach() for name, t in loaded.items()}


def _apart(tensors: dict[str, Tensor], name: str | None) -> tuple[dict[str, str], list[str]]:
    """Tensors that share memory: drops those that the family's map ties, gives the others bytes of their own."""
    groups: dict[int, list[str]] = {}
    for key, t in tensors.items():
        if t.numel():
            groups.setdefault(t.untyped_storage().data_ptr(), []).append(key)
    weight_map = family(name).map if name else None
    dropped: dict[str, str] = {}
    cloned: list[str] = []
    for group in groups.values():
        if len(group) == 1:
            continue
        shape = {key: (tensors[key].storage_offset(), tuple(tensors[key].shape), tensors[key].stride()) for key in group}
        for key in group:
            targets = weight_map.targets_of(key) if weight_map else ()
            leader = weight_map.ties.get(targets[0]) if weight_map and len(targets) == 1 else None
            same = [other for other in group if leader and weight_map and weight_map.targets_of(other) == (leader,)]
            if same and shape[same[0]] == shape[key] and tensors[same[0]].dtype == tensors[key].dtype:
                dropped[key] = same[0]
        for key in dropped.keys() & set(group):
            del tensors[key]
        for key in [key for key in group if key not in dropped][1:]:
            tensors[key] = tensors[key].clone()
            cloned.append(key)
    return dropped, cloned


if __name__ == "__main__":
    _main()
