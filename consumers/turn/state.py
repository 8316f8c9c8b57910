"""RunState: what one turn knows of its run. Nothing here asks Redis anything."""

import asyncio
import time
from typing import Any

from msgspec import Raw

from stepstream.bus.observe.tracing import TurnTrace
from stepstream.checkpoint.run.memo import Failure, Memo
from stepstream.checkpoint.run.start import StartReply
from stepstream.consumers.turn.exit import TurnOver
from stepstream.consumers.turn.step_ids import StepIds


class RunState:
    """The steps of a run, finished and open, and how far the handler has come with calling them."""

    __slots__ = (
        "_clock_offset", "_fresh", "_silent", "_to_replay", "arming", "attempt", "began", "came", "has_open",
        "has_steps", "ids", "is_settled", "known", "memos", "open", "over", "trace", "uncalled", "waiting", "waits",
    )  # fmt: skip

    def __init__(self, started: StartReply, *, is_repeated: bool = False) -> None:
        """Begin where a run stands. `is_repeated`: an earlier turn or call went as far, though it recorded nothing."""
        self.attempt = started.attempt
        """Which attempt of the code between steps this is; 0 again after each step that is recorded."""
        self.memos = started.memos
        self.open = started.open
        self.known = max(memo.n for memo in started.memos.values()) if started.memos else 0
        """The highest `n` of a memo that this turn knows of."""
        self.uncalled: set[str] = {*started.memos, *started.open}
        """Steps that earlier turns have begun and the handler has not called yet in this one."""
        self.waiting: dict[str, asyncio.Future[Memo | None]] = {}
        """What steps wait on that have no memo yet: resolved with it when it comes."""
        self.waits: set[str] = set()
        """The steps that wait, from before they note that until they go on."""
        self.arming: dict[str, asyncio.Future[None]] = {}
        """Waits that something else must not begin before: resolved when they are armed, or wait no more."""
        self.came: dict[str, int] = {}
        """Those of them that have a memo by now, and its `n`: they go on before what ended later."""
        self.ids = StepIds()
        self.is_settled = True
        """Whether the handler has done all that it does after the last step that ended: the next one may be seen."""
        self.over = False
        """The turn has ended: every step raises TurnOver, nothing is recorded any more."""
        self.trace: TurnTrace | None = None
        """Who makes spans of what this turn does; None: nobody does."""
        self.has_steps = self.has_open = started.resumed
        """Whether the run may have a key of finished steps, and one of open steps, beside its own."""
        self.began = started.began or started.now
        """When the run's code was first called, server ms."""
        self._clock_offset = started.now - time.monotonic() * 1_000
        self._to_replay = len(started.memos) + is_repeated
        self._fresh: set[str] = set()
        self._silent = is_repeated or bool(started.memos or started.open)

    def enter(self, base: str, task: "asyncio.Task[Any] | None") -> str:
        """Return the id of a step at its call in a task; called by the author's line two frames up."""
        if self.over:
            raise TurnOver
        step = self.ids.of(base, task)
        if self.uncalled:
            self.uncalled.discard(step)
        return step

    def attempt_of(self, step: str) -> int:
        """Return which attempt of a step is next, or under way, from 0; where it is empty, of the code between."""
        if not step:
            return self.attempt
        noted = self.open.get(step)
        return noted.attempt if noted else 0

    # -- the clock --------------------------------------------------------------------------------------------------

    def server_now(self) -> int:
        """Return the server's clock, as far as this turn knows it, ms."""
        return round(self._clock_offset + time.monotonic() * 1_000)

    def server_at(self, moment: float) -> int:
        """Return the server's clock at a moment of time.monotonic(), ms."""
        return round(self._clock_offset + moment * 1_000)

    def server_ns(self, moment: float | None = None) -> int:
        """Return the same, now by default, as spans have it: ns."""
        return round((self._clock_offset + (time.monotonic() if moment is None else moment) * 1_000) * 1_000_000)

    def set_clock(self, now_ms: int) -> None:
        """Take the server's clock from a reply."""
        self._clock_offset = now_ms - time.monotonic() * 1_000

    # -- replaying --------------------------------------------------------------------------------------------------

    def replaying(self) -> bool:
        """Return whether the handler only repeats what an earlier turn did; its log lines were written then."""
        return self._silent

    def leave_replay(self) -> None:
        """Something new begins: the handler's log lines are written from now on."""
        self._silent = False

    def repeat(self) -> None:
        """What follows is done again by the next call, which writes the handler's log lines."""
        self._silent = True

    def replayed(self, step: str) -> None:
        """The handler is given the memo of a step."""
        self._to_replay -= 1
        if step in self._fresh or (self._to_replay == 0 and all(one.given_up for one in self.open.values())):
            self._silent = False

    # -- memos that come while the turn lives -----------------------------------------------------------------------

    def keep(
        self,
        step: str,
        kind: str,
        data: bytes | None,
        error: Failure | None,
        entry: str = "",
        *,
        timed_out: bool = False,
    ) -> Memo:
        """Return a memo this turn has just recorded, known from now on like one that was loaded."""
        memo = Memo(self.known, kind, data=Raw(data or b"null"), error=error, entry=entry, timed_out=timed_out)
        self.memos[step] = memo
        return memo

    def keep_sleep(self, step: str, memo: Memo | None) -> None:
        """Take a sleep that was recorded before the handler was called: it is replayed like one of an earlier turn."""
        self.memos[step] = memo or Memo(self.known, "sleep")
        self.open.pop(step, None)
        self._fresh.add(step)
        self._to_replay += 1

    def resolve(self, memos: dict[str, Memo]) -> None:
        """Take memos that were recorded elsewhere: the steps that wait for them go on, in the order of `n`."""
        if self.trace is not None:
            self.trace.resolved(memos)
        for step, memo in sorted(memos.items(), key=lambda item: item[1].n):
            self.memos[step] = memo
            self.known = max(self.known, memo.n)
            self.is_settled = False
            if step in self.waits:
                self.came[step] = memo.n
            waiting = self.waiting.get(step)
            if waiting is not None and not waiting.done():
                waiting.set_result(memo)

    def armed(self, step: str) -> None:
        """A wait is known where its event or signal arrives, or is over: what was to begin behind it begins."""
        arming = self.arming.pop(step, None)
        if arming is not None and not arming.done():
            arming.set_result(None)

    # -- the end ----------------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Drop the run's values: what refers to this state may live on until the garbage collector comes by."""
        self.memos.clear()
        self.open.clear()
        self.ids = StepIds()
