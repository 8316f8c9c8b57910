"""The pages of operations: what one would be about, counted first; how far one has come; those of the last days."""

from collections.abc import Sequence
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stepstream.bus.errors import BadRequest, Conflict
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.operations import (
    OF_STATUS,
    Kind,
    Operation,
    abort,
    dry_count,
    operate,
    operate_on,
    operation,
    operations,
)
from stepstream.checkpoint.at_work.redis_cli import of_operation, of_operations
from stepstream.checkpoint.read.lists.search import RunQuery, query_of
from stepstream.web.live.feed import Topic
from stepstream.web.pages import views
from stepstream.web.pages.csrf import received
from stepstream.web.pages.page import View, page, read_again, show
from stepstream.web.routing import NeedsRoute, link
from stepstream.web.store import wire_of
from stepstream.web.trust.audit import acts_on
from stepstream.web.trust.hiding import hidden_now
from stepstream.web.trust.principal import PAGE, by

SHOWN = 100
_NOT_OURS = "this form is not of our page of operations: go back, load it again, press the button there"


class Count(View, frozen=True):
    """The page `/operations/new`: which runs would be acted on. Nothing is done by it."""

    kind: Kind
    count: int
    exact: bool
    again: int = 0
    """How many of these have been run again already."""
    runs: tuple[views.RunRow, ...] = ()
    """Some of them, the newest; none where they are chosen one by one."""
    chosen: tuple[str, ...] = ()
    """Their ids, where they are chosen one by one."""
    asked: tuple[tuple[str, str], ...] = ()
    """The filters, until the moment of the count."""
    back: str = ""
    """The query of the page of runs they match on."""
    confirm: tuple[str, ...] = ()
    """What is to be written, one of these; empty: a button is enough."""
    problem: str = ""


class Reason(msgspec.Struct, frozen=True):
    """Why some runs were left as they were, and how many."""

    words: str
    count: int


class Progress(View, frozen=True):
    """The page `/operations/ID`, and a row of the list. Times are Unix ms."""

    id: str
    kind: Kind
    state: str
    how: str
    """The colour of its state."""
    by: str
    created: int
    ended: int
    took: str
    done: int
    failed: int
    left: int | None
    """About how many are still to be looked at; None where nobody has counted them."""
    of: int | None
    looked_at: int
    not_evaluated: int
    rate: str
    """How many were done a second, and how long the rest may take."""
    reasons: tuple[Reason, ...]
    asked: tuple[tuple[str, str], ...]
    chosen: tuple[str, ...]
    back: str


class Operations(View, frozen=True):
    """The page `/operations`: those of the last 7 days, newest first."""

    rows: tuple[Progress, ...]
    more: int


async def _counted(request: Request) -> Count:
    given = request.query_params.multi_items()
    pairs = [(name, text) for name, text in given if name not in ("kind", "run", "cursor", "top")]
    kind, chosen = _kind(request.query_params.get("kind", "")), [text for name, text in given if name == "run"]
    return await _count(wire_of(request), kind, pairs, chosen)


async def _count(
    wire: Wire, kind: Kind, pairs: Sequence[tuple[str, str]], chosen: Sequence[str], problem: str = ""
) -> Count:
    if chosen:
        named = tuple(dict.fromkeys(chosen))
        return Count(kind=kind, count=len(named), exact=True, chosen=named, problem=problem)
    if not any(text.strip() for _, text in pairs):
        raise BadRequest("no run is chosen: mark some on the page of runs (x), or filter it")
    found = await dry_count(wire, kind, await query_of(wire, pairs, hidden_now()))
    functions = found.query.functions
    return Count(
        kind=kind,
        count=found.count,
        exact=found.exact,
        again=found.again,
        runs=views.listed(found.sample, now_ms()),
        asked=_asked(found.query),
        back=_back(found.query),
        confirm=(f"{found.count:,}", *(functions if len(functions) == 1 else ())),
        problem=problem,
    )


async def _begin(request: Request) -> Response:
    """Begin an operation: once for each page that was shown, however often its button is pressed."""
    wire, fields = wire_of(request), await received(request)
    kind, once, again = _kind(fields.get("kind", "")), fields.get("once", ""), "again" in fields
    chosen = fields.get("runs", "").split()
    if not once:
        raise BadRequest(_NOT_OURS)
    if chosen:
        acts_on(request, kind, *chosen)
        made = await operate_on(wire, kind, chosen, by=by(request, PAGE), request=once, again=again)
        return RedirectResponse(link(request, "operation", id=made.id), 303)
    pairs = [(name.removeprefix("of."), text) for name, text in fields.items() if name.startswith("of.")]
    count, written = fields.get("count", ""), fields.get("confirm", "").strip()
    if not (count.isascii() and count.isdecimal() and len(count) < 16):
        raise BadRequest(_NOT_OURS)
    acts_on(request, kind, f"{count} runs", *(f"{name}={text}" for name, text in pairs if text))
    query = await query_of(wire, pairs, hidden_now())
    if written.replace(",", "") != str(int(count)) and [written] != [*query.functions]:
        told = "what you wrote is neither the number nor the function"
        view = await read_again(request, _count(wire, kind, pairs, (), told))
        return show(request, "operation_new.html", 400, page=view, section="runs")
    try:
        made = await operate(wire, kind, query, by=by(request, PAGE), expected=int(count), request=once, again=again)
    except Conflict as error:
        view = await read_again(request, _count(wire, kind, pairs, (), str(error)))
        return show(request, "operation_new.html", 409, page=view, section="runs")
    return RedirectResponse(link(request, "operation", id=made.id), 303)


async def _abort(request: Request) -> Response:
    await received(request)
    made = await abort(wire_of(request), request.path_params["id"])
    return RedirectResponse(link(request, "operation", id=made.id), 303)


async def _one(request: Request) -> Progress:
    wire = wire_of(request)
    return _progress(await operation(wire, request.path_params["id"]), await wire.moment())


async def _list(request: Request) -> Operations:
    wire = wire_of(request)
    found = await operations(wire)
    now = await wire.moment()
    newest = next((one.id for one in found if not one.over), found[0].id if found else "")
    return Operations(
        tuple(_progress(one, now) for one in found[:SHOWN]),
        max(0, len(found) - SHOWN),
        looks=tuple(of_operations()),
        topic=Topic(operation=newest).text if newest else "",
    )


def _progress(one: Operation, now: int) -> Progress:
    """Return an operation as its page shows it; the server's clock, by which it began, tells how long it took."""
    took = max(1, (one.ended or now) - one.created)
    left = None if one.expected is None else max(0, one.expected - one.done - one.failed)
    rate = one.done / took * 1_000
    rest = f", about {in_words(round(left / rate * 1_000))} to go" if left and rate and not one.over else ""
    return Progress(
        id=one.id,
        kind=one.kind,
        state=one.state,
        how={"running": "running", "done": "completed", "aborted": "cancelled"}[one.state],
        by=one.by,
        created=one.created,
        ended=one.ended,
        took=in_words(took),
        done=one.done,
        failed=one.failed,
        left=0 if one.state == "done" else left,
        of=one.expected,
        looked_at=one.looked_at,
        not_evaluated=one.not_evaluated,
        rate=f"{rate:,.0f} a second{rest}",
        reasons=tuple(Reason(why, many) for why, many in sorted(one.failures.items(), key=lambda each: -each[1])),
        asked=() if one.runs else _asked(one.query),
        chosen=one.runs,
        back="" if one.runs else _back(one.query),
        looks=tuple(of_operation(one.id)),
        topic="" if one.over else Topic(operation=one.id).text,
    )


def _asked(query: RunQuery) -> tuple[tuple[str, str], ...]:
    """Return the filters of a query, each name once: several of one name with commas."""
    told: dict[str, str] = {}
    for name, text in query.pairs():
        told[name] = f"{told[name]},{text}" if name in told else text
    return tuple(told.items())


def _back(query: RunQuery) -> str:
    """Return the query of the page of runs: without the end, so that it shows what came since, too."""
    return f"?{urlencode([(name, text) for name, text in _asked(query) if name != 'until'])}"


def _kind(text: str) -> Kind:
    for kind in OF_STATUS:
        if text == kind:
            return kind
    raise BadRequest(f"kind {text[:40]!r} is not known: use one of {', '.join(OF_STATUS)}")


routes = [
    page("/operations", "operations", _list, section="system"),
    page("/operations/new", "operation_new", _counted, section="runs"),
    page("/operations/{id}", "operation", _one, section="runs"),
    NeedsRoute("POST", "/operations", _begin, needs="operate", name="begin_operation"),
    NeedsRoute("POST", "/operations/{id}/abort", _abort, needs="operate", name="abort_operation"),
]
