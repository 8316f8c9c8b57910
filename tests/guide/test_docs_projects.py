"""The projects that pages of the documentation show, with their tests: run as they stand."""

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.blocks import PAGES, blocks
from tests.support import ROOT


def project(page: str) -> dict[str, str]:
    """Return the files that a page's blocks make: a later definition of a name replaces the earlier one."""
    files: dict[str, dict[str, str]] = {}
    for block in blocks(ROOT / page):
        file = re.match(r"# (\w+\.py)\n", block.text) if block.language == "python" else None
        if file:
            parts = files.setdefault(file[1], {})
            for node in ast.parse(block.text).body:
                name = getattr(node, "name", ast.unparse(node))
                parts.pop(name, None)  # it may use what came since
                parts[name] = ast.unparse(node)
    return {name: "\n\n".join(parts.values()) for name, parts in files.items()}


def checks_in(folder: Path, files: dict[str, str]) -> Iterator[Any]:
    for name, text in files.items():
        (folder / name).write_text(text)
    module = importlib.import_module(next(name for name in files if name.startswith("test_")).removesuffix(".py"))
    return (test for name, test in vars(module).items() if name.startswith("test_"))


RUNNABLE = [
    str(page.relative_to(ROOT)) for page in PAGES if "\n# test_" in page.read_text() and page.name != "testing.md"
]


@pytest.mark.parametrize("page", RUNNABLE)
async def test_the_project_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    files = project(page)
    try:
        for test in checks_in(tmp_path, files):
            await test()
    finally:
        for name in files:
            sys.modules.pop(name.removesuffix(".py"), None)
