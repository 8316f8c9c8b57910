"""Once: a connection for one command of the command line, which gives up when Redis does not answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from stepstream.bus import settings
from stepstream.bus.wire.wire import Wire

R = TypeVar("R")


def once(work: Callable[[Wire], Awaitable[R]], name: str = "bus-cli") -> R:
    """Run `work` with a connection to Redis, then close it.

    Raises StoreUnavailable, with the reason, when Redis has been away for BUS_TIMEOUT, whatever `work` is waiting for.
    """

    async def doing() -> R:
        wire = Wire(settings.read()[0], name)
        working = asyncio.ensure_future(work(wire))
        waiting = asyncio.ensure_future(wire.trouble.lasts(wire.settings.timeout_ms / 1_000))
        try:
            await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else waiting.result()
        finally:
            working.cancel()
            waiting.cancel()
            await asyncio.gather(working, waiting, return_exceptions=True)
            await wire.close()

    return asyncio.run(doing())
