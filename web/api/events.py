"""/v1/events: the events that came, newest first, one of them by its id, and the runs that were made of it."""

from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BadRequest, NotFound
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import past_moment
from stepstream.checkpoint.read.arrivals import MOST, Arrival, arrivals, find_arrival, runs_of
from stepstream.checkpoint.read.find import find
from stepstream.checkpoint.run.record import Run
from stepstream.consumers.remote.system import stored_event_name
from stepstream.web.answers import value
from stepstream.web.api.shapes import answer, event_of, event_shape, run_shape
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of


class EventNotFound(NotFound):
    """No event of this id is kept."""

    code = "event_not_found"

    def __init__(self, event_id: str) -> None:
        self.id = event_id
        super().__init__(f"there is no event {event_id[:150]!r}: it never was, or is no longer kept")


def moment_of(text: str, name: str) -> int:
    """Return a time of a request, RFC 3339, Unix ms or how long ago, as Unix ms; BadRequest names the parameter."""
    return past_moment(text, name, now_ms())


async def _events(request: Request) -> Response:
    asked = request.query_params
    limit = asked.get("limit") or "20"
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= 6 and int(limit)):
        raise BadRequest(f"limit must be a number from 1 to {MOST}, got {limit[:40]!r}")
    name = asked.get("name") or None
    bounds = {word: moment_of(asked[f"received_{word}"], f"received_{word}") for word in ("after", "before")
              if asked.get(f"received_{word}")}  # fmt: skip
    page = await arrivals(
        wire_of(request),
        name=None if name is None else stored_event_name(name),
        limit=min(int(limit), MOST),
        cursor=asked.get("cursor"),
        after=bounds.get("after"),
        before=bounds.get("before"),
    )
    return value(answer([event_shape(one, name) for one in page.events], cursor=page.cursor))


async def _event(request: Request) -> Response:
    found, _ = await event_and_runs(request, request.path_params["id"], with_runs=False)
    return value(answer(event_shape(found)))


async def _runs(request: Request) -> Response:
    _, runs = await event_and_runs(request, request.path_params["id"])
    return value(answer([run_shape(run) for run in runs]))


async def event_and_runs(request: Request, event_id: str, *, with_runs: bool = True) -> tuple[Arrival, list[Run]]:
    """Return an event, and the runs made of it: of one that was published, or of one by which a run was invoked.

    EventNotFound when it is neither.
    """
    wire = wire_of(request)
    found = await find_arrival(wire, event_id)
    if found is not None:
        return found, await runs_of(wire, found) if with_runs else []
    run = await find(wire, event_id)  # the event of a run that was invoked has the run's id
    event = None if run is None else event_of(run)
    if run is None or event is None or event.id != event_id:
        raise EventNotFound(event_id)
    return Arrival(event.name, "", event, event_id, run.queued), [run]


routes = [
    NeedsRoute("GET", "/v1/events", _events, needs="read", name="api_events"),
    NeedsRoute("GET", "/v1/events/{id}", _event, needs="read", name="api_event"),
    NeedsRoute("GET", "/v1/events/{id}/runs", _runs, needs="read", name="api_event_runs"),
]
