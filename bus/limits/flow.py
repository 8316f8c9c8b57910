"""Flow: all limits of one function, checked together."""

from typing import Any

import msgspec

from stepstream.bus.errors import ConfigError
from stepstream.bus.limits.rules import (
    DAY_S,
    HOUR_S,
    Batch,
    Concurrency,
    Debounce,
    RateLimit,
    Singleton,
    Throttle,
    check_expression,
)
from stepstream.bus.limits.told import LimitTold
from stepstream.bus.values.dialect import as_written

MOST_PRIORITY_S = 12 * HOUR_S


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
        check_expression(self.priority, f"{where}, priority", kinds)
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
    def told(self) -> tuple[LimitTold, ...]:
        """The limits as the registry has them, for pages and tables: those of concurrency first."""
        found = [
            LimitTold(
                "concurrency",
                f"{rule.limit} at a time{_per(rule.key)}{f', shared as {rule.shared}' if rule.shared else ''}",
                rule.limit,
                rule.shared or "",
            )
            for rule in self.concurrency
        ]
        if one := self.throttle:
            found.append(LimitTold("throttle", f"{one.limit} starts in {one.period}{_per(one.key)}", one.limit))
        if one := self.rate_limit:
            found.append(LimitTold("rate_limit", f"at most {one.limit} in {one.period}{_per(one.key)}", one.limit))
        if one := self.debounce:
            found.append(LimitTold("debounce", f"after {one.period} of quiet{_per(one.key)}"))
        if one := self.batch:
            words = f"batches of {one.size}, within {one.timeout}{_per(one.key)}"
            found.append(LimitTold("batch", words, one.size))
        if one := self.singleton:
            found.append(LimitTold("singleton", f"one at a time ({one.mode}){_per(one.key)}"))
        if self.priority:
            found.append(LimitTold("priority", f"priority {as_written(self.priority)}"))
        return tuple(found)

    @property
    def texts(self) -> tuple[str, ...]:
        """The same in words alone."""
        return tuple(one.words for one in self.told)


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
