"""Bodies: the step bodies of a turn that run now, on the loop or in threads. Those in threads cannot be cancelled."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

OPEN_AFTER_S = 0.1


class Bodies:
    """The bodies of one turn."""

    __slots__ = ("_loop", "_running", "_threads", "_threads_running", "_when_threads_end")

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: ThreadPoolExecutor) -> None:
        self._loop = loop
        self._threads = threads
        self._running: dict[str, tuple[float, int, bool]] = {}
        self._threads_running = 0
        self._when_threads_end: list[Callable[[], None]] = []

    def begins(self, step: str, started: float, attempt: int) -> None:
        """A body runs from now on."""
        self._running[step] = (started, attempt, False)

    def ends(self, step: str) -> bool:
        """It has ended; return whether it ran 100 ms or longer, as newly_slow found."""
        return self._running.pop(step, (0.0, 0, False))[2]

    @property
    def oldest(self) -> tuple[str, float] | None:
        """The step whose body has run for longest, and since when (time.monotonic()); None when none runs."""
        return next(((step, started) for step, (started, _, _) in self._running.items()), None)

    def newly_slow(self, now: float) -> list[tuple[str, int, int]]:
        """Return, once each, the bodies that have run 100 ms: step, attempt, ms so far."""
        slow: list[tuple[str, int, int]] = []
        for step, (started, attempt, is_slow) in self._running.items():
            if not is_slow and now - started >= OPEN_AFTER_S:
                self._running[step] = (started, attempt, True)
                slow.append((step, attempt, round((now - started) * 1_000)))
        return slow

    def in_thread(self, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Run sync code in the worker's threads; the slot is kept until it has ended, whatever becomes of the turn.

        Who awaits it may be cancelled: what has not begun then never does, and what has goes on, and keeps the slot.
        """
        self._threads_running += 1
        thread = self._threads.submit(work, *args)
        future = asyncio.wrap_future(thread, loop=self._loop)
        future.add_done_callback(partial(self._answered, thread))
        return future

    def _answered(self, thread: Future[Any], future: asyncio.Future[Any]) -> None:
        if not future.cancelled():
            future.exception()
            self._thread_ended()
        elif thread.done():
            self._thread_ended()
        else:
            thread.add_done_callback(self._ended_later)

    def _ended_later(self, _: Future[Any]) -> None:
        """Go back to the loop; called in the thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the worker has ended
            self._loop.call_soon_threadsafe(self._thread_ended)

    def _thread_ended(self) -> None:
        self._threads_running -= 1
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
