"""The embedded server: a real Valkey from a wheel, append-only, for `bus dev`."""

import contextlib
import json
import socket
from collections.abc import Generator
from pathlib import Path

from stepstream.bus.process.valkey import Valkey

_NOTE = "server.json"


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), 1.0) as link:
            link.sendall(b"*1\r\n$4\r\nPING\r\n")
            return link.recv(16).startswith((b"+PONG", b"-LOADING"))
    except OSError:
        return False


def running_url(folder: Path) -> str | None:
    """Return the URL of a server that already runs on the data in `folder`; None when there is none."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        port = int(json.loads((folder / _NOTE).read_text())["port"])
        if _answers("127.0.0.1", port):
            return f"redis://127.0.0.1:{port}/0"
    return None


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
    note = folder / _NOTE
    note.write_text(json.dumps({"port": server.port}))
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        note.unlink(missing_ok=True)
        server.stop()
