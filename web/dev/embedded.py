"""The embedded server: a real Valkey from a wheel, append-only, for `bus dev`."""

import contextlib
import json
from collections.abc import Generator
from pathlib import Path

from stepstream.bus.process.dev_server import NOTE, running_url
from stepstream.bus.process.valkey import Valkey


@contextlib.contextmanager
def embedded(folder: Path) -> Generator[str]:
    """Run a server with its data in `folder`, and yield its URL. One that a killed `bus dev` left running is reused."""
    folder.mkdir(parents=True, exist_ok=True)
    left_over = running_url(folder)
    if left_over is not None:
        yield left_over
        return
    way_out = "set BUS_REDIS_URL, or install the embedded one: pip install 'stepstream[dev]'"
    server = Valkey("bus dev", way_out=way_out, folder=folder)
    note = folder / NOTE
    note.write_text(json.dumps({"port": server.port}))
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        note.unlink(missing_ok=True)
        server.stop()
