"""Triggers: what starts a function. A value; the worker reads the streams they name."""

from collections.abc import Sequence
from typing import Any, Generic, Literal, NamedTuple, cast

import msgspec
from typing_extensions import TypeVar

from stepstream.bus.cron import Cron
from stepstream.bus.errors import ConfigError, EventInvalid
from stepstream.bus.event import RawEvent, check_name, event_name_of
from stepstream.bus.system_events import SYSTEM
from stepstream.bus.values.expression import Expression
from stepstream.bus.values.payload import is_payload

E_co = TypeVar("E_co", covariant=True, default=Any)


class On(msgspec.Struct, Generic[E_co], frozen=True):
    """Start on an event, by type or by name, where `if_` (CEL over `event`) is true.

    `if_` sees the event as it was sent: a field that was left out is not there, though its type has a default.
    A name may end in `/*` or `.*`: any event that begins so. `from_="start"`: also on the events that are in the stream
    already when the trigger is declared first.
    """

    event: str | type[E_co]
    if_: str | None = None
    from_: Literal["now", "start"] = "now"


class Trigger(msgspec.Struct, frozen=True):
    """A checked trigger: the event's name, its payload type if declared, the compiled condition."""

    name: str
    kind: type[Any] | None = None
    condition: Expression | None = None
    from_start: bool = False

    @property
    def is_pattern(self) -> bool:
        """Whether it is for all events whose names begin alike."""
        return self.name.endswith("*")

    def covers(self, event: str) -> bool:
        """Whether it is for events of a name."""
        return covers(self.name, event)

    @property
    def text(self) -> str:
        """How pages and tables show it."""
        return f"{self.name} if {self.condition.text}" if self.condition else self.name


class Triggers(NamedTuple):
    """All that starts one function: events and schedules; nothing, when it is only invoked."""

    events: tuple[Trigger, ...] = ()
    crons: tuple[Cron, ...] = ()


Declared = str | type[Any] | On[Any] | Cron


def covers(pattern: str, event: str) -> bool:
    """Whether a trigger's name, or its pattern, is for events of a name."""
    return event.startswith(pattern[:-1]) and len(event) >= len(pattern) if pattern.endswith("*") else pattern == event


def is_wanted(trigger: Trigger, event: RawEvent) -> bool:
    """Whether a trigger has no condition, or it is true; data that is no JSON makes it false."""
    try:
        return trigger.condition is None or trigger.condition.matches(event.plain())
    except msgspec.MsgspecError:
        return False


def checked(declared: Declared | Sequence[Declared] | None, function: str) -> Triggers:
    """Return the triggers and the schedules of an `on=`; ConfigError names the function and the way out."""
    if declared is None:
        return Triggers()
    every: list[Declared] = [*declared] if isinstance(declared, list | tuple) else [cast("Declared", declared)]
    crons = tuple(one for one in every if isinstance(one, Cron))
    for cron in crons:
        cron.check(f"function '{function}'")
    if len({cron.text for cron in crons}) < len(crons):
        raise ConfigError(f"function '{function}' has one schedule twice; remove one")
    if not 1 <= len(every) <= 10:
        raise ConfigError(f"function '{function}' has {len(every)} triggers; give 1 to 10")
    return Triggers(_events([one for one in every if not isinstance(one, Cron)], function), crons)


def _events(several: list[str | type[Any] | On[Any]], function: str) -> tuple[Trigger, ...]:
    triggers: list[Trigger] = []
    for one in several:
        on = one if isinstance(one, On) else On(one)
        name, kind = (on.event, None) if isinstance(on.event, str) else (event_name_of(on.event), on.event)
        if kind is not None and not is_payload(kind):
            raise ConfigError(
                f"function '{function}': on={kind!r}; give an EventData, a dataclass, a TypedDict or a Pydantic model"
            )
        if not name:
            raise ConfigError(
                f"function '{function}': class {on.event!r} has no event name; declare it with name='…' or @event('…')"
            )
        if "*" in name[:-1] or (name.endswith("*") and name[-2:-1] not in ("/", ".")):
            raise ConfigError(
                f"function '{function}': {name!r}: a wildcard stands at the end, after '/' or '.', as in 'shop/*'"
            )
        try:
            if name not in SYSTEM:
                check_name(name.removesuffix("*"))
        except EventInvalid as error:
            raise ConfigError(f"function '{function}': event name {name!r} {error.reason}") from None
        condition = Expression(on.if_, f"function '{function}', if_") if on.if_ is not None else None
        if condition and kind:
            condition.check(kind)
        if any(known.name == name for known in triggers):
            raise ConfigError(
                f"function '{function}' has two triggers for '{name}'; remove one, or join their conditions"
            )
        triggers.append(Trigger(name, kind, condition, on.from_ == "start"))
    return tuple(triggers)
