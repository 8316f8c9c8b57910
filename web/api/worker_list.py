"""/v1/workers: who works, and what each has in hand; of the dead of the last day, what they had; drain one."""

from starlette.requests import Request
from starlette.responses import Response

from stepstream.checkpoint.actions.drain import Drained, NotDrained, WorkerNotFound, drain
from stepstream.checkpoint.facts.workers import WorkerView, workers_told
from stepstream.web.answers import value
from stepstream.web.api.shapes import Listed, Plain
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.paging import MOST, Paged
from stepstream.web.table.parameters import Fields

FIELDS = Fields(WorkerView)
PAGED = Paged[WorkerView](lambda one: (int(one.alive), one.since, one.name), (int, int, str), default=MOST)
"""Since when each works, and not when it was seen: that changes while pages are taken."""


async def _workers(request: Request) -> Response:
    page, cursor = PAGED.of(request, await workers_told(wire_of(request)))
    return value(Listed(FIELDS.rows(request, page), cursor))


async def _drain(request: Request) -> Response:
    return value(Plain(await drain(wire_of(request), request.path_params["worker"], "the API")))


routes = [
    NeedsRoute(
        "GET",
        "/v1/workers",
        _workers,
        needs="read",
        name="api_workers",
        about=About(
            summary="Workers, the living first, and those that died within a day: host, version, slots, and which runs "
            "each has in hand, or had.",
            query=(*PAGED.query, FIELDS),
            answer=Listed[WorkerView],
        ),
    ),
    NeedsRoute(
        "POST",
        "/v1/workers/{worker:path}/drain",
        _drain,
        needs="operate",
        name="api_drain_worker",
        about=About(
            summary="Let a worker read no more, finish what it has in hand or leave it to another, and end its "
            "process. Telling it twice changes nothing; what supervises it may start another.",
            answer=Plain[Drained],
            errors=(WorkerNotFound, NotDrained),
        ),
    ),
]
