"""ServedCall: one call of a function over HTTP. Its handler runs until it returns, or waits for nothing but steps.

What is known of the run, the order in which memos are handed out, and when the handler is idle is what a worker's turn
has too (consumers/turn); how the call is answered is in finding.py.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from msgspec import Raw

from stepstream.bus.errors import StoreError, StoreUnavailable
from stepstream.bus.process import scope
from stepstream.bus.values.clock import now_ms
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.live.messages import publish_of_run
from stepstream.checkpoint.read.run.bringing import memo_brought, memos_brought
from stepstream.checkpoint.run.memo import Failure, Memo
from stepstream.checkpoint.run.poll import new_memos
from stepstream.checkpoint.run.save import save, tell_progress
from stepstream.consumers.drivers.guard import raised
from stepstream.consumers.remote.checkpointing import StaleCall
from stepstream.consumers.remote.protocol import NEXT
from stepstream.consumers.served import reply
from stepstream.consumers.served.asked import Asked
from stepstream.consumers.served.finding import Finding
from stepstream.consumers.served.reply import Reply
from stepstream.consumers.turn import idle_detection
from stepstream.consumers.turn.activity import Activity
from stepstream.consumers.turn.bodies import Bodies
from stepstream.consumers.turn.exit import TurnOver
from stepstream.consumers.turn.progress import Progress
from stepstream.consumers.turn.run_log import RunLog
from stepstream.consumers.turn.state import RunState
from stepstream.consumers.turn.tasks import RunTasks


class ServedCall:
    """One call: what it asks, and how far its handler has come."""

    def __init__(self, wire: Wire, threads: ThreadPoolExecutor, asked: Asked) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self.asked = asked
        self.owned = asked.owned
        self.event = asked.events[0]
        self.wire = wire
        self.tasks = RunTasks()
        self.bodies = Bodies(loop, threads)
        # A call for one step comes where the call that found it has been, and has written what the handler says there.
        self.state = RunState(asked.stands, is_repeated=asked.step != NEXT)
        self.log = RunLog(loop, wire, asked.owned, self.state, asked.events[0].trace if asked.events else None)
        self.activity = Activity(self.state, self._abandon)
        self.finding = Finding(loop, asked, self.state, self.tasks, self.activity)
        self._progress: Progress | None = None
        self._to_hand_out = len(asked.stands.memos)

    @property
    def run(self) -> str:
        """The run's id."""
        return self.owned.run

    @property
    def over(self) -> bool:
        """Whether the call has been answered, or nobody awaits it any more."""
        return self.state.over

    def attempt_of(self, step: str) -> int:
        """Return which attempt of a step is next, or under way, from 0."""
        return self.state.attempt_of(step)

    # -- the handler -----------------------------------------------------------------------------------------------

    async def answered(self, handler: Callable[[], Awaitable[bytes]]) -> Reply:
        """Call the handler, which returns its result as JSON, and return what the call is answered."""
        context = contextvars.copy_context()
        context.run(idle_detection.current.set, self.tasks)
        context.run(scope.current.set, self.log)
        main = self.tasks.main = self._loop.create_task(self._called(handler), context=context)
        try:
            return await self.finding.answer
        finally:
            self.state.over = True
            self.finding.close()
            self.tasks.cancel()
            await self.tasks.ended()
            if main.done() and not main.cancelled():
                main.exception()
            self.log.end()

    async def _called(self, handler: Callable[[], Awaitable[bytes]]) -> None:
        finding = self.finding
        try:
            output = await handler()
        except (StaleCall, StoreError, StoreUnavailable) as error:
            finding.fail(error)
        except asyncio.CancelledError:
            if self.over or finding.answer.done():
                raise
            told = RuntimeError("the function was cancelled from inside: something it awaited was cancelled")
            finding.reply(reply.raised(raised(told, now_ms())))
        except TurnOver:
            pass
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - exit(), groups: whatever the author's code raises is an answer
            finding.reply(reply.raised(raised(error, now_ms())))
        else:
            if self.state.uncalled:
                finding.reply(reply.changed(sorted(self.state.uncalled)))
                return
            if forgotten := self.state.ids.never_awaited():
                words = f"steps were called and never awaited: nothing of them was done: {', '.join(forgotten)}"
                self.log.write("bus", words, level="warning")
            finding.reply(reply.returned(output))

    def _abandon(self, error: StoreError | StoreUnavailable) -> None:
        self.finding.fail(error)

    # -- what steps ask ----------------------------------------------------------------------------------------------

    async def replayed(self, step: str, kind: str) -> Memo | None:
        """Return the memo of a step that has ended, when its turn has come; None for one that has not."""
        state = self.state
        if state.over:
            raise TurnOver
        state.ids.awaited(step)
        self.activity.count += 1
        known = state.memos.get(step) or state.open.get(step)
        if known is not None and known.kind != kind:
            return await self.ends(reply.changed([f"{step} as {known.kind}"]))
        if step not in state.memos:
            return None
        memo = await self.finding.next_memo(step)
        state.replayed(step)
        self._to_hand_out -= 1
        if self._to_hand_out == 0 and self.asked.step == NEXT:  # what comes now no call has come to
            state.leave_replay()
        return memo

    async def recorded(
        self, step: str, kind: str, *, data: bytes = b"null", error: Failure | None = None, took_ms: int = 0
    ) -> Memo:
        """Record how a step has ended while the call is open, and return that, or what stands instead.

        When Redis, or the store of large results, does not take it, and when the run is full, the bus is told instead:
        it says why.
        """
        attempts = self.attempt_of(step) + 1
        noted = self.state.open.get(step)
        own = Memo(0, kind, attempts, ended=now_ms(), data=Raw(data), error=error)
        told = reply.racing(reply.done(step, own, took_ms))
        try:
            saved = await save(
                self.wire, self.owned, step, kind, data=data, error=error, attempts=attempts, took_ms=took_ms,
                since=noted.since if noted and attempts > 1 else None, opened=True, known=self.state.known,
            )  # fmt: skip
            memo = (await memo_brought(self.wire, saved.memo)).opened() if saved.memo is not None else own
            resolved = await memos_brought(self.wire, saved.resolved)
        except (StoreError, StoreUnavailable):
            return await self.ends(reply.found([told]))
        if saved.word == "full":
            return await self.ends(reply.found([told]))
        if saved.word not in {"mine", "there"} or saved.cancel is not None:
            raise StaleCall(self.owned.run)
        self.state.resolve(resolved)
        if self.asked.step != NEXT:
            self.finding.ended(reply.done(step, memo, took_ms))
            await self._learn(step, saved.n or memo.n)
        if len(self.tasks.alive) > 1:
            await self.finding.in_order(saved.n or memo.n)
        return memo

    async def _learn(self, step: str, n: int) -> None:
        """Take in what other calls have recorded meanwhile: perhaps the handler waits for this step and for those."""
        state = self.state
        if n > len(state.memos) + 1:
            new = await new_memos(self.wire, self.owned, state.memos)
            state.resolve(await memos_brought(self.wire, {name: memo for name, memo in new.items() if name != step}))

    async def ends(self, given: Reply) -> Any:
        """Answer the call in place of the step that waits, which never goes on."""
        self.finding.reply(given)
        await self._loop.create_future()

    # -- what the context asks ---------------------------------------------------------------------------------------

    def replaying(self) -> bool:
        """Return whether the handler only repeats what an earlier call did."""
        return self.state.replaying()

    async def publish(self, topic: str, data: bytes, channel: str) -> None:
        """Publish a message to a channel."""
        if self.over:
            raise TurnOver
        with self.activity:
            await publish_of_run(self.wire, self.run, channel, topic, data)

    def tell_progress(self, progress: bytes) -> None:
        """Show, without waiting, how far the run is (JSON)."""
        if self._progress is None:
            self._progress = Progress(self._loop, lambda told: tell_progress(self.wire, self.owned, told))
        self._progress.tell(progress)
