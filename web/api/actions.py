"""Actions: cancel, rerun, signal, invoke, as JSON. GET never acts; the forms of the pages are in web/pages/forms.py."""

from typing import Annotated, Any

import msgspec
from msgspec import Raw
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import (
    EventInvalid,
    FunctionNotFound,
    HasEnded,
    NobodyWaits,
    NotBegun,
    NotEnded,
    RunNotFound,
    StepNotFound,
)
from stepstream.bus.event import MAX_EVENT_BYTES
from stepstream.bus.observe.tracing import asked_in
from stepstream.checkpoint.actions.cancel import cancel_now
from stepstream.checkpoint.actions.invoke import invoke
from stepstream.checkpoint.actions.rerun import rerun
from stepstream.checkpoint.read.run.find import get
from stepstream.checkpoint.registry import function_of
from stepstream.checkpoint.waits.signals import send_signal
from stepstream.web.answers import value
from stepstream.web.api.shapes import Answer, Plain, answer
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.bodies import SMALL, Body
from stepstream.web.trust.audit import acts_on

_WITH_DATA = MAX_EVENT_BYTES + SMALL
"""The longest body with data as big as an event's, bytes."""


class RerunOne(msgspec.Struct, forbid_unknown_fields=True):
    """From which step on a run is to run again (none: from its beginning); once for each `request`.

    One that has not ended is run again only `beside` itself.
    """

    from_step: str = msgspec.field(name="from", default="")
    request: str = ""
    beside: bool = False


class Signal(msgspec.Struct, forbid_unknown_fields=True):
    """A signal, and what comes with it."""

    signal: Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": 256})]
    data: Raw = msgspec.field(default_factory=lambda: Raw(b"null"))


class InvokeWanted(msgspec.Struct, forbid_unknown_fields=True):
    """An event without its name. What SDKs' events have besides data is taken, and not kept."""

    data: Annotated[Raw, msgspec.Meta(extra_json_schema={"type": "object"})] = msgspec.field(
        default_factory=lambda: Raw(b"{}")
    )
    id: Any = None
    name: Any = None
    ts: Any = None
    user: Any = None
    v: Any = None
    meta: Any = None


class Done(msgspec.Struct, frozen=True):
    """A run, and what it is now."""

    id: str
    status: str


class Again(msgspec.Struct, frozen=True):
    """The answer to a rerun: the `id` of the new run, and that of the one it runs again.

    Of one `request` it is the same each time: who lost the answer and asks again gets the run that was made.
    """

    id: str
    rerun_of: str


class Came(msgspec.Struct, frozen=True):
    """The answer to a signal: the `run_id` of the run that waited for it, under the name that SDKs read.

    When nobody waits there is none: NobodyWaits is answered, for a signal is not kept.
    """

    run_id: str


class Made(msgspec.Struct, frozen=True):
    """The `data` of an invocation's answer, where SDKs read the `id` of the new run; its event has the same id."""

    id: str


class Invoked(msgspec.Struct, frozen=True):
    """The answer to an invocation: the `id` of the new run where people look for it, and in `data` where SDKs do."""

    data: Made
    id: str
    status: int = 200


_RERUN = Body(RerunOne, may_be_empty=True)
_SIGNAL = Body(Signal, most=_WITH_DATA, may_be_empty=True)
_INVOKE = Body(InvokeWanted, most=_WITH_DATA, may_be_empty=True)


async def _cancel(request: Request) -> Response:
    wire, run = wire_of(request), request.path_params["id"]
    try:
        word = await cancel_now(wire, run, "cancelled by the API")
    except HasEnded:  # asked twice, or too late: then there is nothing to do
        return value(Plain(Done(run, (await get(wire, run)).status)))
    return value(Plain(Done(run, "cancelled" if word == "cancelled" else "cancelling")))


async def _rerun(request: Request) -> Response:
    asked, run = await _RERUN.of(request), request.path_params["id"]
    new = await rerun(wire_of(request), run, asked.from_step, asked.request, beside=asked.beside)
    return value(Plain(Again(new, run)))


async def _signal(request: Request) -> Response:
    asked = await _SIGNAL.of(request)
    acts_on(request, asked.signal)
    run = await send_signal(wire_of(request), asked.signal, asked.data)
    if run is None:
        raise NobodyWaits(asked.signal)
    return value(answer(Came(run)))


async def _invoke(request: Request) -> Response:
    wire, slug = wire_of(request), request.path_params["function"]
    try:
        asked = await _INVOKE.of(request)
    except EventInvalid:
        await function_of(wire, slug)  # where there is no such function, that is what is wrong
        raise
    trace = asked_in(request.headers.getlist("traceparent"))
    run = await invoke(wire, slug, asked.data, trace=trace)  # which is the id of its event, too
    return value(Invoked(Made(run), run))


routes = [
    NeedsRoute(
        "DELETE",
        "/v1/runs/{id}",
        _cancel,
        needs="operate",
        name="api_cancel",
        about=About(summary="Cancel it. Of one that has ended it says how.", answer=Plain[Done], errors=(RunNotFound,)),
    ),
    NeedsRoute(
        "POST",
        "/v1/runs/{id}/rerun",
        _rerun,
        needs="operate",
        name="api_rerun",
        about=About(
            summary='Run it again: `{"from": "step"}` keeps the results of the steps before; the same `request` twice '
            "makes one run. One that has not ended is refused, unless with `beside`: true. Answers the new `id`.",
            body=_RERUN,
            answer=Plain[Again],
            errors=(RunNotFound, FunctionNotFound, StepNotFound, NotBegun, NotEnded),
        ),
    ),
    NeedsRoute(
        "POST",
        "/v1/signals",
        _signal,
        needs="operate",
        name="api_signal",
        about=About(
            summary='`{"signal": "name", "data": …}` to the run that waits for it; answers its `run_id`.',
            body=_SIGNAL,
            answer=Answer[Came],
            errors=(NobodyWaits,),
        ),
    ),
    NeedsRoute(
        "POST",
        "/invoke/{function:path}",
        _invoke,
        needs="operate",
        name="api_invoke",
        about=About(
            summary='Run a function by its slug: `{"data": {…}}`. Answers the run\'s `id`.',
            query=None,
            body=_INVOKE,
            answer=Invoked,
            errors=(FunctionNotFound,),
        ),
    ),
]
