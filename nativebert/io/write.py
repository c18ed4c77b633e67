"""Vectors to a file, written whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from nativebert.errors import BadInput, DiskFull

Vectors = NDArray[np.float32]


def write_vectors(target: str, vectors: Vectors, texts: Sequence[str]) -> None:
    """Write vectors in the format that the file's ending names.

    ``.npy`` holds the float32 matrix alone. ``.csv`` has a column ``text`` and columns ``d1`` to ``dN``; ``.jsonl`` has
    ``{"text": ..., "embedding": [...]}`` on each line. Numbers are written with as many digits as float32 needs to come back exactly.

    Args:
        target: a path, or ``-`` for JSON lines on standard output.
        vectors: float32 ``(n, dimension)``.
        texts: the ``n`` texts.

    Raises:
        BadInput: an ending that says nothing, or a place that cannot be written to.
        DiskFull: no room.
    """
    write = check_target(target)
    if target == "-":
        write(sys.stdout.buffer, vectors, texts)
        sys.stdout.buffer.flush()
        return
    with _whole(Path(target)) as file:
        write(file, vectors, texts)


def check_target(target: str) -> Callable[[BinaryIO, Vectors, Sequence[str]], None]:
    """The writer for ``target``: ask before a long job, not after. Raises :class:`BadInput`."""
    ending = ".jsonl" if target == "-" else Path(target).suffix.lower()
    if ending not in WRITERS:
        raise BadInput(f"cannot tell how to write {target}: give it one of the endings {', '.join(WRITERS)}, or - for JSON lines on standard output")
    if target != "-" and not Path(target).absolute().parent.is_dir():
        raise BadInput(f"there is no folder {Path(target).parent} to write {Path(target).name} to; make it first")
    return WRITERS[ending]


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    draft = None
    try:
        with tempfile.NamedTemporaryFile("wb", dir=path.absolute().parent, prefix=f".{path.name}.", delete=False) as file:
            draft = file.name
            yield file  # type: ignore[misc]
        os.chmod(draft, 0o666 & ~_umask())
        os.replace(draft, path)
        draft = None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no room on the disk for {path}; nothing was written") from error
        raise BadInput(f"{path} cannot be written: {error.strerror}") from error
    finally:
        if draft is not None:
            with contextlib.suppress(OSError):
                os.unlink(draft)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _npy(file: BinaryIO, vectors: Vectors, texts: Sequence[str]) -> None:
    np.save(file, vectors)


def _csv(file: BinaryIO, vectors: Vectors, texts: Sequence[str]) -> None:
    import io

    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    rows = csv.writer(text)
    rows.writerow(["text", *(f"d{i + 1}" for i in range(vectors.shape[1]))])
    for sentence, row in zip(texts, vectors, strict=True):
        rows.writerow([sentence, *map(_digits, row.tolist())])
    text.flush()
    text.detach()


def _jsonl(file: BinaryIO, vectors: Vectors, texts: Sequence[str]) -> None:
    for sentence, row in zip(texts, vectors, strict=True):
        numbers = ", ".join(map(_digits, row.tolist()))
        file.write(f'{{"text": {json.dumps(sentence, ensure_ascii=False)}, "embedding": [{numbers}]}}\n'.encode())


def _digits(value: float) -> str:
    return f"{value:.9g}"  # nine digits bring every float32 back (IEEE 754)


WRITERS: dict[str, Callable[[BinaryIO, Vectors, Sequence[str]], None]] = {".npy": _npy, ".csv": _csv, ".jsonl": _jsonl}
