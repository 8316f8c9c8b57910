"""The index of what cancels a function's runs (`cancel_on`): for each run a word, `<begin>|<run>|<until when, ms>`.

The start that makes a run writes its words, and its end removes them. A word begins with the event's name and what the
event must have at the path, so that all runs an event may cancel stand together.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from stepstream.bus.event import RawEvent
from stepstream.bus.function import Function
from stepstream.bus.limits.cancel_on import CancelOn
from stepstream.bus.values.matching import value_at
from stepstream.checkpoint.waits.event_waits import prefix

_ANY = "*"


def group_of(slug: str) -> str:
    """Return the group that reads a function's cancelling events; its own group may be triggered by the same name."""
    return f"{slug}@cancel"


def words(function: Function, event: RawEvent, run: str, queued: int) -> str:
    """Return the words of a run that an event began, a line each."""
    if not function.cancel_on:
        return ""
    try:
        own = event.plain()
    except msgspec.MsgspecError:
        return ""
    found: list[str] = []
    for one in function.cancel_on:
        begin = begin_of(one, own)
        if begin is not None:
            found.append(f"{begin}|{run}|{queued + one.timeout_ms}")
    return "\n".join(found)


def begin_of(one: CancelOn, event: Mapping[str, Any]) -> str | None:
    """Return how the words of an event's run begin, or of the runs it may cancel; None: it has nothing at the path."""
    name = quote(one.name, safe="/")
    if one.if_ is not None:
        return f"{name}|{_ANY}"
    if one.match is None:
        return f"{name}|{prefix('', b'')}"
    value = value_at(one.match, event)
    return None if value is None else f"{name}|{prefix(one.match, value)}"


def run_of(word: bytes) -> tuple[str, int]:
    """Return the run that a word is about, and until when it may be cancelled so; none for what was added by hand."""
    try:
        run, deadline = word.decode().rsplit("|", 2)[1:]
        return run, int(deadline)
    except ValueError:
        return "", 0
