"""Turn: one stretch of a run between two waits: what is known, what waits, and how it comes to an end.

A turn ends in one of four ways: the handler returns or raises (the executor records it), every task of the run awaits a
parked step (the turn parks itself), a fenced script says that the turn is not ours any more, or the worker gives it up.
From then on every `step.…` raises TurnOver and runs nothing.
"""

import asyncio
import contextvars
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, cast

from bus.errors import NonRetriable
from bus.function import Function
from bus.observe.signals import RunParked, Signals, StepSaved
from bus.wire.wire import Wire
from checkpoint.memo import Failure, Memo, Open
from checkpoint.owned import Owned, Word
from checkpoint.park import park
from checkpoint.save import Noted, Saved, note_open, save, tell_open
from checkpoint.start import Started
from consumers import quiet
from consumers.delivery import Delivery
from consumers.interrupts import TurnOver
from consumers.settle import Settle

Parting = Literal["parked", "over", "lost", "absent", "abandoned"]
"""How a turn ended, if not by its handler: parked and over are acknowledged, lost and absent looked at again."""

UNKNOWN_WAIT_S = 0.25
OPEN_AFTER_S = 0.1
LINGER_S = 1.0
MAX_STEP_ID = 256

in_body: contextvars.ContextVar[bool] = contextvars.ContextVar("in_body", default=False)


class _Wait:
    """A parked step: when it is due, and who waits for it."""

    __slots__ = ("due_ms", "future")

    def __init__(self, due_ms: int, future: "asyncio.Future[Memo | None]") -> None:
        self.due_ms = due_ms
        self.future = future


class _Used:
    """Who used a step id first, where, and how often."""

    __slots__ = ("count", "file", "line", "task")

    def __init__(self, task: Any, file: str, line: int) -> None:
        self.task = task
        self.file = file
        self.line = line
        self.count = 1


class Turn:
    """One turn of one run in this worker."""

    def __init__(
        self,
        wire: Wire,
        signals: Signals,
        threads: ThreadPoolExecutor,
        function: Function,
        delivery: Delivery,
        owned: Owned,
        started: Started,
        on_parting: "Callable[[Turn, Parting, int], None]",
    ) -> None:
        self.wire = wire
        self.signals = signals
        self.function = function
        self.delivery = delivery
        self.owned = owned
        self.attempt = started.attempt
        self.is_suspect = started.crashes >= 2
        self.memos = started.memos
        self.open = started.open
        self.known = max((memo.n for memo in started.memos.values()), default=0)
        self._threads_running = 0
        self._when_threads_end: Callable[[], None] | None = None
        self.over = False
        self._threads = threads
        self._on_parting = on_parting
        self._loop = asyncio.get_running_loop()
        self._server_offset = started.now - time.monotonic() * 1_000
        self._to_replay = len(started.memos)
        self._fresh: set[str] = set()
        self._silent = bool(started.memos or started.open)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._used: dict[str, _Used] = {}
        self._called: set[str] = set()
        self._bodies: dict[str, tuple[float, int, bool]] = {}
        self._work = 0
        self._activity = 0
        self._parked: dict[str, _Wait] = {}
        self._requests: dict[str, asyncio.Future[Memo]] = {}
        self._main: asyncio.Task[Any] | None = None
        self._settle = Settle(self._loop, self._decide)
        self._parking = False

    # -- entering a step --------------------------------------------------------------------------------------------

    def enter(self, base: str) -> str:
        """Return the id of a step at its call: the readable id, repeats numbered (`id:1`, the SDK's own rule)."""
        if self.over:
            raise TurnOver
        if in_body.get():
            raise NonRetriable(
                f"step '{base}' is called inside the body of another step; call it beside, in the function"
            )
        used = self._used.get(base)
        # One task is the common case, and asking the loop which it is costs as much as all the rest here.
        task = self._main if len(self._tasks) == 1 else asyncio.current_task()
        frame = sys._getframe(2)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  (the author's line)
        if used is None:
            if not base or len(base) > MAX_STEP_ID:
                raise NonRetriable(f"step id {base[:40]!r} must have 1 to {MAX_STEP_ID} characters")
            self._used[base] = _Used(task, frame.f_code.co_filename, frame.f_lineno)
            step = base
        elif used.task is not task:
            raise NonRetriable(
                f"step id '{base}' is used by two tasks of one run ({used.file}:{used.line} and "
                f"{frame.f_code.co_filename}:{frame.f_lineno}); give each its own id"
            )
        else:
            step = f"{base}:{used.count}"
            used.count += 1
        self._called.add(step)
        return step

    def awaited(self, step: str) -> None:
        """The step's coroutine has begun."""
        if self.over:
            raise TurnOver
        self._called.discard(step)
        self._activity += 1

    def never_awaited(self) -> list[str]:
        """Return steps that were called and whose coroutine nobody awaited."""
        return sorted(self._called)

    # -- replaying --------------------------------------------------------------------------------------------------

    def replaying(self) -> bool:
        """Whether the handler is where an earlier turn has been: its log lines were written then."""
        return self._silent

    async def replayed(self, step: str) -> Memo | None:
        """Return the step's memo when its turn has come, in order of `n`; None when there is none."""
        if step not in self.memos:
            return None
        future: asyncio.Future[Memo] = self._loop.create_future()
        self._requests[step] = future
        self._settle.touch()
        memo = await future
        self._to_replay -= 1
        if step in self._fresh or (self._to_replay == 0 and not self.open):
            self._silent = False
        return memo

    # -- working ----------------------------------------------------------------------------------------------------

    def begin_work(self) -> None:
        """A body, a save or a note is under way: the turn cannot park."""
        if self.over:
            raise TurnOver
        self._work += 1
        self._activity += 1

    def end_work(self) -> None:
        """It has ended."""
        self._work -= 1
        self._activity += 1
        if self._parked or self._requests:
            self._settle.touch()

    @contextmanager
    def at_work(self) -> Generator[None]:
        """begin_work … end_work."""
        self.begin_work()
        try:
            yield
        finally:
            self.end_work()

    def body_begins(self, step: str, started: float, attempt: int) -> None:
        """A body runs from now on; once it has for 100 ms the page is told."""
        self._silent = False
        self._bodies[step] = (started, attempt, False)

    def body_ends(self, step: str) -> bool:
        """It has ended; return whether the page was told."""
        return self._bodies.pop(step, (0.0, 0, False))[2]

    def tell_slow_bodies(self, now: float) -> None:
        """Note bodies that have run 100 ms as open, without waiting for the answer."""
        for step, (started, attempt, told) in self._bodies.items():
            if not told and now - started >= OPEN_AFTER_S:
                self._bodies[step] = (started, attempt, True)
                tell_open(self.wire, self.owned, step, attempt, round((now - started) * 1_000))

    def in_thread(self, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Run sync code in the worker's threads; the slot is kept until it has ended, whatever becomes of the turn."""
        self._threads_running += 1
        future = self._loop.run_in_executor(self._threads, work, *args)
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, future: asyncio.Future[Any]) -> None:
        self._threads_running -= 1
        if not future.cancelled():
            future.exception()
        if self._threads_running == 0 and self._when_threads_end is not None:
            self._when_threads_end()

    def when_threads_end(self, then: Callable[[], None]) -> None:
        """Call `then` once no thread of this turn runs any more; at once when there is none."""
        if self._threads_running == 0:
            then()
        else:
            self._when_threads_end = then

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
    ) -> Memo | None:
        """Record a memo. None when it is ours; the memo that stands when there was one. TurnOver when we may not."""
        saved = await save(
            self.wire,
            self.owned,
            step,
            kind,
            data=data,
            error=error,
            attempts=attempts,
            took_ms=took_ms,
            since=self.open[step].since if attempts > 1 and step in self.open else None,
            opened=opened,
            known=self.known,
        )
        if self.over:
            raise TurnOver
        if saved.word == "mine":
            self.attempt = 0
            self.known = max(self.known, saved.n)
            if saved.news:
                self._hear({name: memo for name, memo in saved.news.items() if name != step})
            if self.signals.step_saved:
                self.signals.step_saved.send(StepSaved(self.function.slug, self.owned.run, step, took_ms))
            return None
        if saved.word == "there":
            assert saved.memo is not None
            return saved.memo
        if saved.word == "full":
            raise NonRetriable(_full(saved))
        self._refused(saved.word)
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
        self, step: str, kind: str, *, due: str, attempt: int = 0, error: Failure | None = None, took_ms: int = 0
    ) -> Noted:
        """Note a wait or a failed attempt; TurnOver when we may not."""
        noted = await note_open(
            self.wire, self.owned, step, kind, due=due, attempt=attempt, error=error, took_ms=took_ms
        )
        if self.over:
            raise TurnOver
        if noted.word != "mine":
            self._refused(noted.word)
            raise TurnOver
        self._silent = False
        self._server_offset = noted.now - time.monotonic() * 1_000
        self.open[step] = Open(since=noted.since, kind=kind, due=noted.due, attempt=attempt, error=error)
        return noted

    def _refused(self, word: Word) -> None:
        """A fenced script said over, lost or absent: the turn parts with that word."""
        self.part(cast("Parting", word))

    def _hear(self, news: dict[str, Memo]) -> None:
        """Memos came from outside while the turn lives: hand them to who waits, in order."""
        for step, memo in sorted(news.items(), key=lambda item: item[1].n):
            self.memos[step] = memo
            self.known = max(self.known, memo.n)
            wait = self._parked.get(step)
            if wait is not None and not wait.future.done():
                wait.future.set_result(memo)

    # -- waiting and parking ----------------------------------------------------------------------------------------

    async def wait_until(self, step: str, due_ms: int, now_ms: int) -> Memo | None:
        """Park a step. Returns None when its due comes while the turn lives, its memo when that comes first."""
        if self.over:
            raise TurnOver
        future: asyncio.Future[Memo | None] = self._loop.create_future()
        self._parked[step] = _Wait(due_ms, future)
        alarm = self._loop.call_later(
            max(0.0, (due_ms - now_ms) / 1_000), self._fall_due, future, context=contextvars.Context()
        )
        self._activity += 1
        self._settle.touch()
        try:
            memo = await future
        finally:
            alarm.cancel()
            self._parked.pop(step, None)
            self._activity += 1
        if self.over:
            raise TurnOver
        return memo

    def _fall_due(self, future: "asyncio.Future[Memo | None]") -> None:
        # While park is under way the timer is the server's to fire: two turns of one run must not begin.
        if not self._parking and not future.done():
            future.set_result(None)

    def _decide(self) -> None:
        """At rest: hand out the next memo in order of `n`, or look whether the turn can end."""
        if self.over or self._parking:
            return
        waiting = {step: future for step, future in self._requests.items() if not future.done()}
        self._requests = waiting
        if waiting:
            step = min(waiting, key=lambda step: self.memos[step].n)
            waiting.pop(step).set_result(self.memos[step])
            self._settle.touch()
        elif self._parked and self._work == 0:
            self._look()

    def _look(self) -> None:
        try:
            unknown = quiet.unknown_waits(
                self._tasks, lambda future: any(w.future is future for w in self._parked.values())
            )
        except quiet.Busy:
            self._loop.call_later(0.001, self._settle.touch, context=contextvars.Context())
            return
        if unknown:
            self._loop.call_later(
                UNKNOWN_WAIT_S, self._look_again, self._activity, unknown, context=contextvars.Context()
            )
        else:
            self._begin_park()

    def _look_again(self, activity: int, unknown: list[str]) -> None:
        if self.over or self._parking or self._activity != activity or self._work or not self._parked:
            return
        self.signals.notice(
            "a run waits beside something that is not a step: it is cut off now and begins again after the wait",
            function=self.function.slug,
            run=self.owned.run,
            at=unknown,
        )
        self._begin_park()

    def _begin_park(self) -> None:
        self._parking = True
        due = min(wait.due_ms for wait in self._parked.values())
        self._park_task = quiet.outside(self._loop, self._park(due))

    async def _park(self, due_ms: int) -> None:
        parked = await park(self.wire, self.owned, known=self.known, due=str(due_ms))
        if self.over:
            return
        if parked.word == "wake":
            self._parking = False
            self._hear(parked.news)
            self._settle.touch()
        elif parked.word == "mine":
            if self.signals.run_parked:
                self.signals.run_parked.send(RunParked(self.function.slug, self.owned.run, parked.due_in_ms))
            self.part("parked", parked.due_in_ms)
        else:
            self._refused(parked.word)

    # -- coming to an end -------------------------------------------------------------------------------------------

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Count a task as the run's: looked at before parking, cancelled at the end."""
        self._main = self._main or task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.over:
            task.cancel()

    def disown(self, task: asyncio.Task[Any]) -> None:
        """The handler has ended; its task goes on with the engine's work."""
        self._tasks.discard(task)

    def part(self, parting: Parting, due_in_ms: int = 0) -> None:
        """End the turn other than by its handler: nothing is recorded from now on, its tasks are cancelled."""
        if self.over:
            return
        self.cancel_tasks()
        self._on_parting(self, parting, due_in_ms)

    def cancel_tasks(self) -> None:
        """Refuse every further step and cancel what the run has left running."""
        self.over = True
        for task in tuple(self._tasks):
            if not task.done():
                task.cancel()

    async def gone(self) -> list[str]:
        """Wait until the run's tasks have ended, at most a second; return where those stand that have not."""
        tasks = {task for task in self._tasks if not task.done()}
        if tasks:
            _, alive = await asyncio.wait(tasks, timeout=LINGER_S)
            return [str(task.get_coro()) for task in alive]
        return []


def _full(saved: Saved) -> str:
    if saved.full == "steps":
        return "a run holds at most 1,000 steps; let it start another function for the rest"
    return "the results of a run's steps hold at most 32 MiB together; store big ones, return where"
