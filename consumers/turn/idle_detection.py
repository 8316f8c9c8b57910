"""Idle detection: does every task of a run await a waiting step? Then the turn can end.

A task factory knows the run's tasks by a context variable. What a task awaits is looked at where it stands: a waiting
step, another task of the run, gather, or one of the constructs below that wait for tasks of the run on a future of
their own. Anything else is unknown: the turn then ends after 250 ms without a step starting or ending, with a warning
that names the line. Rule for authors: beside a waiting step, await only steps.
"""

import asyncio
import contextvars
import os
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import anyio._backends._asyncio as anyio_asyncio

from stepstream.consumers.turn.tasks import RunTasks

_LIBRARIES = (os.path.dirname(asyncio.__file__), os.path.dirname(anyio.__file__))


current: contextvars.ContextVar[RunTasks | None] = contextvars.ContextVar("run_tasks", default=None)
"""The tasks of the run whose code makes a task."""

_KNOWN = {
    function.__code__
    for owner, name in (
        (asyncio.TaskGroup, "__aexit__"),
        (asyncio.TaskGroup, "_aexit"),
        (anyio_asyncio.TaskGroup, "__aexit__"),
        (asyncio.tasks, "_wait"),
        (asyncio, "wait_for"),
    )
    if (function := getattr(owner, name, None)) is not None
}


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Let the loop count the tasks that runs make as theirs; a factory that it has goes on making them."""
    before: Any = loop.get_task_factory()
    if getattr(before, "counts_runs", False):
        return

    def make(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any]
        task = before(loop, coro, **options) if before else asyncio.Task(coro, loop=loop, **options)
        context = options.get("context")
        tasks = current.get() if context is None else context.get(current)
        if tasks is not None:
            tasks.adopt(task)
        return task

    make.counts_runs = True  # type: ignore[attr-defined]
    loop.set_task_factory(make)


class Busy(Exception):
    """A task of the run can go on without an answer from a step."""


def unknown_waits(tasks: Iterable[asyncio.Task[Any]], is_waiting: Callable[[Any], bool]) -> list[str]:
    """Return the places where tasks of a run await something other than a step; raise Busy when one can go on."""
    alive = {task for task in tasks if not task.done()}
    unknown: list[str] = []
    for task in alive:
        waiter: Any = getattr(task, "_fut_waiter", None)
        if waiter is None or waiter.done():
            raise Busy
        if is_waiting(waiter) or waiter in alive:
            continue
        children: Any = getattr(waiter, "_children", None)  # gather's future
        if children is not None and all(child.done() or child in alive or is_waiting(child) for child in children):
            continue
        frames = _frames(task)
        if not frames or frames[-1].f_code not in _KNOWN:
            unknown.append(_authors_place(frames) if frames else repr(task))
    return unknown


def _frames(task: asyncio.Task[Any]) -> list[Any]:
    """Return the frames of what a task runs, outermost first."""
    awaited: Any = task.get_coro()
    frames: list[Any] = []
    while awaited is not None:
        kind = next((prefix for prefix in ("cr", "gi", "ag") if hasattr(awaited, f"{prefix}_frame")), None)
        frame = getattr(awaited, f"{kind}_frame") if kind else None
        if frame is None:
            break
        frames.append(frame)
        awaited = getattr(awaited, f"{kind}_yieldfrom" if kind == "gi" else f"{kind}_await")
    return frames


def _authors_place(frames: list[Any]) -> str:
    """Return the innermost place outside asyncio and anyio: a line the author can change."""
    own = [frame for frame in frames if not frame.f_code.co_filename.startswith(_LIBRARIES)]
    frame = (own or frames)[-1]
    return f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{frame.f_lineno})"
