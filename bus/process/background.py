"""Background: an event loop in a thread of its own, for code that has no loop: Django, Flask, scripts, threads.

There is one for a process, begun by its first use and closed at its exit. A forked child begins its own: of its
parent's it has a copy that no thread drives, which it must not touch, for the sockets in it are the parent's.
"""

import asyncio
import atexit
import contextvars
import ctypes
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from stepstream.bus.errors import ConfigError

R = TypeVar("R")

_CLOSE_WITHIN_S = 2.0
_ENDING = "this process is ending, and can begin nothing: publish before its last objects go"


class Background:
    """One loop and its thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._thread = threading.Thread(target=self._drive, name="stepstream", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # the interpreter begins no thread any more
            self.loop.close()
            raise ConfigError(_ENDING) from error

    def at_exit(self, close: Callable[[], Awaitable[None]]) -> None:
        """Await `close()` in the loop before it ends."""
        self._closing.append(close)

    def _drive(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def close(self) -> None:
        """Close what was opened in the loop, then the loop."""
        asyncio.run_coroutine_threadsafe(self._closed(), self.loop).result(2 * _CLOSE_WITHIN_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_CLOSE_WITHIN_S)
        if not self._thread.is_alive():
            self.loop.close()

    async def _closed(self) -> None:
        async with asyncio.timeout(_CLOSE_WITHIN_S):
            for close in self._closing:
                await close()
        await self.loop.shutdown_default_executor()


_lock = threading.RLock()
"""A signal handler, or what a collected object's __del__ does, may come here while its own thread is here."""
_current: Background | None = None


def background() -> Background:
    """Return the one of this process; ConfigError when it is ending: a thread that is begun then never runs."""
    global _current
    if sys.is_finalizing():
        raise ConfigError(_ENDING)
    with _lock:
        if _current is None:
            made = Background()
            if _current is None:
                _current = made
            else:  # a signal handler has come between
                made.close()
        return _current


def wait_for(work: Callable[[], Coroutine[Any, Any, R]], loop: asyncio.AbstractEventLoop) -> R:
    """Do `work` in a loop that another thread drives, and return what it returns.

    In an empty context: the loop must not take the work for that of the run whose step calls this.
    """
    doing = contextvars.Context().run(asyncio.run_coroutine_threadsafe, work(), loop)
    try:
        return doing.result()
    except BaseException:  # Ctrl-C, perhaps
        doing.cancel()
        raise


def refuse_in_loop(called: str, instead: str) -> None:
    """Raise ConfigError when this thread drives an event loop, which the call would block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ConfigError(f"{called} would block the event loop that runs here; write {instead}")


@atexit.register
def _end() -> None:
    global _current
    ending, _current = _current, None
    if ending is not None:
        ending.close()


def _forked() -> None:
    global _lock, _current
    left, _current, _lock = _current, None, threading.RLock()
    if left is not None:
        # Never collected: that would warn of a loop and sockets that are not closed, and they are not ours to close.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(left))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
