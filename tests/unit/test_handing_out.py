"""In which order what steps ended with is handed to the code that awaits them."""

import asyncio
from collections.abc import Awaitable

from stepstream.checkpoint.run.memo import Memo
from stepstream.checkpoint.run.start import StartReply
from stepstream.consumers.turn.activity import Activity
from stepstream.consumers.turn.handing_out import HandingOut
from stepstream.consumers.turn.state import RunState
from stepstream.consumers.turn.tasks import RunTasks


class Handing(HandingOut):
    """Hands out, and does nothing when none is left."""

    def _is_ours(self, future: object) -> bool:
        return False

    def _nothing_left(self) -> None:
        pass

    def _rests(self, unknown: list[str]) -> None:
        pass


def handing() -> tuple[Handing, RunState]:
    state = RunState(StartReply("go", memos={}, open={}))
    return Handing(asyncio.get_running_loop(), state, RunTasks(), Activity(state, lambda _: None)), state


async def settled() -> None:
    for _ in range(100):
        await asyncio.sleep(0)


async def test_the_first_goes_on_at_once_and_what_ends_in_the_same_pass_when_the_code_is_idle_by_n() -> None:
    it, _ = handing()
    seen: list[int] = []

    async def step(n: int) -> None:
        await it.in_order(n)
        seen.append(n)

    tasks = [asyncio.ensure_future(step(n)) for n in (1, 3, 2)]
    await asyncio.sleep(0)
    assert seen == [1]
    await asyncio.gather(*tasks)
    assert seen == [1, 2, 3]


async def test_one_that_is_cancelled_while_it_waits_for_its_turn_holds_nobody_back() -> None:
    it, _ = handing()
    tasks = [asyncio.ensure_future(it.in_order(n)) for n in (1, 2, 3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [False, True, False]


async def test_what_came_for_a_wait_that_is_still_being_armed_goes_before_what_ended_later() -> None:
    it, state = handing()
    state.waits.add("event")
    state.resolve({"event": Memo(1, "event")})
    later: Awaitable[None] = asyncio.ensure_future(it.in_order(2))
    await settled()
    assert not later.done()  # type: ignore[attr-defined]
    state.waits.discard("event")
    state.came.clear()
    await it.in_order(1)
    assert not later.done()  # type: ignore[attr-defined]
    await later
