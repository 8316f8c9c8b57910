"""Application: the Bus that applications make. It declares and sends, as bus/bus.py has it, and knows its runs."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Generic

from stepstream.bus import bus
from stepstream.bus.bus import State_co

if TYPE_CHECKING:  # who only publishes loads nothing of runs
    from stepstream.checkpoint.client.delayed import Delayed, DelayedSync
    from stepstream.checkpoint.client.runs import Runs, RunsSync
    from stepstream.checkpoint.live.messages import Message


class Bus(bus.Bus[State_co], Generic[State_co]):
    """One application: its functions, under one id; it sends events, looks at runs and acts on them.

    `Bus[Shop]`, when its lifespan yields a Shop: that is the type of `ctx.state`.
    """

    @cached_property
    def runs(self) -> "Runs":
        """Its runs: `await app.runs.get(id)`, `list`, `result`, `cancel`, `rerun`."""
        from stepstream.checkpoint.client.runs import Runs

        return Runs(self)

    @cached_property
    def runs_sync(self) -> "RunsSync":
        """The same for code without an event loop: `app.runs_sync.get(id)`."""
        from stepstream.checkpoint.client.runs import RunsSync

        return RunsSync(self, self.runs)

    @cached_property
    def delayed(self) -> "Delayed":
        """Its events that are to be published later: `await app.delayed.list()`, `cancel`."""
        from stepstream.checkpoint.client.delayed import Delayed

        return Delayed(self)

    @cached_property
    def delayed_sync(self) -> "DelayedSync":
        """The same for code without an event loop."""
        from stepstream.checkpoint.client.delayed import DelayedSync

        return DelayedSync(self, self.delayed)

    async def live(self, channel: str, *, topics: Sequence[str] = (), after: str = "") -> AsyncGenerator["Message"]:
        """Yield the messages of a channel, or of some of its topics, as they come: `async for message in app.live(id)`.

        From now on, or from behind the message whose id is `after`; "0" for all that are kept. Of a loop that is slower
        than what is published, the messages wait in Redis; those no longer kept are left out.
        """
        from stepstream.checkpoint.live.hub import followed

        async with aclosing(followed(self.wire, channel, topics, after)) as messages:
            async for message in messages:
                yield message
