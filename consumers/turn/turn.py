"""Turn: one stretch of a run between two waits, as its steps see it.

It is made of three: the state (what is known of the run), the recorder (every write, and the end), and the suspension
(what becomes of the run when it is idle). docs/decisions/0036.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stepstream.bus.event import RawEvent
from stepstream.bus.observe.signals import AttemptFailed
from stepstream.checkpoint.live.messages import publish_of_run
from stepstream.checkpoint.run.memo import Failure, Memo
from stepstream.checkpoint.run.owned import Owned
from stepstream.checkpoint.run.save import Noted
from stepstream.checkpoint.run.start import StartReply
from stepstream.consumers.delivery.delivery import Delivery
from stepstream.consumers.turn.activity import Activity
from stepstream.consumers.turn.bodies import Bodies
from stepstream.consumers.turn.exit import Abandoned, CodeChanged, GivenBack, TurnOver
from stepstream.consumers.turn.recorder import Recorder
from stepstream.consumers.turn.run_log import RunLog
from stepstream.consumers.turn.services import Services
from stepstream.consumers.turn.state import RunState
from stepstream.consumers.turn.suspension import Suspension
from stepstream.consumers.turn.tasks import RunTasks


class Turn:
    """One turn of one run in this worker."""

    __slots__ = (
        "_suspension", "activity", "begun", "bodies", "closing", "delivery", "event", "function", "is_suspect", "log",
        "owned", "recorder", "services", "state", "tasks", "wire",
    )  # fmt: skip

    def __init__(
        self,
        services: Services,
        threads: ThreadPoolExecutor,
        delivery: Delivery,
        owned: Owned,
        started: StartReply,
        event: RawEvent,
    ) -> None:
        self.services = services
        self.wire = services.wire
        self.function = delivery.feed.function
        self.delivery = delivery
        self.owned = owned
        self.event = event
        self.is_suspect = started.crashes >= 2
        self.begun = time.monotonic()
        self.state = RunState(started)
        self.state.trace = services.trace(owned, event, started.memos)
        self.tasks = RunTasks()
        self.log = RunLog(services.loop, self.wire, owned, self.state, event.trace)
        """What the run writes, kept with it."""
        self.recorder = Recorder(services, self.function, owned, self.state, self.tasks)
        self.activity = Activity(self.state, self.recorder.abandon)
        self.bodies = Bodies(services.loop, threads)
        self.closing = False
        """The worker stops: no further body begins, what ends is still recorded."""
        self._suspension: Suspension | None = None
        if started.expires:
            self.recorder.expire_in(started.expires - started.now)

    @property
    def over(self) -> bool:
        """Whether the turn has ended: nothing is recorded any more."""
        return self.state.over

    @property
    def run(self) -> str:
        """The run's id."""
        return self.owned.run

    def attempt_of(self, step: str) -> int:
        """Return which attempt of a step is next, or under way, from 0."""
        return self.state.attempt_of(step)

    def trace_of(self, step: str = "") -> str | None:
        """Return the `traceparent` of what a step, or the run, begins elsewhere: its span; untraced, its event's."""
        trace = self.state.trace
        if trace is None:
            return self.event.trace
        return str(trace.step_context(step) if step else trace.context)

    def close(self) -> None:
        """The code has ended, or was cut off: drop what refers back to the run's tasks."""
        if self._suspension is not None:
            self._suspension.close()
            self._suspension = None
        self.log.end()

    # -- entering a step --------------------------------------------------------------------------------------------

    def awaited(self, step: str) -> None:
        """The step's coroutine has begun."""
        if self.state.over:
            raise TurnOver
        self.state.ids.awaited(step)
        self.activity.count += 1

    async def replayed(self, step: str, kind: str) -> Memo | None:
        """Return the step's memo when its turn has come, in order of `n`; None when there is none.

        A step that is new is held back until the handler has called all that earlier turns have begun: if it never
        does, the code has changed, and nothing new may be done. It has changed, too, when the step was of another kind:
        what was recorded of a sleep says nothing of an event.
        """
        state = self.state
        known = state.memos.get(step) or state.open.get(step)
        if known is not None and known.kind != kind:
            self.recorder.end(CodeChanged((f"{step} as {known.kind}",)))
            raise TurnOver
        if step in state.open or (state.uncalled and step not in state.memos):
            await self._suspended().let_begin(step)
            if state.over:
                raise TurnOver
        if step not in state.memos:
            return None
        memo = await self._suspended().next_memo(step)
        state.replayed(step)
        return memo

    @property
    def is_branched(self) -> bool:
        """Whether the handler does several things side by side: then what ends is seen one at a time (in_order)."""
        return len(self.tasks.alive) > 1

    async def in_order(self, n: int) -> None:
        """Let a step go on that has ended, as its memo's `n` says, behind those that ended before."""
        await self._suspended().in_order(n)

    def _suspended(self) -> Suspension:
        if self._suspension is None:
            self._suspension = Suspension(self.services.loop, self.state, self.tasks, self.activity, self.recorder)
        return self._suspension

    # -- bodies -----------------------------------------------------------------------------------------------------

    def body(self) -> Activity:
        """Return what stands around a step's body. TurnOver when the worker is stopping: another will run it."""
        if self.closing:
            self.recorder.end(GivenBack())
        return self.activity

    def note_slow_bodies(self, now: float) -> None:
        """Let the page show the bodies that have run 100 ms."""
        for slow in self.bodies.newly_slow(now):
            self.recorder.tell_slow(*slow)

    def tell_failed(self, step: str, attempt: int, failure: Failure, delay_ms: int | None) -> None:
        """Tell who listens of an attempt that failed, of a step or of the code between steps, and when the next is."""
        attempt_failed = self.services.signals.attempt_failed
        if attempt_failed:
            stack = failure.stack if failure.process is None else ""  # what a command wrote is no traceback
            told, trace = (attempt, failure.told(), delay_ms, stack, failure.name), self.event.trace
            attempt_failed.send(AttemptFailed(self.owned.slug, self.owned.run, step, *told, trace=trace))

    def is_stubbed(self, step: str) -> bool:
        """Whether a test has put something in place of a step's body."""
        stubs = self.services.stubs
        return stubs is not None and stubs.covers(step)

    def stubbed(self, step: str, target: Callable[..., Any]) -> Callable[..., Any]:
        """Return a step's body, or what a test has put in its place."""
        stubs = self.services.stubs
        return stubs.body(step, target) if stubs is not None and stubs.covers(step) else target

    def lease_is_fresh(self) -> bool:
        """Whether the entry in hand is surely still ours; no network."""
        lease = self.delivery.feed.lease
        return lease.consumer == self.delivery.consumer and lease.is_fresh()

    async def lease_renewed(self) -> None:
        """Wait until the lease is renewed; TurnOver when it is lost."""
        lease = self.delivery.feed.lease
        while not self.lease_is_fresh():
            if lease.consumer != self.delivery.consumer:
                self.recorder.end(Abandoned())
                raise TurnOver
            await lease.renewed()
            if self.over:
                raise TurnOver

    # -- what the handler says ---------------------------------------------------------------------------------------

    def replaying(self) -> bool:
        """Whether the handler only repeats what an earlier turn did."""
        return self.state.replaying()

    def tell_progress(self, progress: bytes) -> None:
        """Show how far the run is."""
        self.recorder.tell_progress(progress)

    async def publish(self, topic: str, data: bytes, channel: str) -> None:
        """Publish a message to a channel, unless the turn is over. Under no fence: it changes nothing of the run."""
        if self.state.over:
            raise TurnOver
        with self.activity:
            await publish_of_run(self.wire, self.owned.run, channel, topic, data)

    # -- waiting ----------------------------------------------------------------------------------------------------

    def waits_no_more(self, step: str) -> None:
        """The step goes on, or was cancelled: what ended after what came for it is held back for it no longer."""
        self.state.waits.discard(step)
        self.state.armed(step)
        if self.state.came.pop(step, None) is not None and self.activity.idle is not None:
            self.activity.idle.restart()

    async def noted(self, step: str, kind: str, due: str, what: bytes = b"") -> Noted:
        """Note a wait, or return how an earlier turn noted it: its first due stands."""
        known = self.state.open.get(step)
        if known is not None and known.due is not None:
            if not known.given_up:
                return Noted("mine", known.due, self.state.server_now(), known.since)
            due = str(known.due)
        with self.activity:
            return await self.recorder.note(step, kind, due=due, what=what)

    def is_armed(self, step: str) -> bool:
        """Whether the wait is known where its event or signal arrives, from this turn or an earlier one."""
        noted = self.state.open.get(step)
        return noted is not None and noted.armed

    def will_arm(self, step: str) -> None:
        """A wait is about to begin that others may be begun behind (until_armed)."""
        if not self.is_armed(step):
            self.state.arming[step] = self.services.loop.create_future()

    async def until_armed(self, steps: Iterable[str]) -> None:
        """Wait until waits are armed, or over: what begins behind them may send what they wait for."""
        if arming := [self.state.arming[step] for step in steps if step in self.state.arming]:
            await asyncio.wait(arming)  # in this way the run is seen to wait for its steps alone

    async def wait_until(self, step: str, due_ms: int, now_ms: int) -> Memo | None:
        """Let a step wait until it is due, and return None, or until its memo comes, and return that.

        The memo may be there already: it came while the step was still telling Redis what it waits for.
        """
        if self.state.over:
            raise TurnOver
        if step in self.state.memos:
            return self.state.memos[step]
        self.activity.count += 1
        try:
            memo = await self._suspended().until(step, due_ms, now_ms)
        finally:
            self.activity.count += 1
        if self.state.over:
            raise TurnOver
        return memo

    async def save_sleep(self, step: str) -> Memo | None:
        """Record a sleep that is over; it began when it was noted."""
        noted = self.state.open.get(step)
        took_ms = max(0, self.state.server_now() - noted.since) if noted else 0
        return await self.recorder.save(step, "sleep", data=b"null", took_ms=took_ms, opened=True)

    async def save_due_sleeps(self) -> None:
        """Record the sleeps that are due, in order of due, before the handler sees any memo."""
        state, now = self.state, self.state.server_now()
        due = sorted(
            (noted.due, step)
            for step, noted in state.open.items()
            if noted.kind == "sleep"
            and noted.due is not None
            and noted.due <= now
            and step not in state.memos
            and not noted.given_up
        )
        for _, step in due:
            with self.activity:
                state.keep_sleep(step, await self.save_sleep(step))
