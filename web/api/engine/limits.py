"""/v1/limits: who holds places and who waits; set a limit to another number until a time."""

from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BadRequest, ConfigError, FunctionNotFound
from stepstream.bus.values.durations import milliseconds, past_moment
from stepstream.bus.wire.registering import Registered
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls.ordered import Override
from stepstream.checkpoint.controls.overrides import LimitChanged, override_limit, restore_limit
from stepstream.checkpoint.limits.flush import Flushed, flush
from stepstream.checkpoint.limits.told import FunctionLimits, limits_of
from stepstream.checkpoint.registry import function_of, functions
from stepstream.web.answers import value
from stepstream.web.api.shapes import Listed, Plain
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.bodies import Body
from stepstream.web.table.paging import Paged
from stepstream.web.table.parameters import Fields, Text, Texts
from stepstream.web.trust.audit import acts_on
from stepstream.web.trust.principal import API, by

FUNCTION = Texts("function", "of this function (its slug); may be given again")
FIELDS = Fields(FunctionLimits)
PAGED = Paged[Registered](lambda one: (one.slug,), (str,))
LIMIT = Text("limit", "concurrency, concurrency2 (its second), throttle or rate_limit", is_needed=True)
KEY = Text("key", "the value of its key it was set for; none: it was set for every value")


class LimitWanted(msgspec.Struct, forbid_unknown_fields=True):
    """To which number a limit is set, and until when: `until` (Unix ms or RFC 3339) or `for` (30m, 2h), one of them.

    `key` is the value of the limit's key, as people write it; none: for each value. `seen` is the latest `since` of an
    override that the caller has seen, 0 for none: then one that somebody else has set meanwhile is not replaced.
    """

    limit: str
    to: int
    until: int | str | None = None
    for_: str = msgspec.field(name="for", default="")
    key: str | None = None
    seen: int | None = None
    request: str = ""


class LimitSet(msgspec.Struct, frozen=True):
    """A function, and to what a limit of it is set from now."""

    function: str
    override: Override


class LimitRestored(msgspec.Struct, frozen=True):
    """A limit of a function, whether it was set otherwise, and where it still is (`overrides`).

    What is set for one value of its key stands when that for each is taken back, and the other way round.
    """

    function: str
    limit: str
    was_set: bool
    overrides: tuple[Override, ...]


class FlushWanted(msgspec.Struct, forbid_unknown_fields=True):
    """Of which value of its key (none: of any), or which runs are to be; both may be left out."""

    key: str | None = None
    runs: Annotated[list[str], msgspec.Meta(max_length=100)] = []


_WANTED, _FLUSH = Body(LimitWanted), Body(FlushWanted, may_be_empty=True)


async def _limits(request: Request) -> Response:
    wire, named = wire_of(request), FUNCTION.of(request)
    for slug in named:
        await function_of(wire, slug)
    known = [one for one in await functions(wire, named or None) if one.flow]
    page, cursor = PAGED.of(request, known)
    return value(Listed(FIELDS.rows(request, await limits_of(wire, page)), cursor))


async def _set(request: Request) -> Response:
    wire, slug, wanted = wire_of(request), request.path_params["id"], await _WANTED.of(request)
    until = await end_of(wire, wanted.until, wanted.for_)
    acts_on(request, wanted.limit, wanted.key or "", f"to {wanted.to}")
    made = await override_limit(
        wire,
        slug,
        wanted.limit,
        wanted.to,
        until,
        by(request, API),
        key=wanted.key,
        seen=wanted.seen,
        request=wanted.request,
    )
    return value(Plain(LimitSet(slug, made)))


async def end_of(wire: Wire, until: int | str | None, during: str) -> int:
    """Return a moment to come that is told as itself, or as how long from now; BadRequest unless as one of both."""
    if (until is None) == (not during):
        raise BadRequest('say until when, as "for": "2h", or as "until": Unix ms or RFC 3339; one of both')
    if until is not None:
        return past_moment(str(until), "until", 0)
    try:
        return await wire.moment() + milliseconds(during, "for")
    except ConfigError as error:
        raise BadRequest(str(error)) from None


async def _restore(request: Request) -> Response:
    wire, slug, limit = wire_of(request), request.path_params["id"], LIMIT.of(request)
    key = request.query_params.get("key")
    acts_on(request, limit, key or "")
    done = await restore_limit(wire, slug, limit, key)
    return value(Plain(LimitRestored(slug, limit, done.was_set, done.stand)))


async def _flush(request: Request) -> Response:
    wire, slug, wanted = wire_of(request), request.path_params["id"], await _FLUSH.of(request)
    return value(Plain(await flush(wire, slug, wanted.key, wanted.runs)))


routes = [
    NeedsRoute(
        "GET",
        "/v1/limits",
        _limits,
        needs="read",
        name="api_limits",
        about=About(
            summary="The limits of functions, for each value of their keys: who holds places, who waits; which are set "
            "to another number, until when and by whom (`overrides`).",
            query=(FUNCTION, *PAGED.query, FIELDS),
            answer=Listed[FunctionLimits],
            errors=(FunctionNotFound,),
        ),
    ),
    NeedsRoute(
        "POST",
        "/v1/functions/{id:path}/limits",
        _set,
        needs="operate",
        name="api_set_limit",
        about=About(
            summary='Set a limit to another number until a time: `{"limit": "concurrency", "to": 10, "for": "2h"}`. '
            "With `key` for that value of its key. A shared limit is set for all functions that share it.",
            body=_WANTED,
            answer=Plain[LimitSet],
            errors=(FunctionNotFound, LimitChanged),
        ),
    ),
    NeedsRoute(
        "DELETE",
        "/v1/functions/{id:path}/limits",
        _restore,
        needs="operate",
        name="api_restore_limit",
        about=About(
            summary="Let it be what the function declares, before its time; `was_set` tells whether it was not.",
            query=(LIMIT, KEY),
            answer=Plain[LimitRestored],
            errors=(FunctionNotFound,),
        ),
    ),
    NeedsRoute(
        "POST",
        "/v1/functions/{id:path}/flush",
        _flush,
        needs="operate",
        name="api_flush_buffer",
        about=About(
            summary="Let what its debounce or batch holds back become runs now: all of it (100 at a time), that of a "
            "`key`, or that which will be one of `runs`. Answers with what has; asked again there is nothing to do.",
            body=_FLUSH,
            answer=Plain[list[Flushed]],
            errors=(FunctionNotFound,),
        ),
    ),
]
