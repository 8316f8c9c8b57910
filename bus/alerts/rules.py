"""Rules: of what an alert tells, and from which threshold on: `waiting=10m`, `failures=20%/1h`, `missed=off`.

A rule about functions may have another threshold for one of them: `waiting:shop-report=2h`. What stands before the sign
is a *name*: `waiting`, `waiting:shop-report`.

One reading of a threshold, for the setting, the page, the API, the command line and what is written into Redis by hand.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from stepstream.bus.errors import ConfigError
from stepstream.bus.values.durations import milliseconds

OFF = "off"
_WIDEST_MS = 3_600_000
"""The longest window of `failures`: so long the minutes of each function are read."""
_LEAST_WINDOW_MS = 60_000
_FAILURES = re.compile(r"(?P<number>\d{1,9})(?P<share>%?)(?:/(?P<window>\S+))?", re.ASCII)
_COUNT = re.compile(r"\d{1,9}", re.ASCII)
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,256}")
_PERCENT = re.compile(r"\d{1,3}%", re.ASCII)

Kind = Literal["duration", "count", "percent", "failures", "switch"]
_EXPECTS: dict[Kind, str] = {
    "duration": "a duration, as 10m",
    "count": "a whole number from 1, as 1000",
    "percent": "a percentage from 1% to 100%, as 85%",
    "failures": "a share or a number of runs in a window from 1m to 1h, as 20%/1h or 50/10m",
    "switch": "on",
}


class Rule(msgspec.Struct, frozen=True):
    """A rule: its name, the threshold it has where nothing is set, of which kind that is, and what it is about."""

    name: str
    default: str
    kind: Kind
    about: str
    of_functions: bool = True
    """Whether it is about each function, or about Redis."""

    @property
    def expects(self) -> str:
        """What a threshold of it may be, in words."""
        return f"{_EXPECTS[self.kind]}, or off"


class Threshold(msgspec.Struct, frozen=True):
    """A threshold as it is written, and what that says: of a window or a duration ms, a number, or a share of 1."""

    text: str
    ms: int = 0
    count: int = 0
    share: float = 0.0

    @property
    def is_on(self) -> bool:
        """Whether the rule is followed at all."""
        return self.text != OFF


_ALL = (
    Rule("failures", "20%/1h", "failures", "runs of a function fail: a share (and three at least) or a number of them"),
    Rule("waiting", "10m", "duration", "the oldest queued run of a function waits longer"),
    Rule("line", "1000", "count", "more events and queued runs of a function wait"),
    Rule("no_worker", "1m", "duration", "no worker serves a function for so long: work waits for it, or one has died"),
    Rule("missed", "2m", "duration", "a tick of a schedule is over for so long and has not begun"),
    Rule("given_up", "1", "count", "so many runs of a function were given up in an hour: they killed their workers"),
    Rule("unfit", "on", "switch", "Redis evicts keys, cannot write its files, or is no primary", False),
    Rule("memory", "85%", "percent", "Redis uses so much of its maxmemory", False),
    Rule(
        "unreachable", "30s", "duration", "Redis does not serve a site for so long: it says so by itself, and not here",
        False,
    ),
    Rule("rolled_back", "on", "switch", "Redis has lost what was written: a failover, a restart, an older copy", False),
)  # fmt: skip
RULES: Mapping[str, Rule] = {one.name: one for one in _ALL}
"""By name, in the order in which they are shown."""


def rule_of(name: str, what: str) -> Rule:
    """Return the rule of a name; ConfigError, which names `what` and the nearest one, for another."""
    word, colon, function = name.partition(":")
    if word in RULES:
        if colon and not RULES[word].of_functions:
            raise ConfigError(f"{what}: {name[:80]!r}: {word} is not about a function; write {word}")
        if colon and not _SLUG.fullmatch(function):
            raise ConfigError(f"{what}: {name[:80]!r} names no function; write {word}, or {word}:shop-report")
        return RULES[word]
    near = difflib.get_close_matches(word, RULES, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"{what}: {name[:40]!r} is no rule{hint} The rules are: {', '.join(RULES)}")


def threshold(rule: Rule, text: str, what: str) -> Threshold:
    """Return what a text says as the threshold of a rule; ConfigError, naming `what`, for one that says nothing."""
    if text == OFF:
        return Threshold(OFF)
    read = _read(rule.kind, text)
    if read is None:
        raise ConfigError(f"{what}: {rule.name}={text[:40]!r}: expected {rule.expects}")
    return read


def _read(kind: Kind, text: str) -> Threshold | None:
    if kind == "switch":
        return Threshold(text) if text == "on" else None
    if kind == "count":
        return Threshold(text, count=int(text)) if _COUNT.fullmatch(text) and int(text) else None
    if kind == "percent":
        share = int(text[:-1]) / 100 if _PERCENT.fullmatch(text) else 0.0
        return Threshold(text, share=share) if 0 < share <= 1 else None
    if kind == "duration":
        ms = _duration(text)
        return Threshold(text, ms=ms) if ms else None
    parts = _FAILURES.fullmatch(text)
    if parts is None:
        return None
    window, number = _duration(parts["window"] or "1h"), int(parts["number"])
    if not _LEAST_WINDOW_MS <= window <= _WIDEST_MS or not number or (parts["share"] and number > 100):
        return None
    if parts["share"]:
        return Threshold(text, ms=window, share=number / 100)
    return Threshold(text, ms=window, count=number)


def _duration(text: str) -> int:
    """Return a duration in ms; 0 for what is none."""
    try:
        return milliseconds(text)
    except ConfigError:
        return 0


def thresholds(texts: Sequence[str], what: str) -> dict[str, Threshold]:
    """Return the thresholds of texts like `waiting=10m` and `waiting:shop-report=2h`, by name; of others the defaults.

    ConfigError, naming `what`, for a rule that is not there or is there twice, and for a threshold that says nothing.
    """
    given: dict[str, Threshold] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise ConfigError(f"{what}: {text[:40]!r} is no rule with its threshold; write waiting=10m,line=1000")
        rule = rule_of(name, what)
        if name in given:
            raise ConfigError(f"{what}: {name} is there twice")
        given[name] = threshold(rule, value, what)
    return {name: threshold(rule, rule.default, what) for name, rule in RULES.items()} | given


def limit_of(limits: Mapping[str, Threshold], rule: str, function: str) -> Threshold:
    """Return the threshold that a rule has for a function: its own, or that of all."""
    return limits.get(f"{rule}:{function}") or limits[rule]
