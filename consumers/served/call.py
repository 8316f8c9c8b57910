"""ServedCall: one call of a function over HTTP. Its handler runs until it returns, or waits for nothing but steps.

A handler cannot say that it has called all that it will: that is seen when it is idle (turn/idle_detection.py). Steps
that have ended are handed out in the order in which they did, one whenever the handler is idle. When it is idle and
none is left, what it waits for is what is next: a single step is run here and now, and recorded; of several the bus is
told, and calls for each.
"""

import asyncio
import contextlib
import contextvars
import heapq
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from msgspec import Raw

from stepstream.bus.errors import StoreError, StoreUnavailable
from stepstream.bus.process import scope
from stepstream.bus.values.clock import now_ms
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.live.messages import publish_of_run
from stepstream.checkpoint.run.memo import Failure, Memo
from stepstream.checkpoint.run.save import save, tell_progress
from stepstream.consumers.drivers.guard import raised
from stepstream.consumers.remote.checkpointing import StaleCall
from stepstream.consumers.remote.protocol import NEXT, hashed
from stepstream.consumers.served import reply
from stepstream.consumers.served.asked import Asked
from stepstream.consumers.served.reply import Reply
from stepstream.consumers.turn import idle_detection
from stepstream.consumers.turn.bodies import Bodies
from stepstream.consumers.turn.exit import TurnOver
from stepstream.consumers.turn.idle_timer import IdleTimer
from stepstream.consumers.turn.progress import Progress
from stepstream.consumers.turn.run_log import RunLog
from stepstream.consumers.turn.step_ids import StepIds
from stepstream.consumers.turn.suspension import UNKNOWN_WAIT_S
from stepstream.consumers.turn.tasks import RunTasks

_CHANGED = "the code does not call steps that earlier calls have begun: put back what called them, or cancel the run"
_MISSING = "the function did not come to the step that it was called for: another that ended first has changed its way"


class Found:
    """A step that the handler waits for and that has not ended: what the bus is told of it, or that it may run here."""

    __slots__ = ("begins", "op", "runs")

    def __init__(self, op: dict[str, Any], begins: asyncio.Future[None], *, runs: bool) -> None:
        self.op = op
        self.begins = begins
        """Resolved when its body is to run here."""
        self.runs = runs


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
        self.log = RunLog(loop, wire, asked.owned, self)
        self._has_ended = False
        self.attempt = asked.attempt
        """Of the step that runs, or of the code between steps: 0 again after each step that is recorded."""
        self._ids = StepIds()
        self._memos = dict(asked.memos)
        self._places = {one: place for place, one in enumerate(asked.memos)}
        self._uncalled = set(asked.memos)
        self._handed = 0
        self._is_silent = bool(asked.memos) or asked.step != NEXT
        self._requests: list[tuple[int, int, asyncio.Future[None]]] = []
        """A heap, by the order in which the steps ended, then by who asked first."""
        self._found: dict[str, Found] = {}
        self._at_work = 0
        self._count = 0
        """Grows with whatever a step does."""
        self._reply: asyncio.Future[Reply] = loop.create_future()
        self._idle = IdleTimer(loop, self._decide)
        self._progress: Progress | None = None

    @property
    def run(self) -> str:
        """The run's id."""
        return self.owned.run

    @property
    def over(self) -> bool:
        """Whether the call has been answered, or is awaited no more."""
        return self._has_ended

    def attempt_of(self, step: str) -> int:  # noqa: ARG002 - one runs at a time
        """Return which attempt of a step is under way, from 0."""
        return self.attempt

    # -- the handler -----------------------------------------------------------------------------------------------

    async def answered(self, handler: Callable[[], Awaitable[bytes]]) -> Reply:
        """Call the handler, which returns its result as JSON, and return what the call is answered."""
        context = contextvars.copy_context()
        context.run(idle_detection.current.set, self.tasks)
        context.run(scope.current.set, self.log)
        main = self.tasks.main = self._loop.create_task(self._called(handler), context=context)
        try:
            return await self._reply
        finally:
            self._has_ended = True
            self._idle.stop()
            self._requests.clear()
            self.tasks.cancel()
            await self.tasks.ended()
            if main.done() and not main.cancelled():
                main.exception()
            self.log.end()

    async def _called(self, handler: Callable[[], Awaitable[bytes]]) -> None:
        try:
            output = await handler()
        except (StaleCall, StoreError, StoreUnavailable) as error:
            self._fail(error)
        except asyncio.CancelledError:
            if self.over or self._reply.done():
                raise
            told = RuntimeError("the function was cancelled from inside: something it awaited was cancelled")
            self.answer(reply.raised(raised(told, now_ms()), now_ms()))
        except TurnOver:
            pass
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - exit(), groups: whatever the author's code raises is an answer
            self.answer(reply.raised(raised(error, now_ms()), now_ms()))
        else:
            self.answer(reply.failed(Failure("code_changed", _CHANGED)) if self._uncalled else reply.returned(output))

    def answer(self, given: Reply) -> None:
        """Answer the call, unless it has been."""
        if not self._reply.done():
            self._reply.set_result(given)

    def _fail(self, error: Exception) -> None:
        if not self._reply.done():
            self._reply.set_exception(error)

    # -- what steps ask ----------------------------------------------------------------------------------------------

    def enter(self, base: str) -> str:
        """Return the id of a step at its call; called by the author's line two frames up."""
        if self.over:
            raise TurnOver
        step = self._ids.of(base, self.tasks.caller())
        self._uncalled.discard(hashed(step))
        return step

    def goes_on_as(self, step: str) -> None:
        """The step goes on under another id, which was not called."""
        self._uncalled.discard(hashed(step))

    def has(self, step: str) -> bool:
        """Whether a step has ended."""
        return hashed(step) in self._memos

    async def ended(self, step: str) -> Raw | None:
        """Return what is known of a step that has ended, when its turn has come; None for one that has not."""
        if self.over:
            raise TurnOver
        self._ids.awaited(step)
        self._count += 1
        memo = self._memos.get(hashed(step))
        if memo is None:
            return None
        future: asyncio.Future[None] = self._loop.create_future()
        heapq.heappush(self._requests, (self._places[hashed(step)], self._count, future))
        self._idle.restart()
        await future
        self._handed += 1
        if self._handed == len(self._places) and self.asked.step == NEXT:
            self._is_silent = False
        return memo

    async def found(self, step: str, op: dict[str, Any], *, runs: bool = False) -> None:
        """Wait as a step that has not ended; returns when its body is to run here, and never for one without."""
        one = self._found[step] = Found(op, self._loop.create_future(), runs=runs)
        self._idle.restart()
        try:
            await one.begins
        finally:
            self._found.pop(step, None)

    @contextlib.contextmanager
    def working(self) -> Any:
        """Stand around a body, and around what is asked of Redis: the handler is not idle meanwhile."""
        self._at_work += 1
        self._is_silent = False
        try:
            yield
        finally:
            self._at_work -= 1
            self._count += 1
            self._idle.restart()

    async def recorded(self, step: str, data: bytes, took_ms: int) -> Memo | None:
        """Record what a step returned while the call is open; return what stands instead, None when this does.

        A call for one step is answered with what came of it. So is any other when Redis cannot be reached, and when
        there were attempts before.
        """
        timing = {"a": (now_ms() - took_ms) * 1_000_000, "b": took_ms * 1_000_000}
        told = reply.found([reply.op("StepRun", step, data=Raw(data), timing=timing)])
        if self.asked.step != NEXT or self.attempt:  # the bus knows how many attempts there were
            await self.ends(told)
        try:
            saved = await save(self.wire, self.owned, step, "run", data=data, took_ms=took_ms, opened=True)
        except (StoreError, StoreUnavailable):
            return await self.ends(told)
        if saved.word == "full":
            return await self.ends(told)  # the bus says why
        if saved.word not in {"mine", "there"} or saved.cancel is not None:
            raise StaleCall(self.owned.run)
        self.attempt = 0
        return saved.memo

    async def ends(self, given: Reply) -> Any:
        """Answer the call in place of the step that waits, which goes on never."""
        self.answer(given)
        await self._loop.create_future()

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        """The handler is idle: hand out what ended next, or look what it waits for."""
        while self._requests and self._requests[0][2].done():  # its task was cancelled
            heapq.heappop(self._requests)
        if self._reply.done():
            return
        if self._requests:
            heapq.heappop(self._requests)[2].set_result(None)
            self._idle.restart()
        elif self._found and not self._at_work:
            self._look()

    def _look(self) -> None:
        try:
            unknown = idle_detection.unknown_waits(self.tasks.alive, self._is_ours)
        except idle_detection.Busy:
            self._loop.call_later(0.001, self._idle.restart, context=contextvars.Context())
            return
        if unknown:  # the handler may go on without a step
            self._loop.call_later(UNKNOWN_WAIT_S, self._look_again, self._count, context=contextvars.Context())
        else:
            self._choose()

    def _look_again(self, count: int) -> None:
        if self._count == count and not self._at_work and not self._reply.done() and self._found:
            self._choose()

    def _is_ours(self, future: object) -> bool:
        return any(one.begins is future for one in self._found.values())

    def _choose(self) -> None:
        """Let one step run here, or answer with what the handler waits for."""
        if self._uncalled:
            self.answer(reply.failed(Failure("code_changed", _CHANGED)))
            return
        waiting = {step: one for step, one in self._found.items() if not one.begins.done()}
        if self.asked.step != NEXT:
            waiting = {step: one for step, one in waiting.items() if hashed(step) == self.asked.step}
        if not waiting:
            self.answer(
                reply.found([]) if self.asked.step == NEXT else reply.failed(Failure("step_not_found", _MISSING))
            )
            return
        first = next(iter(waiting.values()))
        if first.runs and len(waiting) == 1 and (self.asked.may_run or self.asked.step != NEXT):
            first.begins.set_result(None)
            return
        ops = [one.op for one in waiting.values()]
        if len(ops) > 1 or not self.asked.may_run:  # whatever ends first, the handler may go on with that
            ops = [{**one, "opts": {**one["opts"], "parallelMode": "race"}} for one in ops]
        self.answer(reply.found(ops))

    # -- what the context and the log ask ----------------------------------------------------------------------------

    def replaying(self) -> bool:
        """Return whether the handler only repeats what an earlier call did; its log lines were written then."""
        return self._is_silent

    def server_now(self) -> int:
        """Return the time, ms; this process's clock."""
        return now_ms()

    async def publish(self, topic: str, data: bytes, channel: str) -> None:
        """Publish a message to a channel."""
        await publish_of_run(self.wire, self.run, channel, topic, data)

    def tell_progress(self, progress: bytes) -> None:
        """Show, without waiting, how far the run is (JSON)."""
        if self._progress is None:
            self._progress = Progress(self._loop, lambda told: tell_progress(self.wire, self.owned, told))
        self._progress.tell(progress)
