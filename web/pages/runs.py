"""The page of runs: those that match what the URL asks for, newest first. A row never moves: new ones wait above."""

from urllib.parse import urlencode

import msgspec
from starlette.requests import Request

from stepstream.bus.errors import BadRequest, BusError, StoreUnavailable
from stepstream.bus.values.clock import now_ms
from stepstream.checkpoint.read.listing import STATUSES, list_runs, statuses_of
from stepstream.checkpoint.registry import function_of, slugs
from stepstream.web.live.feed import ALL, Topic
from stepstream.web.pages import views
from stepstream.web.pages.page import View, page
from stepstream.web.store import wire_of

SHOWN = 50
COUNTED_NEW = 100
"""How many runs that are newer than those of the page are counted."""
_FIRST_ID = "0" * 26


class Runs(View, frozen=True):
    """The page `/runs`. `error` says why nothing could be looked up; then `runs` says nothing."""

    status: str
    function: str
    statuses: tuple[str, ...]
    functions: tuple[str, ...]
    runs: tuple[views.RunRow, ...] = ()
    is_first: bool = True
    new: int = 0
    """How many newer runs there are; COUNTED_NEW + 1: more than are counted."""
    own: str = ""
    """The query of the first page, with what is new."""
    more: str = ""
    """The query of the next page; empty on the last."""
    error: str = ""


async def _read(request: Request) -> Runs:
    wire, asked = wire_of(request), request.query_params
    status, slug, cursor, top = (asked.get(word, "") for word in ("status", "function", "cursor", "top"))
    kept = [(name, text) for name, text in (("status", status), ("function", slug)) if text]
    known = tuple(sorted(await slugs(wire)))
    view = Runs(
        status, slug, STATUSES, known, is_first=not cursor, own=_query(kept), topic=(Topic(slug) if slug else ALL).text
    )
    replace = msgspec.structs.replace
    try:
        among = [(await function_of(wire, slug)).slug] if slug else known
        wanted = statuses_of(status or None)
        begin = cursor or (_behind(top) if top else None)
        found = await list_runs(wire, among, wanted, limit=SHOWN, cursor=begin)
        runs = [run for run in found.runs if not top or cursor or (run.queued, run.id) <= _place(top)]
        new = 0
        if top and not cursor:
            newer = await list_runs(wire, among, wanted, limit=COUNTED_NEW + 1, since=_place(top)[0])
            new = sum((run.queued, run.id) > _place(top) for run in newer.runs)
    except StoreUnavailable:
        raise
    except BusError as error:
        return replace(view, error=str(error), topic="")
    first = f"{runs[0].queued}-{runs[0].id}" if runs else ""
    return replace(
        view,
        runs=views.listed(runs, now_ms()),
        new=new,
        more=_query([*kept, ("cursor", found.cursor)]) if found.cursor else "",
        query=_query([*kept, ("top", top or first)]) if not cursor and first else None,
    )


def _query(pairs: list[tuple[str, str]]) -> str:
    return f"?{urlencode(pairs)}"


def _place(top: str) -> tuple[int, str]:
    """Return the place of the run that a page begins with."""
    ms, _, run = top.partition("-")
    if not (ms.isascii() and ms.isdecimal() and len(ms) <= 15):
        raise BadRequest(f"top {top[:60]!r} is not one of ours; leave it out")
    return int(ms), run


def _behind(top: str) -> str:
    """Return the cursor behind which a page begins with that run, or one of its millisecond."""
    return f"{_place(top)[0] + 1}-{_FIRST_ID}"


routes = [page("/runs", "runs", _read)]
