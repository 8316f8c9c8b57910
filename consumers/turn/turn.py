"""Turn: one stretch of a run between two waits: what is known, what waits, and how it comes to an end.

A turn ends in one of four ways: the handler returns or raises (the executor records it), every task of the run awaits a
parked step (the turn parks itself), a fenced script says that the turn is not ours any more, or the worker gives it up.
From then on every `step.…` raises TurnOver and runs nothing.
"""

import asyncio
import contextvars
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, cast

from msgspec import Raw

from stepstream.bus.errors import BusError, NonRetriable
from stepstream.bus.event import RawEvent
from stepstream.bus.function import Function
from stepstream.bus.observe.signals import Signals, StepSaved
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.end import Leaves
from stepstream.checkpoint.run.fence import Owned, Word
from stepstream.checkpoint.run.memo import Failure, Memo, Open
from stepstream.checkpoint.run.save import FULL, Noted, note_open, save, tell_armed, tell_open, tell_progress
from stepstream.checkpoint.run.start import StartReply
from stepstream.consumers.delivery.delivery import Delivery
from stepstream.consumers.delivery.failing import FAILED
from stepstream.consumers.turn.activity import AtWork
from stepstream.consumers.turn.bodies import Bodies
from stepstream.consumers.turn.interrupts import TurnOver
from stepstream.consumers.turn.progress import Progress
from stepstream.consumers.turn.services import Services
from stepstream.consumers.turn.step_ids import StepIds
from stepstream.consumers.turn.suspension import Rest

Parting = Literal["parked", "changed", "cancelled", "over", "lost", "absent", "given back", "abandoned"]
"""How a turn ended, if not by its handler.

Parked and over are acknowledged, a cancelled run is ended, lost and absent are looked at again. Changed: the code is
not what the run was begun with; it waits for the next deploy. Given back: the worker stops. Abandoned: its lease
is lost.
"""

LINGER_S = 1.0


class Turn:
    """One turn of one run in this worker."""

    __slots__ = (
        "_errands",
        "_expiry",
        "_fresh",
        "_has_open",
        "_has_steps",
        "_loop",
        "_on_parting",
        "_progress",
        "_rest",
        "_server_offset",
        "_silent",
        "_to_replay",
        "activity",
        "attempt",
        "begun",
        "bodies",
        "cancelled",
        "closing",
        "delivery",
        "event",
        "function",
        "ids",
        "is_suspect",
        "known",
        "main",
        "memos",
        "open",
        "over",
        "owned",
        "signals",
        "tasks",
        "uncalled",
        "wire",
        "work",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wire: Wire,
        signals: Signals,
        threads: ThreadPoolExecutor,
        function: Function,
        delivery: Delivery,
        owned: Owned,
        started: StartReply,
        event: RawEvent,
        errands: Services,
        on_parting: "Callable[[Turn, Parting, int], None]",
    ) -> None:
        self.wire = wire
        self.signals = signals
        self.function = function
        self.delivery = delivery
        self.event = event
        self._errands = errands
        self.owned = owned
        self.attempt = started.attempt
        self.is_suspect = started.crashes >= 2
        self.memos = started.memos
        self.open = started.open
        self.known = max(memo.n for memo in started.memos.values()) if started.memos else 0
        self.over = False
        self._on_parting = on_parting
        self._loop = loop
        self._server_offset = started.now - time.monotonic() * 1_000
        self._to_replay = len(started.memos)
        self.uncalled: set[str] = {*started.memos, *started.open}
        """Steps that earlier turns have begun and the handler has not called yet in this one."""
        self._fresh: set[str] = set()
        self._silent = bool(started.memos or started.open)
        self._has_steps = self._has_open = started.resumed
        self.tasks: set[asyncio.Task[Any]] = set()
        self.ids = StepIds()
        self.bodies = Bodies(loop, threads, partial(tell_open, wire, owned))
        self.work = 0
        """Bodies, saves and notes under way."""
        self.activity = 0
        """Grows with whatever a step of the run does: how rest is told from work."""
        self.main: asyncio.Task[Any] | None = None
        """The task the handler runs in."""
        self._rest: Rest | None = None
        self.begun = time.monotonic()
        self.cancelled: Failure | None = None
        self.closing = False
        """The worker stops: no further body begins, what ends is still recorded."""
        self._progress: Progress | None = None
        self._expiry: asyncio.TimerHandle | None = None

    # -- entering a step --------------------------------------------------------------------------------------------

    def enter(self, base: str) -> str:
        """Return the id of a step at its call; called by the author's line two frames up."""
        if self.over:
            raise TurnOver
        # One task is the common case, and asking the loop which it is costs as much as all the rest here.
        step = self.ids.of(base, self.main if len(self.tasks) == 1 else asyncio.current_task())
        if self.uncalled:
            self.uncalled.discard(step)
        return step

    def awaited(self, step: str) -> None:
        """The step's coroutine has begun."""
        if self.over:
            raise TurnOver
        self.ids.awaited(step)
        self.activity += 1

    def leaves(self) -> Leaves:
        """Which keys the run may have beside its own: a new run without a step has none to let expire."""
        if self._has_open or self.bodies.told:
            return "steps open"
        return "steps" if self._has_steps else ""

    # -- replaying --------------------------------------------------------------------------------------------------

    def replaying(self) -> bool:
        """Whether the handler is where an earlier turn has been: its log lines were written then."""
        return self._silent

    async def replayed(self, step: str) -> Memo | None:
        """Return the step's memo when its turn has come, in order of `n`; None when there is none.

        A step that is new is held back until the handler has called all that earlier turns have begun: if it never
        does, the code has changed, and nothing new may be done.
        """
        if step in self.open or (self.uncalled and step not in self.memos):
            await self.rest().let_begin(step)
            if self.over:
                raise TurnOver
        if step not in self.memos:
            return None
        memo = await self.rest().handed_out(step)
        self._to_replay -= 1
        if step in self._fresh or (self._to_replay == 0 and all(one.given_up for one in self.open.values())):
            self._silent = False
        return memo

    def speak_up(self) -> None:
        """Something new begins: the handler's log lines are written from now on."""
        self._silent = False

    # -- working ----------------------------------------------------------------------------------------------------

    def begin_body(self) -> None:
        """A body is to run. TurnOver when the worker is stopping: another will run it."""
        if self.closing:
            self.part("given back")
        self.begin_work()

    def begin_work(self) -> None:
        """A body, a save or a note is under way: the turn cannot park."""
        if self.over:
            raise TurnOver
        self.work += 1
        self.activity += 1

    def end_work(self) -> None:
        """It has ended."""
        self.work -= 1
        self.activity += 1
        if self._rest is not None:
            self._rest.touch()

    def at_work(self, *, is_body: bool = False) -> AtWork:
        """begin_work (or begin_body) … end_work, around all that a run asks of Redis."""
        return AtWork(self, self.begin_body if is_body else self.begin_work)

    def give_up(self, error: BusError) -> None:
        """Redis failed under the turn: its entry stays pending, and is taken up again."""
        if not self.over and not self.wire.is_in_trouble:  # else it is told of already
            self.signals.notice(FAILED, function=self.function.slug, run=self.owned.run, error=str(error))
        self.part("abandoned")

    def tell_progress(self, progress: bytes) -> None:
        """Show how far the run is."""
        if self._progress is None:
            self._progress = Progress(self._loop, partial(tell_progress, self.wire, self.owned))
        self._progress.tell(progress)

    def lease_is_fresh(self) -> bool:
        """Whether the entry in hand is surely still ours; no network."""
        lease = self.delivery.source.lease
        return lease.consumer == self.delivery.consumer and lease.is_fresh()

    async def lease_renewed(self) -> None:
        """Wait until the lease is renewed; TurnOver when it is lost."""
        lease = self.delivery.source.lease
        while not self.lease_is_fresh():
            if lease.consumer != self.delivery.consumer:
                self.part("abandoned")
                raise TurnOver
            await lease.renewed()
            if self.over:
                raise TurnOver

    def server_now(self) -> int:
        """The server's clock, as far as this turn knows it, ms."""
        return round(self._server_offset + time.monotonic() * 1_000)

    # -- recording --------------------------------------------------------------------------------------------------

    async def save(
        self,
        step: str,
        kind: str,
        *,
        data: bytes | None = None,
        error: Failure | None = None,
        attempts: int = 1,
        took_ms: int = 0,
        opened: bool = False,
        entry: str = "",
        timed_out: bool = False,
    ) -> Memo | None:
        """Record a memo. None when it is ours; the memo that stands when there was one. TurnOver when we may not."""
        self._has_steps = True
        since = self.open[step].since if attempts > 1 and step in self.open else None
        saved = await save(
            self.wire, self.owned, step, kind, data=data, error=error, attempts=attempts, took_ms=took_ms, since=since,
            opened=opened, known=self.known, entry=entry, timed_out=timed_out,
        )  # fmt: skip
        if self.over:
            raise TurnOver
        if saved.word == "mine":
            self.attempt = 0
            self.known = max(self.known, saved.n)
            if saved.cancel is not None:
                self.cancel(saved.cancel)
                raise TurnOver
            if saved.news:
                self.hear({name: memo for name, memo in saved.news.items() if name != step})
            if self.signals.step_saved:
                self.signals.step_saved.send(StepSaved(self.function.slug, self.owned.run, step, took_ms))
            return None
        if saved.word == "there":
            assert saved.memo is not None
            return saved.memo
        if saved.word == "full":
            raise NonRetriable(FULL[saved.full])
        self.refused(saved.word)
        raise TurnOver

    async def record_sleep(self, step: str) -> None:
        """Record a sleep whose due has come, before the handler runs: a replay hands it out in its order."""
        stands = await self.save_sleep(step)
        self.memos[step] = stands or Memo(self.known, "sleep")
        self.open.pop(step, None)
        self._fresh.add(step)
        self._to_replay += 1

    async def save_sleep(self, step: str) -> Memo | None:
        """Record a sleep that is over; it began when it was noted."""
        noted = self.open.get(step)
        took_ms = max(0, self.server_now() - noted.since) if noted else 0
        return await self.save(step, "sleep", data=b"null", took_ms=took_ms, opened=True)

    async def note(
        self,
        step: str,
        kind: str,
        *,
        due: str,
        attempt: int = 0,
        error: Failure | None = None,
        took_ms: int = 0,
        what: bytes = b"",
    ) -> Noted:
        """Note a wait or a failed attempt; TurnOver when we may not."""
        self._has_open = True
        since = str(self.open[step].since) if step in self.open else f"-{took_ms}"
        noted = await note_open(
            self.wire, self.owned, step, kind, due=due, attempt=attempt, error=error, since=since, what=what,
            again=step in self.open,
        )  # fmt: skip
        if self.over:
            raise TurnOver
        if noted.word != "mine":
            self.refused(noted.word)
            raise TurnOver
        self._silent = False
        self._server_offset = noted.now - time.monotonic() * 1_000
        self.open[step] = Open(since=noted.since, kind=kind, due=noted.due, attempt=attempt, error=error)
        return noted

    async def noted(self, step: str, kind: str, due: str, what: bytes = b"") -> Noted:
        """Note a wait, or return how an earlier turn noted it: its first due stands."""
        known = self.open.get(step)
        if known is not None and known.due is not None:
            if not known.given_up:
                return Noted("mine", known.due, self.server_now(), known.since)
            due = str(known.due)
        with self.at_work():
            return await self.note(step, kind, due=due, what=what)

    def is_armed(self, step: str) -> bool:
        """Whether whoever brings what a step waits for has been told, in this turn or an earlier one."""
        noted = self.open.get(step)
        return noted is not None and noted.armed

    def armed(self, step: str, kind: str, due: int, what: bytes) -> None:
        """They have been told now: the next turn need not do it again."""
        noted = self.open[step]
        self.open[step] = Open(since=noted.since, kind=kind, due=due, armed=True)
        tell_armed(self.wire, self.owned, step, kind, due, noted.since, what)

    def keep(self, step: str, kind: str, data: bytes | None, error: Failure | None, entry: str = "") -> Memo:
        """Return a memo this turn has just recorded, known from now on like one that was loaded."""
        memo = Memo(self.known, kind, data=Raw(data or b"null"), error=error, entry=entry)
        self.memos[step] = memo
        return memo

    def errands(self) -> Services:
        """Return what publishes events and sends requests for this worker."""
        return self._errands

    def stubbed(self, step: str, target: Callable[..., Any]) -> Callable[..., Any]:
        """Return a step's body, or what a test has put in its place."""
        stubs = self._errands.stubs
        return stubs.get(step, target) if stubs else target

    def expect_event(self, name: str) -> None:
        """This worker is to read an event's stream for who waits."""
        self._errands.expect_event(name)

    def refused(self, word: Word) -> None:
        """A fenced script said over, lost or absent: the turn parts with that word."""
        self.part(cast("Parting", word))

    def hear(self, news: dict[str, Memo]) -> None:
        """Memos came from outside while the turn lives: hand them to who waits, in order."""
        for step, memo in sorted(news.items(), key=lambda item: item[1].n):
            self.memos[step] = memo
            self.known = max(self.known, memo.n)
            if self._rest is not None:
                self._rest.arrived(step, memo)

    # -- resting ----------------------------------------------------------------------------------------------------

    def rest(self) -> Rest:
        """What becomes of the run when it comes to rest; made for the runs that wait or replay."""
        if self._rest is None:
            self._rest = Rest(self, self._loop)
        return self._rest

    async def wait_until(self, step: str, due_ms: int, now_ms: int) -> Memo | None:
        """Park a step. Returns None when its due comes while the turn lives, its memo when that comes first.

        The memo may have come before: while the step was still telling Redis what it waits for.
        """
        if self.over:
            raise TurnOver
        if step in self.memos:
            return self.memos[step]
        self.activity += 1
        try:
            memo = await self.rest().until(step, due_ms, now_ms)
        finally:
            self.activity += 1
        if self.over:
            raise TurnOver
        return memo

    # -- coming to an end -------------------------------------------------------------------------------------------

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Count a task as the run's: looked at before parking, cancelled at the end."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        if self.over:
            task.cancel()

    def cancel(self, why: Failure | None) -> None:
        """The run is cancelled: its async bodies stop here, what a thread still does is dropped."""
        self.cancelled = why or Failure("cancelled", "asked for while it ran")
        self.part("cancelled")

    def expire_in(self, ms: int) -> None:
        """The run must have ended by then, or it is cancelled."""
        why = Failure("timeout", "the run did not finish in time")
        self._expiry = self._loop.call_later(max(0, ms) / 1_000, self.cancel, why, context=contextvars.Context())

    def changed(self) -> None:
        """The handler is done, or can do nothing new, and has not called what earlier turns have begun."""
        self.part("changed")

    def parked(self, due_in_ms: int) -> None:
        """The turn is parked, and recorded as such."""
        self.part("parked", due_in_ms)

    def part(self, parting: Parting, due_in_ms: int = 0) -> None:
        """End the turn other than by its handler: nothing is recorded from now on, its tasks are cancelled."""
        if self.over:
            return
        self.cancel_tasks()
        self._on_parting(self, parting, due_in_ms)

    def cancel_tasks(self) -> None:
        """Refuse every further step and cancel what the run has left running."""
        self.over = True
        if self._expiry is not None:
            self._expiry.cancel()
        self._forget()
        for task in tuple(self.tasks):
            if not task.done():
                task.cancel()

    def _forget(self) -> None:
        """Let go of what is known of the run, and of what refers back to the turn: it is freed when its tasks are.

        Left to the garbage collector, which loaded code keeps from running often, the memos of every turn stayed.
        """
        self.memos.clear()
        self.open.clear()
        self.ids = StepIds()
        self._expiry = self._progress = None
        if self._rest is not None:
            self._rest.end()
            self._rest = None

    async def gone(self) -> list[str]:
        """Wait until the run's tasks have ended, at most a second; return where those stand that have not."""
        tasks = {task for task in self.tasks if not task.done()}
        alive = (await asyncio.wait(tasks, timeout=LINGER_S))[1] if tasks else ()
        return [str(task.get_coro()) for task in alive]
