"""The bodies of a turn: what runs in a thread keeps the slot until it has ended, also when nobody awaits it any more."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from stepstream.consumers.turn.bodies import Bodies
from tests.patience import PATIENT_S


async def test_a_thread_that_is_awaited_no_more_keeps_its_slot_until_it_has_ended() -> None:
    """Its turn was cancelled: the slot was free at once, and another turn ran beside the thread."""
    began, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        go_on.wait(PATIENT_S)
        ended.set()

    with ThreadPoolExecutor(1) as threads:
        bodies = Bodies(asyncio.get_running_loop(), threads)
        future, queued = bodies.in_thread(work), bodies.in_thread(pytest.fail)
        await asyncio.to_thread(began.wait, 10)
        free = asyncio.Event()
        bodies.when_threads_end(free.set)
        for one in (future, queued):
            one.cancel()
            with pytest.raises(asyncio.CancelledError):
                await one
        await asyncio.sleep(0)
        assert not free.is_set()
        go_on.set()
        await asyncio.wait_for(free.wait(), PATIENT_S)
        assert ended.is_set()


async def test_a_thread_that_ends_after_its_loop_is_nobodys_trouble() -> None:
    go_on = threading.Event()
    with ThreadPoolExecutor(1) as threads:

        async def begin() -> None:
            began = threading.Event()
            bodies = Bodies(asyncio.get_running_loop(), threads)
            future = bodies.in_thread(lambda: (began.set(), go_on.wait(PATIENT_S)))
            began.wait(PATIENT_S)
            future.cancel()
            await asyncio.sleep(0)

        await asyncio.to_thread(asyncio.run, begin())
        go_on.set()
