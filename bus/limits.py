"""Limits: how many runs of a function may start or run. Frozen values, checked when the function is declared.

Each option means what it means in the Inngest SDKs (docs/limits.md compares them). Keys are CEL expressions over
`event`: each value of a key has a limit of its own, and a missing field counts as the value null.
"""

import contextlib
import hashlib
import re
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import quote, unquote

import msgspec

from stepstream.bus.errors import ConfigError, EventInvalid
from stepstream.bus.event import check_name, event_name_of
from stepstream.bus.values import codec
from stepstream.bus.values.dialect import as_written
from stepstream.bus.values.durations import milliseconds
from stepstream.bus.values.expression import Expression
from stepstream.bus.values.ids import SLUG_PART

Duration = float | str | timedelta
PATH = re.compile(r"(data|id|name|v)(\.[A-Za-z0-9_]+)*")
"""A path into an event, as `match=` takes it: `data.orderId`."""
MAX_CANCEL_ON = 5
_LONGEST = 200
HOUR_S, DAY_S = 3_600, 86_400
MOST_PRIORITY_S = 12 * HOUR_S


def stored_key(value: Any) -> str:
    """Return a key's value as a part of a Redis key: text as it is, the rest as `=` and its JSON, the long as a hash.

    Percent-encoding leaves no `=` and no `#`, so values of different types share no key: 1 is `=1`, "1" is `1`.
    """
    mark, text = ("", value) if isinstance(value, str) else ("=", _json(value))
    coded = mark + quote(text, safe="/")
    return coded if len(coded) <= _LONGEST else f"#{hashlib.sha256((mark + text).encode()).hexdigest()}"


def _json(value: Any) -> str:
    try:
        return codec.canonical(value).decode()
    except codec.NotJson:  # CEL computes numbers that JSON has not; or it is nested too deep to be compared
        return type(value).__name__


def shown_key(stored: str) -> str:
    """Return a stored key's value as people read it: the text, or the JSON, that the event has; a long one's hash."""
    return unquote(stored.removeprefix("="))


def keys_like(text: str) -> tuple[str, ...]:
    """Return how a value may be stored that people write so: as text and, where it reads as JSON, as that value."""
    if text.startswith("#"):  # as it is shown
        return (text,)
    found = [stored_key(text)]
    with contextlib.suppress(ValueError):
        value = codec.decode(text.encode())
        found += [] if isinstance(value, str) else [stored_key(value)]
    return tuple(found)


def _period(value: Duration, what: str, where: str, least_s: float, most_s: float) -> int:
    ms = milliseconds(value, f"{where}: {what}")
    if not least_s * 1_000 <= ms <= most_s * 1_000:
        raise ConfigError(f"{where}: {what} must be from {least_s:g} s to {most_s:g} s, got {value!r}")
    return ms


def _whole(value: Any, what: str, where: str, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{where}: {what} must be a whole number, at least {least}, got {value!r}")


def _expression(text: str | None, where: str, kinds: tuple[type[Any], ...]) -> None:
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
        _expression(self.key, f"{where}, concurrency key", kinds)
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
        _expression(self.key, f"{where}, throttle key", kinds)

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
        _expression(self.key, f"{where}, rate limit key", kinds)

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
        _expression(self.key, f"{where}, debounce key", kinds)


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
        _expression(self.key, f"{where}, batch key", kinds)
        _expression(self.if_, f"{where}, batch if_", kinds)


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
        _expression(self.key, f"{where}, singleton key", kinds)


class Flow(msgspec.Struct, frozen=True):
    """All limits of one function. `priority` is CEL: by how many seconds (±12 h) a run goes before its turn."""

    concurrency: tuple[Concurrency, ...] = ()
    throttle: Throttle | None = None
    rate_limit: RateLimit | None = None
    debounce: Debounce | None = None
    batch: Batch | None = None
    singleton: Singleton | None = None
    priority: str | None = None

    @property
    def is_regulated(self) -> bool:
        """Whether events of the function go through the intake before their runs may start."""
        return self != _UNREGULATED

    def rule_of(self, limit_key: str) -> Concurrency | None:
        """Return the concurrency rule of a run's limit key (`c0:<value>`).

        None for keys of other limits, and for a rule that a deploy has removed since the run was admitted.
        """
        kind, _, _ = limit_key.partition(":")
        number = int(kind[1:]) if kind[:1] == "c" and kind[1:].isdecimal() else len(self.concurrency)
        return self.concurrency[number] if number < len(self.concurrency) else None

    def check(self, where: str, kinds: tuple[type[Any], ...]) -> None:
        """Raise ConfigError for a limit that is invalid by itself or together with another."""
        if len(self.concurrency) > 2:
            raise ConfigError(f"{where} has {len(self.concurrency)} concurrency limits; give at most two")
        for rule in (*self.concurrency, self.throttle, self.rate_limit, self.debounce, self.batch, self.singleton):
            if rule is not None:
                rule.check(where, kinds)
        _expression(self.priority, f"{where}, priority", kinds)
        if self.batch is not None:
            others = {
                "debounce": self.debounce,
                "singleton": self.singleton,
                "priority": self.priority,
                "rate_limit (or idempotency)": self.rate_limit,
            }
            for name, value in others.items():
                if value is not None:
                    raise ConfigError(f"{where} has batch and {name}; they do not go together, remove one")

    @property
    def texts(self) -> tuple[str, ...]:
        """The limits as pages and tables show them, one text each."""
        texts = [
            f"{rule.limit} at a time{_per(rule.key)}{f', shared as {rule.shared}' if rule.shared else ''}"
            for rule in self.concurrency
        ]
        if self.throttle:
            texts.append(f"{self.throttle.limit} starts in {self.throttle.period}{_per(self.throttle.key)}")
        if self.rate_limit:
            texts.append(f"at most {self.rate_limit.limit} in {self.rate_limit.period}{_per(self.rate_limit.key)}")
        if self.debounce:
            texts.append(f"after {self.debounce.period} of quiet{_per(self.debounce.key)}")
        if self.batch:
            texts.append(f"batches of {self.batch.size}, within {self.batch.timeout}{_per(self.batch.key)}")
        if self.singleton:
            texts.append(f"one at a time ({self.singleton.mode}){_per(self.singleton.key)}")
        if self.priority:
            texts.append(f"priority {as_written(self.priority)}")
        return tuple(texts)


_UNREGULATED = Flow()


def _per(key: str | None) -> str:
    return f" per {as_written(key)}" if key else ""


def checked_flow(
    *,
    concurrency: "int | Concurrency | list[Concurrency] | None",
    idempotency: str | None,
    rate_limit: RateLimit | None,
    where: str,
    kinds: tuple[type[Any], ...],
    others: dict[str, Any],
) -> Flow:
    """Return the limits of a function, checked. `idempotency` becomes a rate limit of one in 24 h."""
    if isinstance(concurrency, int):
        concurrency = Concurrency(concurrency)
    several = concurrency if isinstance(concurrency, list) else [] if concurrency is None else [concurrency]
    if idempotency is not None:
        rate_limit = RateLimit(1, DAY_S, key=idempotency)
    flow = Flow(concurrency=tuple(several), rate_limit=rate_limit, **others)
    flow.check(where, kinds)
    return flow


class Timeouts(msgspec.Struct, frozen=True):
    """How long a run may take: `start` from its event to its first line of code, `finish` from there to its end.

    A run that takes longer is cancelled: its async bodies stop at once, the result of a body in a thread is dropped.
    """

    start: Duration | None = None
    finish: Duration | None = None

    @property
    def start_ms(self) -> int:
        """`start` in ms; 0 for no bound."""
        return 0 if self.start is None else milliseconds(self.start, "timeouts start")

    @property
    def finish_ms(self) -> int:
        """`finish` in ms; 0 for no bound."""
        return 0 if self.finish is None else milliseconds(self.finish, "timeouts finish")

    def check(self, where: str) -> None:
        """Raise ConfigError for a bound of no length."""
        for name, value, ms in (("start", self.start, self.start_ms), ("finish", self.finish, self.finish_ms)):
            if value is not None and ms < 1:
                raise ConfigError(f"{where}: timeouts {name} must be at least 1 ms, got {value!r}")


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
