"""Registry: which functions there are, since when each of their triggers is, which events have names, who works."""

from collections.abc import Sequence

from stepstream.bus.errors import ConfigError, Conflict, FunctionNotFound
from stepstream.bus.function import Function
from stepstream.bus.values import codec
from stepstream.bus.values.ids import partitions
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.registering import FORMAT, Registered, declaration, trigger_since
from stepstream.bus.wire.serverclock import FAR
from stepstream.bus.wire.spoilt import pass_over
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.fields import put_if


class DeclarationUnreadable(Conflict):
    """What is stored of a function is no declaration: it was written by hand."""

    code = "declaration_unreadable"

    def __init__(self, slug: str) -> None:
        super().__init__(
            f"what {keys.functions()} holds of function {slug[:150]!r} is no declaration: it was written by hand; a "
            "worker that starts with the function, or is started again, declares it anew"
        )


async def check_format(wire: Wire, patience: float | None = None) -> None:
    """Write the store's format when there is none; ConfigError when another Stepstream has written it."""
    await patiently(lambda: wire.call("HSETNX", keys.meta(), "format", FORMAT), patience)
    found = int(await patiently(lambda: wire.call("HGET", keys.meta(), "format"), patience))
    if found < FORMAT:
        raise ConfigError(
            f"this Redis holds format {found} of an older Stepstream, this one knows {FORMAT}: let the older one's "
            "workers end their runs, then use another database (redis://…/1) or BUS_PREFIX, or delete its keys: "
            f"redis-cli --scan --pattern '{keys.pattern()}' | xargs redis-cli UNLINK"
        )
    if found > FORMAT:
        raise ConfigError(
            f"this Redis holds format {found}, this Stepstream knows {FORMAT}: upgrade it before it works here"
        )


async def register(wire: Wire, function: Function) -> dict[str, int]:
    """Declare a function; return for each of its event names since when it is a trigger, ms.

    ConfigError when another bus, or an application behind HTTP, owns the slug, or its runs are spread and it has
    limits: those count in one slot.
    """
    if function.flow.is_regulated and len(partitions(function.slug)) > 1:
        raise ConfigError(
            f"function '{function.slug}' has limits, and its runs are spread over {len(partitions(function.slug))} "
            "partitions: limits are counted in one; declare a new function with the limits"
        )
    own = declaration(function)
    declared, seen = codec.encode(own), b""
    while (stands := await put_if(wire, keys.functions(), function.slug, declared, seen)) is not None:
        owner = _owner(stands)
        if owner not in ("", own.owner):
            raise ConfigError(
                f"function '{function.slug}' belongs to {owner} already; rename bus '{function.bus_id}' or the function"
            )
        seen = stands
    since: dict[str, int] = {}
    now = await patiently(wire.moment)
    for trigger in function.triggers:
        since[trigger.name] = await patiently(lambda trigger=trigger: trigger_since(wire, function.slug, trigger, now))
    await _forget_undeclared(wire, function)
    return since


def _owner(stands: bytes) -> str:
    """Return whose a declaration is; empty for what is none, written by hand: it is replaced."""
    declared = codec.stored_as(stands, Registered)
    return "" if declared is None else declared.owner


async def _forget_undeclared(wire: Wire, function: Function) -> None:
    """Forget since when a function had triggers that it has no more: one that is put back begins then."""
    declared = {f"{function.slug} {trigger.name}" for trigger in function.triggers}
    fields: list[bytes] = await patiently(lambda: wire.call("HKEYS", keys.triggers()))
    own = [field for field in map(codec.text, fields) if field.startswith(f"{function.slug} ")]
    for part in parts([field for field in own if field not in declared]):
        await patiently(lambda part=part: wire.call("HDEL", keys.triggers(), *part))


async def trigger_names(wire: Wire) -> set[str]:
    """Return every event name that is a trigger of some function."""
    fields: list[bytes] = await wire.call("HKEYS", keys.triggers())
    return {codec.text(field).partition(" ")[2] for field in fields}


async def slugs(wire: Wire) -> list[str]:
    """Return the slugs of the registered functions."""
    return [codec.text(slug) for slug in await wire.load("HKEYS", keys.functions(), patience=2.0)]


async def functions(wire: Wire, among: Sequence[str] | None = None) -> list[Registered]:
    """Return the registered functions, by slug: every one, or those of some slugs."""
    stored: list[bytes | None]
    if among is None:
        stored = await wire.load("HVALS", keys.functions(), patience=2.0)
    else:
        stored = await wire.looks(*(("HGET", keys.functions(), slug) for slug in among))
    found: list[Registered] = []
    for raw in filter(None, stored):
        try:
            found.append(codec.decode_as(raw, Registered))
        except ValueError:  # written by hand: it is not a declaration, and hides no other
            pass_over(f"a field of {keys.functions()}")
    return sorted(found, key=lambda function: function.slug)


async def function_of(wire: Wire, slug: str, patience: float | None = 2.0) -> Registered:
    """Return a registered function; FunctionNotFound when there is none of that slug."""
    raw = await wire.load("HGET", keys.functions(), slug, patience=patience)
    if raw is None:
        known = await wire.load("HKEYS", keys.functions(), patience=patience)
        raise FunctionNotFound(slug, [name.decode() for name in known])
    try:
        return codec.decode_as(raw, Registered)
    except ValueError:
        raise DeclarationUnreadable(slug) from None


async def workers(wire: Wire) -> list[str]:
    """Return the workers whose lease is in force."""
    now = await patiently(wire.clock, 2.0)
    latest = now + FAR * wire.settings.lease_ms  # those beyond were written before the clock was set back
    return [name.decode() for name in await wire.load("ZRANGEBYSCORE", keys.workers(), now, latest, patience=2.0)]


async def workers_of(wire: Wire, slug: str) -> int:
    """Return how many workers read a function's queue."""
    return (await workers_serving(wire, [slug]))[slug]


async def workers_serving(wire: Wire, slugs: Sequence[str]) -> dict[str, int]:
    """Return how many workers read the queue of each function."""
    now = await wire.clock()
    places = [(slug, where) for slug in slugs for where in partitions(slug)]
    found = await wire.looks(*(("ZCOUNT", keys.function_workers(*place), now, "+inf") for place in places))
    most = dict.fromkeys(slugs, 0)
    for (slug, _), count in zip(places, found, strict=True):
        most[slug] = max(most[slug], int(count))
    return most
