"""Tasks of one's own: cancelled and waited for, and a cancellation of who waits arrives as it was meant."""

import asyncio
import gc

import anyio
import pytest

from stepstream.bus.process.tasks import cancelled


async def test_a_scope_that_is_cancelled_while_it_cancels_a_task_ends_there() -> None:
    """`asyncio.gather(task, return_exceptions=True)` raised the task's cancellation, which left the scope."""
    task = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    with anyio.CancelScope() as scope:
        asyncio.get_running_loop().call_soon(scope.cancel)
        await cancelled(task)
    assert scope.cancelled_caught
    assert task.cancelled()


async def test_what_a_task_raises_as_it_ends_is_neither_raised_nor_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("as it ends")

    task, over = asyncio.create_task(fails()), asyncio.create_task(asyncio.sleep(0))
    await over
    await cancelled(task, over)
    assert task.done()
    assert not over.cancelled()
    await cancelled()
    del task
    gc.collect()
    assert "never retrieved" not in caplog.text
