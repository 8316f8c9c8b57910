"""Services: what turns of one worker ask of it beside running."""

from collections.abc import Callable
from typing import Any

from stepstream.bus.wire.streams import Publisher
from stepstream.consumers.turn.steps.fetch import Fetcher


class Services:
    """What turns of one worker ask of it beside running: to publish, to read who they wait for, and to send HTTP."""

    __slots__ = ("expect_event", "fetcher", "publisher", "stubs")

    def __init__(
        self, publisher: Publisher, expect_event: Callable[[str], None], stubs: dict[str, Callable[..., Any]]
    ) -> None:
        self.stubs = stubs
        self.publisher = publisher
        self.expect_event = expect_event
        self.fetcher = Fetcher()
