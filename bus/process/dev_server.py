"""The server that `bus dev` runs in a folder: found by commands and applications that are started beside it."""

import contextlib
import json
import socket
from pathlib import Path

FOLDER = Path(".bus")
"""Where `bus dev` keeps its server's data, unless it is told otherwise; relative to the working directory."""

NOTE = "server.json"


def running_url(folder: Path = FOLDER) -> str | None:
    """Return the URL of the server that runs on the data in `folder`; None when none does, whatever a note says."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        port = int(json.loads((folder / NOTE).read_text())["port"])
        if _answers("127.0.0.1", port):
            return f"redis://127.0.0.1:{port}/0"
    return None


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), 1.0) as link:
            link.sendall(b"*1\r\n$4\r\nPING\r\n")
            return link.recv(16).startswith((b"+PONG", b"-LOADING"))
    except OSError:
        return False
