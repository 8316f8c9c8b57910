"""All scripts there are, whichever modules a test has imported."""

import importlib
from functools import cache
from pathlib import Path

from stepstream.bus.wire.scripts import Script, registered

ROOT = Path(__file__).parent.parent
FLOORS = ("bus", "checkpoint", "producers", "consumers", "web")
"""The folders of the code, low to high: a folder imports from those before it."""


@cache
def all_scripts() -> dict[str, Script]:
    """Return every script by name."""
    for folder in FLOORS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "= script(__file__" in path.read_text():
                importlib.import_module(".".join(["stepstream", *path.relative_to(ROOT).with_suffix("").parts]))
    return {script.name: script for script in registered()}
