"""/v1/events: the events that came, newest first, one of them by its id, the runs that were made of it; replay it."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import FunctionNotFound
from stepstream.checkpoint.actions.replay import Replay, replay
from stepstream.checkpoint.read.event.kept import Clue, EventNotFound, find_kept, runs_of_kept
from stepstream.checkpoint.read.lists.arrivals import MOST, Arrival, arrivals
from stepstream.checkpoint.read.run.bringing import event_brought_if_there, run_brought
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
    event_shape,
    page_answer,
    run_shape,
)
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.bodies import Body
from stepstream.web.table.parameters import Fields, Moment, Number, Text
from stepstream.web.trust.hiding import hide_of

LIMIT = Number("limit", f"how many at most; a page has {MOST}", 1, 999_999, 20)
CURSOR = Text("cursor", "`metadata.cursor` of the page before, or the id of its last event")
NAME = Text("name", "events of this name")
AFTER = Moment("received_after", "events that came later")
BEFORE = Moment("received_before", "events that came earlier")
OF_RUN = Text(
    "run",
    "a run that was made of it: by it an event is found that its stream has let go of, and of several with one id",
)
STREAM = Text("name", "its name: with `entry` it is found though its id is not remembered any more")
ENTRY = Text("entry", "its entry in the stream of that name, as lists of events have it")
CLUES = (OF_RUN, STREAM, ENTRY)
FIELDS = Fields(EventTold, payloads=("data",))
FIELDS_OF_RUNS = Fields(RunTold)
"""`output` as well: whoever waits for a run in the hosted service's way takes it from here."""


class ReplayWanted(msgspec.Struct, forbid_unknown_fields=True):
    """To which function (its slug; none: to all that listen); once for each `request`, a ULID; `run` … as for reads."""

    function: str = ""
    request: str = ""
    run: str = ""
    name: str = ""
    entry: str = ""


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
    wire = wire_of(request)
    kept = await find_kept(wire, request.path_params["id"], clue_of(request))
    event = await event_brought_if_there(wire, kept.arrival.event)
    return value(answer(event_shape(msgspec.structs.replace(kept.arrival, event=event), kept_by=kept.by)))


async def _runs(request: Request) -> Response:
    _, runs = await event_and_runs(request, request.path_params["id"])
    if "output" in (FIELDS_OF_RUNS.of(request) or FIELDS_OF_RUNS.known):
        runs = [await run_brought(wire_of(request), run) for run in runs]
    return value(answer(FIELDS_OF_RUNS.rows(request, [hide_of(run, run_shape(run)) for run in runs])))


async def _replay(request: Request) -> Response:
    wanted = await _REPLAY.of(request)
    clue = Clue(wanted.run, wanted.name, wanted.entry)
    made = await replay(wire_of(request), request.path_params["id"], wanted.function, wanted.request, clue)
    return value(Plain(made), 201)


def clue_of(request: Request) -> Clue:
    """Return what a request says of an event beside its id."""
    return Clue(*(one.of(request) for one in CLUES))


async def event_and_runs(request: Request, event_id: str) -> tuple[Arrival, list[Run]]:
    """Return an event, and the runs made of it: of one that was published, or of one by which a run was invoked.

    EventNotFound when nothing keeps it.
    """
    wire = wire_of(request)
    kept = await find_kept(wire, event_id, clue_of(request))
    return kept.arrival, await runs_of_kept(wire, kept)


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
        "/v1/events/{id:path}/runs",
        _runs,
        needs="read",
        name="api_event_runs",
        about=About(
            summary="The runs that functions made of it, in the hosted service's words.",
            query=(FIELDS_OF_RUNS, *CLUES),
            answer=Answer[list[RunTold]],
            errors=(EventNotFound,),
        ),
    ),
    NeedsRoute(
        "POST",
        "/v1/events/{id:path}/replay",
        _replay,
        needs="operate",
        name="api_replay_event",
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
    NeedsRoute(
        "GET",
        "/v1/events/{id:path}",
        _event,
        needs="read",
        name="api_event",
        about=About(
            summary="One event, by its id or the one an SDK gave it; where its stream has let go of it, from the run "
            "that `kept_by` names.",
            query=CLUES,
            answer=Answer[EventTold],
            errors=(EventNotFound,),
        ),
    ),
]
