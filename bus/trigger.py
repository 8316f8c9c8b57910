"""Triggers: what starts a function. A value; the worker reads the streams they name."""

from typing import Any

import msgspec

from bus.errors import ConfigError, EventInvalid
from bus.event import EventData, check_name
from bus.expression import Expression


class On(msgspec.Struct, frozen=True):
    """Start on an event, by type or by name, where `if_` (CEL over `event`) is true."""

    event: str | type[EventData]
    if_: str | None = None


class Trigger(msgspec.Struct, frozen=True):
    """A checked trigger: the event's name, its payload type if declared, the compiled condition."""

    name: str
    kind: type[Any] | None = None
    condition: Expression | None = None

    @property
    def words(self) -> str:
        """How pages and tables show it."""
        return f"{self.name} if {self.condition.text}" if self.condition else self.name


Declared = str | type[EventData] | On


def checked(declared: Declared | list[Declared], function: str) -> tuple[Trigger, ...]:
    """Return the triggers of an `on=`; ConfigError names the function and the way out."""
    several = declared if isinstance(declared, list) else [declared]
    if not 1 <= len(several) <= 10:
        raise ConfigError(f"function '{function}' has {len(several)} triggers; give 1 to 10")
    triggers: list[Trigger] = []
    for one in several:
        on = one if isinstance(one, On) else On(one)
        name, kind = (on.event, None) if isinstance(on.event, str) else (on.event.event_name, on.event)
        if not name:
            raise ConfigError(f"function '{function}': class {on.event!r} has no event name; declare it with name='…'")
        if "*" in name:
            raise ConfigError(f"function '{function}': wildcard trigger {name!r} is not supported yet; name each event")
        try:
            check_name(name)
        except EventInvalid as error:
            raise ConfigError(f"function '{function}': event name {name!r} {error.reason}") from None
        condition = Expression(on.if_, f"function '{function}', if_") if on.if_ is not None else None
        if condition and kind:
            condition.check(kind)
        if any(known.name == name for known in triggers):
            raise ConfigError(
                f"function '{function}' has two triggers for '{name}'; remove one, or join their conditions"
            )
        triggers.append(Trigger(name, kind, condition))
    return tuple(triggers)
