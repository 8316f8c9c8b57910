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
from stepstream.checkpoint.at_work.redis_cli import of_runs
from stepstream.checkpoint.read.lists.runs import STATUSES, Place, RunLine, place_of
from stepstream.checkpoint.read.lists.search import SOURCES, Found, query_of, search
from stepstream.checkpoint.registry import slugs
from stepstream.web.live.feed import ALL, Topic, has_turn, read_once
from stepstream.web.pages import views
from stepstream.web.pages.page import View, is_part, page
from stepstream.web.store import wire_of
from stepstream.web.trust.hiding import hidden_now

SHOWN = 50
COUNTED_NEW = 100
"""How many runs that are newer than those of the page are counted."""
_NEWEST = COUNTED_NEW + 1 + SHOWN
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
    chosen_functions: tuple[str, ...]
    """Those that are asked for, also such as are not registered."""
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
    not_evaluated: int = 0
    error: str = ""


async def _read(request: Request) -> Runs | None:
    wire = wire_of(request)
    asked = [(name, text) for name, text in request.query_params.multi_items() if text.strip()]
    kept = [(name, text) for name, text in asked if name not in ("cursor", "top")]
    cursor, top = (request.query_params.get(name, "") for name in ("cursor", "top"))
    given = {name: ",".join(text for other, text in kept if other == name) for name, _ in kept}
    known = tuple(sorted(await read_once(wire, "functions", partial(slugs, wire))))
    of = tuple(slug for text in given.get("function", "").split(",") if (slug := text.strip()))
    chosen = tuple(word.strip() for word in given.get("status", "").split(","))
    statuses = [word for word in chosen if word in STATUSES]
    view = Runs(
        given=given,
        chosen=chosen,
        kinds=tuple(kind for kind, possible in OF_STATUS.items() if {*chosen} - {""} <= {*possible}),
        statuses=STATUSES,
        functions=known,
        chosen_functions=of,
        has_more_filters=any(given.get(name) for name in _MORE),
        is_first=not cursor,
        own=_query(kept),
        looks=tuple(of_runs(of or known, statuses or STATUSES)),
        topic=(Topic(of[0]) if len(of) == 1 and of[0] in known else ALL).text,
    )
    try:
        first = place_of(top)
        if first is not None and not cursor:
            return await _again(wire, view, kept, first, may_stay=is_part(request))
        found = await search(wire, await query_of(wire, kept, hidden_now()), limit=SHOWN, cursor=cursor)
        return _shown(view, kept, found, _place(found.runs[0]) if found.runs and not cursor else None)
    except StoreUnavailable:
        raise
    except BusError as error:
        return msgspec.structs.replace(view, error=str(error), topic="")


async def _again(wire: Wire, view: Runs, kept: Sequence[tuple[str, str]], top: Place, *, may_stay: bool) -> Runs | None:
    """Return the page that was opened when the run `top` stood first: it still does.

    Each browser has its own first row: the newest runs are read once for all with the same filters, and cut for each.
    What is further down is read for one alone, in turns. None: it is not this one's turn, and it `may_stay` as it is.
    """
    # Who sees all of the data may find other runs by it.
    newest = await read_once(wire, ("newest runs", _query(kept), hidden_now().rules), partial(_newest, wire, kept))
    new = _above(top, newest)
    found = _from(top, newest)
    if found is None:
        if may_stay and not has_turn(wire, f"{top.cursor} {_query(kept)}"):
            return None
        begin = f"{top.queued + 1}-{_FIRST_ID}"
        found = await search(wire, await query_of(wire, kept, hidden_now()), limit=SHOWN, cursor=begin)
        found.runs = [run for run in found.runs if _place(run) <= top]
    return msgspec.structs.replace(_shown(view, kept, found, top), new=min(COUNTED_NEW + 1, new))


async def _newest(wire: Wire, kept: Sequence[tuple[str, str]]) -> Found:
    return await search(wire, await query_of(wire, kept, hidden_now()), limit=_NEWEST)


def _shown(view: Runs, kept: Sequence[tuple[str, str]], found: Found, first: Place | None) -> Runs:
    """Return the page with its runs; `first` is the run that stands first from now on."""
    return msgspec.structs.replace(
        view,
        runs=views.listed(found.runs, now_ms()),
        more=_query([*kept, ("cursor", found.cursor)]) if found.cursor else "",
        query=None if first is None else _query([*kept, ("top", first.cursor)]),
        count=found.count,
        exact=found.exact,
        looked_at=found.looked_at,
        not_evaluated=found.not_evaluated,
    )


def _from(top: Place, newest: Found) -> Found | None:
    """Return the page that begins with the run `top` out of the newest runs; None where these do not reach so far.

    They end where no more come, when there are enough, or where as many were looked at as may be: then a page may be
    short, as each is that has looked at so many, and its cursor goes on.
    """
    above = _above(top, newest)
    runs = newest.runs[above : above + SHOWN]
    last = place_of(newest.cursor)
    if len(runs) < SHOWN and last is not None and (len(newest.runs) >= _NEWEST or last > top):
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
