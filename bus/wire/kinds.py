"""Kinds: which function of bus/wire/keys makes a key that was found in Redis, and of whom it is."""

import re
from collections.abc import Callable
from urllib.parse import unquote

from stepstream.bus.values.ids import partitions
from stepstream.bus.wire import keys

_TAGGED = re.compile(
    r"(events|fn|worker|limit|signal|live|login|connect(?:-answers|-token)?):\{([^{}]*)\}:?(.*)", re.DOTALL
)
_ALL = list[tuple[Callable[..., str], tuple[str, ...]]](keys.ALL)
_PLAIN = {make().partition(":")[2]: make.__name__ for make, stand_ins in _ALL if not stand_ins}
_OF_EVENTS = {"": "events", "workers": "events_workers", "served": "events_served", "waits": "waits",
              "waits:if": "waits_if", "delayed": "delayed", "again": "again"}  # fmt: skip
_OF_EVENTS_BY_ID = {"seen": "seen", "delayed": "delayed_event"}
_OF_APP, _OF_APP_BY_ID = {"workers", "requests"}, {"worker", "call"}
_OF_FUNCTION = {"open": "open_steps", "workers": "function_workers"} | {
    make.__name__: make.__name__ for make, stand_ins in keys.ALL if stand_ins[:1] == ("F",)
}


def kind_of(key: str) -> tuple[str, str, str] | None:
    """Return the function that makes a key (its name), the tag's name and the rest; None for another's key."""
    prefix = f"{keys.prefix()}:"
    if not key.startswith(prefix):
        return None
    own = key[len(prefix) :]
    if own in _PLAIN:
        return _PLAIN[own], "", ""
    tagged = _TAGGED.fullmatch(own)
    if tagged is None:
        return None
    family, (name, _, partition), suffix = tagged[1], tagged[2].partition("#"), tagged[3]
    tag = unquote(name)
    if partition and (family != "fn" or partition not in partitions(tag)):
        return None
    word, _, rest = suffix.partition(":")
    if family == "events":
        kind = _OF_EVENTS.get(suffix) or _OF_EVENTS_BY_ID.get(word)
    elif family == "fn":
        kind = _OF_FUNCTION.get(word)
    elif family == "limit":
        kind = {"": "limit", "waiting": "limit_waiting"}.get(suffix)
    elif family == "signal":
        kind = {"": "signal", "lost": "signal_lost"}.get(word)
    elif family == "connect":
        kind = f"connect_{word}" if word in (_OF_APP_BY_ID if rest else _OF_APP) else None
    else:
        kind = family.replace("-", "_") if not suffix else None
    return None if kind is None else (kind, tag, rest)
