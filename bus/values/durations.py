"""Durations and moments: from what people write ("1h30m", 90, timedelta, datetime) to milliseconds."""

import re
from datetime import UTC, datetime, timedelta

from stepstream.bus.errors import BadRequest, ConfigError

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")

LONGEST_MS = 366 * _UNITS["d"]
"""The longest sleep or wait: 366 days."""


def milliseconds(duration: float | str | timedelta, what: str = "duration") -> int:
    """Return a duration in milliseconds: seconds as a number, "1h30m" as text, or a timedelta.

    Raises ConfigError, naming `what`, for anything else, and for durations that are negative or over 366 days.
    """
    if isinstance(duration, timedelta):
        value = duration.total_seconds() * 1_000
    elif isinstance(duration, str):
        if not _WHOLE.fullmatch(duration):
            raise ConfigError(
                f"{what} {duration!r} is not a duration; write '30s', '1h30m', '2d' or seconds as a number"
            )
        value = sum(float(count) * _UNITS[unit] for count, unit in _PART.findall(duration))
    elif isinstance(duration, bool):
        raise ConfigError(f"{what} {duration!r} is not a duration; write '30s', '1h30m' or seconds as a number")
    else:
        value = duration * 1_000
    if not 0 <= value <= LONGEST_MS:  # NaN compares false, so it is refused too
        raise ConfigError(f"{what} {duration!r} must be between 0 and 366 days")
    return round(value)


def moment_ms(moment: datetime, what: str = "moment") -> int:
    """Return an aware datetime as Unix milliseconds; ConfigError for a naive one."""
    if moment.tzinfo is None:
        raise ConfigError(f"{what} {moment!r} has no time zone; write datetime(…, tzinfo=UTC)")
    return round(moment.timestamp() * 1_000)


def utc_ms(moment: datetime) -> int:
    """Return a datetime as Unix milliseconds; one without a zone counts as UTC."""
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)


def is_ago(text: str) -> bool:
    """Whether a moment is told as how long ago it was, as `15m` or `2h`: then the time it is now is needed."""
    return _WHOLE.fullmatch(text) is not None


def past_moment(text: str, what: str, now: int) -> int:
    """Return a moment that somebody asks for as Unix ms: Unix ms, RFC 3339 (without a zone UTC), or how long ago.

    BadRequest names `what`, the text and what is expected. `now` is asked only for what is_ago.
    """
    if text.isascii() and text.isdecimal() and len(text) <= 14:
        return int(text)
    try:
        if is_ago(text):
            return now - milliseconds(text, what)
        return utc_ms(datetime.fromisoformat(text))
    except (ValueError, OverflowError, ConfigError):
        raise BadRequest(
            f"{what} is not a time: {text[:60]!r}; write 2026-12-01T09:00:00Z, Unix ms, or how long ago, as 15m or 2h"
        ) from None


def in_words(ms: float) -> str:
    """Return a duration as a person reads it: 850 ms, 2.4 s, 3 min 5 s, 2 h 4 min, 3 d 1 h."""
    if ms < 1_000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1_000:.1f} s"
    seconds = round(ms / 1_000)
    for size, unit, small, small_unit in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            rest = seconds % size // small
            return f"{seconds // size} {unit} {rest} {small_unit}" if rest else f"{seconds // size} {unit}"
    return f"{seconds} s"
