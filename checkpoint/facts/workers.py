"""Workers: who works, and what each has in hand; of the dead what they had when they were last seen, for a day."""

import msgspec

from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.serverclock import FAR
from stepstream.bus.wire.streams import fields_of
from stepstream.bus.wire.wire import Wire

MOST_HELD = 200
"""How many runs in hand a worker names; it tells how many there are."""
_MOST = 1_000
"""How many workers are read, those that were seen last."""


class Holding(msgspec.Struct, frozen=True):
    """A run that a worker has in hand, and the step whose body runs (empty: none does), since when (server ms)."""

    function: str
    run: str
    step: str
    since: int


class WorkerView(msgspec.Struct):
    """A worker, as it told of itself: its host, process, version and slots, its functions and their code versions.

    `since` it works and when it was last `seen`, server ms; `alive` while its lease holds. It had `in_hand` runs, of
    which `held` are those it has had for longest. One of an earlier version tells nothing but its name.
    """

    name: str
    alive: bool
    seen: int
    since: int = 0
    host: str = ""
    pid: int = 0
    version: str = ""
    slots: int = 0
    functions: dict[str, str] = {}
    draining: bool = False
    in_hand: int = 0
    held: list[Holding] = []
    drains: bool = False
    """Whether it can be told to drain: it is of a version that hears of it."""


async def workers_told(wire: Wire) -> list[WorkerView]:
    """Return the workers, the living first, then the dead of the last day; of each kind those that were seen last."""
    now = await wire.clock()
    rows: list[bytes] = await wire.load("ZREVRANGE", keys.workers(), 0, _MOST - 1, "WITHSCORES", patience=2.0)
    names = [codec.text(name) for name in rows[::2]]
    told = await wire.looks(*(("HGETALL", keys.worker(name)) for name in names))
    latest = now + FAR * wire.settings.lease_ms
    views: list[WorkerView] = []
    for name, until, flat in zip(names, map(codec.whole, rows[1::2]), told, strict=True):
        fields = fields_of(flat)
        seen = codec.whole(fields.get(b"seen", b"")) or max(0, until - wire.settings.lease_ms)
        views.append(_view(name, now < until <= latest, seen, fields))
    return sorted(views, key=lambda one: (not one.alive, -one.seen, one.name))


def _view(name: str, alive: bool, seen: int, fields: dict[bytes, bytes]) -> WorkerView:
    return WorkerView(
        name, alive, seen,
        since=codec.whole(fields.get(b"since", b"")),
        host=codec.text(fields.get(b"host", b"")),
        pid=codec.whole(fields.get(b"pid", b"")),
        version=codec.text(fields.get(b"version", b"")),
        slots=codec.whole(fields.get(b"slots", b"")),
        functions=codec.stored_as(fields.get(b"functions"), dict[str, str]) or {},
        draining=fields.get(b"draining") == b"1",
        in_hand=codec.whole(fields.get(b"in_hand", b"")),
        held=codec.stored_as(fields.get(b"held"), list[Holding]) or [],
        drains=fields.get(b"drains") == b"1",
    )  # fmt: skip
