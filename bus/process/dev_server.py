"""The server that `bus dev` runs in a folder: found by commands and applications that are started there, or below it.

A lock tells whether it runs: the kernel gives it up with the process that holds it, however that dies. So nothing is
asked over the network, a note of a server that is dead is not believed, and neither is one of somebody else's.
"""

import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Generator
from pathlib import Path

from stepstream.bus.errors import ConfigError

FOLDER = Path(".bus")
"""Where `bus dev` keeps its server's data, unless it is told otherwise; relative to the working directory."""

_NOTE, _LOCK = "server.json", "lock"
_PATIENCE_S = 1.0
_told: set[str] = set()


def running_url() -> str | None:
    """Return the URL of the server of the `bus dev` of this folder, or of the nearest above; None when none runs."""
    with contextlib.suppress(OSError):  # the working directory is gone
        here = Path.cwd()
        for folder in (here, *here.parents):
            noted = read_note(folder / FOLDER)
            if noted and _is_held(folder / FOLDER):
                return f"redis://127.0.0.1:{noted['port']}/0"
    return None


def tell(url: str) -> None:
    """Tell a person at a terminal, once, which server is used; a program that reads our standard error is not told."""
    if url not in _told and sys.stderr.isatty():
        sys.stderr.write(f"using the Redis of bus dev, {url}; BUS_REDIS_URL chooses another\n")
    _told.add(url)


def read_note(folder: Path) -> dict[str, int | str]:
    """Return what the last `bus dev` has noted of its server: `port` and `run_id`; nothing, when that is not ours."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError), (folder / _NOTE).open() as file:
        if os.fstat(file.fileno()).st_uid == os.geteuid():
            noted = json.load(file)
            return {"port": int(noted["port"]), "run_id": str(noted.get("run_id", "")), "pid": int(noted.get("pid", 0))}
    return {}


def write_note(folder: Path, port: int, run_id: str) -> None:
    """Note how this folder's server is reached. It stays when the server ends: the next one takes the same port."""
    made = folder / f"{_NOTE}.new"
    made.write_text(json.dumps({"port": port, "run_id": run_id, "pid": os.getpid()}))
    made.replace(folder / _NOTE)


@contextlib.contextmanager
def held(folder: Path) -> Generator[None]:
    """Hold a folder for one `bus dev`; ConfigError when another holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        until = time.monotonic() + _PATIENCE_S
        while not _locked(lock, fcntl.LOCK_EX):  # who asks whether it is held, holds it for a moment
            if time.monotonic() > until:
                pid = read_note(folder).get("pid")
                raise ConfigError(
                    f"a bus dev runs on {folder} already{f' (process {pid})' if pid else ''}: use that one, end it, "
                    "or give this one data and a port of its own: --folder .bus-2 --port 8289"
                )
            time.sleep(0.02)
        yield
    finally:
        os.close(lock)


def _is_held(folder: Path) -> bool:
    try:
        lock = os.open(folder / _LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _locked(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)


def _locked(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
