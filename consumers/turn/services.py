"""Services: what the turns of one worker share: the way to Redis, to events and to other servers."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from stepstream.bus.event import RawEvent
from stepstream.bus.function import Kinds
from stepstream.bus.observe.signals import Signals
from stepstream.bus.observe.tracing import Tracing, TurnTrace
from stepstream.bus.wire.publishing import Publisher
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.memo import Memo
from stepstream.checkpoint.run.owned import Owned
from stepstream.consumers.turn.steps.fetch import Fetcher
from stepstream.consumers.turn.steps.leftovers import Leftovers


class Stubs(Protocol):
    """What a test has put in place of steps' own bodies."""

    def covers(self, step: str) -> bool:
        """Whether a step has a stub."""
        ...

    def body(self, step: str, own: Callable[..., Any]) -> Callable[..., Any]:
        """Return what is called for a step that has a stub, in place of its `own` body."""
        ...


class Services:
    """Made inside the worker's loop. `stubs` are a test's bodies in place of steps' own.

    `kinds` are the types of this worker's events: what its runs send is checked against them.
    `tracing` makes spans of what they do; None: nobody does.
    `expect_event` takes the name of an event that a run of this worker waits for: its stream is read from then on.
    """

    __slots__ = (
        "expect_event",
        "fetcher",
        "kinds",
        "leftovers",
        "loop",
        "publisher",
        "signals",
        "stubs",
        "tracing",
        "wire",
    )

    def __init__(
        self,
        wire: Wire,
        signals: Signals,
        expect_event: Callable[[str], None],
        stubs: Stubs | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.wire = wire
        self.signals = signals
        self.loop = asyncio.get_running_loop()
        self.kinds = Kinds()
        self.publisher = Publisher(wire, self.kinds.of)
        self.fetcher = Fetcher()
        self.leftovers = Leftovers(self.loop)
        self.expect_event = expect_event
        self.stubs = stubs
        self.tracing = tracing

    def trace(self, owned: Owned, event: RawEvent, memos: Mapping[str, Memo]) -> TurnTrace | None:
        """Return who makes spans of a turn that begins with these memos; None: nobody does."""
        if self.tracing is None:
            return None
        made = self.tracing.turn(owned.slug, owned.run, owned.turn, event)
        made.resolved(memos)
        return made
