"""The page where people log in, and the button that logs them out."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stepstream.bus.errors import NotFound
from stepstream.bus.wire import keys
from stepstream.web.pages.csrf import received
from stepstream.web.pages.page import View, show
from stepstream.web.paths import root
from stepstream.web.routing import NeedsRoute, link
from stepstream.web.store import wire_of
from stepstream.web.trust.attempts import TooManyAttempts
from stepstream.web.trust.keys import keys_of
from stepstream.web.trust.login import LoginRefused, log_in
from stepstream.web.trust.sessions import Sessions


class Login(View, frozen=True):
    """The page `/login`; `next` is the path to go to then, `problem` why it was refused."""

    next: str
    name: str = ""
    problem: str = ""
    is_empty: bool = False
    """Whether there is no user yet."""


def _sessions(request: Request) -> Sessions:
    found = keys_of(request).sessions
    if found is None:
        raise NotFound("nobody logs in here: BUS_SESSION_KEY is not set")
    return found


async def _form(request: Request) -> Response:
    _sessions(request)
    is_empty = not await wire_of(request).look("HLEN", keys.users())
    page = Login(next=_own(request.query_params.get("next", "")), is_empty=is_empty)
    return show(request, "login.html", page=page)


async def _log_in(request: Request) -> Response:
    sessions, fields = _sessions(request), await received(request)
    name, after = fields.get("name", "").strip(), _own(fields.get("next", ""))
    try:
        user = await log_in(request, name, fields.get("password", ""))
    except (LoginRefused, TooManyAttempts) as error:
        headers = {"Retry-After": str(error.after_s)} if isinstance(error, TooManyAttempts) else None
        page = Login(next=after, name=name, problem=str(error))
        return show(request, "login.html", error.status, headers, page=page)
    response = RedirectResponse(root(request) + (after or "/"), 303)
    sessions.begin(request, response, name, user)
    return response


async def _log_out(request: Request) -> Response:
    sessions = _sessions(request)
    await received(request)
    response = RedirectResponse(link(request, "login"), 303)
    sessions.end(request, response)
    return response


def _own(path: str) -> str:
    """Return a path of this site to go on to; empty for what would lead elsewhere."""
    is_ours = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if is_ours else ""


routes = [
    NeedsRoute("GET", "/login", _form, needs="nothing", name="login"),
    NeedsRoute("POST", "/login", _log_in, needs="nothing", name="log_in"),
    NeedsRoute("POST", "/logout", _log_out, needs="read", name="log_out"),
]
