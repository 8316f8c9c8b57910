"""Limits as people set them: what each is called, what is set otherwise of it, and what scripts are told of that."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from stepstream.bus.function import Function
from stepstream.bus.limits.flow import Flow
from stepstream.bus.limits.keys import keys_like
from stepstream.bus.limits.told import LimitTold
from stepstream.checkpoint.controls.ordered import Controls, LimitName, Override, limit_field

_KEYS: dict[LimitName, str] = {"concurrency": "c0", "concurrency2": "c1", "throttle": "t", "rate_limit": "r"}
"""The limits that can be set otherwise, each with what stands before the values in its keys (`c0:<value>`)."""


class Declared(NamedTuple):
    """A limit of a function that can be set otherwise: what it is called, its number, and the name it is shared by."""

    limit: LimitName
    number: int
    shared: str = ""

    @property
    def prefix(self) -> str:
        """What its keys begin with, as scripts have them."""
        return _KEYS[self.limit]

    @property
    def least(self) -> int:
        """The lowest number that it can be set to: none at a time, but at least one in a period."""
        return 0 if self.prefix[0] == "c" else 1

    @property
    def stored(self) -> LimitName:
        """What an override of it is called: a limit that is shared may be the first of one function only."""
        return "concurrency" if self.shared else self.limit

    def owner(self, slug: str) -> str:
        """Return whose it is: the function's, or of all that share it."""
        return f"*{self.shared}" if self.shared else slug

    def field(self, slug: str, key: str | None) -> str:
        """Return the field under which an override of it stands."""
        return limit_field(self.owner(slug), self.stored, key)

    def overrides(self, ordered: Controls, slug: str) -> list[Override]:
        """Return how it is set otherwise, also that whose time is over."""
        return [one for one in ordered.limits.get(self.owner(slug), ()) if one.limit == self.stored]


def declared_limits(limits: Sequence[LimitTold]) -> list[Declared]:
    """Return the limits that can be set otherwise, of those that a function declares, each by its name."""
    found: list[Declared] = []
    for name, prefix in _KEYS.items():
        kind, number = ("concurrency", int(prefix[1:])) if prefix[1:] else (name, 0)
        several = [one for one in limits if one.kind == kind]
        found += [Declared(name, one.number or 0, one.shared) for one in several[number : number + 1]]
    return found


def overrides_of(ordered: Controls, slug: str, limits: Sequence[LimitTold], now: int) -> list[Override]:
    """Return what is set otherwise of the limits of a function now, those that it shares too."""
    return [
        msgspec.structs.replace(one, limit=declared.limit)
        for declared in declared_limits(limits)
        for one in declared.overrides(ordered, slug)
        if one.until > now
    ]


def lines_of(ordered: Controls, function: Function) -> str:
    """Return what is set otherwise of the limits of a function, as scripts take it (fragments/overrides.lua)."""
    lines = [
        f"{name} {one.until} {first} {second}"
        for declared in declared_limits(function.flow.told)
        for one in declared.overrides(ordered, function.slug)
        for first, second in [_numbers(function.flow, declared, one.to)]
        for name in _names(declared.prefix, one.key)
    ]
    return "\n".join(sorted(lines))


def _numbers(flow: Flow, declared: Declared, to: int) -> tuple[float, int]:
    """Return the two numbers that scripts take of a limit that is set to another: the second is of a period's alone."""
    rules = {"throttle": flow.throttle, "rate_limit": flow.rate_limit}
    rule = rules.get(declared.limit)
    if rule is None:
        return to, 0
    set_to = msgspec.structs.replace(rule, limit=to)
    return set_to.gap_ms, set_to.more


def _names(prefix: str, key: str | None) -> list[str]:
    return [prefix] if key is None else [f"{prefix}:{stored}" for stored in keys_like(key)]


def limit_of(limits: Sequence[LimitTold], limit_key: str) -> LimitName | None:
    """Return what the limit of a key is called by who sets it otherwise; None when it is declared no more."""
    prefix = limit_key.partition(":")[0]
    return next((one.limit for one in declared_limits(limits) if one.prefix == prefix), None)


def override_of(limits: Sequence[LimitTold], limit_key: str, others: Sequence[Override]) -> Override | None:
    """Return to what the limit of a key is set: that of this very value goes before that of all values."""
    found, key = limit_of(limits, limit_key), limit_key.partition(":")[2]
    mine = [one for one in others if one.limit == found and (one.key is None or key in keys_like(one.key))]
    return max(mine, key=lambda one: one.key is not None, default=None)


def line_ends(lines: str) -> list[int]:
    """Return when each of the lines is over, server ms."""
    return [int(line.split(" ")[1]) for line in lines.split("\n") if line]
