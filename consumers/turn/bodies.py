"""Bodies: what runs of a turn's steps right now, on the loop and in threads. A thread can only be waited for."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

OPEN_AFTER_S = 0.1


class Bodies:
    """The bodies of one turn; `tell` is told, once, of each that takes long: its step, its attempt, ms so far."""

    __slots__ = ("_loop", "_running", "_tell", "_threads", "_threads_running", "_when_threads_end", "told")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, threads: ThreadPoolExecutor, tell: Callable[[str, int, int], None]
    ) -> None:
        self._loop = loop
        self._threads = threads
        self._tell = tell
        self._running: dict[str, tuple[float, int, bool]] = {}
        self.told = False
        """Whether anything was told."""
        self._threads_running = 0
        self._when_threads_end: list[Callable[[], None]] = []

    def begins(self, step: str, started: float, attempt: int) -> None:
        """A body runs from now on; once it has for 100 ms the page is told."""
        self._running[step] = (started, attempt, False)

    def ends(self, step: str) -> bool:
        """It has ended; return whether the page was told."""
        return self._running.pop(step, (0.0, 0, False))[2]

    def tell_slow(self, now: float) -> None:
        """Tell of bodies that have run 100 ms."""
        for step, (started, attempt, told) in self._running.items():
            if not told and now - started >= OPEN_AFTER_S:
                self._running[step] = (started, attempt, True)
                self.told = True
                self._tell(step, attempt, round((now - started) * 1_000))

    def in_thread(self, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Run sync code in the worker's threads; the slot is kept until it has ended, whatever becomes of the turn."""
        self._threads_running += 1
        future = self._loop.run_in_executor(self._threads, work, *args)
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, future: asyncio.Future[Any]) -> None:
        self._threads_running -= 1
        if not future.cancelled():
            future.exception()
        if self._threads_running == 0:
            then, self._when_threads_end = self._when_threads_end, []
            for one in then:
                one()

    def when_threads_end(self, then: Callable[[], None]) -> None:
        """Call `then` once no thread of this turn runs any more; at once when there is none."""
        if self._threads_running == 0:
            then()
        else:
            self._when_threads_end.append(then)

    @property
    def in_threads(self) -> list[str]:
        """The steps whose bodies run while a thread of this turn does; none when no thread does."""
        return sorted(self._running) if self._threads_running else []
