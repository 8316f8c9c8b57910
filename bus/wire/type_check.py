"""Type check: does the data of events fit the types that their names have? Asked before anything is stored."""

from collections.abc import Callable, Sequence
from typing import Any

from stepstream.bus.errors import EventInvalid
from stepstream.bus.event import Outgoing, misfit

KindsOf = Callable[[str], Sequence[type[Any]]]


def no_kinds(_: str) -> Sequence[type[Any]]:
    """Return no types: this process has no application."""
    return ()


class TypeCheck:
    """Checks events for one publisher; `kinds_of` returns the types that this process's functions give a name."""

    def __init__(self, kinds_of: KindsOf = no_kinds) -> None:
        self._kinds_of = kinds_of

    def check(self, events: Sequence[Outgoing]) -> None:
        """Raise EventInvalid for the first event whose data fits no type of its name."""
        for position, event in enumerate(events):
            kinds = self._kinds_of(event.name)
            wrong = misfit(event.data, kinds) if kinds and event.fits not in kinds else None
            if wrong is not None:
                raise told(wrong, position, events)


def told(wrong: EventInvalid, position: int, events: Sequence[Outgoing]) -> EventInvalid:
    """Return an error as it is told of one of several events."""
    return wrong.at(position) if len(events) > 1 else wrong
