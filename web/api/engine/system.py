"""/v1/system: whether this Redis is fit, its memory, and the settings of this process."""

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.wire.doctor import Finding, Server, at_boot, examine, server
from stepstream.bus.wire.wire import Wire
from stepstream.web.answers import value
from stepstream.web.api.shapes import Plain
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About


class SystemTold(msgspec.Struct, frozen=True):
    """What doctor has found (`is_whole`: of everything it looks at), what the server tells of itself, the settings.

    `server` is null where this user may not ask. Secrets are not among the `settings`: only that they are set.
    """

    findings: list[Finding]
    is_whole: bool
    server: Server | None
    settings: dict[str, str]


async def _system(request: Request) -> Response:
    wire = wire_of(request)
    return value(Plain(await _told(wire, await at_boot(wire), is_whole=False)))


async def _examine(request: Request) -> Response:
    wire = wire_of(request)
    return value(Plain(await _told(wire, await examine(wire), is_whole=True)))


async def _told(wire: Wire, findings: Sequence[Finding], *, is_whole: bool) -> SystemTold:
    return SystemTold([*findings], is_whole, await server(wire), dict(wire.settings.shown()))


routes = [
    NeedsRoute(
        "GET",
        "/v1/system",
        _system,
        needs="read",
        name="api_system",
        about=About(
            summary="Whether this Redis is fit, as far as it tells of itself; its memory, in bytes; the settings of "
            "this process, without secrets.",
            answer=Plain[SystemTold],
        ),
    ),
    NeedsRoute(
        "POST",
        "/v1/system/examine",
        _examine,
        needs="operate",
        name="api_examine",
        about=About(
            summary="Check everything, as `bus doctor` does: each command that workers need is tried, on keys that are "
            "removed then.",
            answer=Plain[SystemTold],
        ),
    ),
]
