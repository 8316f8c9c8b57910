"""The page of the audit log: who has done what, newest first."""

from urllib.parse import quote

from starlette.requests import Request

from stepstream.checkpoint.at_work.redis_cli import of_audit
from stepstream.checkpoint.audit_log import Act, acts
from stepstream.web.pages.page import View, page
from stepstream.web.store import wire_of

SHOWN = 100


class Audit(View, frozen=True):
    """The page `/audit`; `after` is the query of the next page."""

    rows: tuple[Act, ...]
    after: str
    is_first: bool


async def _read(request: Request) -> Audit:
    cursor = request.query_params.get("cursor", "")
    found = await acts(wire_of(request), limit=SHOWN, cursor=cursor)
    after = f"?cursor={quote(found.cursor, safe='')}" if found.cursor else ""
    return Audit(rows=tuple(found.acts), after=after, is_first=not cursor, looks=tuple(of_audit()))


routes = [page("/audit", "audit", _read, section="system", needs="admin")]
