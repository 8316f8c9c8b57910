"""Working: the steps of a conversation that are being done, or waited for, and when the app is to be asked again."""

import asyncio
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import Any


class Working:
    """Steps at work, each a task, and those that have ended since the app was asked last.

    The app is asked when all have ended, and before when one has after whose end it wants to be asked at once.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._under_way = 0
        self._racing: set[str] = set()
        self._is_urgent = False
        self._news: asyncio.Future[None] | None = None

    def __contains__(self, step: str) -> bool:
        return step in self._tasks

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, step: str, work: Coroutine[Any, Any, None]) -> None:
        """Do what a step is."""
        task = self._tasks[step] = asyncio.create_task(work)
        self._under_way += 1
        task.add_done_callback(partial(self._has_ended, step))

    def race(self, step: str) -> None:
        """The app wants to be asked at once when this step has ended."""
        self._racing.add(step)

    def _has_ended(self, step: str, task: asyncio.Task[None]) -> None:
        self._under_way -= 1
        # The error of a task that ends after the conversation has must be taken: asyncio logs one that nobody takes.
        has_failed = task.cancelled() or task.exception() is not None
        self._is_urgent = self._is_urgent or has_failed or step in self._racing
        if self._news is not None and not self._news.done() and self._is_to_ask():
            self._news.set_result(None)

    def _is_to_ask(self) -> bool:
        return self._is_urgent or not self._under_way

    async def until_to_ask(self) -> None:
        """Wait until the app is to be asked; raises what has made a step fail that cannot be recorded."""
        if not self._is_to_ask():
            self._news = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._news})  # in this way the run is seen to wait for its steps alone
        self.take_ended()

    async def until_ended(self, steps: Iterable[str]) -> None:
        """Wait until some steps have ended, which takes no longer than recording that."""
        if tasks := [self._tasks[step] for step in steps if step in self._tasks]:
            await asyncio.wait(tasks)
            self.take_ended()

    def take_ended(self) -> None:
        """Let go of the steps that have ended."""
        self._is_urgent = False
        for step, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[step]
                self._racing.discard(step)
                task.result()
