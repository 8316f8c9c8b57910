"""Workers of applications that are connected: who they are, what they have in hand, and how they get in."""

import asyncio
from collections.abc import Sequence

import msgspec

from stepstream.bus.values import codec
from stepstream.bus.values.ids import token
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.streams import fields_of
from stepstream.bus.wire.wire import Wire

TOKEN_S = 60
"""How long a worker may take from being promised a connection until it opens it, s."""
_MOST_SHOWN = 100
_HAS = b"call "
_TEXTS = (b"gateway", b"instance", b"sdk", b"version")

_JOIN = script(__file__, "connect_join")
_LEAVE = script(__file__, "connect_leave")


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A connected worker of an application. `calls` are those that it has in hand, each with its function and run."""

    connection: str
    gateway: str
    instance: str
    sdk: str
    version: str = ""
    capacity: int
    since: int
    calls: dict[str, str] = {}


async def promise(wire: Wire) -> tuple[str, str]:
    """Return a new connection's id, and the token that opens it once."""
    connection, secret = token(), token() + token()
    await patiently(lambda: wire.call("SET", keys.connect_token(connection), secret, "EX", TOKEN_S), 2.0)
    return connection, secret


async def kept(wire: Wire, connection: str) -> str:
    """Return the token of a connection that was promised, which nobody gets again; empty when there is none."""
    return codec.text(await patiently(lambda: wire.call("GETDEL", keys.connect_token(connection)), 2.0) or b"")


async def join(wire: Wire, app: str, worker: Worker, lease_ms: int, *, takes: bool) -> None:
    """Note a worker, or that it is still there; with `takes` it is one that takes calls."""
    await wire.lasting_script(
        _JOIN, [keys.connect(app)], worker.connection, lease_ms, worker.gateway, worker.instance, worker.sdk,
        worker.version, worker.capacity, worker.since, "1" if takes else "0", patience=lease_ms / 1_000,
    )  # fmt: skip


async def leave(wire: Wire, app: str, connection: str) -> None:
    """Note that a connection is closed."""
    await wire.lasting_script(_LEAVE, [keys.connect(app)], connection, patience=2.0)


async def count(wire: Wire, app: str) -> int:
    """Return how many workers of an application take calls."""
    return int(await wire.load("ZCOUNT", keys.connect_workers(app), f"({await wire.clock()}", "+inf", patience=2.0))


async def workers(wire: Wire, app: str) -> list[Worker]:
    """Return the workers of an application that take calls, by when they connected: a hundred at most."""
    known, since = keys.connect_workers(app), f"({await wire.clock()}"
    rows = await wire.load("ZRANGEBYSCORE", known, since, "+inf", "LIMIT", 0, _MOST_SHOWN, patience=2.0)
    found = await asyncio.gather(*(_worker(wire, app, codec.text(one)) for one in rows))
    return sorted((one for one in found if one is not None), key=lambda one: (one.since, one.connection))


async def _worker(wire: Wire, app: str, connection: str) -> Worker | None:
    flat: Sequence[bytes] = await wire.load("HGETALL", keys.connect_worker(app, connection), patience=2.0)
    told = fields_of(flat)
    if not told:
        return None
    gateway, instance, sdk, version = (codec.text(told.get(name, b"")) for name in _TEXTS)
    return Worker(
        connection=connection,
        gateway=gateway,
        instance=instance,
        sdk=sdk,
        version=version,
        capacity=int(told.get(b"capacity") or 0),
        since=int(told.get(b"since") or 0),
        calls={codec.text(name[len(_HAS) :]): codec.text(what) for name, what in told.items() if name.startswith(_HAS)},
    )
