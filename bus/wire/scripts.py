"""Lua scripts: each lies in a folder `lua` beside the module that calls it, and is known to the server by its SHA-1.

    _END = script(__file__, "run_end")  # lua/run_end.lua, beside this file
    await wire.script(_END, keys, *arguments)

A script begins with its header and, when it needs them, a line `-- uses: fence index`: those fragments, and those they
use themselves, are put before its body once, because Lua has no includes. A fragment lies in `lua/fragments` of the
script's own folder, of the folder above, or of this one. `-- flags: allow-oom` lets a script write when memory is full:
what a worker has done must be recorded, or it is done again. User text is only ever KEYS and ARGV.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

_USES = re.compile(r"^-- uses: ([a-z_ ]+)$", re.MULTILINE)
_FLAGS = re.compile(r"^-- flags: ([a-z-]+)$", re.MULTILINE)
_HERE = Path(__file__).parent
_registered: dict[str, "Script"] = {}


class Script:
    """One script: its name and, made when first asked for, its whole text and the SHA-1 the server knows it by."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder

    @cached_property
    def text(self) -> str:
        """The fragments it uses and its body, as the server gets them."""
        body = (self.folder / "lua" / f"{self.name}.lua").read_text()
        flags = _FLAGS.search(body)
        head = f"#!lua flags={flags[1]}" if flags else "#!lua"
        return "\n".join([head, *dict.fromkeys(self._used(body)), body])

    @cached_property
    def sha(self) -> str:
        """The SHA-1 of its text."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def _used(self, text: str) -> Iterator[str]:
        """Yield the fragments a text needs, each after those it needs itself."""
        used = _USES.search(text)
        for name in used[1].split() if used else ():
            fragment = self._fragment(name)
            yield from self._used(fragment)
            yield fragment

    def _fragment(self, name: str) -> str:
        for folder in (self.folder, self.folder.parent, _HERE):
            path = folder / "lua" / "fragments" / f"{name}.lua"
            if path.exists():
                return path.read_text()
        raise FileNotFoundError(f"script {self.name} uses {name}: no such fragment")


def script(file: str, name: str) -> Script:
    """Return the script `lua/<name>.lua` beside a module (its `__file__`); connections load it when they open."""
    made = Script(Path(file).parent, name)
    known = _registered.setdefault(name, made)
    if known.folder != made.folder:
        raise ValueError(f"two scripts are called {name}: in {known.folder} and in {made.folder}")
    return known


def registered() -> tuple[Script, ...]:
    """Return every script of the modules that were imported so far."""
    return tuple(_registered.values())
