"""Sessions: a signed cookie says who has logged in, for seven days at most; nothing is kept here."""

import hashlib
import hmac
import secrets
from typing import Any

import msgspec
from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import HTTPConnection
from starlette.responses import Response

from stepstream.web.paths import root
from stepstream.web.trust.users import User

COOKIE = "stepstream_session"
LASTS_S = 7 * 86_400
"""How long a session lasts after the log-in, s."""


class Session(msgspec.Struct, frozen=True):
    """Who has logged in, by which `sessions` of theirs, and what this session is called."""

    name: str
    sessions: str
    id: str


class Sessions:
    """The sessions that are signed with a key; with another key none of them counts."""

    def __init__(self, key: str) -> None:
        self._signer = URLSafeTimedSerializer(key, salt="stepstream session")
        self._secret = hashlib.sha256(f"stepstream form {key}".encode()).digest()

    def begin(self, request: HTTPConnection, response: Response, name: str, user: User) -> None:
        """Let a browser have a session of a user; only over TLS where it has come by that."""
        signed = self._signer.dumps([name, user.sessions, secrets.token_urlsafe(12)])
        response.set_cookie(
            COOKIE,
            str(signed),
            max_age=LASTS_S,
            path=root(request) or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )

    def end(self, request: HTTPConnection, response: Response) -> None:
        """Take a browser's session away."""
        response.delete_cookie(COOKIE, path=root(request) or "/", httponly=True, samesite="lax")

    def of(self, request: HTTPConnection) -> Session | None:
        """Return the session that a request shows; None for none, or one that is not ours, or over."""
        given = request.cookies.get(COOKIE, "")
        if not given:
            return None
        try:
            told: Any = self._signer.loads(given, max_age=LASTS_S)
            return Session(*msgspec.convert(told, tuple[str, str, str]))
        except (BadData, msgspec.ValidationError):
            return None

    def form_token(self, session: str) -> str:
        """Return what a form of a session shows: nobody makes it without the key, and it is of no other session."""
        return hmac.new(self._secret, session.encode(), hashlib.sha256).hexdigest()[:32]
