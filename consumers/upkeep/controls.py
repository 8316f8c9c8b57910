"""Controls: a worker follows what people pause and resume, which limits they set, and whether it is to drain."""

import asyncio
import contextlib

from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire import keys
from stepstream.bus.wire.streams import news
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.drain import drained_by
from stepstream.checkpoint.controls.ordered import controls
from stepstream.consumers.delivery.failing import Failing
from stepstream.consumers.delivery.feeds import Feeds
from stepstream.consumers.delivery.wakeup import Wakeup

_AGAIN_S = 5.0


async def look_once(wire: Wire, signals: Signals, feeds: Feeds) -> None:
    """Look once what is paused, and tell what that changes here."""
    paused, resumed = await feeds.apply(await controls(wire, None))
    if paused:
        signals.notice("paused: nothing more is read", streams=paused)
    if resumed:
        signals.notice("resumed", streams=resumed)


async def follow(wire: Wire, signals: Signals, feeds: Feeds, ordered: Wakeup, drains: asyncio.Event) -> None:
    """Apply each change to the feeds, until cancelled.

    `ordered` is rung after each, for who lets one run through; `drains` is set when this worker is told to drain.
    """
    failing = Failing(signals, "following what is paused failed")
    unread = "changes of what is paused cannot be read"
    async with contextlib.aclosing(news(wire, keys.control_changes(), unread=unread)) as changes:
        async for _ in changes:
            is_done = False
            while not is_done:
                with failing:
                    await look_once(wire, signals, feeds)
                    ordered.ring()
                    if not drains.is_set() and (by := await drained_by(wire, wire.name)):
                        signals.notice("told to drain: it reads no more, and ends", by=by)
                        drains.set()
                    is_done = True
                if not is_done:
                    await asyncio.sleep(_AGAIN_S)
