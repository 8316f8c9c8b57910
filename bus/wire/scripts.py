"""Lua scripts: joined from named fragments, told apart by their SHA-1, loaded first on every connection.

A script begins with its header and, when it needs them, a line `-- uses: fence index`: those files of `fragments/`, and
those they use themselves, are put before its body once, because Lua has no includes. `-- flags: allow-oom` lets it
write when memory is full: what a worker has done must be recorded, or it is done again. User text is only ever KEYS
and ARGV.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

_USES = re.compile(r"^-- uses: ([a-z ]+)$", re.MULTILINE)
_FLAGS = re.compile(r"^-- flags: ([a-z-]+)$", re.MULTILINE)


class Script:
    """One script: its name, its whole text, and the SHA-1 by which the server knows it."""

    __slots__ = ("name", "sha", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@cache
def all_scripts() -> dict[str, Script]:
    """Return every script by name."""
    folder = files("stepstream.bus.wire") / "lua"
    fragments = {
        path.name.removesuffix(".lua"): path.read_text()
        for path in (folder / "fragments").iterdir()
        if path.name.endswith(".lua")
    }
    scripts: dict[str, Script] = {}
    for path in folder.iterdir():
        if not path.name.endswith(".lua"):
            continue
        text = path.read_text()
        joined = "\n".join([*(fragments[name] for name in dict.fromkeys(_used(text, fragments))), text])
        name = path.name.removesuffix(".lua")
        flags = _FLAGS.search(text)
        head = f"#!lua flags={flags[1]}\n" if flags else "#!lua\n"
        scripts[name] = Script(name, head + joined)
    return scripts


def _used(text: str, fragments: dict[str, str]) -> Iterator[str]:
    """Yield the fragments a text needs, each after those it needs itself."""
    used = _USES.search(text)
    for name in used[1].split() if used else ():
        yield from _used(fragments[name], fragments)
        yield name
