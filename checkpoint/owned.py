"""Owned: the names a living turn goes by in every fenced script, and the words they answer."""

from typing import Literal

import msgspec

from bus.wire import keys

Word = Literal["mine", "there", "full", "wake", "over", "lost", "absent"]


class Owned(msgspec.Struct, frozen=True):
    """A run, the turn a worker has of it, and the fence that proves it."""

    slug: str
    run: str
    turn: int
    fence: str

    @property
    def prefix(self) -> list[str]:
        """The one key its scripts take."""
        return [keys.function(self.slug)]
