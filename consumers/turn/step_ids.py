"""Step ids: the author's id, taken at the call; a repeated one is `id:1`, `id:2`, as in Inngest's SDKs.

Steps are numbered in the order of their calls, so they are the same in every replay, whatever order they finish in.
"""

import sys
from typing import Any

from stepstream.bus.errors import NonRetriable
from stepstream.bus.process import scope

MAX_STEP_ID = 256


class _Used:
    """Who used a step id first, where, and how often."""

    __slots__ = ("count", "file", "line", "task")

    def __init__(self, task: Any, file: str, line: int) -> None:
        self.task = task
        self.file = file
        self.line = line
        self.count = 1


class StepIds:
    """The step ids of one turn."""

    __slots__ = ("_called", "_used")

    def __init__(self) -> None:
        self._used: dict[str, _Used] = {}
        self._called: set[str] = set()

    def of(self, base: str, task: Any) -> str:
        """Return the id of a step called in `task`, by the author's line three frames up."""
        if scope.step.get():  # a body of another
            raise NonRetriable(
                f"step '{base}' is called inside the body of another step; call it in the function, beside that step"
            )
        used = self._used.get(base)
        frame = sys._getframe(3)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        if used is None:
            if not base or len(base) > MAX_STEP_ID:
                raise NonRetriable(f"step id {base[:40]!r} must have 1 to {MAX_STEP_ID} characters")
            self._used[base] = _Used(task, frame.f_code.co_filename, frame.f_lineno)
            step = base
        elif used.task is not task:
            raise NonRetriable(
                f"step id '{base}' is used by two tasks of one run ({used.file}:{used.line} and "
                f"{frame.f_code.co_filename}:{frame.f_lineno}); give each its own id"
            )
        else:
            step = f"{base}:{used.count}"
            used.count += 1
        self._called.add(step)
        return step

    def awaited(self, step: str) -> None:
        """The step's coroutine has begun."""
        self._called.discard(step)

    def never_awaited(self) -> list[str]:
        """Return steps that were called and whose coroutine nobody awaited."""
        return sorted(self._called)
