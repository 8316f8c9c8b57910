"""Invoke: call another function and wait for its end. The child is a run of its own, with its own retries."""

from typing import Any

from msgspec import Raw

from stepstream.bus.errors import EventInvalid, FunctionNotFound, NonRetriable, StepFailed
from stepstream.bus.event import RawEvent, as_data
from stepstream.bus.function import Function
from stepstream.bus.step import Callee
from stepstream.bus.system_events import INVOKED
from stepstream.bus.values import codec
from stepstream.bus.values.ids import run_id
from stepstream.checkpoint.registry import function_of
from stepstream.checkpoint.run.begin import begin
from stepstream.checkpoint.run.memo import Failure, Memo, WaitsFor
from stepstream.checkpoint.types import misfit_of_call
from stepstream.consumers.turn.steps.run import run_step
from stepstream.consumers.turn.steps.waiting import waiting
from stepstream.consumers.turn.turn import Turn


async def invoke(turn: Turn, step: str, function: Callee[Any, Any] | str, data: Any, timeout_ms: int) -> Any:
    """Return what the function returned. StepFailed with its error, or `timeout`: the child is not cancelled then.

    Nor is it when the task that waits for it is cancelled: it goes on, and what it returns is forgotten.
    """
    if turn.is_stubbed(step):  # by a test, which need not have the function
        own = _unknown if isinstance(function, str) else function.handler
        return await run_step(turn, step, own, (data,), None, None)
    turn.awaited(step)
    memo = await turn.replayed(step, "invoke")
    if memo is None:
        slug = function if isinstance(function, str) else function.slug
        payload = payload_of(step, data)
        wrong = None if step in turn.state.open else await _misfit(turn, step, function, payload)
        if wrong is None:
            memo = await _call(turn, step, slug, payload, timeout_ms)
        else:
            memo = await _refused(turn, step, wrong)
        if turn.is_branched:
            await turn.in_order(memo.n)
    return invoked(step, function, memo)


def invoked(step: str, function: Callee[Any, Any] | str, memo: Memo) -> Any:
    """Return what a called function has returned, as its handler says; StepFailed with its error."""
    if memo.error is not None:
        raise StepFailed(step, memo.error.name, memo.error.message, memo.error.stack)
    wanted = Any if isinstance(function, str) else codec.return_type(function.handler)
    return codec.decode_as(memo.data, wanted)


def _unknown(data: Any) -> Any:
    """Stand for a function of which there is but the slug: what it returns has no type."""
    raise NonRetriable(f"a stub in place of a call has no result for {data!r}")


def payload_of(step: str, data: Any) -> bytes:
    """Return what a function is called with, JSON; NonRetriable for a value that has no JSON."""
    try:
        return as_data({} if data is None else data)
    except EventInvalid as error:
        raise NonRetriable(f"step '{step}': {error}") from None


async def _misfit(turn: Turn, step: str, function: Callee[Any, Any] | str, data: bytes) -> EventInvalid | None:
    """Return why a function does not take the data, if there is that function."""
    slug = function if isinstance(function, str) else function.slug
    with turn.activity:
        try:
            await function_of(turn.wire, slug, patience=None)
        except FunctionNotFound as error:
            raise NonRetriable(f"step '{step}': {error}") from None
        return function.misfit(data) if isinstance(function, Function) else await misfit_of_call(turn.wire, slug, data)


async def _refused(turn: Turn, step: str, wrong: EventInvalid) -> Memo:
    """Record that the call was refused, so that a replay says the same though a type has changed; no run is made."""
    with turn.activity:
        error = Failure(wrong.code, str(wrong))
        stands = await turn.recorder.save(step, "invoke", error=error)
        return stands or turn.state.keep(step, "invoke", None, error)


async def _call(turn: Turn, step: str, slug: str, data: bytes, timeout_ms: int) -> Memo:
    owned = turn.owned
    what = codec.encode(WaitsFor(function=slug))
    async with waiting(turn, step, "invoke", what):
        noted = await turn.noted(step, "invoke", f"+{timeout_ms}", what)
        child = run_id(slug, "invoke", f"{owned.slug}|{owned.run}|{step}", noted.since)
        if not turn.is_armed(step):
            with turn.activity:
                event = RawEvent(id=child, name=INVOKED, data=Raw(data), ts=noted.since, trace=turn.trace_of(step))
                await begin(turn.wire, slug, child, "invoke", event, parent=f"{owned.slug}|{owned.run}|{step}")
            turn.recorder.tell_armed(step, "invoke", noted.due, codec.encode(WaitsFor(function=slug, run=child)))
        memo = await turn.wait_until(step, noted.due, noted.now)
        if memo is not None:
            return memo
        with turn.activity:
            late = Failure("timeout", f"run {child} of '{slug}' has not ended in time; it goes on")
            stands = await turn.recorder.save(step, "invoke", error=late, opened=True, timed_out=True)
            return stands or turn.state.keep(step, "invoke", None, late, timed_out=True)
