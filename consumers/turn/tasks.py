"""RunTasks: the tasks in which a run's code runs during one turn."""

import asyncio
from typing import Any

LINGER_S = 1.0
"""How long a task is waited for that does not end when it is cancelled."""


class RunTasks:
    """The task that called the handler, and those that the handler has made."""

    __slots__ = ("_held", "_is_cancelled", "alive", "main")

    def __init__(self) -> None:
        self.main: asyncio.Task[Any] | None = None
        """The task the handler runs in."""
        self.alive: set[asyncio.Task[Any]] = set()
        self._held: set[asyncio.Future[None]] = set()
        self._is_cancelled = False

    def caller(self) -> "asyncio.Task[Any] | None":
        """Return the task that runs now. One is the common case: asking the loop costs as much as a whole step id."""
        return self.main if len(self.alive) == 1 else asyncio.current_task()

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Count a task as the run's: looked at before the run suspends, cancelled when the turn ends."""
        self.alive.add(task)
        task.add_done_callback(self.alive.discard)
        if self._is_cancelled:
            task.cancel()

    def cancel(self) -> None:
        """Cancel what runs, and whatever is made from now on."""
        self._is_cancelled = True
        for task in tuple(self.alive):
            if not task.done():
                task.cancel()

    def hold(self, gone: asyncio.Future[None]) -> None:
        """Let a command count as the run's until it is gone, however long after its task: it is being ended then."""
        self._held.add(gone)
        gone.add_done_callback(self._held.discard)

    async def ended(self) -> list[str]:
        """Wait until all have ended, at most a second, and their commands are gone; return where others stand."""
        tasks = {task for task in self.alive if not task.done()}
        lingering = (await asyncio.wait(tasks, timeout=LINGER_S))[1] if tasks else ()
        if self._held:
            await asyncio.wait(self._held)
        return [str(task.get_coro()) for task in lingering]
