"""The page of limits: who holds the places of each and who waits, for each value of its key; what is held back.

A limit is set to another number until a time here, and taken back.
"""

from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stepstream.bus.errors import BadRequest
from stepstream.bus.values.durations import milliseconds
from stepstream.checkpoint.at_work.redis_cli import of_limits
from stepstream.checkpoint.controls.overrides import override_limit, restore_limit
from stepstream.checkpoint.limits.flush import flush
from stepstream.checkpoint.limits.told import ADMITTED_IN, FunctionLimits, LimitLine, limits_of
from stepstream.checkpoint.registry import functions
from stepstream.web.live.feed import ALL, Topic
from stepstream.web.pages.csrf import received
from stepstream.web.pages.page import View, page
from stepstream.web.routing import NeedsRoute, link
from stepstream.web.store import wire_of
from stepstream.web.trust.audit import acts_on
from stepstream.web.trust.principal import PAGE, by

SHOWN = 50
"""How many functions that have limits a page shows."""
PERIODS = (("15m", "15 minutes"), ("1h", "1 hour"), ("4h", "4 hours"), ("1d", "1 day"), ("7d", "7 days"))
"""For how long a limit may be set otherwise here."""


class Line(msgspec.Struct, frozen=True):
    """A limit for a value of its key, and whether its places are all taken."""

    id: str
    line: LimitLine
    is_full: bool


class Row(msgspec.Struct, frozen=True):
    """A function that has limits, and their keys that are in use."""

    function: FunctionLimits
    lines: tuple[Line, ...]
    seen: int
    """When the latest of its overrides was set."""


class Limits(View, frozen=True):
    """The page `/limits`; `after` is the query of the next page, with `more` functions."""

    rows: tuple[Row, ...]
    more: int
    after: str
    minutes: int = ADMITTED_IN
    periods: tuple[tuple[str, str], ...] = PERIODS


async def _read(request: Request) -> Limits:
    wire, asked = wire_of(request), request.query_params
    after, slug = asked.get("after", ""), asked.get("function", "")
    known = [one for one in await functions(wire) if one.flow and one.slug > after and slug in ("", one.slug)]
    shown = known[:SHOWN]
    more = len(known) - len(shown)
    told = await limits_of(wire, shown)
    return Limits(
        rows=tuple(map(row, told)),
        looks=tuple(of_limits([(one.function, [line.stored for line in one.lines]) for one in told])),
        more=more,
        after=f"?after={quote(shown[-1].slug, safe='')}" if more else "",
        topic=(Topic(slug) if slug else ALL).text,
    )


def row(one: FunctionLimits) -> Row:
    """Return a function as the page shows it."""
    lines = [
        Line(
            quote(f"{one.function}|{line.rule}|{line.key}", safe=""),
            line,
            line.most is not None and line.running >= line.most,
        )
        for line in one.lines
    ]
    return Row(one, tuple(lines), max((other.since for other in one.overrides), default=0))


async def _set(request: Request) -> Response:
    fields, wire, slug = await received(request), wire_of(request), request.path_params["slug"]
    number, during, seen = (fields.get(name, "") for name in ("to", "for", "seen"))
    if during not in dict(PERIODS) or not _is_number(seen):
        raise BadRequest("this form is not of our page of limits: load that again, and press the button there")
    if not _is_number(number):
        raise BadRequest(f"{number[:40]!r} is no number to which a limit can be set")
    acts_on(request, fields.get("limit", ""), fields.get("key", ""), f"to {number} for {during}")
    await override_limit(
        wire,
        slug,
        fields.get("limit", ""),
        int(number),
        await wire.moment() + milliseconds(during),
        by(request, PAGE),
        key=fields.get("key") or None,
        seen=int(seen),
        request=fields.get("once", ""),
    )
    return RedirectResponse(link(request, "limits"), 303)


async def _restore(request: Request) -> Response:
    fields, wire, slug = await received(request), wire_of(request), request.path_params["slug"]
    acts_on(request, fields.get("limit", ""), fields.get("key", ""))
    await restore_limit(wire, slug, fields.get("limit", ""), fields.get("key"))
    return RedirectResponse(link(request, "limits"), 303)


async def _flush(request: Request) -> Response:
    fields, wire, slug = await received(request), wire_of(request), request.path_params["slug"]
    run = fields.get("run", "")
    if not run:
        raise BadRequest("this form is not of our page of limits: load that again, and press the button there")
    acts_on(request, run)
    await flush(wire, slug, runs=[run])  # pressed twice, or due meanwhile: its run is there already
    return RedirectResponse(link(request, "run", id=run), 303)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 15


routes = [
    page("/limits", "limits", _read),
    NeedsRoute("POST", "/limits/{slug:path}/set", _set, needs="operate", name="set_limit"),
    NeedsRoute("POST", "/limits/{slug:path}/flush", _flush, needs="operate", name="flush_buffer"),
    NeedsRoute("POST", "/limits/{slug:path}/restore", _restore, needs="operate", name="restore_limit"),
]
