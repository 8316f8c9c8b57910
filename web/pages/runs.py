"""The page of runs: those that match what the URL asks for, newest first. A row never moves: new ones wait above."""

from collections.abc import Sequence
from functools import partial
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request

from stepstream.bus.errors import BusError, StoreUnavailable
from stepstream.bus.values.clock import now_ms
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.operations import OF_STATUS, Kind
from stepstream.checkpoint.read.lists.runs import STATUSES, Place, RunLine, place_of
from stepstream.checkpoint.read.lists.search import SOURCES, Found, RunQuery, query_of, search
from stepstream.checkpoint.registry import slugs
from stepstream.web.live.feed import ALL, Topic, read_once
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
    asked_again = bool(top and not cursor)
    of_all = partial(_of_all, wire, kept, with_newest=asked_again)
    # Each browser has its own first row: what they have in common is read once for all of them.
    found = await (read_once(wire, f"runs {_query(kept)}", of_all) if asked_again else of_all())
    known = found.functions
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
        if isinstance(found.query, BusError):
            raise found.query
        first = place_of(top) if asked_again else None
        return await _found(wire, view, found.query, kept, first, cursor, found.newest)
    except StoreUnavailable:
        raise
    except BusError as error:
        return msgspec.structs.replace(view, error=str(error), topic="")


class _OfAll(msgspec.Struct, frozen=True):
    """What all pages with the same filters have in common: why they cannot be looked up, or the newest that match."""

    functions: tuple[str, ...]
    query: RunQuery | BusError
    newest: Found | None = None


async def _of_all(wire: Wire, kept: Sequence[tuple[str, str]], with_newest: bool) -> _OfAll:
    known = tuple(sorted(await slugs(wire)))
    try:
        query = await query_of(wire, kept)
        newest = await search(wire, query, limit=COUNTED_NEW + 1 + SHOWN) if with_newest else None
    except StoreUnavailable:
        raise
    except BusError as error:
        return _OfAll(known, error)
    return _OfAll(known, query, newest)


async def _found(
    wire: Wire,
    view: Runs,
    query: RunQuery,
    kept: Sequence[tuple[str, str]],
    top: Place | None,
    cursor: str,
    newest: Found | None,
) -> Runs:
    """Return the page with its runs. `top` is the run that stood first when it was opened: it still does."""
    found = None if top is None or newest is None else _from(top, newest)
    if found is None:  # the first page, one with a cursor, or one above which there are more than are counted
        begin = cursor or (None if top is None else f"{top.queued + 1}-{_FIRST_ID}")
        found = await search(wire, query, limit=SHOWN, cursor=begin)
    runs = [run for run in found.runs if top is None or _place(run) <= top]
    first = top or (_place(runs[0]) if runs and not cursor else None)
    return msgspec.structs.replace(
        view,
        runs=views.listed(runs, now_ms()),
        new=0 if top is None or newest is None else min(COUNTED_NEW + 1, _above(top, newest)),
        more=_query([*kept, ("cursor", found.cursor)]) if found.cursor else "",
        query=None if first is None else _query([*kept, ("top", first.cursor)]),
        count=found.count,
        exact=found.exact,
        looked_at=found.looked_at,
    )


def _from(top: Place, newest: Found) -> Found | None:
    """Return the page that begins with the run `top` out of the newest runs; None where these do not reach so far."""
    above = _above(top, newest)
    runs = newest.runs[above : above + SHOWN]
    if len(runs) < SHOWN and newest.cursor is not None:
        return None
    cursor = newest.cursor if above + SHOWN >= len(newest.runs) else _place(runs[-1]).cursor
    return msgspec.structs.replace(newest, runs=runs, cursor=cursor)


def _above(top: Place, newest: Found) -> int:
    """Return how many of the newest runs are newer than the one that stands first."""
    return sum(_place(run) > top for run in newest.runs)


def _place(run: RunLine) -> Place:
    return Place(run.queued, run.id)


def _query(pairs: Sequence[tuple[str, str]]) -> str:
    return f"?{urlencode(pairs)}"


routes = [page("/runs", "runs", _read)]
