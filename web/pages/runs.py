"""The page of runs: those that match what the URL asks for, newest first. A row never moves: new ones wait above."""

from collections.abc import Sequence
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request

from stepstream.bus.errors import BusError, StoreUnavailable
from stepstream.bus.values.clock import now_ms
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.operations import OF_STATUS, Kind
from stepstream.checkpoint.read.lists.runs import STATUSES, Place, RunLine, place_of
from stepstream.checkpoint.read.lists.search import SOURCES, RunQuery, query_of, search
from stepstream.checkpoint.registry import slugs
from stepstream.web.live.feed import ALL, Topic
from stepstream.web.pages import views
from stepstream.web.pages.page import View, page
from stepstream.web.store import wire_of

SHOWN = 50
COUNTED_NEW = 100
"""How many runs that are newer than those of the page are counted."""
_FIRST_ID = "0" * 26
_MORE = ("event", "key", "error", "code", "worker", "source", "where")


class Runs(View, frozen=True):
    """The page `/runs`. `error` says why nothing could be looked up; then `runs` says nothing."""

    given: dict[str, str]
    """The filters as they were written, several of one name with commas."""
    chosen: tuple[str, ...]
    """The statuses that are asked for."""
    statuses: tuple[str, ...]
    functions: tuple[str, ...]
    sources: tuple[str, ...] = SOURCES
    has_more_filters: bool = False
    kinds: tuple[Kind, ...] = ()
    """What can be done with runs of the statuses that are asked for."""
    runs: tuple[views.RunRow, ...] = ()
    is_first: bool = True
    new: int = 0
    """How many newer runs there are; COUNTED_NEW + 1: more than are counted."""
    own: str = ""
    """The query of the first page, with what is new."""
    more: str = ""
    """The query of the next page; empty on the last."""
    count: int = 0
    exact: bool = False
    looked_at: int = 0
    error: str = ""


async def _read(request: Request) -> Runs:
    wire = wire_of(request)
    asked = [(name, text) for name, text in request.query_params.multi_items() if text.strip()]
    kept = [(name, text) for name, text in asked if name not in ("cursor", "top")]
    cursor, top = (request.query_params.get(name, "") for name in ("cursor", "top"))
    given = {name: ",".join(text for other, text in kept if other == name) for name, _ in kept}
    one = given.get("function", "")
    known = tuple(sorted(await slugs(wire)))
    chosen = tuple(word.strip() for word in given.get("status", "").split(","))
    view = Runs(
        given=given,
        chosen=chosen,
        kinds=tuple(kind for kind, possible in OF_STATUS.items() if {*chosen} - {""} <= {*possible}),
        statuses=STATUSES,
        functions=known,
        has_more_filters=any(given.get(name) for name in _MORE),
        is_first=not cursor,
        own=_query(kept),
        topic=(Topic(one) if one in known else ALL).text,
    )
    try:
        query = await query_of(wire, kept)
        return await _found(wire, view, query, kept, place_of(top) if top and not cursor else None, cursor)
    except StoreUnavailable:
        raise
    except BusError as error:
        return msgspec.structs.replace(view, error=str(error), topic="")


async def _found(
    wire: Wire, view: Runs, query: RunQuery, kept: Sequence[tuple[str, str]], top: Place | None, cursor: str
) -> Runs:
    """Return the page with its runs. `top` is the run that stood first when it was opened: it still does."""
    begin = cursor or (None if top is None else f"{top.queued + 1}-{_FIRST_ID}")
    found = await search(wire, query, limit=SHOWN, cursor=begin)
    runs = [run for run in found.runs if top is None or _place(run) <= top]
    first = top or (_place(runs[0]) if runs and not cursor else None)
    return msgspec.structs.replace(
        view,
        runs=views.listed(runs, now_ms()),
        new=0 if top is None else await _newer(wire, query, top),
        more=_query([*kept, ("cursor", found.cursor)]) if found.cursor else "",
        query=None if first is None else _query([*kept, ("top", first.cursor)]),
        count=found.count,
        exact=found.exact,
        looked_at=found.looked_at,
    )


async def _newer(wire: Wire, query: RunQuery, top: Place) -> int:
    """Return how many runs that match are newer than the one that stands first."""
    if query.until is not None and query.until < top.queued:
        return 0
    since = max(top.queued, query.since or 0)
    found = await search(wire, msgspec.structs.replace(query, since=since), limit=COUNTED_NEW + 1)
    return sum(_place(run) > top for run in found.runs)


def _place(run: RunLine) -> Place:
    return Place(run.queued, run.id)


def _query(pairs: Sequence[tuple[str, str]]) -> str:
    return f"?{urlencode(pairs)}"


routes = [page("/runs", "runs", _read)]
