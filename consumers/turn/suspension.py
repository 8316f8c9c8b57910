"""Rest: what becomes of a run that has come to rest: the next memo is handed out, or the turn parks.

Memos are handed out one at a time in order of `n`, letting the loop settle between two, so a replay sees steps finish
in the order in which they did. When every task of the run awaits a parked step, the turn ends.
"""

import asyncio
import contextvars
import heapq
from typing import Any, Protocol

from stepstream.bus.errors import BusError, StoreError, StoreUnavailable
from stepstream.bus.function import Function
from stepstream.bus.observe.signals import RunParked, Signals
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.fence import Owned, Word
from stepstream.checkpoint.run.memo import Failure, Memo, Open
from stepstream.checkpoint.run.suspend import park
from stepstream.consumers.turn import idle_detection
from stepstream.consumers.turn.settling import Settle

UNKNOWN_WAIT_S = 0.25
GIVEN_UP_WAIT_S = 60.0
"""How long a turn may wait for nothing but a step it had given up: for the deadline that cancelled it, perhaps."""


class Host(Protocol):
    """The turn that rests."""

    wire: Wire
    signals: Signals
    function: Function
    owned: Owned
    memos: dict[str, Memo]
    open: dict[str, Open]
    tasks: set[asyncio.Task[Any]]
    known: int
    over: bool
    work: int
    activity: int
    uncalled: set[str]

    def hear(self, news: dict[str, Memo]) -> None:
        """Take memos that came from outside."""

    def refused(self, word: Word) -> None:
        """Park was told over, lost or absent."""

    def give_up(self, error: BusError) -> None:
        """Redis failed under the turn."""

    def cancel(self, why: Failure | None) -> None:
        """The run is cancelled."""

    def parked(self, due_in_ms: int) -> None:
        """Park was recorded."""

    def changed(self) -> None:
        """The code is not what the run was begun with."""


class Rest:
    """The parked steps and the awaited memos of one turn."""

    def __init__(self, turn: Host, loop: asyncio.AbstractEventLoop) -> None:
        self._turn = turn
        self._loop = loop
        self._settle = Settle(loop, self._decide)
        self._parked: dict[str, asyncio.Future[Memo | None]] = {}
        self._due: dict[asyncio.Future[Any], int] = {}
        """When each parked step is due, by what it waits on."""
        self._requests: list[tuple[int, int, asyncio.Future[Memo], Memo]] = []
        """A heap by `n`, then by who asked first: a run may ask for a thousand memos at once."""
        self._asked = 0
        self._held: dict[asyncio.Future[None], None] = {}
        self._given_up: dict[asyncio.Future[None], None] = {}
        self._patience: asyncio.TimerHandle | None = None
        self._holds = True
        self._parking: asyncio.Task[None] | None = None

    def end(self) -> None:
        """The turn is over: nothing is handed out any more."""
        self._requests.clear()
        self._settle.end()
        if self._patience is not None:
            self._patience.cancel()

    def touch(self) -> None:
        """Something happened in the run."""
        if self._parked or self._requests or self._held or self._given_up:
            self._settle.touch()

    async def handed_out(self, step: str) -> Memo:
        """Wait for the turn of a memo that is there."""
        future: asyncio.Future[Memo] = self._loop.create_future()
        memo = self._turn.memos[step]
        self._asked += 1
        heapq.heappush(self._requests, (memo.n, self._asked, future, memo))
        self._settle.touch()
        return await future

    async def let_begin(self, step: str) -> None:
        """Hold a step that has no memo back until it may begin, or go on; it may have a memo then."""
        noted = self._turn.open.get(step)
        if noted is not None and noted.given_up:
            await self._cancelled()
        elif noted is None and self._turn.uncalled and self._holds:
            await self._held_back()

    async def _held_back(self) -> None:
        """Wait until the handler has called everything that earlier turns have begun."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._held[future] = None
        self._settle.touch()
        try:
            await future
        finally:
            self._held.pop(future, None)

    async def _cancelled(self) -> None:
        """Wait until a step's task is cancelled again, or the handler has come as far as it was when that happened.

        Then all is not as it was: an attempt that failed had cancelled it, perhaps, and the step waits on.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        self._given_up[future] = None
        self._settle.touch()
        try:
            await future
        finally:
            self._given_up.pop(future, None)

    def arrived(self, step: str, memo: Memo) -> None:
        """The memo of a parked step has come."""
        future = self._parked.get(step)
        if future is not None and not future.done():
            future.set_result(memo)

    async def until(self, step: str, due_ms: int, now_ms: int) -> Memo | None:
        """Park a step. Returns None when its due comes while the turn lives, its memo when that comes first."""
        future: asyncio.Future[Memo | None] = self._loop.create_future()
        self._parked[step] = future
        self._due[future] = due_ms
        alarm = self._loop.call_later(
            max(0.0, (due_ms - now_ms) / 1_000), self._fall_due, future, context=contextvars.Context()
        )
        self._settle.touch()
        try:
            return await future
        finally:
            alarm.cancel()
            self._parked.pop(step, None)
            self._due.pop(future, None)

    def _fall_due(self, future: "asyncio.Future[Memo | None]") -> None:
        # While park is under way the timer is the server's to fire: two turns of one run must not begin.
        if self._parking is None and not future.done():
            future.set_result(None)

    def _decide(self) -> None:
        """At rest: hand out the next memo in order of `n`, or look whether the turn can end."""
        turn = self._turn
        if turn.over or self._parking is not None:
            return
        while self._requests and self._requests[0][2].done():  # its task was cancelled
            heapq.heappop(self._requests)
        if self._requests:
            _, _, future, memo = heapq.heappop(self._requests)
            future.set_result(memo)
            self._settle.touch()
        elif (self._held or self._given_up) and not turn.uncalled:
            self._let_go(self._held, self._given_up)
        elif (self._parked or self._held) and turn.work == 0:
            self._look()
        elif self._given_up and turn.work == 0:
            self._await_cancel()

    def _let_go(self, *held: dict[asyncio.Future[None], None]) -> None:
        for future in [one for some in held for one in some]:
            if not future.done():
                future.set_result(None)

    def _look(self) -> None:
        turn = self._turn
        try:
            unknown = idle_detection.unknown_waits(turn.tasks, self._is_ours)
        except idle_detection.Busy:
            self._loop.call_later(0.001, self._settle.touch, context=contextvars.Context())
            return
        if unknown:
            self._loop.call_later(
                UNKNOWN_WAIT_S, self._look_again, turn.activity, unknown, context=contextvars.Context()
            )
        elif turn.uncalled and self._given_up:
            self._await_cancel()
        elif turn.uncalled:
            turn.changed()
        else:
            self._begin_park()

    def _is_ours(self, future: object) -> bool:
        return future in self._due or future in self._held or future in self._given_up

    def _look_again(self, activity: int, unknown: list[str]) -> None:
        turn = self._turn
        if turn.over or self._parking is not None or turn.activity != activity or turn.work:
            return
        if self._held:  # what earlier turns have begun may be called after something that is not a step
            self._holds = False
            self._let_go(self._held)
            return
        if not self._parked:
            return
        turn.signals.notice(
            "a run waits beside something that is not a step: it is cut off now and begins again after the wait",
            function=turn.function.slug,
            run=turn.owned.run,
            at=unknown,
        )
        self._begin_park()

    def _await_cancel(self) -> None:
        """What cancelled a step that was given up may be a deadline of the author's: it comes again."""
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self._loop.call_later(
            GIVEN_UP_WAIT_S, self._not_cancelled, self._turn.activity, context=contextvars.Context()
        )

    def _not_cancelled(self, activity: int) -> None:
        turn = self._turn
        if turn.over or turn.activity != activity or turn.work or not self._given_up:
            return
        try:
            is_at_rest = not idle_detection.unknown_waits(turn.tasks, self._is_ours)
        except idle_detection.Busy:
            is_at_rest = False
        if not is_at_rest:
            self._await_cancel()
            return
        turn.changed()

    def _begin_park(self) -> None:
        due = min(self._due.values())
        self._parking = idle_detection.outside(self._loop, self._park(due))

    async def _park(self, due_ms: int) -> None:
        turn = self._turn
        try:
            parked = await park(turn.wire, turn.owned, known=turn.known, due=str(due_ms))
        except (StoreError, StoreUnavailable) as error:
            turn.give_up(error)
            return
        if turn.over:
            return
        if parked.word == "wake":
            self._parking = None
            turn.hear(parked.news)
            self._settle.touch()
        elif parked.word == "cancel":
            turn.cancel(parked.cancel)
        elif parked.word == "mine":
            if turn.signals.run_parked:
                turn.signals.run_parked.send(RunParked(turn.function.slug, turn.owned.run, parked.due_in_ms))
            turn.parked(parked.due_in_ms)
        else:
            turn.refused(parked.word)
