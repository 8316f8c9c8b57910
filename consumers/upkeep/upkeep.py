"""Upkeep: all chores of one worker, run side by side."""

import asyncio
import random
from collections.abc import Sequence
from functools import partial

from anyio.abc import TaskGroup

from stepstream.bus.function import Function
from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.alerts.evaluator import Evaluator
from stepstream.consumers.delivery.failing import Failing
from stepstream.consumers.delivery.feeds import Feeds
from stepstream.consumers.delivery.wakeup import Alarms, Wakeup
from stepstream.consumers.upkeep import cancelling, repair
from stepstream.consumers.upkeep.cancelling import Cancelling
from stepstream.consumers.upkeep.chores import Chore, timed
from stepstream.consumers.upkeep.controls import follow
from stepstream.consumers.upkeep.delayed import Delayed
from stepstream.consumers.upkeep.letting import Letting
from stepstream.consumers.upkeep.limit_changes import LimitChanges
from stepstream.consumers.upkeep.registration import Registration
from stepstream.consumers.upkeep.repair import Repair
from stepstream.consumers.upkeep.retention import Retention
from stepstream.consumers.upkeep.ticker import Ticker
from stepstream.consumers.upkeep.timers import Timers

_FIRST_S = 5.0
_MINUTE_S = 60.0


class Upkeep:
    """The chores of one worker; `alarms` are set for the timers of its functions, `drains` when it is told to drain."""

    def __init__(
        self,
        wire: Wire,
        signals: Signals,
        functions: Sequence[Function],
        feeds: Feeds,
        alarms: Alarms,
        drains: asyncio.Event,
    ) -> None:
        slugs = sorted(function.slug for function in functions)
        self._alarms = alarms
        self._tickers = [Ticker(wire, one.slug, cron, signals) for one in functions for cron in one.crons]
        self._timers = [
            Chore(
                timed(signals, "timers", Timers(wire, slug, signals).once),
                Failing(signals, "firing timers failed", function=slug),
                alarm=alarms.of(slug),
            )
            for slug in slugs
        ]
        self._schedules = [
            Chore(timed(signals, "schedules", ticker.once), Failing(signals, "a schedule failed", function=ticker.slug))
            for ticker in self._tickers
        ]
        ordered = Wakeup()
        self._following = partial(follow, wire, signals, feeds, ordered, drains)
        self._letting = Letting(wire, signals, feeds, ordered)
        self._delayed = Chore(
            timed(signals, "delayed events", Delayed(wire, signals).once),
            Failing(signals, "publishing delayed events failed"),
        )
        self._limits = Chore(
            timed(signals, "limits", LimitChanges(wire, feeds).once),
            Failing(signals, "looking at limits failed"),
            alarm=feeds.limits_changed,
        )
        self._registration = Chore(
            timed(signals, "registration", Registration(wire, functions, signals).once),
            Failing(signals, "registering again failed"),
            every_s=_MINUTE_S * random.uniform(0.8, 1.2),
            first_s=random.uniform(0, _FIRST_S),
        )
        self._others = [
            Chore(
                timed(signals, "reclaiming", feeds.reclaim),
                None,  # each feed has its own
                every_s=wire.settings.sweep_ms / 1_000,
                first_s=wire.settings.sweep_ms / 1_000,
            ),
            Chore(
                timed(signals, "repair", Repair(wire, signals, slugs).once),
                Failing(signals, "looking for runs without a holder failed"),
                every_s=repair.LOOK_EVERY_S,
            ),
            Chore(
                timed(signals, "cancelling", Cancelling(wire, signals).once),
                Failing(signals, "carrying on bulk cancellations failed"),
                every_s=cancelling.EVERY_S,
            ),
            Chore(
                timed(signals, "retention", Retention(wire, signals, slugs, feeds.names_read).once),
                Failing(signals, "dropping what nobody needs failed"),
                every_s=_MINUTE_S * random.uniform(0.8, 1.2),
                first_s=random.uniform(0, _FIRST_S),
            ),
        ]
        if wire.settings.has_alerts:
            looking = Evaluator(wire, wire.name, signals.notice).once
            every_s = wire.settings.alert_every_ms / 1_000
            self._others.append(Chore(looking, Failing(signals, "looking for alerts failed"), every_s=every_s))

    def start(self, tasks: TaskGroup) -> None:
        """Run all chores in tasks of a group."""
        for chore in (*self._timers, *self._schedules, self._delayed, self._limits, self._registration, *self._others):
            tasks.start_soon(chore.run)
        tasks.start_soon(self._following)
        tasks.start_soon(self._letting.run)

    def wind_down(self) -> None:
        """Begin nothing more, and declare nothing: another worker may have newer functions.

        The runs that timers and schedules would queue would wait for that one.
        """
        for chore in (*self._timers, *self._schedules, self._registration):
            chore.stop()

    def look_at_clock(self) -> None:
        """The server's clock was set: schedules tick, and limits are put back, that are due by its new time."""
        for chore in (*self._schedules, self._delayed, self._limits):
            chore.alarm.expect(0)

    async def jump(self) -> None:
        """A clock that stands still was moved: timers and schedules that are due then, fire."""
        self._alarms.expect_all(0)
        self._delayed.alarm.expect(0)
        for ticker in self._tickers:
            await ticker.once()
