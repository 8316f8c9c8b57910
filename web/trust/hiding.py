"""Hiding: what the one who asks does not see of values, while a request is answered: all but admins see it redacted.

    hide(found)                         # what is shown of a struct, of JSON (Raw), of a text

A route says who asks (`hiding`), whoever shows somebody's data calls `hide`; the API's answers do so by themselves.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TypeVar

from starlette.requests import HTTPConnection

from stepstream.bus.trust.redaction import Redaction
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.record import Run
from stepstream.checkpoint.types import redacted_fields
from stepstream.web.store import wire_of
from stepstream.web.trust.principal import principal_of

T = TypeVar("T")

NOTHING = Redaction(())
READ_EVERY_S = 5.0
"""How old what types hide may be that is looked at, s: a new field is hidden as soon as that after it was declared."""
_SHARE, _RAREST_S = 0.01, 60.0
"""With very many types it is read less often: so much of the time may go by with that, but it is read once a minute."""
_now: ContextVar[Redaction] = ContextVar("hiding", default=NOTHING)


class Hidden:
    """What a site hides from all but admins: the patterns of its settings, and the fields that types of events name."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = patterns
        self._until = 0.0
        self._found = Redaction(patterns)

    async def now(self, wire: Wire) -> Redaction:
        """Return it; StoreUnavailable when nobody can tell."""
        began = time.monotonic()
        if began >= self._until:
            fields = await redacted_fields(wire)
            if fields != self._found.fields:
                self._found = Redaction(self._patterns, fields)
            now = time.monotonic()
            self._until = now + min(_RAREST_S, max(READ_EVERY_S, (now - began) / _SHARE))
        return self._found


@asynccontextmanager
async def hiding(request: HTTPConnection) -> AsyncGenerator[None]:
    """Hide what the one who asks shall not see, until the request is answered."""
    token = _now.set(NOTHING if principal_of(request).may("admin") else await hidden_by(request))
    try:
        yield
    finally:
        _now.reset(token)


async def hidden_by(request: HTTPConnection) -> Redaction:
    """Return what the site hides from all but admins, whoever asks; StoreUnavailable when nobody can tell."""
    hidden: Hidden = request.app.state.hidden
    return await hidden.now(wire_of(request))


def hidden_now() -> Redaction:
    """Return what is hidden of what this request shows: a stream, which goes on after it, keeps that."""
    return _now.get()


def hide(value: T) -> T:
    """Return what may be shown of a value to the one who asks."""
    return _now.get().of(value)


def hide_of(run: Run, value: T) -> T:
    """Return what may be shown of something that belongs to a run: without the fields that its event hides, too."""
    return _now.get().of_event(run.event).of(value)
