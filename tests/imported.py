"""What a process that is forked has done already: it imported all that any command does, read the scripts, compiled the pages."""

import gc
import importlib
from pathlib import Path

from stepstream.bus.wire.scripts import registered
from stepstream.web.pages.page import _environment

ROOT = Path(__file__).parent.parent
ON_DEMAND = [
    "anyio._backends._asyncio", "click", "encodings.idna", "h11", "httpx2", "jinja2", "pydantic.json_schema", "rich.console", "rich.markdown", "rich.table",
    "rich.traceback", "statistics", "tests.blob_writers", "tests.chaos.app", "tests.forks", "typer._adapters", "uvicorn", "uvicorn.lifespan.on", "uvicorn.logging",
    "uvicorn.loops.auto", "uvicorn.protocols.http.auto", "uvicorn.protocols.http.h11_impl", "watchfiles",
]  # fmt: skip
"""Of others, imported when it is first needed."""

for folder in ("bus", "checkpoint", "producers", "consumers", "web"):
    for path in sorted((ROOT / folder).rglob("*.py")):
        if path.name not in ("__init__.py", "pytest_plugin.py") and "outbox" not in path.parts:  # which no command has
            importlib.import_module(".".join(["stepstream", *path.relative_to(ROOT).with_suffix("").parts]))
for name in ON_DEMAND:
    importlib.import_module(name)
for script in registered():
    assert script.text
for name in _environment.list_templates():
    _environment.get_template(name)
gc.freeze()  # what stands here is shared with every fork for as long as nobody touches it
