"""The embedded server: a real Valkey from a wheel, append-only, for `bus dev`."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Generator
from pathlib import Path

import structlog

from stepstream.bus.errors import ConfigError
from stepstream.bus.process.dev_server import read_note, write_note
from stepstream.bus.process.valkey import Valkey

_log = structlog.get_logger("dev")

_WAY_OUT = "set BUS_REDIS_URL, or install the embedded one: pip install 'stepstream[dev]'"
_FREE_WITHIN_S = 10.0
"""How long a server that ends may keep its port."""


class Embedded:
    """The server of a folder, which has the port that it had there before, if that is free.

    One that a killed `bus dev` has left running is taken over. The caller holds the folder (dev_server.held).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Valkey | None = None
        noted = read_note(folder)
        self.port, self._run_id = int(noted.get("port", 0)), str(noted.get("run_id", ""))
        if self._is_there():
            self._note()
        else:
            self._start(self.port if self.port and _is_free(self.port) else None)

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def keep(self) -> None:
        """Start the server again whenever it dies, with its data and at its port; ConfigError when that cannot be."""
        while True:
            await _until_gone(self.port)
            if await asyncio.to_thread(self._is_there):  # it has only closed that connection
                continue
            await asyncio.to_thread(self._start_again)
            _log.error("the Redis server died; another was started with its data", log=str(self._folder / "valkey.log"))

    def stop(self) -> None:
        """End the server; what it was given is on disk."""
        if self._server is not None:
            self._server.stop()
        else:
            _asked(self.port, b"SHUTDOWN\r\n")
            _until_free(self.port)

    def _start_again(self) -> None:
        if not _until_free(self.port):
            raise ConfigError(f"the Redis server died, and its port, {self.port}, is in use: start bus dev again")
        self._start(self.port, only_there=True)  # the worker, for one, was told of that port

    def _start(self, port: int | None, *, only_there: bool = False) -> None:
        self._server = Valkey("bus dev", way_out=_WAY_OUT, folder=self._folder, port=port, only_there=only_there)
        self.port = self._server.port
        self._run_id = _run_id(self.port)
        self._note()

    def _note(self) -> None:
        write_note(self._folder, self.port, self._run_id)

    def _is_there(self) -> bool:
        return bool(self.port and self._run_id) and _run_id(self.port) == self._run_id


@contextlib.contextmanager
def embedded(folder: Path) -> Generator[Embedded]:
    """Run the server of a folder."""
    server = Embedded(folder)
    try:
        yield server
    finally:
        server.stop()


async def _until_gone(port: int) -> None:
    """Return when a connection to a server has ended: it says nothing by itself, so nothing else is read."""
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await reader.read()
        finally:
            writer.close()


def _run_id(port: int) -> str:
    """Return the id that a server has for as long as it runs; empty when nothing of the kind answers."""
    found = _asked(port, b"INFO server\r\n")
    return next((line[7:] for line in found.split("\r\n") if line.startswith("run_id:")), "")


def _until_free(port: int) -> bool:
    """Wait until nobody listens on a port; return whether that came about."""
    until = time.monotonic() + _FREE_WITHIN_S
    while not (is_free := _is_free(port)) and time.monotonic() < until:
        time.sleep(0.02)
    return is_free


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
