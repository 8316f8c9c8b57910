"""Redis-cli: the keys that a page or a command reads what it shows from, and the command that shows each raw.

    of_run("shop-ship", run)            # KeyLook("bus:fn:{shop-ship}:run:…", "one run: status, …", ("HGETALL", …)), …
    line(wire.where, look)              # redis-cli -h redis.internal -p 6379 HGETALL 'bus:fn:{shop-ship}:run:…'

What a key is, and of which type, is said where it is made (bus/wire/keys); how it is looked at goes by its type. A list
gives the keys of its first rows: each function, event and run has a page of its own, with all of them.
"""

import inspect
import shlex
from collections.abc import Callable, Sequence
from functools import cache

import msgspec

from stepstream.bus.values.address import Address
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.ids import partitions
from stepstream.bus.wire import keys
from stepstream.checkpoint.controls.ordered import event_field, function_field
from stepstream.checkpoint.facts.minutes import MINUTE_MS
from stepstream.checkpoint.read.event.kept import Kept
from stepstream.checkpoint.read.lists.runs import STATUSES

_MOST = 5
"""Of how many functions, names, workers or applications a list gives the keys."""
_FEW = "19"
"""The last that is shown of what is sorted, from 0."""


class KeyLook(msgspec.Struct, frozen=True):
    """A key, what it holds, and the arguments of redis-cli that show it; of what may be long, the first or newest."""

    key: str
    what: str
    command: tuple[str, ...]


def line(where: Address, look: KeyLook) -> str:
    """Return the command as one types it in a shell, to the server of an address; redis-cli asks for its password."""
    return shlex.join(("redis-cli", *where.cli, *look.command))


def of_run(slug: str, run: str) -> list[KeyLook]:
    """Return where a run is, its steps, and what it has written."""
    makers = (keys.run, keys.steps, keys.open_steps, keys.attempts, keys.log)
    return [_look(make, slug, run) for make in makers]


def of_runs(slugs: Sequence[str], statuses: Sequence[str] = STATUSES) -> list[KeyLook]:
    """Return the lists of runs of functions, by status."""
    return [
        _newest(keys.runs, slug, status, where)
        for slug in slugs[:_MOST] for where in partitions(slug) for status in statuses
    ]  # fmt: skip


def of_function(slug: str, events: Sequence[str]) -> list[KeyLook]:
    """Return where a function is declared, what waits for it, who serves it, and its last minute."""
    found = [_field(keys.functions, slug), _field(keys.controls, function_field(slug))]
    for where in partitions(slug):
        found += [_look(make, slug, where) for make in (keys.function_workers, keys.queue, keys.timers)]
        found.append(_look(keys.minute, slug, now_ms() // MINUTE_MS, where))
    return [*found, *map(_groups, events), *of_runs([slug], ("queued", "running", "waiting", "failed"))]


def of_functions(slugs: Sequence[str]) -> list[KeyLook]:
    """Return where functions are declared and paused, and the last minute of each."""
    minute = now_ms() // MINUTE_MS
    return [
        _look(keys.functions),
        _look(keys.controls),
        *(_look(keys.minute, slug, minute) for slug in slugs[:_MOST]),
        *(_look(keys.function_workers, slug) for slug in slugs[:_MOST]),
    ]


def of_overview(slugs: Sequence[str]) -> list[KeyLook]:
    """Return what the front page is read from: the functions with their last minute, workers, the server's memory."""
    return [_INFO, *of_functions(slugs), _newest(keys.workers)]


def of_event_names(names: Sequence[str]) -> list[KeyLook]:
    """Return which names of events there are, and the streams of some."""
    return [_newest(keys.event_names), _look(keys.types), *(_look(keys.events, name) for name in names[:_MOST])]


def of_event_name(name: str) -> list[KeyLook]:
    """Return the stream of an event's name, who reads it, who waits for such an event."""
    found = [_look(make, name) for make in (keys.events, keys.events_workers, keys.waits, keys.waits_if, keys.delayed)]
    return [*found, _groups(name), _field(keys.types, name), _field(keys.controls, event_field(name))]


def of_event(kept: Kept) -> list[KeyLook]:
    """Return where an event is, or the run that keeps it; who has read so far; what makes a second one a repetition."""
    event, name = kept.arrival.event, kept.arrival.name
    if not kept.stands:
        return [one for run in kept.runs[:_MOST] for one in of_run(run.function, run.id)[:1]]
    stream, entry = keys.events(name), kept.arrival.entry
    whole = KeyLook(stream, "the event: id, name, data, ts, v", ("XRANGE", stream, entry, entry))
    return [whole, _groups(name), _look(keys.seen, name, event.id)]


def of_limits(limits: Sequence[tuple[str, Sequence[str]]]) -> list[KeyLook]:
    """Return, of functions, who holds places and who waits, for the limit keys given as they are stored (`c0:=7`)."""
    found = [_look(keys.controls)]
    for slug, limit_keys in limits[:_MOST]:
        found += [_look(make, slug) for make in (keys.ready, keys.full, keys.buffered)]
        for one in limit_keys[:_MOST]:
            found += [_look(keys.places, slug, one), _look(keys.backlog, slug, one)]
    return found


def of_schedules(slugs: Sequence[str]) -> list[KeyLook]:
    """Return the last ticks of functions, and which are paused."""
    return [*(_look(keys.cron, slug) for slug in slugs[:_MOST]), _look(keys.controls)]


def of_workers(names: Sequence[str]) -> list[KeyLook]:
    """Return who works, and what each tells of itself."""
    return [_newest(keys.workers), *(_look(keys.worker, name) for name in names[:_MOST])]


def of_errors(slugs: Sequence[str]) -> list[KeyLook]:
    """Return of what runs of functions failed, and when last."""
    return [
        one for slug in slugs[:_MOST] for where in partitions(slug)
        for one in (_look(keys.errors, slug, where), _newest(keys.erred, slug, where))
    ]  # fmt: skip


def of_streams(slugs: Sequence[str], names: Sequence[str]) -> list[KeyLook]:
    """Return the queues of functions, and the streams of events with how far each function has read them."""
    queues = [_look(keys.queue, slug, where) for slug in slugs[:_MOST] for where in partitions(slug)]
    return [_INFO, *queues, *map(_groups, names[:_MOST])]


def of_apps(names: Sequence[str]) -> list[KeyLook]:
    """Return what applications behind HTTP have registered, and the workers of those that connect."""
    return [_look(keys.apps), *(_look(keys.connect_workers, name) for name in names[:_MOST])]


def of_operations() -> list[KeyLook]:
    """Return the operations of the last days."""
    return [_look(keys.operations)]


def of_operation(id: str) -> list[KeyLook]:
    """Return where an operation is."""
    return [_field(keys.operations, id)]


def of_delayed(names: Sequence[str]) -> list[KeyLook]:
    """Return which events are to be published later."""
    return [_look(keys.delayed_names), *(_look(keys.delayed, name) for name in names[:_MOST])]


def of_alerts() -> list[KeyLook]:
    """Return what fires since when, and what people have set of alerts."""
    return [_look(keys.alerts)]


def of_audit() -> list[KeyLook]:
    """Return who has done what."""
    return [_look(keys.audit)]


_COMMANDS: dict[str, tuple[str, ...]] = {
    "hash": ("HGETALL", "{}"),
    "zset": ("ZRANGE", "{}", "0", _FEW, "WITHSCORES"),
    "stream": ("XREVRANGE", "{}", "+", "-", "COUNT", "10"),
    "list": ("LRANGE", "{}", "0", "-1"),
    "set": ("SMEMBERS", "{}"),
    "string": ("GET", "{}"),
}
_INFO = KeyLook("INFO memory", "the server's memory, and what it does when that is full", ("INFO", "memory"))
_Maker = Callable[..., str]


def _look(make: _Maker, *of: str | int) -> KeyLook:
    kind, what = _said(make)
    return _made(make(*of), what, _COMMANDS.get(kind, ("TYPE", "{}")))


def _newest(make: _Maker, *of: str) -> KeyLook:
    """Return a look at the last of what is sorted."""
    return _made(make(*of), _said(make)[1], ("ZRANGE", "{}", "0", _FEW, "REV", "WITHSCORES"))


def _field(make: _Maker, field: str) -> KeyLook:
    """Return a look at one field of a hash."""
    return _made(make(), _said(make)[1], ("HGET", "{}", field))


def _groups(name: str) -> KeyLook:
    stream = keys.events(name)
    return KeyLook(stream, f"how far each function has read the events {name}", ("XINFO", "GROUPS", stream))


def _made(key: str, what: str, command: Sequence[str]) -> KeyLook:
    return KeyLook(key, what, tuple(key if part == "{}" else part for part in command))


@cache
def _said(make: _Maker) -> tuple[str, str]:
    """Return the type of a key, and what it holds, as its docstring says (none of it where Python drops those)."""
    kind, _, what = inspect.cleandoc(make.__doc__ or "").partition(" · ")
    return kind, what.partition(". ")[0].partition("\n")[0].rstrip(".").replace("`", "")
