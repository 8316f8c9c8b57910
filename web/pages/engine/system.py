"""The page of the system: whether this Redis is fit, its memory, its streams, and the settings of this process."""

import asyncio
from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.wire.doctor import Finding, Server, at_boot, examine, server
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.at_work.redis_cli import of_streams
from stepstream.checkpoint.at_work.streams import Stream, streams
from stepstream.web.live.feed import ALL
from stepstream.web.pages.csrf import received
from stepstream.web.pages.page import View, page, read_again, show
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of

LOOKED_AT, SHOWN = 200, 100
"""How many streams are looked at for those that are furthest behind, and how many of these are shown."""
_WORD = {"fit": "completed", "advice": "waiting", "unfit": "failed"}


class Checked(msgspec.Struct, frozen=True):
    """What doctor found, and the colour of its verdict."""

    finding: Finding
    how: str


class System(View, frozen=True):
    """The page `/system`; `is_whole` when everything was checked."""

    findings: tuple[Checked, ...]
    is_whole: bool
    server: Server | None
    streams: tuple[Stream, ...]
    more: int
    settings: tuple[tuple[str, str], ...]


async def _read(request: Request) -> System:
    wire = wire_of(request)
    return await _system(wire, await at_boot(wire), is_whole=False)


async def _system(wire: Wire, findings: Sequence[Finding], *, is_whole: bool) -> System:
    about, found = await asyncio.gather(server(wire), streams(wire, limit=LOOKED_AT))
    behind = sorted(found.streams, key=lambda one: (-one.behind, one.kind, one.name))
    order = sorted(findings, key=lambda one: ("unfit", "advice", "fit").index(one.verdict))
    return System(
        findings=tuple(Checked(one, _WORD[one.verdict]) for one in order),
        is_whole=is_whole,
        server=about,
        streams=tuple(behind[:SHOWN]),
        more=max(0, len(behind) - SHOWN) + max(0, found.count - LOOKED_AT),
        settings=tuple(wire.settings.shown()),
        looks=tuple(of_streams(*([one.name for one in behind if one.kind == kind] for kind in ("queue", "events")))),
        topic="" if is_whole else ALL.text,
    )


async def _examine(request: Request) -> Response:
    """Check everything: that tries each command that workers need, on keys that it removes; so it is no GET."""
    await received(request)
    wire = wire_of(request)
    view = await read_again(request, _system(wire, await examine(wire), is_whole=True))
    return show(request, "system.html", page=view, section="system")


routes = [
    page("/system", "system", _read),
    NeedsRoute("POST", "/system/examine", _examine, needs="operate", name="examine"),
]
