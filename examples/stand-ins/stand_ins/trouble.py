"""What a call to the outside world meets, as a file says: nothing, slowness, a failure, or the end of the process.

The file is the one that STAND_INS names, else `stand-ins.json` in the working directory; without it nothing happens.

    {"ask/opus": {"slow": 1.5, "fail": 2, "crash": 1}, "ask/*": {"slow": 0.2}}

`slow` (seconds) holds for every call; `fail` and `crash` for so many calls: each takes one off, in the file, so they
are counted across processes. A call is slow first, then it fails or crashes: in the middle of a step. With
`"hold": true` it goes on when the file does not say so any more. `stand_ins.web` tells the same over HTTP.
"""

import asyncio
import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypedDict

CRASHED = 70
"""The exit code of a process that a stand-in has ended."""


class Told(TypedDict, total=False):
    """What a call is told to do."""

    slow: float
    fail: int
    crash: int
    hold: bool


class Unavailable(ConnectionError):
    """A call was told to fail: another try may succeed."""


async def outside(call: str) -> None:
    """Meet what is told of a call."""
    meet(call, await delayed(call))


async def delayed(call: str, path: Path | None = None) -> Told:
    """Return what is told of a call, after the time it takes."""
    told = _take(call, path)
    await asyncio.sleep(told.get("slow", 0))
    while _told(call, path).get("hold"):
        await asyncio.sleep(0.05)
    return told


def outside_sync(call: str) -> None:
    """Meet what is told of a call, in code that is not async."""
    told = _take(call)
    time.sleep(told.get("slow", 0))
    meet(call, told)


def tell(path: Path, calls: Mapping[str, Told]) -> None:
    """Write what calls are told to do; a name may be a pattern, and the first that fits holds."""
    with _locked(path):
        path.write_text(json.dumps(calls))


def calls(path: Path) -> Counter[str]:
    """Return how often each call was made while there was a file at `path`: those that failed and crashed too."""
    made = _made(path)
    return Counter(made.read_text().splitlines() if made.exists() else [])


def meet(call: str, told: Told) -> None:
    """End this process, or raise Unavailable, if that is what a call is told."""
    if told.get("crash"):
        os._exit(CRASHED)
    if told.get("fail"):
        raise Unavailable(f"{call} does not answer")


def _take(call: str, path: Path | None = None) -> Told:
    """Return what is told of a call, and count it."""
    path = path or _path()
    if not path.exists():
        return {}
    with _locked(path):
        with _made(path).open("a") as made:
            made.write(f"{call}\n")
        every: dict[str, Told] = json.loads(path.read_text())
        told = _of(every, call)
        now = told.copy()
        if crashes := now.get("crash", 0):
            told["crash"] = crashes - 1
        elif fails := now.get("fail", 0):
            told["fail"] = fails - 1
        if now != told:
            path.write_text(json.dumps(every))
    return now


def _told(call: str, path: Path | None) -> Told:
    path = path or _path()
    if not path.exists():
        return {}
    with _locked(path):
        return _of(json.loads(path.read_text()), call)


def _of(every: dict[str, Told], call: str) -> Told:
    return next((told for name, told in every.items() if fnmatchcase(call, name)), Told())


def _path() -> Path:
    return Path(os.environ.get("STAND_INS", "stand-ins.json"))


def _made(path: Path) -> Path:
    return path.with_name(f"{path.name}.calls")


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
