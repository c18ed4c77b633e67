"""Make the links of README.md absolute, in place: python packaging/absolute_links.py TAG. A package index shows that page without the files that it links to.

Run by .github/workflows/release.yml before it builds, so that links lead to the version that is released.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/nativebert/nativebert"


def absolute(text: str, tag: str) -> str:
    """A page with links to files of the repository at a tag; pictures as the files themselves."""

    def link(found: re.Match[str]) -> str:
        bang, label, path = found.groups()
        kind = "raw" if bang else "tree" if path.partition("#")[0].endswith("/") else "blob"
        return f"{bang}[{label}]({REPOSITORY}/{kind}/{tag}/{path})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)", link, text)


if __name__ == "__main__":
    page = ROOT / "README.md"
    page.write_text(absolute(page.read_text("utf-8"), sys.argv[1]), "utf-8")
