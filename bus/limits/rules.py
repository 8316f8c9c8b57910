"""The limits themselves, a class each."""

from datetime import timedelta
from typing import Any, Literal

import msgspec

from stepstream.bus.errors import ConfigError
from stepstream.bus.values.durations import milliseconds
from stepstream.bus.values.expression import Expression
from stepstream.bus.values.ids import SLUG_PART

Duration = float | str | timedelta
HOUR_S, DAY_S = 3_600, 86_400


def _period(value: Duration, what: str, where: str, least_s: float, most_s: float) -> int:
    ms = milliseconds(value, f"{where}: {what}")
    if not least_s * 1_000 <= ms <= most_s * 1_000:
        raise ConfigError(f"{where}: {what} must be from {least_s:g} s to {most_s:g} s, got {value!r}")
    return ms


def _whole(value: Any, what: str, where: str, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{where}: {what} must be a whole number, at least {least}, got {value!r}")


def check_expression(text: str | None, where: str, kinds: tuple[type[Any], ...]) -> None:
    """Raise ConfigError for an expression that is invalid for one of the payload types."""
    if text is not None:
        expression = Expression(text, where)
        for kind in kinds:
            expression.check(kind)


class Concurrency(msgspec.Struct, frozen=True):
    """At most `limit` runs at a time for each value of `key`. The others wait in a backlog of their own key.

    A run holds its place only while it runs: a run that sleeps or waits holds none. `shared` is a name: all functions,
    of any bus, that give the same name (and value of `key`) share one limit.
    """

    limit: int
    key: str | None = None
    shared: str | None = None

    def check(self, where: str, kinds: tuple[type[Any], ...]) -> None:
        """Raise ConfigError for an invalid declaration."""
        _whole(self.limit, "concurrency limit", where, 1)
        check_expression(self.key, f"{where}, concurrency key", kinds)
        if self.shared is not None and not SLUG_PART.fullmatch(self.shared):
            raise ConfigError(
                f"{where}: concurrency shared {self.shared!r} must be letters, digits, '.', '_', '/', '-'"
            )


class Throttle(msgspec.Struct, frozen=True):
    """Start at most `limit` runs per `period` (1 s or longer) for each value of `key`, evenly spaced; the others wait.

    After a pause, `limit + burst` runs may start at once (GCRA).
    """

    limit: int
    period: Duration
    burst: int = 0
    key: str | None = None

    def check(self, where: str, kinds: tuple[type[Any], ...]) -> None:
        """Raise ConfigError for an invalid declaration."""
        _whole(self.limit, "throttle limit", where, 1)
        _whole(self.burst, "throttle burst", where, 0)
        _period(self.period, "throttle period", where, 1, 366 * DAY_S)
        check_expression(self.key, f"{where}, throttle key", kinds)

    @property
    def gap_ms(self) -> float:
        """The time between two starts, ms."""
        return milliseconds(self.period) / self.limit

    @property
    def more(self) -> int:
        """How many runs beyond the first may start at once after a pause."""
        return self.limit + self.burst - 1


class RateLimit(msgspec.Struct, frozen=True):
    """Drop events above `limit` per `period` (1 s to 24 h) for each value of `key`.

    Events pass evenly (GCRA): after a pause, 1 + a tenth of `limit` pass at once, then one every period / limit. Where
    the key is `false` there is no limit. Dropped events are listed as `skipped` for a day.
    """

    limit: int
    period: Duration
    key: str | None = None

    def check(self, where: str, kinds: tuple[type[Any], ...]) -> None:
        """Raise ConfigError for an invalid declaration."""
        _whole(self.limit, "rate limit", where, 1)
        _period(self.period, "rate limit period", where, 1, DAY_S)
        check_expression(self.key, f"{where}, rate limit key", kinds)

    @property
    def gap_ms(self) -> float:
        """The time between two events, ms."""
        return milliseconds(self.period) / self.limit

    @property
    def more(self) -> int:
        """How many events beyond the first pass at once after a pause."""
        return self.limit // 10


class Debounce(msgspec.Struct, frozen=True):
    """Run once, for the last event, when no event has come for `period` (1 s to 7 d), or `timeout` after the first."""

    period: Duration
    timeout: Duration | None = None
    key: str | None = None

    def check(self, where: str, kinds: tuple[type[Any], ...]) -> None:
        """Raise ConfigError for an invalid declaration."""
        _period(self.period, "debounce period", where, 1, 7 * DAY_S)
        if self.timeout is not None:
            _period(self.timeout, "debounce timeout", where, 1, 366 * DAY_S)
        check_expression(self.key, f"{where}, debounce key", kinds)


class Batch(msgspec.Struct, frozen=True):
    """Run once for `size` events (2 or more, at most 10 MiB), or for those that came within `timeout` of the first.

    `ctx.events` has all of them. An event for which `if_` is not true runs alone and at once.
    """

    size: int
    timeout: Duration
    key: str | None = None
    if_: str | None = None

    def check(self, where: str, kinds: tuple[type[Any], ...]) -> None:
        """Raise ConfigError for an invalid declaration."""
        _whole(self.size, "batch size", where, 2)
        _period(self.timeout, "batch timeout", where, 1, 7 * DAY_S)
        check_expression(self.key, f"{where}, batch key", kinds)
        check_expression(self.if_, f"{where}, batch if_", kinds)


class Singleton(msgspec.Struct, frozen=True):
    """One run at a time for each value of `key`, from its event to its end.

    A newer event is skipped, or cancels the older run (`mode`). Where the key is `false` the rule does not apply.
    """

    mode: Literal["skip", "cancel"]
    key: str | None = None

    def check(self, where: str, kinds: tuple[type[Any], ...]) -> None:
        """Raise ConfigError for an invalid declaration."""
        if self.mode not in ("skip", "cancel"):
            raise ConfigError(f"{where}: singleton mode must be skip or cancel, got {self.mode!r}")
        check_expression(self.key, f"{where}, singleton key", kinds)
