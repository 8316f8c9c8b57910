"""docs/web-app.md shows what the examples do: each block of it stands in the file named above it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^`(examples/[^`]+)`\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_what_the_page_shows_stands_in_the_examples() -> None:
    page = (ROOT / "docs/web-app.md").read_text()
    blocks = BLOCK.findall(page)
    assert len(blocks) == page.count("\n```") / 2, "a block without the file it is from"
    for path, code in blocks:
        assert code in (ROOT / path).read_text(), f"{path} has changed:\n{code}"
