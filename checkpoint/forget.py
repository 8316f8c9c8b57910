"""Forget: a function that is no more. Its groups are dropped, so they hold back no event; its runs expire in time."""

from bus.errors import BusError, ConfigError
from bus.wire import keys
from bus.wire.bounds import parts
from bus.wire.registry import function_of
from bus.wire.wire import Wire


async def forget(wire: Wire, slug: str) -> list[str]:
    """Forget a function; return the event names whose groups were dropped.

    ConfigError while a worker reads for it, FunctionNotFound when it is not registered.
    """
    await function_of(wire, slug)
    alive = await wire.call("ZCOUNT", keys.function_workers(slug), await wire.clock(), "+inf")
    if alive:
        raise ConfigError(f"function '{slug}' has {alive} worker(s) at work; stop them first")
    fields: list[bytes] = await wire.call("HKEYS", keys.triggers())
    names = [name.decode() for name in await wire.call("ZRANGE", keys.event_names(), 0, -1)]
    dropped: list[str] = []
    for name in names:
        for group in (slug, f"{slug}@cancel"):
            try:
                if await wire.call("XGROUP", "DESTROY", keys.events(name), group):
                    dropped.append(name)
            except BusError:  # no such stream
                continue
    own = [field for field in fields if field.decode().startswith(f"{slug} ")]
    for part in parts(own):
        await wire.call("HDEL", keys.triggers(), *part)
    await wire.call("DEL", keys.queue(slug), keys.ends(slug), keys.cron(slug), keys.function_workers(slug))
    await wire.call("HDEL", keys.functions(), slug)
    return dropped
