"""Tickets: what lets a browser listen to some topics of a channel, for as long as it takes to connect.

An application asks for one with its key and hands it to a page. It is a JWT (HS256, RFC 7519) of this one form, signed
with what is derived from a key of the settings: nothing is kept of it, and each process with that key knows it.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence

import msgspec

from stepstream.bus.errors import BadRequest, BusError
from stepstream.bus.trust.signing import is_any
from stepstream.bus.values import codec

LIVES_S = 60
"""How long a ticket lets somebody connect, s; who is connected stays."""
MAX_TICKET_CHARS = 6_000
"""What of an address the server of WebSockets reads is 8 KiB, with the rest of it."""

_ISSUER = "stepstream"
_HEADER = b'{"alg":"HS256","typ":"JWT"}'


class TicketRefused(BusError):
    """A ticket that this server did not give, or whose time is over; the message says which, and not what it holds."""

    code = "token"
    status = 401


class Topic(msgspec.Struct, frozen=True):
    """A topic of a channel, as SDKs name it."""

    channel: str
    name: str
    kind: str = "run"


class Heard(msgspec.Struct, frozen=True):
    """What a ticket lets its bearer hear, and whether all of it: who asked for it may not have seen all themselves."""

    topics: list[Topic]
    is_whole: bool = True


class _Claims(msgspec.Struct):
    iss: str
    iat: int
    exp: int
    topics: list[Topic]
    is_whole: bool = True


def ticket(topics: Sequence[Topic], keys: Sequence[str], now_ms: int, *, is_whole: bool = True) -> str:
    """Return a ticket for topics, signed with the first key; with none anybody may make one.

    BadRequest for more than an address can hold.
    """
    now = now_ms // 1_000
    claims = codec.encode(_Claims(_ISSUER, now, now + LIVES_S, list(topics), is_whole))
    told = f"{_text(_HEADER)}.{_text(claims)}"
    made = f"{told}.{_mac(told, keys[0] if keys else '')}"
    if len(made) > MAX_TICKET_CHARS:
        raise BadRequest(f"a token of {len(made)} characters is too long for an address, at most {MAX_TICKET_CHARS}: "
                         "ask for fewer topics")  # fmt: skip
    return made


def opened(given: str, keys: Sequence[str], now_ms: int) -> Heard:
    """Return what a ticket lets hear that was signed with one of the keys; TicketRefused."""
    told, _, mac = given.rpartition(".")
    if not is_any(mac, [_mac(told, key) for key in keys or ("",)]):
        raise TicketRefused("the token was not given by this server, or its keys have changed: ask for another one")
    try:
        claims = codec.decode_as(_bytes(told.partition(".")[2]), _Claims)
    except (ValueError, msgspec.DecodeError):  # without keys anybody may have made it
        claims = None
    if claims is None or not claims.topics:
        raise TicketRefused("the token cannot be read: POST /v1/realtime/token gives one")
    late = now_ms // 1_000 - claims.exp
    if late >= 0:
        raise TicketRefused(f"the token's {LIVES_S} s to connect are over since {late} s: ask for another one")
    return Heard(claims.topics, claims.is_whole)


def _mac(told: str, key: str) -> str:
    # Of its own: what is signed here says nothing where something else is signed with that key.
    secret = hashlib.sha256(f"stepstream ticket {key}".encode()).digest()
    return _text(hmac.new(secret, told.encode(), hashlib.sha256).digest())


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
