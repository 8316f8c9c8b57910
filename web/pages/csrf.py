"""Forms of the pages: their fields, and the token by which a page shows that it was ours.

The token is in a cookie and in each form: a page of another site can have a form sent with the cookie, but can read
neither. The door refuses foreign origins already (web/hosts.py); this holds where a browser names none.
"""

import hmac
import re
import secrets
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BadRequest, BusError
from stepstream.bus.event import MAX_EVENT_BYTES
from stepstream.producers.body import read_body
from stepstream.web.trust.keys import keys_of
from stepstream.web.trust.principal import principal_of

COOKIE = "stepstream_form"
FIELD = "token"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")
_MOST_BYTES = 4 * MAX_EVENT_BYTES
"""The longest form, bytes: an event's data, each byte of which may be written as three."""
_MOST_FIELDS = 1_000


class FormRefused(BusError):
    """A form that does not show that a page of this site had it."""

    code = "form"
    status = 403

    def __init__(self) -> None:
        super().__init__("this form is not of a page that this browser got here: go back, load it again, retry")


def token_of(request: Request) -> tuple[str, bool]:
    """Return the token of a browser, and whether it is a new one, which it has yet to get.

    Who has logged in has that of their session, which is in no cookie: another session's does not do.
    """
    of_session = _of_session(request)
    if of_session:
        return of_session, False
    given = request.cookies.get(COOKIE, "")
    return (given, False) if _TOKEN.fullmatch(given) else (secrets.token_urlsafe(24), True)


def give(request: Request, response: Response, token: str) -> None:
    """Let a browser have its token."""
    is_secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, token, secure=is_secure, httponly=True, samesite="lax")


def _of_session(request: Request) -> str:
    session, sessions = principal_of(request).session, keys_of(request).sessions
    return sessions.form_token(session) if session and sessions is not None else ""


async def received(request: Request) -> dict[str, str]:
    """Return the fields of a form that a page of ours had; FormRefused for another, BadRequest for what is no form."""
    try:
        text = (await read_body(request, _MOST_BYTES)).decode()
        fields = dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS))
    except ValueError as error:  # UnicodeDecodeError is one
        raise BadRequest(f"the body is no form: {error}") from None
    given, kept = fields.pop(FIELD, ""), _of_session(request) or request.cookies.get(COOKIE, "")
    if not (_TOKEN.fullmatch(kept) and hmac.compare_digest(given.encode(), kept.encode())):
        raise FormRefused
    return fields
