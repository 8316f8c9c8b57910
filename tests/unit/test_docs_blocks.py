"""What stands in a block of the documentation works: Python compiles, commands and their options are there.

Whole projects are run (tests/guide/test_docs_projects.py); other Python is read by pyright (tests/typing).
"""

import ast
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from docs.blocks import PAGES, Block, blocks
from stepstream import create_app
from stepstream.bus.cli import announced, application
from stepstream.bus.settings import VARIABLES
from tests.support import ROOT

ALL = [block for page in PAGES for block in blocks(page)]
_COMMAND = re.compile(r"`(bus [a-z][^`\n]*)`")
_NOT_OURS = ("redis-cli ", "mkdir ", "python3 ", ". .venv", "touch ", "pytest", "uvicorn ", "docker ", "export ", "kill ",
             "APP=", "brew ", "apt ", "git ", "cd ", "jq ", "xargs ")  # fmt: skip


def named(kind: tuple[str, ...]) -> Any:
    return pytest.mark.parametrize("block", [one for one in ALL if one.language in kind and one.file is None], ids=str)


@pytest.fixture(scope="module")
def bus() -> TyperGroup:
    group = typer.main.get_command(application(*announced()))
    assert isinstance(group, TyperGroup)
    return group


def parse(bus: TyperGroup, line: str) -> None:
    """Parse a command as the command line does, and run nothing."""
    words = shlex.split(line, comments=True)[1:]
    if words == ["--help"]:
        return
    command = bus.commands[words[0]]
    command.make_context(f"bus {words[0]}", [word for word in words[1:] if word not in ("…", "--help")])


def test_every_block_says_what_it_is() -> None:
    known = {"python", "javascript", "sh", "json", "text", "toml", "yaml", "mermaid", "ini", "nginx", ""}
    assert {block.language for block in ALL} <= known


@named(("python",))
def test_python_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("block", [one for one in ALL if one.file], ids=str)
def test_what_is_quoted_stands_there(block: Block) -> None:
    assert block.text in (ROOT / str(block.file)).read_text()


@named(("json",))
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


@named(("sh", ""))
def test_commands_are_there(block: Block, bus: TyperGroup) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    paths = [str(getattr(route, "path", "")) for route in create_app().routes]
    for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
        for one in filter(None, (part.strip() for part in re.split(r" && |^# .*| \| ", line))):
            if one.startswith("bus "):
                parse(bus, one)
            elif one.startswith("make "):
                assert one.split()[1] in targets, one
            elif one.startswith("pip install"):
                assert all(extra in extras for extra in re.findall(r"stepstream\[(\w+)\]", one)), one
            elif one.startswith("curl "):
                path = re.sub(r"^/e/\w+", "/e/{key}", re.findall(r"https?://[^/\s]+(/[^\s?'\"]*)", one)[0])
                assert path in paths or path == "/api/inngest", f"{one}: {paths}"
                for body in re.findall(r"-d '([^']*)'", one):
                    json.loads(body)
            elif block.language == "sh" or not one.startswith(("ACL", "+")):
                assert one.startswith(_NOT_OURS), f"{block}: is `{one}` a command? If not, say ```text"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_settings_in_sentences_are_there(page: Path, bus: TyperGroup) -> None:
    text = page.read_text()
    for line in _COMMAND.findall(text):
        words = line.split()
        if words[1] in ("dev", "COMMAND") or "…" in line or "[" in line:
            continue
        assert words[1] in bus.commands, line
        options = {name for one in bus.commands[words[1]].params for name in one.opts}
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= options | {"--help"}, line
    settings = set(re.findall(r"`(BUS_[A-Z_]+)", text)) - {"BUS_"}
    assert settings <= set(VARIABLES), f"no setting: {settings - set(VARIABLES)}"
