"""Make build/pages, from which mkdocs builds the site: the pages of docs/ and the project's README.

They are written for readers of the repository too, and differ in three ways from what mkdocs reads: a list or a table may
follow a line of text at once, the README is above docs/, and a link may lead to a file of the repository that is no page.
"""

import re
import shutil
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = ROOT / "build/pages"
FILES = ROOT / "build/pages/files"

TWO_MINUTES = "two-minutes.md"
"""The project's README, on the site."""
_WIDE = "---\nhide: [toc]\n---\n"
"""Its table of eight columns takes the place of the table of contents."""

_LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")
_FENCE = re.compile(r" *(```+|~~~+)")
_ITEM = re.compile(r"([-*]|\d+\.) ")
_FOREIGN = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["']?(https?://[^"'\s>]+)""")


def with_space(text: str) -> str:
    """Return a page with an empty line before each list, table and block of code that follows a line of text."""
    lines: list[str] = []
    inside = ""
    for line in text.splitlines():
        before = lines[-1] if lines else ""
        fence = _FENCE.match(line)
        if fence and not inside:
            inside = fence[1]
            if before.strip() and not before.startswith((" ", "|")):
                lines.append("")
        elif fence and line.strip() == inside:
            inside = ""
        elif not inside and before.strip():
            begins_table = line.startswith("|") and not before.startswith("|")
            begins_list = bool(_ITEM.match(line)) and not (_ITEM.match(before) or before.startswith(" "))
            if begins_table or begins_list or (line.strip() and _FENCE.match(before)):
                lines.append("")
        lines.append(line)
    return "\n".join(lines) + "\n"


def _address(link: str, page: Path) -> str:
    """Return where a link of a page leads on the site: a file that is no page is copied there, as text."""
    target = (page.parent / link).resolve()
    depth = "../" * (len(page.relative_to(DOCS).parts) - 1) if page.is_relative_to(DOCS) else ""
    if target == ROOT / "README.md":
        return depth + TWO_MINUTES
    if target.is_relative_to(DOCS) and (target.suffix in {".md", ".png", ".svg"} or not target.is_file()):
        return PurePosixPath(target.relative_to(DOCS)).as_posix() if page == ROOT / "README.md" else link
    if not target.is_file():
        raise SystemExit(f"{page.relative_to(ROOT)}: there is no file {link}")
    copy = FILES / f"{target.relative_to(ROOT)}.txt"
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(target, copy)
    return depth + copy.relative_to(PAGES).as_posix()


def _page(page: Path) -> str:
    parts = re.split(r"(^ *```.*?^ *```$)", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for at in range(0, len(parts), 2):
        parts[at] = _LINK.sub(lambda found: found[1] + _address(found[2], page) + found[3], parts[at])
    return with_space("".join(parts))


def _decisions() -> str:
    """Return a list of all decisions, for the page that has none in the repository, where the folder is the list."""
    pages = sorted((DOCS / "decisions").glob("0*.md"))
    return "\n".join(f"- [{page.read_text().splitlines()[0].lstrip('# ')}]({page.name})" for page in pages) + "\n"


def make() -> None:
    """Write build/pages anew."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for page in [*DOCS.rglob("*.md"), ROOT / "README.md"]:
        name = PurePosixPath(page.relative_to(DOCS)) if page.is_relative_to(DOCS) else PurePosixPath(TWO_MINUTES)
        (PAGES / name).parent.mkdir(parents=True, exist_ok=True)
        (PAGES / name).write_text((_WIDE if str(name) == TWO_MINUTES else "") + _page(page))
    for picture in [*DOCS.rglob("*.png"), *DOCS.rglob("*.svg"), *DOCS.rglob("*.css")]:
        copy = PAGES / picture.relative_to(DOCS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, copy)
    with (PAGES / "decisions/README.md").open("a") as index:
        index.write("\n" + _decisions())


def foreign(site: Path) -> list[str]:
    """Return what the pages of a built site would fetch from elsewhere: it must be nothing."""
    pages = [*site.rglob("*.html")]
    return [f"{page.relative_to(site)}: {address}" for page in pages for address in _FOREIGN.findall(page.read_text())]


def main() -> int:
    """Make the pages; with --built, look at the site that was made of them."""
    if "--built" not in sys.argv:
        make()
        return 0
    found = foreign(ROOT / "build/site")
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
