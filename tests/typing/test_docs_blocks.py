"""What pyright says of the Python in the documentation: every name, argument and attribute is there.

What a page takes as given (the reader's own functions and types) stands here, by page. The tutorial is run instead
(tests/guide), and blocks that a page quotes from a file of examples are compared with it.
"""

import ast
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from docs.blocks import PAGES, Block, blocks
from tests.support import ROOT

pytestmark = pytest.mark.check
RUN = {
    str(page.relative_to(ROOT)) for page in PAGES if re.search(r"^# (test_)?\w+\.py$", page.read_text(), re.MULTILINE)
}
"""Pages whose code is run: tests/guide/test_docs_projects.py, tests/system/test_first_test.py."""

COMMON = """
import asyncio, contextlib, dataclasses, logging, os, subprocess, uuid
from collections.abc import *
from datetime import *
from typing import *
from zoneinfo import ZoneInfo
from fastapi import FastAPI
import stepstream
from stepstream import *
from stepstream import Bus, Context, Step, EventData
app: Bus[Any] = Bus("docs")
class OrderPaid(EventData, name="order/paid", rename="camel"):
    order_id: str = ""
    cents: int = 0
@app.function("ship-order", on=OrderPaid)
async def ship_order(ctx: Context[OrderPaid], step: Step) -> str: ...
"""
GIVEN = {
    "docs/http.md": "@app.function('refund', on=OrderPaid)\nasync def refund(ctx: Context[OrderPaid], step: Step) -> str: ...\nlifespan: Any = None\n",
    "docs/limits.md": "class GenerateRequested(EventData, name='a'): ...\n",
    "docs/living-with-code-changes.md": "step: Step\ncharge_v2: Callable[[OrderPaid], str]\norder: OrderPaid\n",
    "docs/logs.md": "def print_label() -> None: ...\n",
    "docs/processes.md": "step: Step\n",
    "docs/publishing.md": """
from django.db import transaction
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session
class Base(DeclarativeBase): ...
class Label(EventData, name="label/printed"): ...
class Reminder(EventData, name="reminder/due"):
    user_id: str
engine, async_engine = create_engine("sqlite://"), create_async_engine("sqlite+aiosqlite://")
order: Any = None
""",
}


def written(block: Block) -> str:
    """Return a block as it stands in a module."""
    try:
        compile(block.text, "", "exec")
    except SyntaxError:  # it awaits
        return f"async def _{block.line}():\n{textwrap.indent(block.text, '    ')}\n"
    return block.text


def of_pages(folder: Path) -> dict[str, list[str]]:
    """Write a module for each page; return the page and the line of a block for each line of it."""
    places: dict[str, list[str]] = {}
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        shown = [one for one in blocks(page) if one.language == "python" and one.file is None]
        if name in RUN or not shown:
            continue
        lines = [*COMMON.splitlines(), *GIVEN.get(name, "").splitlines()]
        where = [f"{name}: what is given"] * len(lines)
        for block in shown:
            added = written(block).splitlines()
            lines += added
            where += [str(block)] * len(added)
        module = re.sub(r"\W", "_", name)
        (folder / f"{module}.py").write_text("\n".join(lines) + "\n")
        places[f"{module}.py"] = where
    return places


def test_names_arguments_and_attributes_are_there(tmp_path: Path) -> None:
    places = of_pages(tmp_path)
    off = ("reportRedeclaration", "reportUnusedExpression", "reportUnusedCoroutine", "reportMissingModuleSource",
           "reportMissingTypeStubs", "reportMissingImports", "reportWildcardImportFromLibrary")  # fmt: skip
    settings = {"extraPaths": [str(ROOT / "build/links")], "typeCheckingMode": "basic", "pythonVersion": "3.11",
                "venvPath": str(ROOT), "venv": ".venv", **dict.fromkeys(off, False)}  # fmt: skip
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    wrong = [
        f"{places[Path(one['file']).name][one['range']['start']['line']]}: {one['message']}"
        for one in json.loads(done.stdout)["generalDiagnostics"]
        if one["severity"] == "error"
    ]
    assert not wrong, "\n".join(wrong)


def test_pages_that_are_given_something_are_there() -> None:
    pages = {str(page.relative_to(ROOT)) for page in PAGES}
    assert set(GIVEN) | RUN <= pages
    assert all(ast.parse(text) for text in GIVEN.values())
