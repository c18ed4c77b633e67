"""The site's first page is the repository's; and links from the pages to files that are not pages go to the repository."""

import posixpath
import re
from pathlib import Path

LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+|[^):#\s]+/)(#[^)\s]*)?\)")


def on_page_markdown(markdown, page, config, files):
    here = posixpath.dirname(page.file.src_uri)
    if page.file.src_uri == "README.md":
        markdown = Path("README.md").read_text("utf-8").replace("](docs/README.md)", "](api/tasks.md)").replace("](docs/", "](")
        markdown = re.sub(r"\]\((?=[A-Z]+\.md|examples/|benchmarks/|tests/)", "](../", markdown)

    def of_repository(match):
        before, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join("docs", here, target))
        inside = posixpath.relpath(path, "docs")
        if path.startswith("docs/") and (files.get_file_from_path(inside) or not target.endswith("/")):
            return match[0]
        if path.startswith("docs/"):  # a folder of pages: its first page
            pages = sorted(file.src_uri for file in files.documentation_pages() if file.src_uri.startswith(inside + "/"))
            return f"{before}{posixpath.relpath(pages[0], here or '.')}{anchor})" if pages else match[0]
        kind = "tree" if target.endswith("/") else "blob"
        return f"{before}{config.repo_url}/{kind}/main/{path}{anchor})"

    return LINK.sub(of_repository, markdown)
