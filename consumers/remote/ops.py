"""Ops: what an app has found to do, done with the steps that Python handlers use."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

import msgspec
from msgspec import Raw

from stepstream.bus.errors import NonRetriable
from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.bus.values.durations import LONGEST_MS
from stepstream.bus.values.matching import value_at
from stepstream.checkpoint.run.memo import Failure, Open, WaitsFor
from stepstream.consumers.remote.gateway import Inference, Request, fetched, inferred
from stepstream.consumers.remote.options import condition_of, match_of
from stepstream.consumers.remote.protocol import Answer, BadAnswer, Op, due_of, timeout_of
from stepstream.consumers.remote.system import stored_event_name, stored_slug
from stepstream.consumers.turn.steps.fetch import Fetcher
from stepstream.consumers.turn.steps.invoke import invoke
from stepstream.consumers.turn.steps.run import run_step
from stepstream.consumers.turn.steps.sleep import sleep_step
from stepstream.consumers.turn.steps.wait import wait_for_event, wait_for_signal
from stepstream.consumers.turn.turn import Turn
from stepstream.producers.ingest import RESERVED

Work = Coroutine[Any, Any, None]


class NotWanted(BaseException):
    """The app's code does not reach a step any more that it was called for: no failure of it is to be recorded.

    It is not an Exception, for each of those counts as an attempt.
    """


class App(Protocol):
    """What the steps of a conversation ask of it."""

    @property
    def turn(self) -> Turn:
        """The turn the steps belong to."""
        ...

    @property
    def fetcher(self) -> Fetcher:
        """What makes the requests that the app leaves to us."""
        ...

    async def targeted(self, step: str) -> Raw:
        """Let the app run one step."""
        ...

    def result_of(self, op: Op, answer: Answer) -> Raw:
        """Return what a step has returned in the app, or raise as it has."""
        ...


class Found(NamedTuple):
    """An operation, its step, the answer it came in, and when that was asked for, monotonic s."""

    op: Op
    step: str
    answer: Answer
    began: float


class _Sleep(msgspec.Struct):
    duration: str | None = None


class _Wait(msgspec.Struct, rename={"if_": "if", "looks_back": "looksBack"}):
    event: str | None = None
    if_: str | None = None
    timeout: str | None = None
    looks_back: bool = False
    """Of a Python application: an event that came since the run began answers too."""


class _Signal(msgspec.Struct):
    signal: str = ""
    timeout: str | None = None
    conflict: str | None = None
    takes: Raw = Raw(b"null")
    """Of a Python application: the JSON Schema of what the signal must bring."""


class _Payload(msgspec.Struct, frozen=True):
    data: Raw = Raw(b"null")


class _Invoke(msgspec.Struct):
    function_id: str = ""
    payload: _Payload = _Payload()
    timeout: str | None = None


def begin(app: App, found: Found) -> Work | None:
    """Return what does an operation; None when there is nothing to do. BadAnswer for one that nobody knows."""
    kind = found.op.op
    if kind in _NOTHING:
        return None
    if kind not in _WORK:
        raise BadAnswer(f"operation {kind!r} of step '{found.step}' is not known here")
    return _WORK[kind](app, found)


def resumed(app: App, step: str, noted: Open) -> Work | None:
    """Return what goes on with a step that an earlier turn has noted; None when the app is to tell of it again."""
    turn = app.turn
    if noted.kind == "sleep":
        return _slept(turn, step, str(noted.due))
    if noted.given_up:
        return None
    if noted.kind == "run":
        others = any(other != step and other not in turn.state.memos for other in turn.state.open)
        is_due = noted.due is None or noted.due <= turn.state.server_now()
        return None if not noted.attempt or (is_due and not others) else _ran(app, step, None)
    if not noted.armed:
        return None
    what = codec.decode_as(noted.what, WaitsFor)
    if noted.kind == "event":
        return wait_for_event(
            turn, step, what.event, what.match or None, what.if_ or None, LONGEST_MS, looks_back=False
        )
    if noted.kind == "signal":
        if bytes(what.takes) != b"null":  # the app's code may take another type by now
            return None
        return wait_for_signal(turn, step, what.signal, Raw, LONGEST_MS)
    return invoke(turn, step, what.function, None, LONGEST_MS) if noted.kind == "invoke" else None


# -- one for each kind of operation -----------------------------------------------------------------------------------


def _run(app: App, found: Found) -> Work:
    return _ran(app, found.step, None if found.op.op == "StepPlanned" else found)


async def _ran(app: App, step: str, found: Found | None) -> None:
    """Record what a step has returned or raised in the app; further attempts are calls for that step alone."""
    in_hand = [] if found is None else [found]
    # No function of its own for each step: its annotations would be read each time, which takes as long as a save.
    try:
        await _recorded(app.turn, step, partial(_result, app, step, in_hand), found.began if found else None)
    except NotWanted:
        with app.turn.activity:
            await app.turn.recorder.note_given_up(step, "run")


async def _result(app: App, step: str, in_hand: list[Found]) -> Raw:
    """Return the result that is in hand, once; then what the app returns when it is called for the step."""
    if not in_hand:
        return await app.targeted(step)
    found = in_hand.pop()
    return app.result_of(found.op, found.answer)


async def _recorded(turn: Turn, step: str, body: Callable[[], Awaitable[Raw]], began: float | None = None) -> None:
    data: Raw = await run_step(turn, step, body, (), None, None, began)
    turn.state.keep(step, "run", bytes(data), None)


def _fetch(app: App, found: Found) -> Work:
    asked = found.op.options(Request)

    async def body() -> Raw:
        return await fetched(app.fetcher, asked)

    return _recorded(app.turn, found.step, body)


def _infer(app: App, found: Found) -> Work:
    asked = found.op.options(Inference)

    async def body() -> Raw:
        return await inferred(app.fetcher, asked)

    return _recorded(app.turn, found.step, body)


async def _slept(turn: Turn, step: str, due: str) -> None:
    await sleep_step(turn, step, due)
    if step not in turn.state.memos:
        turn.state.keep(step, "sleep", b"null", None)


def _sleep(app: App, found: Found) -> Work:
    given: _Sleep = found.op.options(_Sleep)
    return _slept(app.turn, found.step, due_of(given.duration or found.op.name or ""))


def _wait_event(app: App, found: Found) -> Work:
    given: _Wait = found.op.options(_Wait)
    name = stored_event_name(given.event or found.op.name or "")
    within = timeout_of(given.timeout, app.turn.state.server_now())
    match, if_ = _asked_of(given.if_ or "", app.turn.event)
    return wait_for_event(app.turn, found.step, name, match, if_, within, looks_back=given.looks_back)


def _asked_of(text: str, own: RawEvent) -> tuple[str | None, str | None]:
    """Return what an event must be that is waited for, as a path or an expression: a path finds the waits at once.

    Where the run's own event has nothing at the path, the expression decides: that is no mistake there.
    """
    match = match_of(text)
    if match is not None and value_at(match, own.plain()) is not None:
        return match, None
    return None, condition_of(text)


def _wait_signal(app: App, found: Found) -> Work:
    given: _Signal = found.op.options(_Signal)
    within = timeout_of(given.timeout, app.turn.state.server_now())
    return wait_for_signal(
        app.turn,
        found.step,
        given.signal or found.op.name or "",
        Raw,
        within,
        replaces=given.conflict == "replace",
        takes=bytes(given.takes),
    )


def _invoke(app: App, found: Found) -> Work:
    given: _Invoke = found.op.options(_Invoke)
    within = timeout_of(given.timeout or None, app.turn.state.server_now())
    data: Any = codec.decode(given.payload.data) or {}
    if isinstance(data, dict):  # a function passes on what it was called with
        cast("dict[str, Any]", data).pop(RESERVED, None)
    slug = stored_slug(given.function_id)
    return _caught(app.turn, found.step, lambda: invoke(app.turn, found.step, slug, data, within))


async def _caught(turn: Turn, step: str, call: Callable[[], Awaitable[Any]]) -> None:
    """Call; what can never be called is an error of the step, which the app's code may catch."""
    try:
        await call()
    except NonRetriable as error:
        failure = Failure("not_called", str(error))
        await turn.recorder.save(step, "invoke", error=failure)
        turn.state.keep(step, "invoke", None, failure)


_NOTHING = frozenset({"None", "DiscoveryRequest"})
_WORK: dict[str, Callable[[App, Found], Work]] = {
    "Step": _run,
    "StepRun": _run,
    "StepError": _run,
    "StepFailed": _run,
    "StepPlanned": _run,
    "Sleep": _sleep,
    "WaitForEvent": _wait_event,
    "WaitForSignal": _wait_signal,
    "InvokeFunction": _invoke,
    "Gateway": _fetch,
    "AIGateway": _infer,
}
