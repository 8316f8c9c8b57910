"""Cron: when a schedule is due, in its time zone. The only room that imports croniter.

Where local clocks change, the rule is that of Vixie and ISC cron. A schedule whose minute or hour begins with `*`
follows the clock on the wall: it is due in both of two repeated hours, and not for times in a gap. Any other names
times of the day: those in a gap are due once, right after it; those in a repeated hour only the first time.
"""

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import msgspec
from croniter import CroniterError, croniter

from stepstream.bus.errors import ConfigError

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
        return self._tick(ms, forward=False)

    def period(self, ms: int) -> int:
        """Return the time between the first two ticks after a moment, ms."""
        first = self.next_after(ms)
        return self.next_after(first) - first

    def grace(self, tick: int) -> float:
        """Return how late a tick still runs, ms."""
        if self.catch_up:
            return float("inf")
        return min(MAX_LATE_MS, (self.next_after(tick) - tick) / 2)

    def _tick(self, ms: int, *, forward: bool) -> int:
        """Return the nearest moment after `ms`, or the nearest before or at it.

        croniter knows times of the day, without a zone. In the first of two repeated hours, times that are behind on
        the wall are still to come; in the second, times that are ahead have been.
        """
        zone = ZoneInfo(self.tz)
        moment = datetime.fromtimestamp(ms / 1_000, zone)
        here = moment.replace(second=0, microsecond=0, tzinfo=None, fold=0)
        starts = [here if forward else here + timedelta(minutes=1)]
        repeated = _offset(here, zone) - _offset(here, zone, fold=1)
        if repeated > timedelta(0) and forward != bool(moment.fold):
            start, end = sorted([ms // 1_000, ms // 1_000 + (1 if forward else -1) * int(repeated.total_seconds())])
            begins = datetime.fromtimestamp(_change(zone, start, end), zone).replace(tzinfo=None)
            starts.append(begins - timedelta(minutes=1) if forward else begins + repeated)
        found = [self._search(start, zone, ms, forward=forward) for start in starts]
        return min(found) if forward else max(found)

    def _search(self, start: datetime, zone: ZoneInfo, ms: int, *, forward: bool) -> int:
        times = croniter(self.expression, start.replace(tzinfo=UTC))
        while True:
            wall: datetime = times.get_next(datetime) if forward else times.get_prev(datetime)
            due = [due for due in self._moments(wall.replace(tzinfo=None), zone) if (due > ms) == forward]
            if due:
                return min(due) if forward else max(due)

    def _moments(self, wall: datetime, zone: ZoneInfo) -> list[int]:
        """Return when a time on the wall is due, Unix ms: once, or in both of two repeated hours, or not in a gap."""
        first, second = (_unix(wall) - _offset(wall, zone, fold).total_seconds() for fold in (0, 1))
        if first > second:  # in a gap
            due = [] if self._follows_the_wall else [_change(zone, int(second), int(first))]
        else:
            due = [first, second] if first < second and self._follows_the_wall else [first]
        return [round(moment * 1_000) for moment in due]

    @property
    def _follows_the_wall(self) -> bool:
        return any(field.startswith("*") for field in self.expression.split()[:2])


def _unix(wall: datetime) -> float:
    return wall.replace(tzinfo=UTC).timestamp()


def _offset(wall: datetime, zone: ZoneInfo, fold: int = 0) -> timedelta:
    """Return a zone's distance from UTC at a time on its wall; by `fold`, before or after a change around it."""
    return wall.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta(0)


def _change(zone: ZoneInfo, before: int, after: int) -> int:
    """Return the moment between two at which a zone's clocks change, Unix s."""

    def offset(moment: int) -> timedelta | None:
        return datetime.fromtimestamp(moment, zone).utcoffset()

    there = offset(after)
    return before + bisect_left(range(before, after), True, key=lambda moment: offset(moment) == there)
