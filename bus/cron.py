"""Cron: when a schedule is due, in its time zone. The only room that imports croniter.

Where clocks spring forward, a tick in the gap is due at its end. Where they fall back, a schedule with fixed hours is
due once, in the first of the two hours; one for every hour is due in both.
"""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import msgspec
from croniter import CroniterError, croniter

from bus.errors import ConfigError

MAX_LATE_MS = 3_600_000


class Cron(msgspec.Struct, frozen=True):
    """Start on a schedule: five fields (minute hour day month weekday) in a time zone.

    A tick that a worker sees late, by less than half the period and at most an hour, still runs; of several missed ones
    only the latest. `catch_up=True` lifts that bound.
    """

    expression: str
    tz: str = "UTC"
    catch_up: bool = False

    @property
    def words(self) -> str:
        """How pages, keys and tables show it."""
        return f"cron {self.expression}" + (f" {self.tz}" if self.tz != "UTC" else "")

    def check(self, where: str) -> None:
        """Refuse a schedule that makes no sense; ConfigError names `where` it was declared."""
        if len(self.expression.split()) != 5:
            raise ConfigError(
                f"{where}: cron {self.expression!r} has not five fields: minute hour day-of-month month weekday"
            )
        try:
            ZoneInfo(self.tz)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            import difflib

            near = difflib.get_close_matches(self.tz, available_timezones(), 1)
            hint = f"; did you mean {near[0]}?" if near else "; write for example Europe/Paris"
            raise ConfigError(f"{where}: {self.tz!r} is not a time zone{hint}") from None
        try:
            self.next_after(0)
        except CroniterError as error:
            reason = "it is never due" if "next date" in str(error) else str(error)
            raise ConfigError(f"{where}: cron {self.expression!r}: {reason}") from None

    def next_after(self, ms: int) -> int:
        """Return the first tick after a moment, Unix ms."""
        return self._tick(ms, forward=True)

    def last_before(self, ms: int) -> int:
        """Return the last tick at or before a moment, Unix ms."""
        return self._tick(ms + 1, forward=False)

    def grace(self, tick: int) -> float:
        """Return how late a tick still runs, ms."""
        if self.catch_up:
            return float("inf")
        return min(MAX_LATE_MS, (self.next_after(tick) - tick) / 2)

    def _tick(self, ms: int, *, forward: bool) -> int:
        local = datetime.fromtimestamp(ms / 1_000, UTC).astimezone(ZoneInfo(self.tz))
        times = croniter(self.expression, local)
        while True:
            found: datetime = times.get_next(datetime) if forward else times.get_prev(datetime)
            if not (found.fold and self._has_fixed_hours and self._is_ambiguous(found)):
                return round(found.timestamp() * 1_000)

    @property
    def _has_fixed_hours(self) -> bool:
        return not self.expression.split()[1].startswith("*")

    @staticmethod
    def _is_ambiguous(moment: datetime) -> bool:
        return moment.replace(fold=0).utcoffset() != moment.replace(fold=1).utcoffset()
