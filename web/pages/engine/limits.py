"""The page of limits: who holds the places of each and who waits, for each value of its key; what is held back."""

from urllib.parse import quote

import msgspec
from starlette.requests import Request

from stepstream.checkpoint.limits.told import ADMITTED_IN, FunctionLimits, LimitLine, limits_of
from stepstream.checkpoint.registry import functions
from stepstream.web.live.feed import ALL, Topic
from stepstream.web.pages.page import View, page
from stepstream.web.store import wire_of

SHOWN = 50
"""How many functions that have limits a page shows."""


class Line(msgspec.Struct, frozen=True):
    """A limit for a value of its key, and whether its places are all taken."""

    id: str
    line: LimitLine
    is_full: bool


class Row(msgspec.Struct, frozen=True):
    """A function that has limits, and their keys that are in use."""

    function: FunctionLimits
    lines: tuple[Line, ...]


class Limits(View, frozen=True):
    """The page `/limits`; `after` is the query of the next page, with `more` functions."""

    rows: tuple[Row, ...]
    more: int
    after: str
    minutes: int = ADMITTED_IN


async def _read(request: Request) -> Limits:
    wire, asked = wire_of(request), request.query_params
    after, slug = asked.get("after", ""), asked.get("function", "")
    known = [one for one in await functions(wire) if one.flow and one.slug > after and slug in ("", one.slug)]
    shown = known[:SHOWN]
    more = len(known) - len(shown)
    return Limits(
        rows=tuple(map(row, await limits_of(wire, shown))),
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
            bool(line.most and line.running >= line.most),
        )
        for line in one.lines
    ]
    return Row(one, tuple(lines))


routes = [page("/limits", "limits", _read)]
