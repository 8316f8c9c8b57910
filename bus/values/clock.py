"""The process's clock, for what people are shown. Decisions use the server's clock, inside scripts."""

import time


def now_ms() -> int:
    """Return Unix time in milliseconds."""
    return time.time_ns() // 1_000_000
