"""Tasks: one's own are cancelled, and waited for until they have ended."""

import asyncio
from typing import Any


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
