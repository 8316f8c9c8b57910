"""Run: call a function of the author's, at least once; record what it returned, exactly once."""

import asyncio
import contextlib
import contextvars
import inspect
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from stepstream.bus.encryption import sealing
from stepstream.bus.errors import NonRetriable, RetryAfter, StepFailed
from stepstream.bus.observe.tracing import AttemptTrace
from stepstream.bus.process import scope
from stepstream.bus.process.failpoints import reached
from stepstream.bus.retry import Retry, asked_delay_ms, of
from stepstream.bus.values import codec
from stepstream.bus.values.codec import NotJson, never_from_json
from stepstream.checkpoint.run.memo import MAX_RESULT_BYTES, Failure, Memo, RemoteError, of_redis
from stepstream.consumers.turn.bodies import Bodies
from stepstream.consumers.turn.steps.waiting import waiting
from stepstream.consumers.turn.turn import Turn


async def run_step(
    turn: Turn,
    step: str,
    target: Callable[..., Any],
    args: tuple[Any, ...],
    timeout: float | None,  # noqa: ASYNC109 - bounds the author's code, not ours
    retries: int | Retry | None,
    began: float | None = None,
) -> Any:
    """Return the step's result: from its memo, or by running its body until it succeeds or its attempts are used up.

    `began`: when the first attempt did that is to come, monotonic s, if that was before this call.
    """
    turn.awaited(step)
    wanted = codec.return_type(target)  # of a stub, too: the handler gets what it gets in production
    memo = await turn.replayed(step, "run")
    if memo is not None:
        return memo.value(step, wanted)
    retry = of(retries, turn.function.retry)
    noted = turn.state.open.get(step)
    attempt = noted.attempt if noted else 0
    if noted is not None and noted.due is not None:
        memo = await _until(turn, step, noted.due, turn.state.server_now())
        if memo is not None:
            return memo.value(step, wanted)
    while True:
        outcome = await _attempt(turn, step, target, args, timeout, retry, attempt, wanted, began)
        began = None
        if isinstance(outcome, _Again):
            memo = await _until(turn, step, outcome.due_ms, outcome.now_ms)
            if memo is not None:
                return memo.value(step, wanted)
            attempt += 1
            continue
        if isinstance(outcome, Memo):
            if turn.is_branched:
                await turn.in_order(outcome.n or turn.state.known)
            return outcome.value(step, wanted)
        if turn.is_branched:
            await turn.in_order(turn.state.known)
        return outcome[0]


async def _until(turn: Turn, step: str, due_ms: int, now_ms: int) -> Memo | None:
    """Wait for the next attempt."""
    async with waiting(turn, step, "run"):
        memo = await turn.wait_until(step, due_ms, now_ms)
    if memo is not None and turn.is_branched:
        await turn.in_order(memo.n)
    return memo


class _Again:
    """The attempt failed and there is another: due then."""

    __slots__ = ("due_ms", "now_ms")

    def __init__(self, due_ms: int, now_ms: int) -> None:
        self.due_ms = due_ms
        self.now_ms = now_ms


async def _attempt(
    turn: Turn,
    step: str,
    target: Callable[..., Any],
    args: tuple[Any, ...],
    timeout: float | None,  # noqa: ASYNC109
    retry: Retry,
    attempt: int,
    wanted: Any,
    began: float | None,
) -> "Memo | _Again | tuple[Any]":
    """Run the body once and record what came of it; a fresh result comes in a tuple of one."""
    started = time.monotonic() if began is None else began
    with turn.body():
        if not turn.lease_is_fresh():
            await turn.lease_renewed()
        turn.state.leave_replay()
        turn.bodies.begins(step, started, attempt)
        state = turn.state
        trace = None if state.trace is None else state.trace.attempt(step, attempt, state.server_ns(started))
        try:
            refuse_what_cannot_be_kept(step, wanted)
            result = await run_body(turn.bodies, step, turn.stubbed(step, target), args, timeout)
            data, value = through_json(step, result, wanted)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the author's code raises is an attempt
            turn.bodies.ends(step)  # else it may be told to be slow behind the note of its end, and in place of that
            of_store = of_redis(error)
            if of_store is not None:
                raise of_store from None
            if timeout is not None and isinstance(error, TimeoutError):
                turn.services.leftovers.look(turn.recorder.notice, step, started)
            try:
                return await _failed(turn, step, error, retry, attempt, _ms(turn, started), trace)
            except asyncio.CancelledError:
                await _give_up(turn, step)
                raise
        except asyncio.CancelledError:
            turn.services.leftovers.look(turn.recorder.notice, step, started)
            if not turn.over and (turn.bodies.ends(step) or step in turn.state.open):
                await turn.recorder.note_given_up(step, "run")
            raise
        finally:
            opened = turn.bodies.ends(step) or step in turn.state.open
            if trace is not None:
                trace.leave()
        reached("body.ended")
        try:
            stands = await turn.recorder.save(
                step, "run", data=data, attempts=attempt + 1, took_ms=_ms(turn, started), opened=opened
            )
        except asyncio.CancelledError:
            await _give_up(turn, step)
            raise
        if stands is not None:
            return stands
        if trace is not None:
            trace.ended(state.server_ns())
        return (value,)


async def _give_up(turn: Turn, step: str) -> None:
    """A deadline of the author's has cut the step off while its result is on the way: so it is in each replay."""
    if not turn.over:
        await turn.recorder.note_given_up(step, "run")


def _ms(turn: Turn, started: float) -> int:
    """Return how long a body took, ms: no time where the clock stands still (Harness)."""
    return 0 if turn.wire.now else round((time.monotonic() - started) * 1_000)


async def run_body(
    bodies: Bodies,
    step: str,
    target: Callable[..., Any],
    args: tuple[Any, ...],
    timeout: float | None,  # noqa: ASYNC109
) -> Any:
    """Call the author's code once, on the loop or in a thread, as the body of a step."""
    token = scope.step.set(step)
    future: asyncio.Future[Any] | None = None
    try:
        if _is_async(target):
            if timeout is None:
                return await target(*args)
            async with _limit(timeout):
                return await target(*args)
        context = contextvars.copy_context()
        future = bodies.in_thread(context.run, target, *args)
        if timeout is None:
            result = await future
        else:
            async with _limit(timeout):
                result = await asyncio.shield(future)  # a thread cannot be cancelled: it goes on and keeps its slot
        if inspect.isawaitable(result):  # a lambda or a partial around an async function
            async with _limit(timeout):
                return await result
        return result
    finally:
        future = None  # else what a thread raised refers to itself, and keeps the step's arguments
        scope.step.reset(token)


def _is_async(target: Callable[..., Any]) -> bool:
    code = getattr(target, "__code__", None)  # of functions and methods; asking inspect costs ten times as much
    if code is not None and code.co_flags & inspect.CO_COROUTINE:
        return True
    return inspect.iscoroutinefunction(target)


@contextlib.asynccontextmanager
async def _limit(seconds: float | None) -> AsyncGenerator[None]:
    """asyncio.timeout, whose error tells the limit."""
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            yield
    except TimeoutError as late:
        if scope.expired():
            raise TimeoutError(f"the step's body took longer than its timeout of {seconds:g} s") from late
        raise


_WAY_OUT = "return plain values, a dataclass or a Pydantic model; or store it, and return where it is"


def refuse_what_cannot_be_kept(step: str, wanted: Any) -> None:
    """Raise NonRetriable before the body runs, for it may do what cannot be done twice."""
    name = never_from_json(wanted)
    if name:
        raise NonRetriable(f"step '{step}' was not run: it returns a {name}, which is not JSON; {_WAY_OUT}")


def through_json(step: str, result: Any, wanted: Any) -> tuple[bytes, Any]:
    """Return the result as JSON, and what a replay will return for it."""
    if result is None:
        return b"null", None
    try:
        data = sealing.result(result)
    except NotJson as error:
        raise NonRetriable(f"the result of step '{step}' is not JSON: {error}; {_WAY_OUT}") from None
    if len(data) > MAX_RESULT_BYTES:
        raise NonRetriable(
            f"the result of step '{step}' is {len(data)} bytes; a step returns at most {MAX_RESULT_BYTES}: "
            "store it, return where"
        )
    try:
        return data, codec.decode_as(data, wanted)
    except msgspec.DecodeError as error:
        raise NonRetriable(f"the result of step '{step}' does not fit its annotation {wanted}: {error}") from None


async def _failed(
    turn: Turn,
    step: str,
    error: BaseException,
    retry: Retry,
    attempt: int,
    took_ms: int,
    trace: AttemptTrace | None,
) -> Memo | _Again:
    failure, state = Failure.of(error), turn.state
    has_more = isinstance(error, RemoteError) and error.has_more
    is_last = attempt >= retry.retries and not has_more
    if isinstance(error, NonRetriable | StepFailed) or is_last:
        stands = await turn.recorder.save(
            step, "run", error=failure, attempts=attempt + 1, took_ms=took_ms, opened=True
        )
        if trace is not None and stands is None:
            trace.ended(state.server_ns(), failure)
        _tell(turn, step, attempt, failure, None)
        return stands or Memo(0, "run", attempt + 1, error=failure)
    delay = asked_delay_ms(error, turn.state.server_now()) if isinstance(error, RetryAfter) else retry.delay_ms(attempt)
    _tell(turn, step, attempt, failure, delay)
    noted = await turn.recorder.note(step, "run", due=f"+{delay}", attempt=attempt + 1, error=failure, took_ms=took_ms)
    if trace is not None:
        trace.ended(state.server_ns(), failure)
    return _Again(noted.due, noted.now)


def _tell(turn: Turn, step: str, attempt: int, failure: Failure, delay_ms: int | None) -> None:
    turn.log.write_failed(step, attempt, failure.told(), delay_ms)
    turn.tell_failed(step, attempt, failure, delay_ms)
