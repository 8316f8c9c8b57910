"""Repair: queues runs again that no entry, timer or wait holds any more. In every worker, for its functions.

Once a minute it looks at the next hundred runs of each function; after a failover or a restart of the server at all.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncGenerator

from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire.doctor import Finding, watch
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.upkeep.repair import Unheld, active, repair, unheld

LOOK_EVERY_S = 5.0
EVERY_S = 60.0
AGAIN_S = 30.0


class Repair:
    """The repair of one worker."""

    def __init__(self, wire: Wire, signals: Signals, slugs: list[str]) -> None:
        self._wire = wire
        self._signals = signals
        self._slugs = slugs
        self._evicts = False
        self._pages: dict[str, AsyncGenerator[list[str]]] = {}
        self._server = ""
        self._next_page = time.monotonic() + EVERY_S * random.random()
        self._looked_at_all = -math.inf

    async def once(self) -> None:
        """Look at the server; at all runs when it is another than before, at the next hundred once a minute."""
        server, eviction = await watch(self._wire)
        self._tell_eviction(eviction)
        now = time.monotonic()
        if self._server and server != self._server:
            # Where the server tells no id of its run, a network that breaks looks like a restart.
            if now - self._looked_at_all >= AGAIN_S:
                self._signals.notice("the server is another than before, or was restarted: all runs are looked at")
                await self.everything()
                self._server, self._looked_at_all = server, time.monotonic()
        elif now >= self._next_page:
            self._next_page = now + EVERY_S
            await self.next_page()
        self._server = self._server or server

    def _tell_eviction(self, found: Finding) -> None:
        """Say once that the server evicts keys: switched on while we work, it loses runs without a word."""
        evicts = found.verdict == "unfit"
        if evicts and not self._evicts:
            self._signals.notice(
                "the server evicts keys from now on: runs will be lost", policy=found.found, do=found.do
            )
        self._evicts = evicts

    async def everything(self) -> None:
        """Look at every run that has not ended."""
        for slug in self._slugs:
            seen = [one async for page in active(self._wire, slug) for one in await unheld(self._wire, slug, page)]
            await self._settle(slug, seen)

    async def next_page(self) -> None:
        """Look at the next hundred runs of each function, beginning anew at the end."""
        for slug in self._slugs:
            pages = self._pages.get(slug) or active(self._wire, slug)
            page = await anext(pages, None)
            if page is None:
                self._pages.pop(slug, None)
                continue
            self._pages[slug] = pages
            await self._settle(slug, await unheld(self._wire, slug, page))

    async def _settle(self, slug: str, seen: list[Unheld]) -> None:
        """Look again one lease later at those that seemed to have no holder, and repair those that are as they were."""
        if not seen:
            return
        await asyncio.sleep(self._wire.settings.lease_ms / 1_000)
        again = set(await unheld(self._wire, slug, [one.run for one in seen]))
        for one in seen:
            if one in again and await repair(self._wire, one):
                self._signals.notice("a run had no holder; it goes on", function=slug, run=one.run, was=one.words)
