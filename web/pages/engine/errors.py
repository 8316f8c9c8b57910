"""The page of errors: of what runs failed, a group for each name and place in the author's code, over all functions."""

from collections.abc import Iterable, Sequence
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stepstream.bus.errors import BadRequest
from stepstream.bus.values.durations import milliseconds
from stepstream.checkpoint.at_work.redis_cli import of_errors
from stepstream.checkpoint.facts.errors import ErrorGroup, State, errors_of, set_error_state
from stepstream.checkpoint.registry import slugs
from stepstream.web.live.feed import ALL
from stepstream.web.pages.csrf import received
from stepstream.web.pages.page import View, page
from stepstream.web.routing import NeedsRoute, link
from stepstream.web.store import wire_of
from stepstream.web.trust.hiding import hide

SHOWN = 100
_STATES: tuple[State, ...] = ("open", "resolved", "muted")
MUTED_FOR = (("1h", "1 hour"), ("1d", "1 day"), ("7d", "7 days"), ("", "good"))
"""For how long an error may be muted."""


class Group(msgspec.Struct, frozen=True):
    """An error of one function or of several; `runs` is the query of the runs that failed of it."""

    fingerprint: str
    name: str
    frame: str
    message: str
    first: int
    last: int
    count: int
    run: str
    functions: tuple[str, ...]
    state: State
    until: int
    regressed: int
    runs: str


class Errors(View, frozen=True):
    """The page `/errors`: those in one state, and how many there are in each."""

    state: str
    functions: tuple[str, ...]
    function: str
    counts: tuple[tuple[str, int, str], ...]
    groups: tuple[Group, ...]
    more: int
    muted_for: tuple[tuple[str, str], ...] = MUTED_FOR


async def _read(request: Request) -> Errors:
    wire, asked = wire_of(request), request.query_params
    state, slug = asked.get("state", "open"), asked.get("function", "")
    if state not in _STATES:
        raise BadRequest(f"state {state[:60]!r} is not known: use one of {', '.join(_STATES)}")
    known = sorted(await slugs(wire))
    found = groups_of(await errors_of(wire, [one for one in known if slug in ("", one)]))
    among = [one for one in found if one.state == state]
    counts = tuple(
        (word, sum(one.state == word for one in found), _query(("state", word), ("function", slug))) for word in _STATES
    )
    looks = tuple(of_errors(list(dict.fromkeys(slug for one in among for slug in one.functions))))
    shown, more = tuple(hide(among[:SHOWN])), max(0, len(among) - SHOWN)
    return Errors(state, tuple(known), slug, counts, shown, more, looks=looks, topic=ALL.text)


def _query(*pairs: tuple[str, str]) -> str:
    return f"?{urlencode([pair for pair in pairs if pair[1]])}"


def groups_of(errors: Iterable[ErrorGroup]) -> list[Group]:
    """Return errors of functions as groups over all of them, the newest first.

    One that is open for one of its functions is open.
    """
    together: dict[str, list[ErrorGroup]] = {}
    for one in errors:
        together.setdefault(one.fingerprint, []).append(one)
    return sorted(map(_group, together.values()), key=lambda one: -one.last)


def _group(several: Sequence[ErrorGroup]) -> Group:
    newest = max(several, key=lambda one: one.last)
    nearest = min(several, key=lambda one: _STATES.index(one.state))
    functions = tuple(sorted({one.function for one in several}))
    return Group(
        newest.fingerprint, newest.name, newest.frame, newest.message, min(one.first for one in several), newest.last,
        sum(one.count for one in several), newest.run, functions, nearest.state,
        nearest.until, max(one.regressed for one in several),
        _query(("status", "failed"), ("error", newest.fingerprint), *(("function", slug) for slug in functions)),
    )  # fmt: skip


async def _set_state(request: Request) -> Response:
    fields, wire, mark = await received(request), wire_of(request), request.path_params["fingerprint"]
    state, during, seen = (fields.get(word, "") for word in ("state", "for", "seen"))
    if state not in _STATES or during not in dict(MUTED_FOR) or not (seen.isascii() and seen.isdecimal()):
        raise BadRequest("this form is not of our page of errors: load that again, and press the button there")
    until = int(seen[:15]) + milliseconds(during) if state == "muted" and during else 0
    for one in await errors_of(wire, await slugs(wire)):
        # One that came again since the page was made is another matter: it is not put away unseen.
        if one.fingerprint == mark and one.regressed <= int(seen[:15]):
            await set_error_state(wire, one.function, mark, state, until)
    back = _query(("state", fields.get("back", "") if fields.get("back") in _STATES else "open"))
    return RedirectResponse(link(request, "errors") + back, 303)


routes = [
    page("/errors", "errors", _read),
    NeedsRoute("POST", "/errors/{fingerprint}/state", _set_state, needs="operate", name="set_error_state"),
]
