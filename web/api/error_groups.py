"""/v1/errors: of what runs failed, in groups by name and place in the author's code; resolve one, or mute it."""

from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BadRequest, FunctionNotFound, NotFound
from stepstream.bus.values.clock import now_ms
from stepstream.checkpoint.facts.errors import ErrorGroup, State, errors_of, set_error_state
from stepstream.checkpoint.registry import function_of, slugs
from stepstream.web.answers import value
from stepstream.web.api.shapes import Listed, Plain
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.bodies import Body
from stepstream.web.table.paging import Paged
from stepstream.web.table.parameters import Fields, Text, Texts

FUNCTION = Texts("function", "of this function (its slug); may be given again")
STATE = Text("state", "open, resolved or muted")
FIELDS = Fields(ErrorGroup)
PAGED = Paged[ErrorGroup](lambda one: (one.last, one.fingerprint, one.function), (int, str, str))
_STATES = ("open", "resolved", "muted")


class ErrorNotFound(NotFound):
    """A function has no error of this fingerprint."""

    code = "error_not_found"

    def __init__(self, slug: str, fingerprint: str) -> None:
        super().__init__(f"{slug} has no error {fingerprint[:60]!r} (any more)")


class Marking(msgspec.Struct, forbid_unknown_fields=True):
    """What is said of an error of a function: `resolved`, `open`, or `muted` until a time (Unix ms; 0: for good)."""

    function: str
    state: Literal["open", "resolved", "muted"]
    until: int = 0


class Marked(msgspec.Struct, frozen=True):
    """An error of a function, and what is said of it now."""

    function: str
    fingerprint: str
    state: State
    until: int


_MARKING = Body(Marking)


async def _errors(request: Request) -> Response:
    wire, named, state = wire_of(request), FUNCTION.of(request), STATE.of(request)
    if state and state not in _STATES:
        raise BadRequest(f"state {state[:40]!r} is not known: use one of {', '.join(_STATES)}")
    for slug in named:
        await function_of(wire, slug)
    found = [one for one in await errors_of(wire, named or await slugs(wire)) if not state or one.state == state]
    page, cursor = PAGED.of(request, found)
    return value(Listed(FIELDS.rows(request, page), cursor))


async def _mark(request: Request) -> Response:
    wire, fingerprint = wire_of(request), request.path_params["id"]
    wanted = await _MARKING.of(request)
    await function_of(wire, wanted.function)
    if wanted.until and (wanted.state != "muted" or wanted.until <= now_ms()):
        raise BadRequest(f"until {wanted.until}: only a muted error has it, and it is a time to come, Unix ms")
    if not await set_error_state(wire, wanted.function, fingerprint, wanted.state, wanted.until):
        raise ErrorNotFound(wanted.function, fingerprint)
    return value(Plain(Marked(wanted.function, fingerprint, wanted.state, wanted.until)))


routes = [
    NeedsRoute(
        "GET",
        "/v1/errors",
        _errors,
        needs="read",
        name="api_errors",
        about=About(
            summary="Of what runs failed, in groups by the error's name and place in your code, those that came last "
            "first.",
            query=(FUNCTION, STATE, *PAGED.query, FIELDS),
            answer=Listed[ErrorGroup],
            errors=(FunctionNotFound,),
        ),
    ),
    NeedsRoute(
        "POST",
        "/v1/errors/{id}",
        _mark,
        needs="operate",
        name="api_set_error_state",
        about=About(
            summary='Say of an error that it is resolved, muted or open: `{"function": SLUG, "state": "muted", '
            '"until": Unix ms}`. A resolved one that comes again is open.',
            body=_MARKING,
            answer=Plain[Marked],
            errors=(FunctionNotFound, ErrorNotFound),
        ),
    ),
]
