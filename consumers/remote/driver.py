"""The remote driver: call a function's code where it is, in an app behind HTTP, as the app's SDK expects it.

A turn is a conversation. The app is asked what is next ("step"), and answers with steps that it has run, or with what
it has found to do: those are begun with the very functions that Python handlers use, as tasks of the run. When they
have ended, the app is asked again. So retries, waits, suspension and limits are not written here.
"""

import time
from typing import NoReturn

import msgspec
from msgspec import Raw

from stepstream.bus.encryption.sealing import CannotOpen
from stepstream.bus.errors import BlobGone, ConfigError, NonRetriable, RetryAfter, StepFailed, StoreError, StoreUnfit
from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.checkpoint.run.memo import Failure, RemoteError
from stepstream.checkpoint.run.poll import new_memos
from stepstream.consumers.drivers.contract import Call, Outcome, Raised, Returned, Stopped
from stepstream.consumers.drivers.guard import guarded
from stepstream.consumers.remote.abilities import abilities_of
from stepstream.consumers.remote.asking import AppGone, Asking
from stepstream.consumers.remote.calls.post import CallBroken
from stepstream.consumers.remote.calls.reach import client
from stepstream.consumers.remote.functions import RemoteBus
from stepstream.consumers.remote.gateway import WITHIN_S
from stepstream.consumers.remote.memos import NEW, Position, Telling
from stepstream.consumers.remote.ops import Found, NotWanted, Work, begin, resumed
from stepstream.consumers.remote.protocol import (
    CODE_CHANGED,
    NEXT,
    NOT_FOUND,
    PLANNING,
    RACE,
    RAN,
    Answer,
    BadAnswer,
    Op,
    failure_of,
    hashed,
    ops_of,
    output_of,
)
from stepstream.consumers.remote.working import Working
from stepstream.consumers.turn.exit import CodeChanged, TurnOver
from stepstream.consumers.turn.steps.fetch import Fetcher
from stepstream.consumers.turn.turn import Turn

_WAITS = ("WaitForEvent", "WaitForSignal")
"""Operations that begin before those found with them: a sibling may send what they wait for, by whatever way."""
_MOST_IDLE = 5
"""How often in a row an app may answer that there is nothing to do."""


class _Parallel(msgspec.Struct, rename="camel"):
    """What any operation may say: `race`, when the app wants to be asked again as soon as one of several has ended."""

    parallel_mode: str | None = None


class _Changed(msgspec.Struct):
    """The error of an app whose code has changed under a run."""

    name: str = ""
    steps: tuple[str, ...] = ()


class RunRefused(BaseException):
    """The app answered the call of one step with an error of the whole run, for good: no step has that error."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class RemoteDriver:
    """Calls the functions of one app."""

    def __init__(self, bus: RemoteBus, configured: Settings) -> None:
        self.bus = bus
        self.asking = Asking(bus, configured)
        self.fetcher = Fetcher(lambda: client(configured, WITHIN_S, anywhere=True))

    async def call(self, call: Call, turn: Turn) -> Outcome:
        """Talk with the app until the run has ended, waits, or failed; never raises."""
        return await guarded(turn, _Conversation(self, call, turn).held())

    async def close(self) -> None:
        """Close the connections."""
        await self.asking.close()
        await self.fetcher.close()


class _Conversation:
    """One turn's talk with an app."""

    def __init__(self, driver: RemoteDriver, call: Call, turn: Turn) -> None:
        self._driver = driver
        self._call = call
        self._turn = turn
        self._url = driver.bus.url_of(call.function)
        self._version = NEW
        self._only_plan = False
        self._idle = 0
        self._has_missed = False
        """Whether something was recorded of which this turn does not know the memo."""
        self._working = Working()
        self._app = abilities_of(driver.bus.app.sdk)
        self._telling = Telling(turn.owned, call.event, looks_up=self._app.looks_up)

    async def held(self) -> Outcome:
        """Talk until there is an outcome."""
        self._turn.state.uncalled.clear()  # whether an app calls what earlier turns have begun, it looks after itself
        try:
            await self._resume()
            while True:  # the app is asked first: what an earlier turn had only planned is noted nowhere
                outcome = await self._ask_next()
                if outcome is not None:
                    return outcome
                await self._steps_ended()
        except AppGone as gone:  # the turn ends: what waits is noted, and goes on in the next
            return Raised(gone.failure, asked_ms=gone.again_ms, has_run=False)
        except RunRefused as refused:
            return Raised(refused.failure, is_final=True)
        except TurnOver:
            return Stopped()

    # -- steps ------------------------------------------------------------------------------------------------------

    async def _resume(self) -> None:
        """Go on with what earlier turns have noted; what is due by now is recorded before the app is asked."""
        turn, state = self._turn, self._turn.state
        await turn.save_due_sleeps()
        for step, noted in list(state.open.items()):
            if step not in state.memos:
                self._work_on(step, resumed(self, step, noted))
        now = state.server_now()
        await self._working.until_ended([step for step, noted in state.open.items() if (noted.due or now + 1) <= now])

    @property
    def turn(self) -> Turn:
        """The turn whose steps are done."""
        return self._turn

    @property
    def fetcher(self) -> Fetcher:
        """What makes the requests that the app leaves to us."""
        return self._driver.fetcher

    def _work_on(self, step: str, work: Work | None) -> None:
        if work is not None:
            self._working.begin(step, self._to_its_end(work))
            if self._version != NEW and self._version < PLANNING:
                self._working.race(step)

    async def _behind(self, waits: list[str], work: Work) -> None:
        """Do a step when the waits that were found with it are armed, for it may send what one of them waits for."""
        try:
            await self._turn.until_armed(waits)
        except BaseException:
            work.close()
            raise
        await work

    async def _to_its_end(self, work: Work) -> None:
        """Do a step; that it failed is recorded, and the app is told by its memo."""
        try:
            await work
        except StepFailed:
            self._has_missed = True
        except ConfigError as error:
            raise NonRetriable(str(error)) from None

    async def _steps_ended(self) -> None:
        """Wait until all steps that the app has found have ended, or one after which it wants to be asked at once."""
        if not self._working:
            return
        await self._working.until_to_ask()
        if not self._working and self._version >= PLANNING:
            self._only_plan = False

    # -- asking -----------------------------------------------------------------------------------------------------

    async def _ask_next(self) -> Outcome | None:
        """Ask the app what is next, and begin that; an outcome when it has returned or failed."""
        began = time.monotonic()
        with self._turn.body():
            if not self._turn.lease_is_fresh():
                await self._turn.lease_renewed()
            self._turn.state.leave_replay()
            if self._has_missed:
                await self._learn()
            try:
                answer = await self.ask(NEXT, self._attempt())
                ops = ops_of(answer) if answer.status == 206 else []
                output = output_of(answer) if answer.status == 200 else b""
            except CallBroken as error:
                return Raised(_failed(error), asked_ms=error.again_ms)
            except BadAnswer as error:
                return Raised(_failed(error))
            if self._app.saves:
                await self._learn()
        if self._turn.over:
            return Stopped()
        if answer.version is not None and answer.status == 206:
            self._version = answer.version
        if answer.status == 200:
            return Returned(output)
        if answer.status != 206:
            if self._app.knows_changes and (steps := _not_called(answer)):
                self._turn.recorder.end(CodeChanged(steps))
                return Stopped()
            return Raised(
                failure_of(answer.body, f"status {answer.status}"),
                is_final=answer.is_final,
                asked_ms=answer.asked_ms(self._turn.state.server_now()),
            )
        found = [op for op in ops if op.op != "None"]
        ended = next((op for op in found if op.op == "RunComplete"), None)
        if ended is not None:
            await self._record(found, answer, began)
            return Returned(bytes(ended.data))
        return self._begin(found, answer, began)

    def _begin(self, found: list[Op], answer: Answer, began: float) -> Outcome | None:
        """Begin what the app has found to do; an outcome when it says nothing that makes sense."""
        self._only_plan = self._only_plan or len(found) > 1
        waits: list[str] = []
        for op in sorted(found, key=lambda one: one.op not in _WAITS):
            step = op.step
            if step in self._working or step in self._turn.state.memos:
                continue
            try:
                if op.options(_Parallel).parallel_mode == RACE:
                    self._working.race(step)
                work = begin(self, Found(op, step, answer, began))
            except (BadAnswer, ConfigError) as error:
                return Raised(_failed(error), is_final=True)
            if op.op in _WAITS:
                self._turn.will_arm(step)
                waits.append(step)
            elif work is not None and waits:
                work = self._behind(waits, work)
            self._work_on(step, work)
        self._idle = 0 if found or self._working else self._idle + 1
        if self._idle >= _MOST_IDLE:
            return Raised(Failure("bad_answer", f"the app answered {_MOST_IDLE} times that there is nothing to do"))
        return None

    async def _record(self, found: list[Op], answer: Answer, began: float) -> None:
        """Record the steps that an app tells of with its result: those left of several that it would save together."""
        memos, working = self._turn.state.memos, self._working
        ran = {op.step: op for op in found if op.op in RAN and op.step not in memos and op.step not in working}
        for step, op in ran.items():
            self._work_on(step, begin(self, Found(op, step, answer, began)))
        await self._working.until_ended(ran)

    async def ask(self, step: str, attempt: int) -> Answer:
        """Call the app for a step, or for what is next; AppGone, CallBroken or BadAnswer when it gives no answer."""
        turn, function = self._turn, self._call.function
        if self._app.saves:  # also in a call of which nothing is learned: it breaks, or the run is ended meanwhile
            turn.state.has_steps = True
        at = Position(
            step=step if step == NEXT else hashed(step),
            attempt=attempt,
            attempts=function.retry.retries + 1,
            only_plan=self._only_plan or bool(self._working),
            version=self._version,
        )
        answer = await self._driver.asking.ask(turn, self._url, at, self._telling.body(turn.state.memos, at))
        if self._app.knows_changes and (lacked := _lacked(answer)) is not None:
            turn.recorder.abandon(lacked)
            raise TurnOver
        return answer

    def _attempt(self) -> int:
        """Return which attempt the next call is: of the code, or of the one step of it that has failed."""
        state = self._turn.state
        failed = [noted.attempt for step, noted in state.open.items() if noted.attempt and step not in state.memos]
        return max(state.attempt, *failed) if len(failed) == 1 else state.attempt

    async def _learn(self) -> None:
        """Take in the memos of steps that failed, and of those that the app saved while its call was open."""
        self._has_missed = False
        memos = await new_memos(self._turn.wire, self._turn.owned, self._turn.state.memos)
        if memos and not self._turn.over:
            self._turn.state.attempt = 0
            await self._turn.recorder.take_in(memos)

    # -- what steps need --------------------------------------------------------------------------------------------

    async def targeted(self, step: str) -> Raw:
        """Let the app run one step; return what it returned, or raise as the step did."""
        noted = self._turn.state.open.get(step)
        try:
            attempt = noted.attempt if noted else 0
            began = time.monotonic()
            answer = await self.ask(step, attempt)
            ops = ops_of(answer) if answer.status == 206 else []
        except CallBroken as error:
            failure = _failed(error)
            raise (RemoteError(failure) if error.again_ms is None else _Later(failure, error.again_ms)) from None
        except BadAnswer as error:
            raise RemoteError(_failed(error)) from None
        mine = next((op for op in ops if op.id == hashed(step)), None)
        if mine is None:
            failure = failure_of(answer.body, f"status {answer.status} in place of step '{step}'")
            if answer.is_final or (answer.status >= 400 and attempt >= self._call.function.retry.retries):
                raise RunRefused(failure)
            self._refuse(answer, failure)
        if self._app.finds_beside:
            self._go_on_beside(step, mine, [op for op in ops if op is not mine], answer, began)
        return self.result_of(mine, answer)

    def _go_on_beside(self, step: str, mine: Op, found: list[Op], answer: Answer, began: float) -> None:
        """Begin what the app has found behind a step that it was called for; ask it where it does not know."""
        if mine.op == NOT_FOUND:
            self._working.race(step)
            raise NotWanted
        is_told = not found or self._begin(found, answer, began) is None
        if mine.options(_Parallel).parallel_mode == RACE or not is_told:
            self._working.race(step)

    def result_of(self, op: Op, answer: Answer) -> Raw:
        """Return what a step has returned in the app, or raise as it has."""
        if op.op in {"StepError", "StepFailed"}:
            failure = failure_of(bytes(op.error), f"step '{op.step}' failed")
            self._refuse(answer, failure, is_final=op.op == "StepFailed", is_of_step=True)
        return op.data

    def _refuse(
        self, answer: Answer, failure: Failure, *, is_final: bool = False, is_of_step: bool = False
    ) -> NoReturn:
        """Raise an error of the app, as its answer says how: for good, to be tried again, or not before a moment."""
        if is_final or answer.is_final:
            raise _ForGood(failure)
        asked_ms = answer.asked_ms(self._turn.state.server_now())
        has_more = self._app.counts_attempts and is_of_step
        if asked_ms is None:
            raise RemoteError(failure, has_more=has_more)
        raise _Later(failure, asked_ms, has_more=has_more)


class _ForGood(RemoteError, NonRetriable):
    """An app's error that no further attempt can mend."""


class _Later(RemoteError, RetryAfter):
    """An app's error after which it asks to wait."""

    def __init__(self, stored: Failure, asked_ms: int, *, has_more: bool = False) -> None:
        RetryAfter.__init__(self, asked_ms / 1_000, stored.message)
        self.stored = stored
        self.has_more = has_more


def _failed(error: CallBroken | BadAnswer | ConfigError) -> Failure:
    """Return what is told of a call that gave no answer, or none that makes sense."""
    return Failure("call_broken", str(error)) if isinstance(error, CallBroken) else Failure("bad_answer", str(error))


def _not_called(answer: Answer) -> tuple[str, ...]:
    """Return the steps that the run has begun and the app's code does not call; none when it answers another error."""
    try:
        told = codec.decode_as(answer.body, _Changed)
    except msgspec.MsgspecError:
        return ()
    return told.steps if told.name == CODE_CHANGED else ()


def _lacked(answer: Answer) -> StoreError | None:
    """Return why one of our own applications cannot have what its run needs: its process lacks a key or a store."""
    try:
        told = codec.decode_as(answer.body, Failure) if answer.status == 503 else None
    except msgspec.MsgspecError:
        return None
    if told is None or told.name not in (CannotOpen.code, BlobGone.code, StoreUnfit.code):
        return None
    words = f"the application answers: {told.message}"
    return CannotOpen(words) if told.name == CannotOpen.code else StoreUnfit(words, state="missing")
