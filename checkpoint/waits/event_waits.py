"""Event waits: which steps wait for which event, stored in the event's own slot; and the look-back for earlier events.

A wait is stored as one text, its word: `<slug>|<run>|<step>|<deadline>`, each part percent-encoded. A wait by equal
value has `<path>=<value>|` before that (a long value is replaced by its hash) and `|<entry>` after it: the last entry
of the stream when the wait was added. A wait by expression stores that entry beside the expression.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from urllib.parse import quote, unquote

import msgspec

from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.bus.values.ids import entry_place
from stepstream.bus.values.matching import value_at
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import MOST_BYTES, parts
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.streams import event_of, fields_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.waits.names import Holder, still_wait

_ADD = script(__file__, "wait_add")
_END = script(__file__, "waits_end")
_PATHS = script(__file__, "wait_paths")

GROUP = "@waits"
MOST_BY_EXPRESSION = 1_000
MOST_PATHS = 100
LOOK_BACK = 10_000
_FIRST_PAGE, _PAGE = 20, 500
_LONGEST_VALUE = 200


class _Stored(msgspec.Struct, rename={"if_": "if"}):
    """How a wait by expression is stored."""

    if_: str
    behind: str = "0-0"


class Wait(msgspec.Struct, frozen=True):
    """A step of a run that waits for an event until `deadline`, server ms.

    `path` and `value` (as JSON) are for a wait by equal value, `if_` is for one by expression. The courier brings the
    events after the entry `behind`. Earlier ones the run looks up itself, because only it knows which it has taken.
    """

    name: str
    slug: str
    run: str
    step: str
    deadline: int
    path: str = ""
    value: bytes = b""
    if_: str = ""
    behind: str = "0-0"

    @property
    def word(self) -> str:
        """The text the wait is stored as, without the entry."""
        parts = "|".join(quote(part, safe="") for part in (self.slug, self.run, self.step, str(self.deadline)))
        return parts if self.if_ else f"{prefix(self.path, self.value)}|{parts}"


def prefix(path: str, value: bytes) -> str:
    """Return the prefix of the words of all waits for a value at a path."""
    text = value.decode()
    if len(text) > _LONGEST_VALUE or "|" in text:
        text = hashlib.sha256(value).hexdigest()
    return f"{path}={text}"


def _of_value(name: str, word: bytes) -> Wait | None:
    """Return a wait from its stored word; None for something else, added by hand, which the sweep removes."""
    try:
        _, slug, run, step, deadline, behind = word.decode().rsplit("|", 5)
        entry_place(behind)
        return Wait(name, unquote(slug), unquote(run), unquote(step), int(deadline), behind=behind)
    except ValueError:
        return None


def _of_expression(name: str, word: bytes, stored: bytes) -> Wait | None:
    try:
        slug, run, step, deadline = (unquote(part) for part in word.decode().split("|"))
        found = codec.decode_as(stored, _Stored)
        entry_place(found.behind)
        return Wait(name, slug, run, step, int(deadline), if_=found.if_, behind=found.behind)
    except ValueError:
        return None


async def arm(wire: Wire, wait: Wait) -> Wait | None:
    """Store a wait, so that incoming events find it; return it with `behind`. None when too many wait by expression."""
    await patiently(lambda: wire.call("ZADD", keys.waited(), "GT", wait.deadline, wait.name))
    expression = codec.encode(wait.if_) if wait.if_ else b""
    names = [keys.events(wait.name), keys.waits(wait.name), keys.waits_if(wait.name)]
    wanted = (GROUP, wait.word, expression, MOST_BY_EXPRESSION)
    reply = await wire.lasting_script(_ADD, names, *wanted)
    if reply[0] != b"armed" and await _forget_the_gone(wire, wait.name):
        reply = await wire.lasting_script(_ADD, names, *wanted)
    if reply[0] != b"armed":
        return None
    is_by_value = not wait.if_
    stored = _of_value(wait.name, reply[1]) if is_by_value else _of_expression(wait.name, wait.word.encode(), reply[1])
    return wait if stored is None else msgspec.structs.replace(wait, behind=stored.behind)


async def is_armed(wire: Wire, wait: Wait) -> bool:
    """Whether incoming events find a wait."""
    if wait.if_:
        return bool(await patiently(lambda: wire.call("HEXISTS", keys.waits_if(wait.name), wait.word)))
    begin, end = f"[{wait.word}|", f"({wait.word}}}"
    return bool(await patiently(lambda: wire.call("ZRANGEBYLEX", keys.waits(wait.name), begin, end)))


async def _forget_the_gone(wire: Wire, name: str) -> int:
    """Remove the waits by expression whose steps no longer wait; return how many."""
    waits = await by_expression(wire, name)
    alive = await still_wait(wire, [Holder(wait.slug, wait.run, wait.step) for wait in waits])
    gone = [wait for wait, waits_on in zip(waits, alive, strict=True) if not waits_on]
    await disarm(wire, name, gone)
    return len(gone)


async def disarm(wire: Wire, name: str, waits: Sequence[Wait]) -> None:
    """Remove waits for an event. One that stays, because its worker died, is removed by whoever finds it in the way."""
    for part in parts([wait.word for wait in waits if wait.if_]):
        await patiently(lambda part=part: wire.call("HDEL", keys.waits_if(name), *part))
    words = [wait.word for wait in waits if not wait.if_]
    for part in parts(words):
        await patiently(lambda part=part: _without(wire, name, part))


async def _without(wire: Wire, name: str, words: Sequence[str]) -> None:
    """Remove waits by equal value, whatever entry each is behind."""
    key = keys.waits(name)
    await asyncio.gather(*(wire.call("ZREMRANGEBYLEX", key, f"[{word}|", f"({word}}}") for word in words))


async def end_waits(wire: Wire, name: str) -> bool:
    """Remove waits whose deadline is over; True when none is left, and the group was dropped."""
    names = [keys.events(name), keys.waits(name), keys.waits_if(name)]
    return bool(await wire.script(_END, names, GROUP, 1_000))


async def names_waited_for(wire: Wire, now: int) -> list[str]:
    """Return the event names that steps wait for; names whose last deadline is over are removed."""
    await wire.call("ZREMRANGEBYSCORE", keys.waited(), "-inf", f"({now}")
    return [codec.text(name) for name in await wire.call("ZRANGE", keys.waited(), 0, -1)]


async def has_waits(wire: Wire, name: str) -> bool:
    """Return whether a step waits for the event now: its name stays listed until the last deadline there was."""
    return bool(await wire.call("EXISTS", keys.waits(name), keys.waits_if(name)))


async def by_value(wire: Wire, name: str, event: dict[str, object]) -> AsyncGenerator[list[Wait]]:
    """Yield the waits by equal value that an event matches, page by page: thousands may wait for one event."""
    paths: list[bytes] = await wire.lasting_script(_PATHS, [keys.waits(name)], MOST_PATHS)
    for path in map(codec.text, paths):
        value = b"" if not path else value_at(path, event)
        if value is None:
            continue
        begins = prefix(path, value)
        words, after = [b""] * _PAGE, f"[{begins}|".encode()
        while len(words) == _PAGE:
            words = await wire.load("ZRANGEBYLEX", keys.waits(name), after, f"({begins}}}", "LIMIT", 0, _PAGE)
            waits = (_of_value(name, word) for word in words)
            yield [msgspec.structs.replace(wait, path=path, value=value) for wait in waits if wait is not None]
            after = b"(" + words[-1] if words else after


async def by_expression(wire: Wire, name: str) -> list[Wait]:
    """Return all waits by expression for a name."""
    flat = fields_of(await wire.load("HGETALL", keys.waits_if(name)))
    waits = (_of_expression(name, word, stored) for word, stored in flat.items())
    return [wait for wait in waits if wait is not None and wait.if_]


async def some_waits(wire: Wire, name: str, most: int) -> list[Wait]:
    """Return some of the waits for a name, at most so many, without what they wait by: who waits, for people."""
    words, scanned = await wire.loads(
        ("ZRANGE", keys.waits(name), 0, most - 1), ("HSCAN", keys.waits_if(name), 0, "COUNT", most)
    )
    found = [_of_value(name, word) for word in words]
    found += [_of_expression(name, word, stored) for word, stored in fields_of(scanned[1]).items()]
    return [wait for wait in found if wait is not None][:most]


async def look_back(wire: Wire, name: str, since: int, until: str) -> AsyncGenerator[tuple[str, RawEvent]]:
    """Yield events of a name from `since` (ms) up to the entry `until`, oldest first, at most 10,000."""
    start, looked_at, count = str(since), 0, _FIRST_PAGE
    while looked_at < LOOK_BACK:
        rows = await wire.load("XRANGE", keys.events(name), start, until, "COUNT", count)
        size = 0
        for entry, flat in rows:
            event = event_of(name, entry.decode(), fields_of(flat or ()))
            size += len(event.data)
            yield entry.decode(), event
        looked_at += len(rows)
        if len(rows) < count:
            return
        start = f"({rows[-1][0].decode()}"
        count = max(1, min(_PAGE, 4 * MOST_BYTES * len(rows) // max(1, size)))  # fewer per page where events are large
