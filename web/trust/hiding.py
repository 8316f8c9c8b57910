"""Hiding: what the one who asks does not see of values, while a request is answered: all but admins see it redacted.

    hide(found)                         # what is shown of a struct, of JSON (Raw), of a text

A route says who asks (`hiding`), whoever shows somebody's data calls `hide`; the API's answers do so by themselves.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from starlette.requests import HTTPConnection

from stepstream.bus.trust.redaction import Redaction
from stepstream.web.trust.principal import principal_of

T = TypeVar("T")

NOTHING = Redaction(())
_now: ContextVar[Redaction] = ContextVar("hiding", default=NOTHING)


@contextmanager
def hiding(request: HTTPConnection) -> Generator[None]:
    """Hide what the one who asks shall not see, until the request is answered."""
    token = _now.set(NOTHING if principal_of(request).may("admin") else request.app.state.redaction)
    try:
        yield
    finally:
        _now.reset(token)


def hidden_now() -> Redaction:
    """Return what is hidden of what this request shows: a stream, which goes on after it, keeps that."""
    return _now.get()


def hide(value: T) -> T:
    """Return what may be shown of a value to the one who asks."""
    return _now.get().of(value)
