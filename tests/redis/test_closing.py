"""A connection that is closed is closed, whenever that is asked: while it is opened, and by who is cancelled."""

import anyio
import anyio.lowlevel
import pytest
import redis

from stepstream.bus.settings import Settings
from stepstream.bus.wire.wire import Wire
from tests.support import eventually


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_connection_that_is_closed_while_it_is_opened_leaves_no_socket(
    settings: Settings, store: redis.Redis, cancelled: bool
) -> None:
    """One socket stayed open for good: its opening had got past the point where it could be cancelled."""
    wire = Wire(settings, "closing")
    wire.call("PING")

    async def use(ticks: int) -> None:
        pipe = wire.pipe(extra_timeout=2.0)
        blocked = pipe.call("XREAD", "BLOCK", 2_000, "STREAMS", "bus:nothing", "0-0")
        for _ in range(ticks):
            await anyio.lowlevel.checkpoint()
        with anyio.CancelScope() as scope:
            if cancelled:
                scope.cancel()
            await pipe.close()
        assert blocked.cancel() or blocked.exception()

    for ticks in range(60):
        await use(ticks)
    await wire.close()

    async def left() -> list[str]:
        return [client["cmd"] for client in store.client_list() if client["name"] == "closing"]

    async def none_left() -> bool:
        return not await left()

    await eventually(none_left, "no connection is left")
