"""Delayed events: those that are to be published later, listed and taken back."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.checkpoint.delayed import DelayedEvent, DelayedNotFound, delayed_page, take_back
from stepstream.web.answers import value
from stepstream.web.api.shapes import Listed, Plain
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.parameters import Fields, Number, Text
from stepstream.web.trust.audit import acts_on

MOST = 1_000

LIMIT = Number("limit", "how many at most", 1, MOST, 100)
CURSOR = Text("cursor", "`cursor` of the page before")
NAME = Text("name", "events of this name")
FIELDS = Fields(DelayedEvent, payloads=("data",))
OF_NAME = Text("name", "which event? write /v1/delayed?name=order/paid&id=o1", is_needed=True)
ID = Text("id", "which event? write /v1/delayed?name=order/paid&id=o1", is_needed=True)


class TakenBack(msgspec.Struct, frozen=True):
    """An event that will not be published."""

    name: str
    id: str
    status: str = "cancelled"


async def _delayed(request: Request) -> Response:
    page = await delayed_page(wire_of(request), NAME.of(request) or None, LIMIT.of(request), CURSOR.of(request))
    return value(Listed(FIELDS.rows(request, page.events), page.cursor))


async def _cancel(request: Request) -> Response:
    name, event_id = OF_NAME.of(request), ID.of(request)
    acts_on(request, name, event_id)
    await take_back(wire_of(request), name, event_id)
    return value(Plain(TakenBack(name, event_id)))


routes = [
    NeedsRoute(
        "GET",
        "/v1/delayed",
        _delayed,
        needs="read",
        name="api_delayed",
        about=About(
            summary="Events that wait for their time, the next first; their `data` when `fields` names it.",
            query=(NAME, LIMIT, CURSOR, FIELDS),
            answer=Listed[DelayedEvent],
        ),
    ),
    NeedsRoute(
        "DELETE",
        "/v1/delayed",
        _cancel,
        needs="operate",
        name="api_cancel_delayed",
        about=About(
            summary="Take one back: `?name=…&id=…`.",
            query=(OF_NAME, ID),
            answer=Plain[TakenBack],
            errors=(DelayedNotFound,),
        ),
    ),
]
