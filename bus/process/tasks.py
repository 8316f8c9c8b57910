"""Tasks: one's own are cancelled, and waited for until they have ended; what several have raised is told apart."""

import asyncio
from typing import Any, cast


async def cancelled(*tasks: "asyncio.Future[Any]") -> None:
    """Cancel tasks and return when they have ended, whatever they raise meanwhile.

    Not gather(…, return_exceptions=True): when its caller is cancelled while it waits, it raises the cancellation of
    one of the tasks in place of the caller's. A scope of anyio knows its own cancellation by what is in it, and would
    let the other one out, as if somebody else had cancelled.
    """
    for task in tasks:
        task.cancel()
        task.add_done_callback(retrieved)
    if tasks:
        await asyncio.wait(tasks)


def retrieved(future: "asyncio.Future[Any]") -> None:
    """Retrieve the result of what nobody awaits, so that asyncio does not log its exception."""
    if not future.cancelled():
        future.exception()


def raised(error: BaseException) -> list[BaseException]:
    """Return the errors that a group holds, in whatever groups within it; of any other error, itself."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    group = cast("BaseExceptionGroup[BaseException]", error)
    return [one for inner in group.exceptions for one in raised(inner)]
