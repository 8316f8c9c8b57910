"""The page of schedules: when each is due, what became of its last tick, and a button that runs one now."""

from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stepstream.bus.errors import BadRequest
from stepstream.bus.values.clock import now_ms
from stepstream.checkpoint.at_work.redis_cli import of_schedules
from stepstream.checkpoint.registry import functions
from stepstream.producers.schedules import COUNTED_MISSED, Schedule, run_now, schedules
from stepstream.web.live.feed import ALL
from stepstream.web.pages.csrf import received
from stepstream.web.pages.page import View, page
from stepstream.web.routing import NeedsRoute, link
from stepstream.web.store import wire_of

SHOWN = 200
"""How many functions that have schedules are looked at in a page."""
_LONGEST_OPEN_MS = 7 * 86_400_000
"""How long a page may have been open whose button is pressed."""


class Row(msgspec.Struct, frozen=True):
    """A schedule, and what there is to say of its missed ticks."""

    id: str
    schedule: Schedule
    missed: str
    how: str


class Schedules(View, frozen=True):
    """The page `/schedules`; `more` functions are not shown, `after` is the query of the next page."""

    rows: tuple[Row, ...]
    more: int = 0
    after: str = ""


async def _read(request: Request) -> Schedules:
    wire, after = wire_of(request), request.query_params.get("after", "")
    known = [one for one in await functions(wire) if one.slug > after and any(on.startswith("cron ") for on in one.on)]
    shown = known[:SHOWN]
    more = len(known) - len(shown)
    return Schedules(
        rows=tuple(map(row, await schedules(wire, shown))),
        more=more,
        looks=tuple(of_schedules([one.slug for one in shown])),
        after=f"?after={quote(shown[-1].slug, safe='')}" if more else "",
        topic=ALL.text,
    )


def row(one: Schedule) -> Row:
    """Return a schedule as the page shows it."""
    count = f"{COUNTED_MISSED} or more ticks" if one.missed >= COUNTED_MISSED else f"{one.missed} ticks"
    count = "a tick" if one.missed == 1 else count
    missed, how = "", ""
    if one.paused is not None:
        missed, how = f"paused by {one.paused.by}: its ticks wait in line", "wait"
    elif not one.workers:
        missed, how = "no worker serves it", "bad"
        missed += f": {count} missed" if one.missed else ""
    elif one.missed:
        missed, how = f"{count} not begun yet", "wait"
    return Row(quote(f"{one.function}|{one.text}", safe=""), one, missed, how)


async def _run_now(request: Request) -> Response:
    fields = await received(request)
    at, now = fields.get("at", ""), now_ms()
    if not (at.isascii() and at.isdecimal() and now - _LONGEST_OPEN_MS < int(at[:15]) <= now + _LONGEST_OPEN_MS):
        raise BadRequest("this page is too old, or not of ours: load it again, and press the button there")
    run = await run_now(
        wire_of(request), request.path_params["slug"], fields.get("schedule", ""), fields.get("once", ""), int(at[:15])
    )
    return RedirectResponse(link(request, "run", id=run), 303)


routes = [
    page("/schedules", "schedules", _read),
    NeedsRoute("POST", "/schedules/{slug:path}/run", _run_now, needs="operate", name="run_schedule"),
]
