"""Invoke a function by its slug, from outside any run."""

import asyncio

from msgspec import Raw

from stepstream.bus.errors import BadRequest
from stepstream.bus.event import RawEvent, as_data
from stepstream.bus.observe.tracing import current_trace
from stepstream.bus.system_events import INVOKED
from stepstream.bus.values.ids import run_id, ulid, ulid_ms
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.registry import function_of
from stepstream.checkpoint.run.begin import begin
from stepstream.checkpoint.types import misfit_of_call


async def invoke(wire: Wire, slug: str, data: object = None, request: str = "", trace: str | None = None) -> str:
    """Begin a run; return its id. EventInvalid for data that the function does not take, or FunctionNotFound.

    `data` is a mapping, a payload (EventData, a dataclass, a Pydantic model), or a JSON object as Raw. The same
    `request`, a ULID of the caller's, makes the same run, however often it is repeated. `trace` is the `traceparent` of
    who asks; that of the current span, where it is left out.
    """
    asked = ulid_ms(request)
    if request and asked is None:
        raise BadRequest(f"request {request[:60]!r} is no ULID (26 letters); leave it out, or take a new one")
    encoded = as_data({} if data is None else data)
    _, wrong = await asyncio.gather(function_of(wire, slug), misfit_of_call(wire, slug, encoded))
    if wrong is not None:
        raise wrong
    now = await patiently(wire.moment, 2.0)
    run = run_id(slug, "invoke", request or ulid(), now if asked is None else min(asked, now))
    event = RawEvent(id=run, name=INVOKED, data=Raw(encoded), ts=now, trace=trace or current_trace())
    await begin(wire, slug, run, "invoke", event, patience=10.0)
    return run
