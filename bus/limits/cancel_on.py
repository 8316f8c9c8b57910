"""Events that cancel runs."""

import re
from typing import Any

import msgspec

from stepstream.bus.errors import ConfigError, EventInvalid
from stepstream.bus.event import check_name, event_name_of
from stepstream.bus.limits.rules import Duration
from stepstream.bus.values.dialect import as_written
from stepstream.bus.values.durations import milliseconds
from stepstream.bus.values.expression import Expression

PATH = re.compile(r"(data|id|name|v)(\.[A-Za-z0-9_]+)*")
"""A path into an event, as `match=` takes it: `data.orderId`."""
MAX_CANCEL_ON = 5


class CancelOn(msgspec.Struct, frozen=True):
    """Cancel a run when a matching event comes within `timeout` of the run's own event (default and maximum 366 days).

    `match="data.orderId"`: both events have the same value there. `if_`: a CEL expression over `event`, the run's own,
    and `async`, the incoming one. With neither, any event of that name cancels every run.
    """

    event: str | type[Any]
    match: str | None = None
    if_: str | None = None
    timeout: Duration = "366d"

    @property
    def name(self) -> str:
        """The event's name."""
        return self.event if isinstance(self.event, str) else event_name_of(self.event)

    @property
    def text(self) -> str:
        """The rule as pages and tables show it."""
        more = f" with the same {self.match}" if self.match else f" if {as_written(self.if_)}" if self.if_ else ""
        return f"{self.name}{more}"

    @property
    def timeout_ms(self) -> int:
        """How long after the run's own event the rule applies, ms."""
        return milliseconds(self.timeout, "cancel_on timeout")

    def check(self, where: str, kinds: tuple[type[Any], ...]) -> None:
        """Raise ConfigError for an invalid declaration; `kinds` are the payload types of the function's triggers."""
        here = f"{where}, cancel_on {self.name!r}"
        try:
            check_name(self.name)
        except EventInvalid as error:
            raise ConfigError(f"{here}: the name {error.reason}") from None
        if self.name.endswith("*"):
            raise ConfigError(f"{here}: cancel_on takes no wildcard; name each event")
        if self.match is not None and self.if_ is not None:
            raise ConfigError(f"{here}: has match and if_; give one of them")
        if self.match is not None and not PATH.fullmatch(self.match):
            raise ConfigError(f"{here}: match {self.match!r} is not a path; write for example match='data.orderId'")
        if self.timeout_ms < 1:
            raise ConfigError(f"{here}: timeout must be at least 1 ms, got {self.timeout!r}")
        incoming = self.event if isinstance(self.event, type) else None
        text = self.if_ or (f"event.{self.match} == async.{self.match}" if self.match else None)
        if text is not None:
            expression = Expression(text, here, other="async")
            for kind in kinds:
                expression.check(kind)
            if incoming is not None:
                expression.check(incoming, "async")


CancelDeclared = CancelOn | str | type[Any]


def checked_cancel_on(
    declared: CancelDeclared | list[CancelDeclared] | None, where: str, kinds: tuple[type[Any], ...]
) -> tuple[CancelOn, ...]:
    """Return the cancel_on rules of a function, checked: one, or a list of at most five."""
    several = declared if isinstance(declared, list) else [declared] if declared is not None else []
    rules = tuple(rule if isinstance(rule, CancelOn) else CancelOn(rule) for rule in several)
    if len(rules) > MAX_CANCEL_ON:
        raise ConfigError(f"{where} has {len(rules)} cancel_on; give at most {MAX_CANCEL_ON}")
    for rule in rules:
        rule.check(where, kinds)
    return rules
