"""Errands: what turns of one worker ask of it beside running."""

from collections.abc import Callable
from typing import Any

from bus.wire.streams import Publisher


class Errands:
    """What turns of one worker ask of it beside running: to publish, and to read who they wait for."""

    __slots__ = ("expect_event", "publisher", "stubs")

    def __init__(
        self, publisher: Publisher, expect_event: Callable[[str], None], stubs: dict[str, Callable[..., Any]]
    ) -> None:
        self.stubs = stubs
        self.publisher = publisher
        self.expect_event = expect_event
