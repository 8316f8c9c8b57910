"""The server's clock as a worker sees it, compared with the machine's steady clock to notice when it was set.

Leases, timers and stream entries carry times of the server's clock. When it is set (NTP, a machine that was suspended,
a failover to another machine), all earlier times are off by as much. A worker that judges another's lease expired must
be sure that it was not the clock that moved.
"""

import time

FAR = 6
"""A lease that ends more than this many leases from now was given before the clock was set back (lease.lua)."""

# CLOCK_MONOTONIC stands still while the machine sleeps, and a lease does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot() -> float:
    """Return the seconds since this machine was started; that clock is never set."""
    return time.clock_gettime(_CLOCK)


class ServerClock:
    """What one worker knows of the server's clock. A change by less than `tolerance_ms` changes nothing."""

    def __init__(self, tolerance_ms: int) -> None:
        self._tolerance = tolerance_ms
        self._ahead: tuple[float, float] | None = None
        """How far the server's clock is ahead of boot() at least and at most, ms."""

    def saw(self, server_ms: int, sent: float, received: float) -> int:
        """Note a server time read between two moments of boot(); return by how much the clock was set, ms, or 0.

        A reply that took long says little: it moves nothing that it may agree with. (Of such a one only the nearest
        value was kept; the next quick reply differed from that, and the same change was told of twice.)
        """
        least, most = server_ms - received * 1_000, server_ms + 1 - sent * 1_000
        low, high = self._ahead or (least, most)
        step = max(0, least - high) + min(0, most - low)
        self._ahead = (least, most) if step else (max(low, least), min(high, most))
        return round(step) if abs(step) > self._tolerance else 0

    def sure_until(self) -> int:
        """Return the latest time the server's clock can show now, if it was not set; 0 when no time is known yet."""
        return 0 if self._ahead is None else round(sum(self._ahead) / 2 + boot() * 1_000 + self._tolerance)
