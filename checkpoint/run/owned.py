"""Owned: how a turn identifies itself to every fenced script, and the words those scripts answer."""

from typing import Literal

import msgspec

from stepstream.bus.wire import keys

Word = Literal["mine", "there", "full", "wake", "cancel", "over", "lost", "absent"]


class Owned(msgspec.Struct):
    """A run, the turn a worker has of it, and the fence that proves it; `prefix` is the one key its scripts take."""

    slug: str
    run: str
    turn: int
    fence: str
    prefix: tuple[str] = ("",)

    def __post_init__(self) -> None:
        """Make the key once: every script of the turn takes it."""
        self.prefix = (keys.function(self.slug, self.run),)
