"""Backlogs: how many runs wait for each limit of a function, and what its buffers hold. Reads only."""

import msgspec

from stepstream.bus.values import codec
from stepstream.bus.values.ids import FIRST
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire

MOST = 100
_LOOKED_AT = 2_000


class Backlog(msgspec.Struct, frozen=True):
    """The backlog of one limit key (`c0:<value>`: the first concurrency, `t:<value>`: throttle, `-`: no limit)."""

    key: str
    waiting: int
    running: int


class Buffer(msgspec.Struct, frozen=True):
    """A debounce (`d:<value>`) or batch (`b:<value>`) buffer: how many events, when it becomes a run, and which."""

    key: str
    events: int
    due: int
    run: str = ""


class Backlogs(msgspec.Struct):
    """The longest backlogs first, at most a hundred; `keys` is how many there are (2,000 at most are counted)."""

    keys: int
    backlogs: list[Backlog]
    buffers: list[Buffer]


async def backlogs_of(wire: Wire, slug: str) -> Backlogs:
    """Return the backlogs and the buffers of a function."""
    ready, full, buffered = await wire.looks(
        ("ZRANGE", keys.ready(slug), 0, _LOOKED_AT - 1),
        ("ZREVRANGE", keys.full(slug), 0, _LOOKED_AT - 1),
        ("HSCAN", keys.buffered(slug), 0, "COUNT", _LOOKED_AT),
    )
    limit_keys = list(dict.fromkeys(codec.text(raw) for raw in (*ready, *full)))[:_LOOKED_AT]
    counts = await wire.looks(
        *((("ZCARD", key(slug, limit_key))) for limit_key in limit_keys for key in (keys.backlog, keys.places))
    )  # fmt: skip
    found = [Backlog(key, counts[2 * n], counts[2 * n + 1]) for n, key in enumerate(limit_keys) if counts[2 * n]]
    names = [codec.text(name) for name in buffered[1][1::2]][:MOST]
    runs = [codec.text(run) for run in buffered[1][::2]][:MOST]
    sizes = await wire.looks(*(("HGET", keys.buffer(slug, name), "n") for name in names))
    dues = await wire.looks(*(("ZSCORE", keys.timers(slug, FIRST), f"buffer|{name}") for name in names))
    held = [
        Buffer(name, codec.whole(size or b"1"), codec.whole(due), run)
        for name, size, due, run in zip(names, sizes, dues, runs, strict=True)
        if due is not None
    ]
    found.sort(key=lambda line: -line.waiting)
    return Backlogs(len(found), found[:MOST], sorted(held, key=lambda one: one.due))
