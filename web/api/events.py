"""/v1/events: the events that came, newest first, one of them by its id, the runs that were made of it; replay it."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import FunctionNotFound
from stepstream.checkpoint.actions.replay import Replay, replay
from stepstream.checkpoint.read.lists.arrivals import MOST, Arrival, EventNotFound, arrivals, find_arrival, runs_of
from stepstream.checkpoint.read.run.find import find
from stepstream.checkpoint.run.record import Run
from stepstream.consumers.remote.system import stored_event_name
from stepstream.web.answers import value
from stepstream.web.api.shapes import (
    Answer,
    EventTold,
    PageAnswer,
    Plain,
    RunTold,
    answer,
    event_of,
    event_shape,
    page_answer,
    run_shape,
)
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.bodies import Body
from stepstream.web.table.parameters import Fields, Moment, Number, Text

LIMIT = Number("limit", f"how many at most; a page has {MOST}", 1, 999_999, 20)
CURSOR = Text("cursor", "`metadata.cursor` of the page before, or the id of its last event")
NAME = Text("name", "events of this name")
AFTER = Moment("received_after", "events that came later")
BEFORE = Moment("received_before", "events that came earlier")
FIELDS = Fields(EventTold, payloads=("data",))
FIELDS_OF_RUNS = Fields(RunTold)
"""`output` as well: whoever waits for a run in the hosted service's way takes it from here."""


class ReplayWanted(msgspec.Struct, forbid_unknown_fields=True):
    """To which function (its slug; none: to all that listen); once for each `request`, a ULID."""

    function: str = ""
    request: str = ""


_REPLAY = Body(ReplayWanted, may_be_empty=True)


async def _events(request: Request) -> Response:
    name = NAME.of(request) or None
    page = await arrivals(
        wire_of(request),
        name=None if name is None else stored_event_name(name),
        limit=min(LIMIT.of(request), MOST),
        cursor=CURSOR.of(request),
        after=AFTER.of(request),
        before=BEFORE.of(request),
    )
    return value(page_answer(FIELDS.rows(request, [event_shape(one, name) for one in page.events]), page.cursor))


async def _event(request: Request) -> Response:
    found, _ = await event_and_runs(request, request.path_params["id"], with_runs=False)
    return value(answer(event_shape(found)))


async def _runs(request: Request) -> Response:
    _, runs = await event_and_runs(request, request.path_params["id"])
    return value(answer(FIELDS_OF_RUNS.rows(request, [run_shape(run) for run in runs])))


async def _replay(request: Request) -> Response:
    wanted = await _REPLAY.of(request)
    made = await replay(wire_of(request), request.path_params["id"], wanted.function, wanted.request)
    return value(Plain(made), 201)


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
    NeedsRoute(
        "GET",
        "/v1/events",
        _events,
        needs="read",
        name="api_events",
        about=About(
            summary="Events as they came, newest first; their `data` when `fields` names it.",
            query=(NAME, LIMIT, CURSOR, AFTER, BEFORE, FIELDS),
            answer=PageAnswer[EventTold],
        ),
    ),
    NeedsRoute(
        "GET",
        "/v1/events/{id}",
        _event,
        needs="read",
        name="api_event",
        about=About(
            summary="One event, by its id or the one an SDK gave it.", answer=Answer[EventTold], errors=(EventNotFound,)
        ),
    ),
    NeedsRoute(
        "GET",
        "/v1/events/{id}/runs",
        _runs,
        needs="read",
        name="api_event_runs",
        about=About(
            summary="The runs that functions made of it, in the hosted service's words.",
            query=(FIELDS_OF_RUNS,),
            answer=Answer[list[RunTold]],
            errors=(EventNotFound,),
        ),
    ),
    NeedsRoute(
        "POST",
        "/v1/events/{id}/replay",
        _replay,
        needs="operate",
        name="api_replay",
        about=About(
            summary="Begin runs for an event that came before: of one function, or of all that listen to its name "
            "today and whose condition is true. Neither its id nor a rate limit, debounce, batch or singleton keeps "
            "them out; their `source` is replay. What its stream keeps no more is taken from a run made of it.",
            body=_REPLAY,
            answer=Plain[Replay],
            status=201,
            errors=(EventNotFound, FunctionNotFound),
        ),
    ),
]
