"""Background: the engine's own tasks, which belong to no run; what fails in one is told."""

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

from stepstream.bus.observe.signals import Signals
from stepstream.consumers.delivery.failing import FAILED, tell


def outside(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start the engine's own work: a task that belongs to no run, wherever it is started from."""
    return asyncio.Task(work, loop=loop, context=contextvars.Context())


class Background:
    """Tasks of one part of the worker, under way."""

    def __init__(self, signals: Signals) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        self._signals = signals
        self._loop = asyncio.get_running_loop()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin a task; its error is written to the log."""
        task = outside(self._loop, work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            tell(self._signals, FAILED, error)

    async def settled(self) -> None:
        """Wait until all are done, those that are started meanwhile too."""
        while self.tasks:
            await asyncio.wait(tuple(self.tasks))

    def cancel(self) -> None:
        """Cancel what is under way."""
        for task in self.tasks:
            task.cancel()
