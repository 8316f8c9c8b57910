"""About: what a route of the API takes, answers with and refuses, in one place."""

from typing import Any

import msgspec

from stepstream.bus.errors import BusError
from stepstream.web.table.bodies import Body
from stepstream.web.table.parameters import Parameter

EVENTS = "text/event-stream"
"""In place of a type: the answer is a stream of server-sent events."""

TEXT = "text/plain"
"""In place of a type: the answer is text."""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller is told of a route, and what its requests are checked by."""

    summary: str
    query: tuple[Parameter[Any], ...] | None = ()
    """The parameters it takes, and no others; None: whatever comes, as SDKs send it."""
    body: Body[Any] | None = None
    answer: Any = None
    """The type of what it answers with; None: nothing."""
    status: int = 200
    errors: tuple[type[BusError], ...] = ()
    """What else may be wrong, beside what may be so of any request."""
    sick: Any = None
    """The type of its answer 503, where that is not the form of errors."""
