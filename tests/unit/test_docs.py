"""The documentation as files: every link and anchor leads somewhere, and the site's nav names every page."""

import re
from pathlib import Path

import pytest

import stepstream
from docs import make_pages, make_reference
from docs.make_site import with_space
from docs.reference_tables import NOT_FOR_USERS, SIZES
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


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_says_at_its_top_for_whom_it_is(page: Path) -> None:
    title, _, rest = page.read_text().partition("\n")
    if not page.name.startswith("0") and page.name != "changelog.md":
        assert title.startswith("# ")
        assert rest.lstrip().startswith("For "), "begin with: For who …"


def test_the_nav_of_the_site_names_every_page() -> None:
    named = set(re.findall(r"[\w./-]+\.md", (DOCS / "mkdocs.yml").read_text()))
    there = {str(page.relative_to(DOCS)) for page in PAGES[1:] if not page.name.startswith("0")}
    assert there - named == set(), "put it into the nav of docs/mkdocs.yml"
    assert named - there <= {"two-minutes.md"}, "the nav names a page that is not there"


def test_a_list_or_a_table_after_a_line_of_text_is_one_on_the_site() -> None:
    assert with_space("Two rules.\n- One\n  more\n- two\n") == "Two rules.\n\n- One\n  more\n- two\n"
    assert with_space("```\n- no\n```\n| a |\n|---|\n") == "```\n- no\n```\n\n| a |\n|---|\n"
    assert with_space("text\n```py\nx\n```\nmore\n") == "text\n\n```py\nx\n```\n\nmore\n"


def test_pages_that_are_made_are_what_the_code_says() -> None:
    assert make_pages.stale() == [], "run: make docs"


def test_every_public_name_is_in_the_reference() -> None:
    pages = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    named = set(re.findall(r"::: stepstream\.(\w+)$|^\| `(\w+)` \|", pages, re.MULTILINE))
    missing = set(stepstream.__all__) - {name for pair in named for name in pair} - {"BusError", "StoreUnavailable"}
    assert missing == set(), "name it in a page of docs/reference (aliases inside need none)"


def test_every_bound_is_in_the_table_of_limits() -> None:
    bound = re.compile(r"^((?:MAX|MOST|LONGEST|LARGEST)(?:_[A-Z_]+)?) *(?::.*)?= ", re.MULTILINE)
    there = {
        f"{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}:{name}"
        for floor in make_reference.FLOORS
        for path in (ROOT / floor).rglob("*.py")
        for name in bound.findall(path.read_text())
    }
    told = {constant for _, bounds in SIZES for _, constant, _, _ in bounds}
    assert there - told == NOT_FOR_USERS, "docs/reference_tables.py: SIZES for what users meet, else NOT_FOR_USERS"
