"""The process's clock, for what is told to people; every decision is made by the server's clock, inside a script."""

import time


def now_ms() -> int:
    """Return Unix time in milliseconds."""
    return time.time_ns() // 1_000_000
