"""Pulse: sees, from any thread, whether the event loop turns."""

import asyncio
import time

BLOCKED_S = 10.0
"""How long the loop may stand still before /health says so; BUS_STALL, where that is shorter."""
_BEAT_S = 0.5


class Pulse:
    """Beats in the running loop until stop()."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._beaten = time.monotonic()
        self._next: asyncio.TimerHandle | None = None
        self._beat()

    def _beat(self) -> None:
        self._beaten = time.monotonic()
        self._next = self._loop.call_later(_BEAT_S, self._beat)

    @property
    def still_s(self) -> float:
        """For how long the loop has not turned, s; 0 while it is in time."""
        return max(0.0, time.monotonic() - self._beaten - _BEAT_S)

    def stop(self) -> None:
        """Beat no more."""
        if self._next is not None:
            self._next.cancel()
