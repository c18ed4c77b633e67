"""The files of a job's folder beside its shards: what it is, how far it has come, who is at work in it.

Their names begin with ``_``, so that readers of a folder of tables pass them by. ``_manifest.json`` says what the job is, and when it is finished also
what came of it; until then ``_progress.jsonl`` has a line for each shard that is done. Nothing in them depends on when the job was stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nativebert.errors import BadInputError, CorruptError, RefusedError
from nativebert.files import dump_json, read_json, replacing

MANIFEST, PROGRESS, REJECTS, _LOCK = "_manifest.json", "_progress.jsonl", "_rejects.jsonl", "_lock"


def read_manifest(out: Path) -> dict[str, Any] | None:
    """The manifest of a folder; None where there is none.

    Raises:
        CorruptError: it is damaged.
    """
    try:
        manifest: dict[str, Any] = read_json(out / MANIFEST)
    except FileNotFoundError:
        return None
    if "job" not in manifest:
        raise CorruptError(f"{out / MANIFEST} is not the manifest of a job: move it away")
    return manifest


def write_whole(path: Path, content: str) -> None:
    """Write a file whole or not at all, and onto the disk."""
    with replacing(path) as file:
        file.write(content.encode())
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def write_manifest(out: Path, manifest: Mapping[str, Any]) -> None:
    """Write a folder's manifest, whole or not at all."""
    write_whole(out / MANIFEST, dump_json(manifest))


def sync_folder(folder: Path) -> None:
    """Put the names of a folder's files onto the disk: without it, a file that was renamed may have its old name after a power loss."""
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def read_progress(out: Path) -> list[dict[str, Any]]:
    """Records of the shards that are done, in their order; a line that was cut off by a crash, and those behind it, are none."""
    records: list[dict[str, Any]] = []
    try:
        content = (out / PROGRESS).read_bytes()
    except FileNotFoundError:
        return records
    for line in content.splitlines(keepends=True):
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or record["shard"] != len(records):
            break
        records.append(record)
    return records


def write_progress(out: Path, records: list[dict[str, Any]]) -> None:
    """Write the records of all shards that are done."""
    write_whole(out / PROGRESS, "".join(json.dumps(record) + "\n" for record in records))


def add_progress(out: Path, record: Mapping[str, Any]) -> None:
    """Add the record of a shard, whose file is on the disk."""
    sync_folder(out)
    with open(out / PROGRESS, "ab") as file:
        file.write(json.dumps(record).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def check_same(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a job that is another one now.

    Raises:
        RefusedError: another input, model, version or option; names the first difference.
    """
    for key, what in (
        ("input", "the input has changed since"),
        ("model", "the model or its settings are others than"),
        ("versions", "the installed versions are others than"),
        ("job", "the options are others than"),
    ):
        was, is_ = json.loads(json.dumps(before.get(key))), json.loads(json.dumps(now[key]))
        if was == is_:
            continue
        raise RefusedError(
            f"{what} the job in {out} was begun ({_difference(was, is_)}), so its rows would not belong together, and nothing was changed: go on with what it "
            "was begun with, or choose another output folder"
        )


def _difference(was: Any, now: Any, key: str = "") -> str:
    """The first place where two values of JSON differ, by its innermost key."""
    if isinstance(was, dict) and isinstance(now, dict):
        key = min(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
        return _difference(was.get(key), now.get(key), key)
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        return next(_difference(a, b, key) for a, b in zip(was, now) if a != b)
    return f"{key and f'{key}: '}{_short(was)} then, {_short(now)} now"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Context in which no other process works in the folder. The lock of a process that was killed is none.

    Raises:
        BadInputError: another process is at work in it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with open(out / _LOCK, "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInputError(f"another process is at work in {out}: wait until it ends, or choose another folder") from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(out / _LOCK)
