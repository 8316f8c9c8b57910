"""POST /e/{key}: publish events over HTTP."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stepstream.bus.errors import BusError, EventInvalid
from stepstream.bus.event import Outgoing
from stepstream.bus.observe.tracing import asked_in
from stepstream.bus.settings import Settings
from stepstream.bus.wire.publishing import Publisher, PublishFailed, Stored
from stepstream.producers.body import read_body
from stepstream.producers.forms import event_of_form, kind_of
from stepstream.producers.ingest import Taken, take_events
from stepstream.producers.seed import HEADER, Seed, seed_of
from stepstream.producers.strict import Malformed


def endpoint(publisher: Callable[[], Publisher], settings: Settings) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint that publishes a request's events; `publisher` is called at each request.

    Where Redis is away it answers 503 within BUS_TIMEOUT, or 1.5 s where that is not set.
    """
    patience = min(settings.timeout_ms, settings.publish_timeout_ms) / 1_000

    async def publish(request: Request) -> Response:
        try:
            body = await read_body(request)
            seed = seed_of(request.headers.get(HEADER))
            taken = _taken(body, request, seed)
            _note_trace(taken, request)
            if taken.error is not None and seed is None:
                raise taken.error
            stored = await _stored(publisher(), taken, patience, is_sdk=seed is not None)
        except BusError as error:
            if error.status == 500:
                raise
            return _refused(error)
        ids = [one.internal if one.internal and not one.is_delayed else one.id for one in taken.events]
        if taken.error is not None:
            return _refused(taken.error, ids)
        answer: dict[str, object] = {"ids": ids, "status": 200, **_listened(taken.events, stored)}
        if any(event.duplicate for event in stored):
            answer["duplicate"] = True
        return JSONResponse(answer)

    return publish


async def _stored(publisher: Publisher, taken: Taken, patience: float, *, is_sdk: bool) -> list[Stored]:
    """Store what was taken; of an SDK's request, where a type refuses an event, those before it."""
    while taken.events:
        try:
            return await publisher.publish(taken.events, patience=patience)
        except EventInvalid as error:
            position = error.position or 0
            taken.error = error.at(position) if taken.is_list else error
            if not is_sdk:
                raise taken.error from None
            taken.events = taken.events[:position]
    return []


def _listened(events: Sequence[Outgoing], stored: Sequence[Stored]) -> dict[str, object]:
    """Return how many functions start on these events, and of the other names which have who hears them, or nobody."""
    counts = {event.name: one.functions for event, one in zip(events, stored, strict=True) if one.functions is not None}
    cancelling = {event.name for event, one in zip(events, stored, strict=True) if one.cancels}
    waited = {event.name for event, one in zip(events, stored, strict=True) if one.waits}
    unheard = [name for name, count in counts.items() if not count and name not in cancelling | waited]
    told: dict[str, object] = {"functions": sum(counts.values())} if counts else {}
    told |= {"runs_wait_for": sorted(waited)} if waited else {}
    told |= {"only_cancels": sorted(cancelling)} if cancelling else {}
    return told | {"nobody_listens_to": unheard} if unheard else told


def _refused(error: BusError, ids: Sequence[str] = ()) -> JSONResponse:
    """Return why not everything was stored, and the ids of the events that were."""
    content: dict[str, object] = {"ids": ids, "status": error.status, "error": str(error), "code": error.code}
    if isinstance(error, EventInvalid):
        content["field"] = error.field or "body"
        content |= {"event": error.position} if error.position is not None else {}
    if isinstance(error, PublishFailed):
        content["ids"] = [event.id for event in error.stored]
        content["error"] = f"{error}; repeating the request with ids of your own is safe"
    headers = {"Retry-After": "1"} if error.status == 503 else None
    return JSONResponse(content, error.status, headers)


def _note_trace(taken: Taken, request: Request) -> None:
    """Note with the events in which trace they were sent."""
    trace = asked_in(request.headers.getlist("traceparent"))
    if trace is not None:
        taken.events = [msgspec.structs.replace(event, trace=trace) for event in taken.events]


def _taken(body: bytes, request: Request, seed: Seed | None) -> Taken:
    try:
        return take_events(body, seed)
    except Malformed:
        # Plain `curl -d` says that it sends a form: only what does not begin like JSON counts as one.
        kind = request.headers.get("content-type", "")
        if kind_of(kind) and not body.lstrip().startswith((b"{", b"[")):
            return take_events(event_of_form(body, kind), seed)
        raise
