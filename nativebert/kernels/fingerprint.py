"""The fingerprint of the kernels' sources: compiled into the library by setup.py, and compared where the library is loaded.

Only the standard library may be imported here: setup.py runs this file before anything is installed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def fingerprint(folder: Path) -> str:
    """A hash of all C files of the folder, and of the setup.py that holds their flags; empty where there are no C files (a wheel)."""
    sources = sorted(folder.glob("*.[ch]"))
    if not sources:
        return ""
    digest = hashlib.sha256()
    for path in (*sources, folder.parents[1] / "setup.py"):
        content = path.read_bytes() if path.exists() else b""
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()
