"""/v1: what there is, as JSON."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import FunctionNotFound, RunNotFound
from stepstream.checkpoint.at_work.streams import Stream, streams
from stepstream.checkpoint.facts.attempts import FailedAttempt, attempts_of
from stepstream.checkpoint.read.lists.event_names import EventName, event_names
from stepstream.checkpoint.read.lists.runs import RunLine
from stepstream.checkpoint.read.lists.search import FILTERS, query_of, search
from stepstream.checkpoint.read.run.bringing import run_brought, steps_brought
from stepstream.checkpoint.read.run.find import get, wait_for_end
from stepstream.checkpoint.read.run.log import log_of
from stepstream.checkpoint.read.run.steps import StepView, steps
from stepstream.checkpoint.read.run.verdict import verdict
from stepstream.checkpoint.run.log import MOST_LINES, Line
from stepstream.web.answers import value
from stepstream.web.api.shapes import Answer, Listed, Plain, RunWhole, answer, run_whole
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.parameters import Fields, Number, Text, Texts, Wait
from stepstream.web.trust.hiding import hidden_now, hide_of

MOST = 1_000
LONGEST_WAIT_MS = 300_000

LIMIT = Number("limit", "how many at most", 1, MOST, 50)
NAMES = Number("limit", "how many at most", 1, MOST, 100)
CURSOR = Text("cursor", "`cursor` of the page before")
FIELDS = Fields(RunLine)
STEP_FIELDS = Fields(StepView, payloads=("data",))
ATTEMPT_FIELDS = Fields(FailedAttempt)
NAME_FIELDS = Fields(EventName)
STREAM_FIELDS = Fields(Stream)
FILTERS_OF_RUNS = tuple(Texts(name, words) for name, words in FILTERS.items())
WAIT = Wait("wait", "answer when it has ended, or after this time: `30s`, at most 5 min", LONGEST_WAIT_MS)
LAST = Number("last", "so many of the newest lines", 1, MOST_LINES, MOST_LINES)


class RunsTold(msgspec.Struct, frozen=True):
    """A page of runs, newest first. `count` of all pages; where not `exact`, there are at least so many."""

    data: list[RunLine]
    cursor: str | None
    looked_at: int
    count: int
    exact: bool
    not_evaluated: int
    """Of how many `where` could not be evaluated: for a number in their event, its size, a key. They do not match."""


class LogTold(msgspec.Struct, frozen=True):
    """Lines of a run's log, oldest first; `dropped` is how many came before them."""

    data: list[Line]
    dropped: int


class EventNamesTold(msgspec.Struct, frozen=True):
    """A page of the names of events: those that nobody listens to (`unheard` of them) first."""

    data: list[EventName]
    unheard: int
    not_looked_at: int
    cursor: str | None


async def _runs(request: Request) -> Response:
    wire = wire_of(request)
    query = await query_of(
        wire, [pair for pair in request.query_params.multi_items() if pair[0] in FILTERS], hidden_now()
    )
    page = await search(wire, query, limit=LIMIT.of(request), cursor=CURSOR.of(request))
    rows = FIELDS.rows(request, page.runs)
    return value(RunsTold(rows, page.cursor, page.looked_at, page.count, page.exact, page.not_evaluated))


async def _run(request: Request) -> Response:
    wire, run_id = wire_of(request), request.path_params["id"]
    wait = WAIT.of(request)
    if wait is not None:
        await wait_for_end(wire, run_id, wait)
    found = await run_brought(wire, await get(wire, run_id))
    return value(answer(hide_of(found, run_whole(found, await verdict(wire, found)))))


async def _steps(request: Request) -> Response:
    wire, run_id = wire_of(request), request.path_params["id"]
    found = await get(wire, run_id)
    views = await steps(wire, found.function, run_id)
    if "data" in STEP_FIELDS.of(request):
        views = await steps_brought(wire, views)
    return value(Plain(STEP_FIELDS.rows(request, hide_of(found, views))))


async def _attempts(request: Request) -> Response:
    wire, run_id = wire_of(request), request.path_params["id"]
    found = await get(wire, run_id)
    return value(Plain(ATTEMPT_FIELDS.rows(request, hide_of(found, await attempts_of(wire, found.function, run_id)))))


async def _log(request: Request) -> Response:
    wire, run_id = wire_of(request), request.path_params["id"]
    found = await get(wire, run_id)
    written = hide_of(found, await log_of(wire, found.function, run_id, LAST.of(request)))
    return value(LogTold(written.lines, written.dropped))


async def _event_names(request: Request) -> Response:
    page = await event_names(wire_of(request), limit=NAMES.of(request), cursor=CURSOR.of(request))
    return value(EventNamesTold(NAME_FIELDS.rows(request, page.names), page.unheard, page.cut, page.cursor))


async def _streams(request: Request) -> Response:
    page = await streams(wire_of(request), limit=NAMES.of(request), cursor=CURSOR.of(request))
    return value(Listed(STREAM_FIELDS.rows(request, page.streams), page.cursor))


routes = [
    NeedsRoute(
        "GET",
        "/v1/runs",
        _runs,
        needs="read",
        name="api_runs",
        about=About(
            summary="Runs, newest first, by [filters](../http.md#which-runs); `count`, `looked_at`.",
            query=(*FILTERS_OF_RUNS, LIMIT, CURSOR, FIELDS),
            answer=RunsTold,
            errors=(FunctionNotFound,),
        ),
    ),
    NeedsRoute(
        "GET",
        "/v1/runs/{id}",
        _run,
        needs="read",
        name="api_run",
        about=About(
            summary="One run with its event, output, error and [verdict](../http.md#what-there-is-to-say-of-a-run); "
            "`?wait=30s` answers when it has ended, or then.",
            query=(WAIT,),
            answer=Answer[RunWhole],
            errors=(RunNotFound,),
        ),
    ),
    NeedsRoute(
        "GET",
        "/v1/runs/{id}/steps",
        _steps,
        needs="read",
        name="api_steps",
        about=About(
            summary="Its steps: states, attempts, errors; their results (`data`) when `fields` names them.",
            query=(STEP_FIELDS,),
            answer=Plain[list[StepView]],
            errors=(RunNotFound,),
        ),
    ),
    NeedsRoute(
        "GET",
        "/v1/runs/{id}/attempts",
        _attempts,
        needs="read",
        name="api_attempts",
        about=About(
            summary="The last 20 attempts that failed and were followed by another, the oldest first, each with its "
            "error; `step` is empty for the code between steps.",
            query=(ATTEMPT_FIELDS,),
            answer=Plain[list[FailedAttempt]],
            errors=(RunNotFound,),
        ),
    ),
    NeedsRoute(
        "GET",
        "/v1/runs/{id}/log",
        _log,
        needs="read",
        name="api_log",
        about=About(summary="What it has written; `?last=n`.", query=(LAST,), answer=LogTold, errors=(RunNotFound,)),
    ),
    NeedsRoute(
        "GET",
        "/v1/event-names",
        _event_names,
        needs="read",
        name="api_event_names",
        about=About(
            summary="The names of events, with how many functions listen; those that nobody listens to first.",
            query=(NAMES, CURSOR, NAME_FIELDS),
            answer=EventNamesTold,
        ),
    ),
    NeedsRoute(
        "GET",
        "/v1/streams",
        _streams,
        needs="read",
        name="api_streams",
        about=About(
            summary="The streams with how far each function has read them: queues of turns that are due, then events "
            "by name, those that nobody listens to last.",
            query=(NAMES, CURSOR, STREAM_FIELDS),
            answer=Listed[Stream],
        ),
    ),
]
