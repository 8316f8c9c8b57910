"""Cron: when a schedule is due, in its time zone. The only module that imports croniter.

Where local clocks change, the rule is that of Vixie and ISC cron. A schedule whose minute or hour field begins with `*`
follows wall-clock time: it is due in both passes of a repeated hour, and skips times in a gap. Any other schedule names
times of day: a time in a gap is due once, right after the gap; a time in a repeated hour is due only the first time.
"""

import hashlib
from bisect import bisect_left
from copy import copy
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import msgspec
from croniter import CroniterError, croniter

from stepstream.bus.errors import ConfigError
from stepstream.bus.values.durations import milliseconds

MAX_LATE_MS = 3_600_000
MAX_JITTER_MS = 300_000


class Cron(msgspec.Struct, frozen=True):
    """Start on a schedule: five fields (minute hour day month weekday) in a time zone.

    A tick that is noticed late still runs if it is late by less than half the period and at most an hour. Of several
    missed ticks only the latest runs. `catch_up=True` removes the bound. With `jitter` (at most 5 min) each tick runs
    up to so much later, and less than a period: how much depends on the function and the tick alone.
    """

    expression: str
    tz: str = "UTC"
    catch_up: bool = False
    jitter: float | str | timedelta = 0

    @property
    def text(self) -> str:
        """The schedule as pages, keys and tables show it."""
        return f"cron {self.expression}" + (f" {self.tz}" if self.tz != "UTC" else "")

    @classmethod
    def of(cls, text: str) -> "Cron | None":
        """Return the schedule that `text` shows, without what it does not show; None for what is no schedule."""
        word, *parts = text.split(" ")
        cron = cls(" ".join(parts[:5]), parts[5] if len(parts) > 5 else "UTC")
        try:
            cron.check("")
        except (ConfigError, ValueError):
            return None
        return cron if word == "cron" and cron.text == text else None

    @property
    def words(self) -> str:
        """When it is due, in English: `At 09:30, Monday through Friday`."""
        from cron_descriptor import ExpressionDescriptor, FormatError, Options  # pyright: ignore[reportMissingTypeStubs] - only pages need it

        options = Options()
        options.use_24hour_time_format = True
        minute, hour, day, month, weekday = self.expression.split()
        several = [self.expression]
        if "*" not in (day[:1], weekday[:1]):  # with both it is due on either
            several = [f"{minute} {hour} {day} {month} *", f"{minute} {hour} * {month} {weekday}"]
        try:
            return "; and ".join(ExpressionDescriptor(one, options).get_description() for one in several)
        except FormatError:
            return self.expression

    def check(self, where: str) -> None:
        """Raise ConfigError, naming `where` it was declared, for a schedule that is invalid or never due."""
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
        if milliseconds(self.jitter, f"{where}: cron jitter") > MAX_JITTER_MS:
            raise ConfigError(f"{where}: cron jitter {self.jitter!r} is longer than 5 min")
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
        """Return how late a tick may be noticed and still run, ms."""
        if self.catch_up:
            return float("inf")
        return min(MAX_LATE_MS, (self.next_after(tick) - tick) / 2)

    def delay(self, tick: int, slug: str) -> int:
        """Return how much later than its time a tick of a function runs, ms."""
        longest = milliseconds(self.jitter) if self.jitter else 0
        if not longest:
            return 0
        digest = hashlib.sha256(f"{slug}|{self.text}|{tick}".encode()).digest()
        return int.from_bytes(digest[:8]) % min(longest, self.next_after(tick) - tick)

    def _tick(self, ms: int, *, forward: bool) -> int:
        """Return the first tick after `ms`, or the last one at or before it.

        croniter works with wall-clock times and knows no zone. In the first pass of a repeated hour, earlier wall-clock
        times are still to come; in the second pass, later ones have already been. So both passes are searched.
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
        ticks = [self._search(start, zone, ms, forward=forward) for start in starts]
        return min(ticks) if forward else max(ticks)

    def _search(self, start: datetime, zone: ZoneInfo, ms: int, *, forward: bool) -> int:
        times = copy(_parsed(self.expression))
        times.set_current(start.replace(tzinfo=UTC))
        while True:
            wall: datetime = times.get_next(datetime) if forward else times.get_prev(datetime)
            due = [due for due in self._moments(wall.replace(tzinfo=None), zone) if (due > ms) == forward]
            if due:
                return min(due) if forward else max(due)

    def _moments(self, wall: datetime, zone: ZoneInfo) -> list[int]:
        """Return when a wall-clock time is due, Unix ms: once, twice in a repeated hour, or never in a gap."""
        first, second = (_unix(wall) - _offset(wall, zone, fold).total_seconds() for fold in (0, 1))
        if first > second:  # in a gap
            due = [] if self._follows_the_wall else [_change(zone, int(second), int(first))]
        else:
            due = [first, second] if first < second and self._follows_the_wall else [first]
        return [round(moment * 1_000) for moment in due]

    @property
    def _follows_the_wall(self) -> bool:
        return any(field.startswith("*") for field in self.expression.split()[:2])


@lru_cache(1_024)
def _parsed(expression: str) -> croniter:
    """Return a schedule, parsed once; a copy of it has a time of its own."""
    return croniter(expression)


def _unix(wall: datetime) -> float:
    return wall.replace(tzinfo=UTC).timestamp()


def _offset(wall: datetime, zone: ZoneInfo, fold: int = 0) -> timedelta:
    """Return a zone's UTC offset at a wall-clock time; `fold` chooses the offset before or after a clock change."""
    return wall.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta(0)


def _change(zone: ZoneInfo, before: int, after: int) -> int:
    """Return the moment between `before` and `after` at which a zone's clocks change, Unix seconds."""

    def offset(moment: int) -> timedelta | None:
        return datetime.fromtimestamp(moment, zone).utcoffset()

    changed = offset(after)
    return before + bisect_left(range(before, after), True, key=lambda moment: offset(moment) == changed)
