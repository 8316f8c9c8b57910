"""/v1/audit: who has done what."""

from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BadRequest
from stepstream.checkpoint.audit_log import Act, acts
from stepstream.web.answers import value
from stepstream.web.api.shapes import Listed
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.paging import CURSOR
from stepstream.web.table.parameters import Fields, Number

LIMIT = Number("limit", "how many at most", 1, 1_000, 100)
FIELDS = Fields(Act)


async def _audit(request: Request) -> Response:
    page = await acts(wire_of(request), limit=LIMIT.of(request), cursor=CURSOR.of(request))
    return value(Listed(FIELDS.rows(request, page.acts), page.cursor))


routes = [
    NeedsRoute(
        "GET",
        "/v1/audit",
        _audit,
        needs="admin",
        name="api_audit",
        about=About(
            summary="Who has done what, to what, by what, from where, and what came of it, newest first: the last "
            "10,000 acts.",
            query=(LIMIT, CURSOR, FIELDS),
            answer=Listed[Act],
            errors=(BadRequest,),
        ),
    )
]
