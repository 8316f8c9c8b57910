"""Scratch: an empty Redis for each harness: databases of one real Valkey from a wheel, which ends with this process.

It must be a real one: what only resembles it (fakeredis) hung up on slow readers, and knew scripts by half.
"""

import contextlib
import os
from collections.abc import Generator
from functools import cache

from stepstream.bus.errors import ConfigError
from stepstream.bus.process.valkey import Valkey

_DATABASES = 64


class _Server:
    def __init__(self) -> None:
        way_out = "pip install 'stepstream[dev]' for one of its own, or give it a url"
        self.valkey = Valkey("the harness", way_out=way_out, databases=_DATABASES)
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
        yield f"redis://127.0.0.1:{server.valkey.port}/{database}"
    finally:
        server.free.append(database)
