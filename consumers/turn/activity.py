"""At work: what a run does between two rests, and what becomes of it when Redis fails under it."""

from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from stepstream.bus.errors import BusError, StoreError, StoreUnavailable
from stepstream.consumers.turn.interrupts import TurnOver


class Worked(Protocol):
    """A turn that is at work."""

    def end_work(self) -> None:
        """A body, a save or a note has ended."""

    def give_up(self, error: BusError) -> None:
        """Redis failed under the turn."""


class AtWork:
    """Stands around all that a run asks of Redis: an error of Redis there is no error of the author's code.

    The turn is given up, and no attempt is used up.
    """

    __slots__ = ("_begin", "_turn")

    def __init__(self, turn: Worked, begin: Callable[[], None]) -> None:
        self._turn = turn
        self._begin = begin

    def __enter__(self) -> None:
        """Begin: the turn cannot park."""
        self._begin()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End."""
        self._turn.end_work()
        if isinstance(error, StoreError | StoreUnavailable):
            self._turn.give_up(error)
            raise TurnOver from None
