"""What is told of a function's limits: to people in words, to programs in fields."""

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

Kind = Literal["concurrency", "throttle", "rate_limit", "debounce", "batch", "singleton", "priority"]


class LimitTold(msgspec.Struct, frozen=True, omit_defaults=True):
    """A limit as its function declares it."""

    kind: Kind
    words: str
    """The same for people: `2 at a time per event.data.customer`."""
    number: int | None = None
    """How many: at a time, in a period, or in a batch."""
    shared: str = ""
    """The name under which functions share it."""


_FORMS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("concurrency", re.compile(r"(?P<n>\d+) at a time(?:.*, shared as (?P<shared>\S+)$)?", re.DOTALL)),
    ("throttle", re.compile(r"(?P<n>\d+) starts in ")),
    ("rate_limit", re.compile(r"at most (?P<n>\d+) in ")),
    ("debounce", re.compile(r"after .+ of quiet")),
    ("batch", re.compile(r"batches of (?P<n>\d+), ")),
    ("singleton", re.compile(r"one at a time \(")),
    ("priority", re.compile(r"priority ")),
)


def read_words(several: Sequence[str]) -> tuple[LimitTold, ...]:
    """Return limits of which there are only the words: a worker of an older version has registered them."""
    found: list[LimitTold] = []
    for words in several:
        for kind, form in _FORMS:
            if told := form.match(words):
                named = told.groupdict(default="")
                number = int(named["n"]) if named.get("n") else None
                found.append(LimitTold(kind, words, number, named.get("shared", "")))
                break
    return tuple(found)


def limit_of_key(limits: Sequence[LimitTold], limit_key: str) -> LimitTold | None:
    """Return the limit of a run's limit key (`c0:<value>`, `t:<value>`); None when it is declared no more."""
    kind, _, _ = limit_key.partition(":")
    if kind == "t":
        return next((one for one in limits if one.kind == "throttle"), None)
    several = [one for one in limits if one.kind == "concurrency"]
    number = int(kind[1:]) if kind[:1] == "c" and kind[1:].isdecimal() else len(several)
    return several[number] if number < len(several) else None
