"""Flow: what bounds the runs of a function. Frozen values, checked whole when the function is declared."""

import re
from datetime import timedelta
from typing import Any

import msgspec

from bus.durations import milliseconds
from bus.errors import ConfigError, EventInvalid
from bus.event import EventData, check_name
from bus.expression import Expression

Duration = float | str | timedelta
PATH = re.compile(r"(data|id|name|v)(\.[A-Za-z0-9_]+)*")
"""A path into an event, as `match=` takes it: `data.orderId`."""
MAX_CANCEL_ON = 5


class Timeouts(msgspec.Struct, frozen=True):
    """How long a run may take: `start` from its event to its first code, `finish` from there to its end.

    A run that takes longer is cancelled; its async bodies stop at once, what a thread still does is dropped.
    """

    start: Duration | None = None
    finish: Duration | None = None

    @property
    def start_ms(self) -> int:
        """`start` in ms; 0 when it is not bounded."""
        return 0 if self.start is None else milliseconds(self.start, "timeouts start")

    @property
    def finish_ms(self) -> int:
        """`finish` in ms; 0 when it is not bounded."""
        return 0 if self.finish is None else milliseconds(self.finish, "timeouts finish")

    def check(self, where: str) -> None:
        """Refuse bounds that are none."""
        for name, value, ms in (("start", self.start, self.start_ms), ("finish", self.finish, self.finish_ms)):
            if value is not None and ms < 1:
                raise ConfigError(f"{where}: timeouts {name} must be longer than nothing, got {value!r}")


class CancelOn(msgspec.Struct, frozen=True):
    """Cancel a run when an event comes that belongs to it, within `timeout` of its own (default and at most 366 days).

    `match="data.orderId"`: the event has there what the run's own event has. `if_`: CEL over `event`, the run's own,
    and `async`, the one that comes. Neither: any event of that name cancels every run.
    """

    event: str | type[EventData]
    match: str | None = None
    if_: str | None = None
    timeout: Duration = "366d"

    @property
    def name(self) -> str:
        """The event's name."""
        return self.event if isinstance(self.event, str) else self.event.event_name

    @property
    def words(self) -> str:
        """How pages and tables show it."""
        more = f" with the same {self.match}" if self.match else f" if {self.if_}" if self.if_ else ""
        return f"{self.name}{more}"

    @property
    def timeout_ms(self) -> int:
        """How long after a run's start it counts, ms."""
        return milliseconds(self.timeout, "cancel_on timeout")

    def check(self, where: str, kinds: tuple[type[Any], ...]) -> None:
        """Refuse what makes no sense; `kinds` are the payload types of the function's triggers."""
        here = f"{where}, cancel_on {self.name!r}"
        try:
            check_name(self.name)
        except EventInvalid as error:
            raise ConfigError(f"{here}: the name {error.reason}") from None
        if self.name.endswith("*"):
            raise ConfigError(f"{here}: a wildcard cannot cancel; name each event")
        if self.match is not None and self.if_ is not None:
            raise ConfigError(f"{here}: has match and if_; give one of them")
        if self.match is not None and not PATH.fullmatch(self.match):
            raise ConfigError(f"{here}: match {self.match!r} is no path; write for example match='data.orderId'")
        if self.timeout_ms < 1:
            raise ConfigError(f"{here}: timeout must be longer than nothing, got {self.timeout!r}")
        came = self.event if isinstance(self.event, type) else None
        text = self.if_ or (f"event.{self.match} == async.{self.match}" if self.match else None)
        if text is not None:
            expression = Expression(text, here, of_two=True)
            for kind in kinds:
                expression.check(kind)
            if came is not None:
                expression.check(came, "async")


CancelDeclared = CancelOn | str | type[EventData]


def checked_cancel_on(
    declared: CancelDeclared | list[CancelDeclared] | None, where: str, kinds: tuple[type[Any], ...]
) -> tuple[CancelOn, ...]:
    """Return the cancel_on of a function, checked: one, or a list of at most five."""
    several = declared if isinstance(declared, list) else [declared] if declared is not None else []
    found = tuple(one if isinstance(one, CancelOn) else CancelOn(one) for one in several)
    if len(found) > MAX_CANCEL_ON:
        raise ConfigError(f"{where} has {len(found)} cancel_on; give at most {MAX_CANCEL_ON}")
    for one in found:
        one.check(where, kinds)
    return found
