"""Retention: once a minute, drops what nobody needs: old events, ended runs above the count, waits that are over."""

import asyncio
from collections.abc import Callable, Sequence

from stepstream.bus.observe.signals import Signals
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.delayed import expect_delayed
from stepstream.checkpoint.types import tidy_types
from stepstream.checkpoint.upkeep.retention import (
    TRIM_AT_ONCE,
    Trimmed,
    forget_workers,
    name_again,
    other_names,
    retry_backlogs,
    tidy_runs,
    trim_events,
)
from stepstream.checkpoint.waits.event_waits import GROUP, end_waits
from stepstream.consumers.delivery.failing import FailingEach

_BETWEEN_S = 0.01
_NAMES = 100
"""How many names that this worker does not read are trimmed each time."""

_SERVED_MS = 600_000
"""A group that was served within this time has workers, but for a restart."""


class Retention:
    """The retention of one worker; `reads` tells the event names it reads, with its groups."""

    def __init__(
        self, wire: Wire, signals: Signals, slugs: Sequence[str], reads: Callable[[], dict[str, list[str]]]
    ) -> None:
        self._wire = wire
        self._signals = signals
        self._slugs = slugs
        self._reads = reads
        self._failing = FailingEach(signals, "dropping what nobody needs of a name failed")
        self._told: set[tuple[str, str]] = set()
        self._start = 0
        self._types = 0
        """Where the next page of declared types begins."""

    async def once(self) -> None:
        """Trim what this worker reads and keeps, and a page of the event names that it does not read."""
        for slug in self._slugs:
            await tidy_runs(self._wire, slug)
            await retry_backlogs(self._wire, slug)
        served = self._reads()
        for name, groups in served.items():
            with self._failing.of(name):
                await self._trim(name, groups)
                await name_again(self._wire, name)
                if GROUP in groups:
                    await end_waits(self._wire, name)
        others = await other_names(self._wire, self._start, _NAMES)
        self._start = self._start + _NAMES if len(others) == _NAMES else 0
        for name in others:
            if name not in served:
                with self._failing.of(name):
                    await self._trim(name, ())
        await forget_workers(self._wire, await self._wire.clock())
        self._types = await tidy_types(self._wire, self._types)

    async def _trim(self, name: str, groups: Sequence[str]) -> None:
        await expect_delayed(self._wire, name)
        while True:
            trimmed = await trim_events(self._wire, name, groups)
            self._tell(name, trimmed)
            await asyncio.sleep(_BETWEEN_S)
            if trimmed.dropped < TRIM_AT_ONCE // 2:
                return

    def _tell(self, name: str, trimmed: Trimmed) -> None:
        """Say once which group keeps old events from being dropped, and what becomes of it."""
        for group in trimmed.groups:
            self._told.discard((name, group))
            self._signals.notice("a group that no worker served for 7 days is dropped", name=name, group=group)
        holder = trimmed.holder
        if trimmed.dropped < 0 or not holder or trimmed.unserved_ms < _SERVED_MS or (name, holder) in self._told:
            return
        self._told.add((name, holder))
        self._signals.notice(
            "no worker serves a group: old events are kept for it until that has been so for 7 days; "
            "if its function is no more: bus functions forget",
            name=name,
            group=holder,
            unserved=in_words(trimmed.unserved_ms),
        )
