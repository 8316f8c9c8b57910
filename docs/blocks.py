"""The blocks of code in the pages, for tests that run, compile or parse them."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
_MADE = {"guide.md", "keys.md", "changelog.md", "state-machine.md"}
"""Quoted from tests, or no instructions to a reader."""

PAGES = [
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name not in _MADE),
    *sorted((ROOT / "docs/how-to").glob("*.md")),
]
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code: where it begins, its language as the page says it, what stands there."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file of the repository that it quotes: the line above names it."""
        above = self.page.read_text().splitlines()[self.line - 2].strip()
        found = re.fullmatch(r"`([\w./-]+)`", above)
        return found[1] if found and (ROOT / found[1]).is_file() else None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page."""
    text = page.read_text()
    for found in _FENCE.finditer(text):
        yield Block(page, text.count("\n", 0, found.start()) + 1, found[2], textwrap.dedent(found[3]))
