"""The documentation as files: every link and anchor leads somewhere, and the site's nav names every page."""

import re
from pathlib import Path

import pytest

from docs.make_site import with_space
from tests.support import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
_BLOCK = re.compile(r"^ *```.*?^ *```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(_BLOCK.sub("", page.read_text())):
        if ":" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} is not there"
        assert target.is_file(), f"{link} is a folder: name a page in it"
        if anchor:
            assert anchor in anchors(target), f"{link}: that page has {sorted(anchors(target))}"


def test_the_nav_of_the_site_names_every_page() -> None:
    named = set(re.findall(r"[\w./-]+\.md", (DOCS / "mkdocs.yml").read_text()))
    there = {str(page.relative_to(DOCS)) for page in PAGES[1:] if not page.name.startswith("0")}
    assert there - named == set(), "put it into the nav of docs/mkdocs.yml"
    assert named - there <= {"two-minutes.md"}, "the nav names a page that is not there"


def test_a_list_or_a_table_after_a_line_of_text_is_one_on_the_site() -> None:
    assert with_space("Two rules.\n- One\n  more\n- two\n") == "Two rules.\n\n- One\n  more\n- two\n"
    assert with_space("```\n- no\n```\n| a |\n|---|\n") == "```\n- no\n```\n\n| a |\n|---|\n"
    assert with_space("text\n```py\nx\n```\nmore\n") == "text\n\n```py\nx\n```\n\nmore\n"
