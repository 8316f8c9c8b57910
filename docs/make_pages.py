"""Make the pages that are made: docs/keys.md and docs/reference from the code, docs/guide.md from tests/guide.

What is committed is compared with them by tests/unit/test_docs.py.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from docs import make_guide, make_keys, make_reference, make_roles

FOLDER = Path(__file__).parent

PAGES: dict[str, Callable[[], str]] = {
    "keys.md": make_keys.page,
    "guide.md": make_guide.page,
    "reference/roles.md": make_roles.page,
    **{f"reference/{name}": make for name, make in make_reference.PAGES.items()},
}


def stale() -> list[str]:
    """Return the pages that are not what they are made from."""
    return [name for name, make in PAGES.items() if (FOLDER / name).read_text() != make()]


def main() -> int:
    """Write the pages."""
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make())
    return 0


if __name__ == "__main__":
    sys.exit(main())
