"""The process's clock, for what people are shown. Decisions use the server's clock, inside scripts."""

import time
from datetime import UTC, datetime

_LAST_MS = 253_402_300_799_999
"""The end of the year 9999, the last that can be shown."""


def now_ms() -> int:
    """Return Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def utc(ms: float) -> datetime:
    """Return a moment, Unix ms; the first or the last that can be shown for one that no calendar has."""
    return datetime.fromtimestamp(min(max(ms, 0), _LAST_MS) / 1_000, UTC)
