"""Shared limits: places for runs of several functions. They lie in a slot of their own, so each is a lease."""

from stepstream.bus.values.ids import FIRST
from stepstream.bus.wire import keys
from stepstream.bus.wire.leases import Place
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire

_TAKE = script(__file__, "limit_take")
_GIVE = script(__file__, "limit_give")
_TRY = script(__file__, "backlog_try")
_WAIT = script(__file__, "run_back_to_backlog")


async def take_place(wire: Wire, place: Place, slug: str, limit_key: str, sure: int, over: str = "") -> bool:
    """Take a place for a lease; False: there is none; when there is, the function's backlog `limit_key` is tried.

    `sure` is until when the caller is sure of the server's clock, ms; `over` is what overrides.py says.
    """
    names, waits = [keys.limit(place.limit), keys.limit_waiting(place.limit)], f"{slug}|{limit_key}"
    lease_ms = wire.settings.lease_ms
    return bool(
        await wire.lasting_script(_TAKE, names, place.holder, lease_ms, place.most, waits, sure, limit_key, over)
    )


async def give_place(wire: Wire, place: Place, patience: float) -> list[tuple[str, str]]:
    """Give a place back; return the backlogs that wait for one, as slug and limit: each is to be tried."""
    names = [keys.limit(place.limit), keys.limit_waiting(place.limit)]
    waiting: list[bytes] = await wire.lasting_script(_GIVE, names, place.holder, patience=patience)
    return [(slug, limit_key) for slug, _, limit_key in (one.decode().partition("|") for one in waiting)]


async def try_backlog(wire: Wire, slug: str, limit_key: str) -> None:
    """Let the first run of a backlog be tried; a worker that is idle is woken."""
    await wire.script(_TRY, [keys.function(slug, FIRST)], limit_key)


async def wait_in_backlog(wire: Wire, slug: str, run: str, entry: str, limit_key: str, owner: str) -> bool:
    """Put a run that did not get its shared place back into the backlog of a limit; False: it has moved on.

    `entry` is its entry as the run names it, `owner` the consumer that was claimed from, or empty.
    """
    return bool(await wire.lasting_script(_WAIT, [keys.function(slug, run)], run, entry, limit_key, owner))
