"""JSON files, and files and folders that are replaced atomically: a reader finds the old content or the new one, never a part of either."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any

from nativebert.errors import CorruptError, DiskFullError


def parse_json(data: bytes, path: Path, kind: type[Any] = dict) -> Any:
    """The JSON object (or list: ``kind``) in the content of a file; ``path`` is what errors call it.

    Raises:
        CorruptError: it is not JSON in UTF-8, or holds something else.
    """
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{path} is not JSON in UTF-8: {error}. Download it again.") from error
    if not isinstance(content, kind):
        raise CorruptError(f"{path} contains a {type(content).__name__} instead of a JSON {kind.__name__}. Download it again.")
    return content


def read_json(path: Path, kind: type[Any] = dict) -> Any:
    """:func:`parse_json` of a file."""
    return parse_json(path.read_bytes(), path, kind)


def dump_json(data: Any) -> str:
    """JSON as the files of a model are written: indented, with a line break at the end."""
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, data: Any) -> None:
    """Write a small file of a model. In a Hub cache it is a link to a shared file: the link is replaced, not the file."""
    with replacing(path) as file:
        file.write(dump_json(data).encode())


def update_json(path: Path, changes: Mapping[str, Any]) -> None:
    """Set some keys of a JSON file, as :func:`write_json` does."""
    write_json(path, read_json(path) | dict(changes))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A temporary file in the same folder, which is moved to ``path`` once all is written; on any error ``path`` stays as it was.

    Raises:
        OSError: it cannot be written.
    """
    draft = None
    try:
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name[:60]}.", delete=False) as file:
            draft = file.name
            yield file
        os.chmod(draft, path.stat().st_mode & 0o777 if path.exists() else new_file_mode())
        os.replace(draft, path)
        draft = None
    finally:
        if draft is not None:
            with contextlib.suppress(OSError):
                os.unlink(draft)


@contextlib.contextmanager
def replacing_folder(folder: Path, last: Sequence[str] = ()) -> Iterator[Path]:
    """A temporary folder within ``folder``, whose files are moved into it once all are written; on any error ``folder`` stays as it was.

    Args:
        folder: where to; made if it is not there.
        last: patterns of the names of files that are moved after the others, in this order: those without which nothing can be loaded.

    Raises:
        DiskFullError: no room.
        OSError: it cannot be written.
    """
    parents = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".saving.", dir=folder))
    try:
        yield draft
        files = [path for path in draft.rglob("*") if path.is_file()]
        rank = {pattern: at for at, pattern in enumerate(last, 1)}
        for path in sorted(files, key=lambda path: max((rank[p] for p in last if fnmatch(path.name, p)), default=0)):
            target = folder / path.relative_to(draft)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        for parent in parents:  # made here, and empty still
            with contextlib.suppress(OSError):
                parent.rmdir()
        if _disk_is_full(error):
            raise DiskFullError(f"not enough disk space to save a model to {folder}; nothing was written there") from error
        raise
    shutil.rmtree(draft)


def _disk_is_full(error: BaseException | None) -> bool:
    """Whether an error is, or comes from, that of a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


def new_file_mode() -> int:
    """The permissions that the process gives to new files; temporary files have fewer."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
