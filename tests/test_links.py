"""Links between the pages: the file is there, and so is the heading."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "tests", "r", "examples", "benchmarks", "packaging", "nativebert", "weights_map")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])


def text_of(page: Path) -> str:
    """Without blocks of code, in which brackets are not links."""
    return re.sub(r"^\s*```.*?^\s*```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


@cache
def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub and the site make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", text_of(page), re.MULTILINE):
        plain = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).replace("`", "").lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def links(page: Path) -> list[str]:
    found: list[str] = re.findall(r"\]\(<?([^)\s>]+)>?(?: \".*?\")?\)", re.sub(r"`[^`\n]*`", "", text_of(page)))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / unquote(name)).resolve() if name else page
        if not target.exists():
            dead.append(f"{link}: no such file")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            dead.append(f"{link}: no such heading, of {sorted(anchors(target))}")
    assert not dead, "\n".join(dead)


def test_every_page_of_the_documentation_is_on_the_site_and_in_the_list() -> None:
    nav = re.findall(r"([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert len(nav) == len(set(nav)), f"twice in mkdocs.yml: {sorted(name for name in set(nav) if nav.count(name) > 1)}"
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert pages == set(nav)
    listed = links(ROOT / "docs" / "README.md")
    unlisted = [
        page
        for page in pages
        if page not in listed and not any(page.startswith(f"{one}") for one in listed if one.endswith("/"))
    ]
    assert unlisted == ["README.md"]


def test_what_would_be_dead_is_found(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("# One, `two` & [three](x)\n[a](b.md) [b](#one-two--three) `[c](d.md)`\n```\n[e](f.md)\n```\n")
    assert links(page) == ["x", "b.md", "#one-two--three"]
    assert anchors(page) == {"one-two--three"}
