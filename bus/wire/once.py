"""Once: a connection for one command of the command line, which gives up when Redis does not answer."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeVar

from stepstream.bus import settings
from stepstream.bus.errors import StoreUnavailable
from stepstream.bus.process.tasks import cancelled
from stepstream.bus.process.terminal import warn
from stepstream.bus.wire.spoilt import spoilt_now, spoilt_told, told_of
from stepstream.bus.wire.wire import Wire

R = TypeVar("R")
_SILENT_S = 1.0
"""How long a command says nothing while Redis does not answer, and how often it looks again."""
_ANSWERS_S = 0.5
_left_out: ContextVar[frozenset[str]] = ContextVar("left out", default=frozenset[str]())


def once(work: Callable[[Wire], Awaitable[R]], name: str = "bus-cli", *, shows: bool = False) -> R:
    """Run `work` with a connection to Redis, then close it.

    Says on standard error within 2 s that it waits for Redis, and why. Raises StoreUnavailable, with the reason, when
    Redis has been away for BUS_TIMEOUT, whatever `work` is waiting for. Where it only `shows` something, a key of a
    wrong type spoils only what that key would tell, and standard error says which.
    """

    async def doing() -> R:
        wire = Wire(settings.read()[0], name)
        working = asyncio.ensure_future(work(wire))
        waiting = asyncio.ensure_future(wire.trouble.lasts(wire.settings.timeout_ms / 1_000))
        telling = asyncio.ensure_future(_tell_that_it_waits(wire))
        try:
            await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else waiting.result()
        finally:
            await cancelled(working, waiting, telling)
            await wire.close()

    if not shows:
        return asyncio.run(doing())
    with spoilt_told() as spoilt:
        found = asyncio.run(doing())
    _left_out.set(frozenset(spoilt))
    for key in sorted(spoilt):
        warn(told_of(key))
    return found


def left_out() -> frozenset[str]:
    """Return the keys without which something is shown: where they leave nothing, it may not be that nothing is."""
    return _left_out.get() | (spoilt_now() or frozenset[str]())


async def _tell_that_it_waits(wire: Wire) -> None:
    """Say once that Redis does not answer, while the work takes long: it may be that, and nobody could tell."""
    while True:
        await asyncio.sleep(_SILENT_S)
        asked = wire.call("PING")
        try:
            async with asyncio.timeout(_ANSWERS_S):
                await asked
        except TimeoutError:
            why = f"{wire.where.shown} does not answer"
        except StoreUnavailable as error:
            why = str(error)
        else:
            continue
        most = wire.settings.timeout_ms / 1_000
        warn(f"waits for Redis, {most:g} s at most: {why}")
        return
