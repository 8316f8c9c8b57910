"""The embedded server: a real Valkey from a wheel, append-only, for `bus dev`."""

import contextlib
import socket
import time
from collections.abc import Generator
from pathlib import Path

from stepstream.bus.process.dev_server import read_note, write_note
from stepstream.bus.process.valkey import Valkey


@contextlib.contextmanager
def embedded(folder: Path) -> Generator[str]:
    """Run a server with its data in `folder`, and yield its URL; it has the port it had there before, if that is free.

    One that a killed `bus dev` has left running is taken over. The caller holds the folder (dev_server.held).
    """
    noted = read_note(folder)
    port, run_id = int(noted.get("port", 0)), noted.get("run_id")
    if port and run_id and _run_id(port) == run_id:
        write_note(folder, port, str(run_id))
        try:
            yield _url(port)
        finally:
            _shut_down(port)
        return
    way_out = "set BUS_REDIS_URL, or install the embedded one: pip install 'stepstream[dev]'"
    server = Valkey("bus dev", way_out=way_out, folder=folder, port=port if port and _is_free(port) else None)
    try:
        write_note(folder, server.port, _run_id(server.port))
        yield _url(server.port)
    finally:
        server.stop()


def _url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


def _run_id(port: int) -> str:
    """Return the id that a server has for as long as it runs; empty when nothing of the kind answers."""
    found = _asked(port, b"INFO server\r\n")
    return next((line[7:] for line in found.split("\r\n") if line.startswith("run_id:")), "")


def _shut_down(port: int) -> None:
    _asked(port, b"SHUTDOWN\r\n")
    until = time.monotonic() + 10
    while not _is_free(port) and time.monotonic() < until:
        time.sleep(0.02)


def _asked(port: int, command: bytes) -> str:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0) as link:
        link.sendall(command)
        return link.recv(65_536).decode(errors="replace")
    return ""


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
