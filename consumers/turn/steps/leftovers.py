"""Leftovers: processes that began while a step's body was at work, and are there still after it was cut off.

What a body has begun cannot be ended for it: nothing tells which of this process's children are its own. But they can
be seen, on Linux, and told of.
"""

import asyncio
import contextvars
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from stepstream.consumers.turn.steps import supervisor

_EVERY_S = 0.2
_LOOK_AFTER_S = 1.0
"""How long a body that was cut off may take to end what it has begun."""


class Leftovers:
    """Looks for what the bodies of one worker leave, at most five times a second: many may be cut off at once."""

    __slots__ = ("_looked", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._looked = 0.0

    def look(self, notice: Callable[..., None], step: str, started: float) -> None:
        """Tell, in a second, of processes left by a body that began then (time.monotonic) and was cut off now."""
        now = time.monotonic()
        if sys.platform != "linux" or now - self._looked < _EVERY_S:
            return
        self._looked = now
        began, ended = _since_boot(started), _since_boot(now)
        if _children(began, ended):
            self._loop.call_later(_LOOK_AFTER_S, _tell, notice, step, began, ended, context=contextvars.Context())


def _tell(notice: Callable[..., None], step: str, began: float, ended: float) -> None:
    if left := _children(began, ended):
        notice(
            "processes of a step are left running: end them in a finally, or use step.subprocess",
            step=step,
            processes=[f"{pid} {command}" for pid, command in left.items()][:5],
        )


def _since_boot(monotonic: float) -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - (time.monotonic() - monotonic)


def _children(began: float, ended: float) -> dict[int, str]:
    """Return our children that were started between two moments (s since boot) and have not ended, but supervisors."""
    tick = os.sysconf("SC_CLK_TCK")
    found: dict[int, str] = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            pids = (task / "children").read_text().split()
        except OSError:  # the thread has gone, or this kernel does not tell
            continue
        for pid in pids:
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
            except OSError:
                continue
            if fields[0] == "Z" or supervisor.__file__ in words:
                continue
            if began - 1 / tick <= int(fields[19]) / tick <= ended:
                found[int(pid)] = " ".join(words).strip()[:80]
    return found
