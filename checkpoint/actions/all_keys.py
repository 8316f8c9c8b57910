"""All keys of a function, found from its indexes: to look for them among all names is a right that few should have.

What is listed nowhere goes by itself: the state of a rate limit expires.
"""

from collections.abc import AsyncGenerator, Iterable

from stepstream.bus.values import codec
from stepstream.bus.values.ids import FIRST, partitions
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.streams import fields_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.facts.minutes import KEPT_MS, MINUTE_MS
from stepstream.checkpoint.run.record import ENDED
from stepstream.checkpoint.upkeep.repair import ACTIVE

_PAGE = 500
_OF_FUNCTION = tuple(make for make, stand_ins in keys.ALL if stand_ins == ("F",))
_OF_RUN = tuple(make for make, stand_ins in keys.ALL if stand_ins == ("F", "<run>"))
_OF_LIMIT = (keys.places, keys.backlog, keys.single)


async def delete_listed(wire: Wire, slug: str) -> None:
    """Delete what the indexes of a function name: its runs, and what its limits hold. It may be repeated.

    What is named goes before its name does, so that whoever dies on the way leaves nothing that nobody finds.
    """
    for where in partitions(slug):
        for status in (*ACTIVE, *sorted(ENDED)):
            async for page in _taken(wire, keys.runs(slug, status, where)):
                await _delete_runs(wire, slug, page)
        async for page in _queued(wire, slug, where):
            await _delete_runs(wire, slug, page)
    for index in (keys.ready(slug), keys.full(slug)):
        async for page in _taken(wire, index):
            await _unlink(wire, _of_limits(slug, page))
    async for page in _taken(wire, keys.timers(slug, FIRST)):
        named = [member.partition("|")[::2] for member in page]
        await _unlink(wire, _of_limits(slug, (name for kind, name in named if kind == "limit")))
        await _unlink(wire, (keys.buffer(slug, name) for kind, name in named if kind == "buffer"))
    cursor: bytes | int = 0
    while True:
        cursor, flat = await wire.load("HSCAN", keys.buffered(slug), cursor, "COUNT", _PAGE)
        await _unlink(wire, (keys.buffer(slug, codec.text(name)) for name in flat[1::2]))
        if int(cursor) == 0:
            break


async def delete_fixed(wire: Wire, slug: str) -> None:
    """Delete the keys of a function whose names are known: what it has once, and the minutes that it counts."""
    until = await wire.moment() // MINUTE_MS + 1
    since = until - KEPT_MS // MINUTE_MS - 1
    for where in partitions(slug):
        of_first, of_this = keys.function(slug, FIRST), keys.function(slug, where)
        await _unlink(wire, (of_this + make(slug).removeprefix(of_first) for make in _OF_FUNCTION))
        await _unlink(wire, (keys.minute(slug, at, where) for at in range(since, until + 1)))


async def _taken(wire: Wire, index: str) -> AsyncGenerator[list[str]]:
    """Yield the members of an index in pages; each is taken out of it when the caller has done with it."""
    while page := await wire.load("ZRANGE", index, 0, _PAGE - 1):
        yield [codec.text(member) for member in page]
        for part in parts(page):
            await wire.call("ZREM", index, *part)


async def _queued(wire: Wire, slug: str, where: str) -> AsyncGenerator[list[str]]:
    """Yield the runs in a queue, in pages: one that is to be run again has steps, and no record yet."""
    start = "-"
    while rows := await wire.load("XRANGE", keys.queue(slug, where), start, "+", "COUNT", _PAGE):
        yield [codec.text(run) for _, flat in rows if (run := fields_of(flat or ()).get(b"run"))]
        start = f"({codec.text(rows[-1][0])}"


async def _delete_runs(wire: Wire, slug: str, runs: list[str]) -> None:
    held = await wire.loads(*(("HGET", keys.run(slug, run), "holds") for run in runs))
    names = {name for one in held if one for name in codec.text(one).split("\n")}
    await _unlink(wire, _of_limits(slug, names))
    await _unlink(wire, (make(slug, run) for run in runs for make in _OF_RUN))


def _of_limits(slug: str, names: Iterable[str]) -> Iterable[str]:
    return (make(slug, name) for name in names for make in _OF_LIMIT)


async def _unlink(wire: Wire, found: Iterable[str]) -> None:
    for part in parts(list(found)):
        await wire.call("UNLINK", *part)
