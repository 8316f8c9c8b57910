"""Sharing: a page's text is made once for all who may have the same, and each browser gets it with what is its own.

Templates are always rendered with marks where a browser has something of its own (MARKS); `answer` puts that in when
the page is sent, and nowhere else. Who may share a text says `same`, and nothing else.
"""

import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from stepstream.bus.trust.roles import Role
from stepstream.bus.values.ids import token, ulid
from stepstream.web.pages.csrf import give, token_of
from stepstream.web.paths import root
from stepstream.web.trust.principal import principal_of


class Own(NamedTuple):
    """What a browser has of its own in a page, as templates call it. Each is called wherever it stands."""

    form_token: Callable[[], str]
    """The token by which a form shows that a page of this browser had it (web/pages/csrf.py)."""
    once: Callable[[], str]
    """An id by which a button acts once, another each time."""
    ulid: Callable[[], str]
    """An id for what a button makes, another each time."""

    def put_into(self, text: str) -> str:
        """Return a text that has MARKS, with these in their place."""
        for mark, make in zip(MARKS, self, strict=True):
            first, *rest = text.split(mark())
            text = first + "".join(make() + part for part in rest)
        return text


_MARK = secrets.token_hex(16)
MARKS = Own(*(partial(str, f"{_MARK}-{name}") for name in Own._fields))
"""What stands for each until a page is sent: of this process, never sent, so that nobody can write it into data."""


NOT_KEPT = {"Cache-Control": "no-store"}
"""The header of an answer that nobody keeps: it holds what is a browser's own."""


class Same(msgspec.Struct, frozen=True):
    """All of a request that the main part of a page depends on: who agrees in it gets the same text.

    What makes a page differ for a person belongs in here.
    """

    origin: str
    root: str
    """Where the site is mounted."""
    path: str
    query: str
    role: Role
    """What the reader may do: some buttons are only for some."""


def same(request: Request) -> Same:
    """Return what the requests have in common that may share a page with this one."""
    url = request.url
    origin = f"{url.scheme}://{url.netloc}"
    return Same(origin, root(request), request.scope["path"], url.query, principal_of(request).role)


def answer(request: Request, text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a page that was rendered with MARKS, with what this browser has of its own; it gets its token with it."""
    form_token, is_new = token_of(request)
    own = Own(form_token=lambda: form_token, once=token, ulid=ulid)
    response = HTMLResponse(own.put_into(text), status, {**NOT_KEPT, **(headers or {})})
    if is_new:
        give(request, response, form_token)
    return response
