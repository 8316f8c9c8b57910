"""Page: what all pages are made with. A page is one module, with what it reads and shows, and one template.

    class Limits(View, frozen=True):                    # a module of its own: plain values, as the engine tells them
        rows: tuple[LimitRow, ...]

    async def _read(request: Request) -> Limits:
        return Limits(topic=ALL.text, rows=…)           # what it shows changes when runs of any function do

    routes = [page("/limits", "limits", _read)]         # templates/limits.html, which extends base.html

and `*limits.routes` in web/app.py; the top bar has a link to it as soon as there is a route of that name (NAV). In the
template `page` is what `_read` returned, `at` when that was read. `{{ time(ms) }}` of `_parts.html` shows a moment
(UTC or local, as the reader wishes), `{{ asof() }}` when it was read. A form posts `{{ fields() }}`: the token that
`received` of web/pages/csrf.py asks for, and `once`, an id of its own by which the action is done once. A row that
has `data-row` and a link is for j, k and Enter; with a checkbox for x. Rows and <details> have ids that stay, so that
they are the same when the page is taken again.

A page that is open is taken again when something of its topic changed (web/live/feed.py): then only its main part is
rendered, once for all browsers that show the same (web/pages/sharing.py). `query` is what is asked for then in place of
the page's own query, for a list that shall not move. Everything is escaped by the templates; nothing here writes
markup.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib.resources import files
from typing import Any, TypeVar

import jinja2
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stepstream.bus.values.clock import now_ms, utc
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.spoilt import spoilt_told, told_of
from stepstream.checkpoint.at_work.redis_cli import KeyLook, line
from stepstream.web.beside import beside
from stepstream.web.live.feed import ALL, read_once
from stepstream.web.pages.sharing import MARKS, NOT_KEPT, answer, same
from stepstream.web.routing import SPOILT, NeedsRoute, link, needs_of
from stepstream.web.store import PATIENCE_S, wire_of
from stepstream.web.trust.keys import Permission
from stepstream.web.trust.principal import principal_of

V = TypeVar("V", bound="View")

NAV = (
    ("overview", "Overview"), ("runs", "Runs"), ("events", "Events"), ("functions", "Functions"), ("limits", "Limits"),
    ("schedules", "Schedules"), ("workers", "Workers"), ("errors", "Errors"), ("apps", "Apps"), ("system", "System"),
)  # fmt: skip
"""The pages of the top bar: those of which there is a route are linked."""
_SHOWN = {"date": 10, "moment": 19, "full": 23}


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a page shows, as plain values; each page has its own kind."""

    topic: str = ""
    """What it is about, so that it is taken again when that changes (web/live/feed.py); empty: it does not change."""
    query: str | None = None
    """The query with which it is taken again; None: its own."""
    looks: tuple[KeyLook, ...] = ()
    """The keys that it is read from, which it shows with the commands of redis-cli that show them."""


def _moment(ms: int, how: str = "moment") -> str:
    """Return a moment in UTC: `date`, `time` (of the day), `moment` (to the second), `full` (to the millisecond)."""
    text = utc(ms).strftime("%Y-%m-%d %H:%M:%S.%f")
    return text[11:19] if how == "time" else text[: _SHOWN[how]]


def _iso(ms: int) -> str:
    return utc(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _words(ms: int) -> str:
    return in_words(max(0, ms))


_RUN_ID = re.compile(r"\b([0-7][0-9A-HJKMNP-TV-Z]{25})\b")


def _with_runs(text: str) -> list[tuple[str, str]]:
    """Return a text in pieces, each of them words, or the id of a run that can be linked."""
    pieces = _RUN_ID.split(text)
    return [("", piece) if n % 2 else (piece, "") for n, piece in enumerate(pieces) if piece]


_environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(str(files("stepstream.web.pages") / "templates")),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
_FILTERS: dict[str, Callable[..., Any]] = {
    "moment": _moment,
    "iso": _iso,
    "words": _words,
    "with_runs": _with_runs,
    "told_of": told_of,
}
_environment.filters |= _FILTERS


def page(
    path: str,
    name: str,
    read: Callable[[Request], Awaitable[View | None]],
    *,
    section: str = "",
    template: str = "",
    needs: Permission = "read",
) -> NeedsRoute:
    """Return the route of a page; `section` is the name in the top bar it belongs to, if that is not its own.

    `read` may return None to one that is open and takes itself again (`is_part`): then that stays as it is.
    """
    file = template or f"{name}.html"

    async def shown(request: Request) -> Response:
        async def made() -> str | None:
            at = now_ms()
            with spoilt_told() as spoilt:
                view = await wire_of(request).within(PATIENCE_S, read(request))
            if view is None:
                return None
            return _rendered(request, file, page=view, at=at, spoilt=sorted(spoilt), section=section or name)

        text = await (read_once(wire_of(request), same(request), made) if is_part(request) else made())
        return Response(status_code=204, headers=NOT_KEPT) if text is None else answer(request, text)

    return NeedsRoute("GET", path, shown, needs=needs, name=name)


async def read_again(request: Request, view: Awaitable[V]) -> V:
    """Read a page that answers a form: what cannot be read is passed over and told, as where it is only looked at."""
    with spoilt_told() as request.scope[SPOILT]:
        return await view


def show(
    request: Request,
    template: str,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    *,
    page: View,
    at: int | None = None,
    **values: Any,
) -> Response:
    """Return a page as HTML, for an open page that takes it again only its main part."""
    text = _rendered(request, template, page=page, at=at or now_ms(), **values)
    return answer(request, text, status, headers)


def _rendered(request: Request, template: str, **values: Any) -> str:
    """Return a page as text, with marks where each browser has its own."""
    context = {**_of_request(request), **MARKS._asdict(), **values}
    return _environment.get_template(template).render(context)


def _of_request(request: Request) -> dict[str, Any]:
    return {
        "link": partial(link, request),
        "worker": beside(request),
        "spoilt": sorted(request.scope.get(SPOILT, ())),
        "section": "",
        "redis_line": partial(line, wire_of(request).where),
        "is_part": is_part(request),
        "nav": _nav(request),
        "who": principal_of(request),
        "may": partial(_may, request),
        "here": f"{request.url.scheme}://{request.url.netloc}",
    }


def _may(request: Request, name: str) -> bool:
    """Whether who asks may call a route, by its name: what they may not they are not offered."""
    return principal_of(request).may(needs_of(request, name))


def failure(request: Request, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a page that says what is wrong; one that says that Redis is away looks again."""
    view = View(topic=ALL.text if status == 503 else "")
    return show(request, "failure.html", status, headers, page=view, message=message, code=status)


def is_part(request: Request) -> bool:
    """Whether an open page takes itself again: it needs its main part only."""
    return request.headers.get("hx-request") == "true"


def _nav(request: Request) -> list[tuple[str, str]]:
    routes: list[Any] = request.app.routes
    names = {route.name for route in routes if isinstance(route, Route)}
    return [(name, label) for name, label in NAV if name in names]
