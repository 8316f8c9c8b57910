"""Line: the calls of one application that wait in Redis, and the workers here that take them."""

import asyncio
import contextlib
import contextvars
from collections.abc import Callable

from stepstream.bus.errors import StoreError
from stepstream.bus.process.tasks import cancelled
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.streams import news
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.connections.calls import Leases, take
from stepstream.web.connect.worker import Connected

_AT_ONCE = 50


class Line:
    """Takes calls for the workers of one application, as many as they have room for; blocks while there are none."""

    def __init__(
        self, wire: Wire, app: str, gateway: str, leases: Leases, put_back: Callable[[str, str], None]
    ) -> None:
        self.workers: set[Connected] = set()
        self._wire = wire
        self._app = app
        self._gateway = gateway
        self._leases = leases
        self._put_back = put_back
        self._taking = asyncio.Lock()
        self._following = asyncio.get_running_loop().create_task(self._follow(), context=contextvars.Context())

    async def take(self) -> None:
        """Take what waits, as far as there is room."""
        async with self._taking:
            while True:
                free = [one for one in self.workers if one.room]
                slugs = sorted({slug for one in free for slug in one.apps[self._app].slugs})
                most = min(_AT_ONCE, sum(one.room for one in free))
                if not most or not slugs:
                    return
                found = await take(self._wire, self._app, self._gateway, slugs, most, self._leases.call_ms)
                for asked in found:
                    able = [one for one in self.workers if one.room and asked.slug in one.apps[self._app].slugs]
                    if not able:
                        self._put_back(self._app, asked.id)
                        continue
                    worker = min(able, key=lambda one: one.in_hand / one.worker.capacity)
                    await worker.give(self._app, asked, self._leases.extend_ms / 1_000, self._put_back)
                if len(found) < most:
                    return

    async def close(self) -> None:
        """Stop taking calls."""
        await cancelled(self._following)

    async def _follow(self) -> None:
        """Take what comes while the workers here have room. Once they have room again, they ask themselves."""
        stream, unread = keys.connect_requests(self._app), "calls of connected workers cannot be read"
        async with contextlib.aclosing(news(self._wire, stream, unread=unread, app=self._app)) as requests:
            async for _ in requests:
                try:
                    await patiently(self.take)
                except StoreError as error:
                    self._wire.notice(unread, app=self._app, error=str(error))
