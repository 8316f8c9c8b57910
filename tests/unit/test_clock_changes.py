"""Schedules where local clocks change, against an oracle that walks every minute as Vixie cron does.

Each of a hundred schedules meets one change here; tests/chaos has each kind of change of all zones.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import cycle, pairwise
from zoneinfo import ZoneInfo

from stepstream import Cron

ZONES = [
    "Africa/Cairo", "Africa/Casablanca", "Africa/El_Aaiun", "America/Asuncion", "America/Chicago", "America/Havana",
    "America/New_York", "America/Nuuk", "America/Santiago", "America/St_Johns", "Antarctica/Casey",
    "Antarctica/Troll", "Antarctica/Vostok", "Asia/Almaty", "Asia/Beirut", "Asia/Gaza", "Asia/Jerusalem",
    "Asia/Kathmandu", "Asia/Kolkata", "Asia/Tehran", "Asia/Amman", "Atlantic/Azores", "Australia/Adelaide",
    "Australia/Lord_Howe", "Australia/Sydney", "Europe/Dublin", "Europe/London", "Europe/Paris", "Pacific/Auckland",
    "Pacific/Chatham", "Pacific/Norfolk", "UTC",
]  # fmt: skip
SINCE, UNTIL = datetime(2023, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
AROUND = timedelta(minutes=150)
NAMED = [
    "* * * * *", "*/30 1-3 * * *", "0 */2 * * *", "30 2 * * *", "15,45 1,2 * * *", "0 2,3 * * *", "0-59/20 0-4 * * *",
    "59 23 * * *", "0 0 * * *", "*/7 * * * *", "5 * * * *", "* 2 * * *", "*/15 0-3/3 * * sun", "30 1-3 * * 0,6",
    "1 2 29 3 *", "1 2 29 3 sun", "0 0 1 * *", "45 2 * 3,10,11 *", "17 1,2,3 25-31 * *", "10-20 2 * * *",
]  # fmt: skip


def schedules(count: int) -> list[str]:
    """Return schedules that are often due in the hours in which clocks change; always the same ones."""
    dice = random.Random(32)

    def field(low: int, high: int) -> str:
        a, b = sorted(dice.sample(range(low, high + 1), 2))
        return dice.choice(
            ["*", f"*/{dice.randint(2, 9)}", f"{a}", f"{a},{b}", f"{a}-{b}", f"{a}-{b}/{dice.randint(1, 4)}"]
        )

    made = [
        f"{field(0, 59)} {field(0, 4)} {dice.choice(['*', '*', '*', field(1, 28)])} * {dice.choice(['*', '*', '0', '0,6'])}"
        for _ in range(count - len(NAMED))
    ]
    return NAMED + made


@cache
def allowed(field: str, low: int, high: int) -> frozenset[int]:
    """Return the numbers a field stands for."""
    found: set[int] = set()
    for part in field.replace("sun", "0").split(","):
        span, _, step = part.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        found |= set(range(int(first), int(last or first) + 1, int(step or 1)))
    return frozenset(found)


def matches(expression: str, wall: datetime) -> bool:
    """Whether a schedule names a time on the wall."""
    minute, hour, day, month, weekday = expression.split()
    if wall.minute not in allowed(minute, 0, 59) or wall.hour not in allowed(hour, 0, 23):
        return False
    if wall.month not in allowed(month, 1, 12):
        return False
    on_day, on_weekday = wall.day in allowed(day, 1, 31), (wall.weekday() + 1) % 7 in allowed(weekday, 0, 6)
    return on_day or on_weekday if "*" not in (day, weekday) else on_day and on_weekday


def oracle(expression: str, walls: list[tuple[int, datetime]]) -> list[int]:
    """Return when a schedule is due, minute by minute: `virtual` is the time on the wall up to which jobs have run."""
    follows = any(field[0] == "*" for field in expression.split()[:2])
    due: list[int] = []
    virtual = walls[0][1] - timedelta(minutes=1)
    for ms, wall in walls:
        if follows:
            is_due = matches(expression, wall)
        else:
            passed = (wall - virtual) // timedelta(minutes=1)
            is_due = any(matches(expression, wall - timedelta(minutes=back)) for back in range(passed))
        virtual = max(virtual, wall)
        if is_due:
            due.append(ms)
    return due


@cache
def changes(zone: str) -> list[datetime]:
    """Return the hours in which a zone's clocks change, the last of each kind; of a zone that has none, one hour."""

    def offset(moment: datetime) -> timedelta | None:
        return moment.astimezone(ZoneInfo(zone)).utcoffset()

    found: dict[object, datetime] = {}
    day = SINCE
    while day < UNTIL:
        next_day = day + timedelta(days=1)
        if offset(day) != offset(next_day):
            hours = [day + timedelta(hours=hour) for hour in range(24)]
            change = next(hour for hour in hours if offset(hour) != offset(hour + timedelta(hours=1)))
            found[offset(day), offset(next_day)] = change
        day = next_day
    return list(found.values()) or [datetime(2026, 3, 29, 2, tzinfo=UTC)]


@cache
def minutes(zone: str, change: datetime) -> list[tuple[int, datetime]]:
    """Return the minutes around a change: Unix ms, and what the wall shows."""
    times = [change - AROUND + timedelta(minutes=n) for n in range(2 * AROUND // timedelta(minutes=1))]
    return [(round(at.timestamp() * 1_000), at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) for at in times]


def ticks(cron: Cron, first: int, last: int) -> Iterator[int]:
    at = cron.next_after(first - 1)
    while at <= last:
        yield at
        at = cron.next_after(at)


def compare(expression: str, zone: str, change: datetime) -> None:
    walls = minutes(zone, change)
    cron, expected = Cron(expression, tz=zone), oracle(expression, walls)
    what = f"{expression!r} in {zone} around {change}"
    assert list(ticks(cron, walls[0][0], walls[-1][0])) == expected, what
    for earlier, later in list(pairwise(expected))[:: len(expected) // 8 + 1]:
        assert cron.last_before(earlier) == cron.last_before(later - 1) == earlier, what
        assert cron.next_after((earlier + later) // 2) == later, what


def test_schedules_keep_the_rule_of_vixie_cron_where_clocks_change() -> None:
    zones = cycle(ZONES)
    for n, expression in enumerate(schedules(100)):
        zone = next(zones)
        compare(expression, zone, changes(zone)[n % len(changes(zone))])
