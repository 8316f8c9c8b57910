"""Trouble: whether Redis serves this process. Each state is reported once, and once more when Redis serves again.

All connections of a process share one Trouble, so the many callers that wait for Redis need not report anything.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import NoReturn, Protocol

from stepstream.bus.errors import RightMissing, StoreUnavailable

CALM_S = 2.0
"""How long no command may be refused and no connection break before the trouble is over: they come back one by one."""
AGAIN_S = 60.0
"""How soon a state that comes and goes may be reported again."""
_REOPENS_S = 1.0


class Notice(Protocol):
    """Reports something to an operator: what happened, in words, and its fields."""

    def __call__(self, event: str, **fields: object) -> None:
        """Report it."""


def silent(event: str, **fields: object) -> None:
    """Report nothing."""


class Trouble:
    """What has gone wrong since Redis last served every command; `where` is its address, without secrets."""

    def __init__(self, where: str, notice: Notice) -> None:
        self.is_on = False
        self.times = 0
        """How often trouble has begun. A restart and a failover count: the server is unavailable for a moment."""
        self._where = where
        self._notice = notice
        self._quiet_until: dict[str, float] = {}
        """Until when (monotonic, s) each state is not reported again."""
        self._is_reported = False
        self._began = 0.0
        self._met = 0.0
        self._error = StoreUnavailable("Redis serves")
        self._begins = asyncio.Event()
        self.failed: Callable[[str], None] | None = None
        """Called with the state of each refusal and break, for who counts them."""
        self.opened: Callable[[], None] | None = None
        """Called for each connection that is open."""

    @property
    def state(self) -> str:
        """What was wrong last, in a word (StoreUnavailable)."""
        return self._error.state

    def met(self, error: StoreUnavailable) -> None:
        """Note that a command was refused, or that its connection broke or did not open."""
        self._met, self._error = time.monotonic(), error
        if self.failed is not None:
            self.failed(error.state)
        if not self.is_on:
            self.is_on = True
            self.times += 1
            self._began = self._met
            self._begins.set()
        if error.state == "lost" and self._met - self._began < _REOPENS_S:
            return  # most broken connections open again at once; if this one does not, that is reported
        word = str(error) if isinstance(error, RightMissing) else error.state
        if self._met >= self._quiet_until.get(word, 0.0):
            self._is_reported = True
            self._quiet_until[word] = math.inf
            self._notice(
                "Redis does not serve now; what needs it waits", redis=self._where, state=error.state, error=str(error)
            )

    def served(self) -> None:
        """Note that a command was served; called while there is trouble."""
        now = time.monotonic()
        if now - self._met < CALM_S:
            return
        self.is_on = False
        self._begins.clear()
        self._quiet_until = {
            word: min(until, now + AGAIN_S) for word, until in self._quiet_until.items() if until > now
        }
        if self._is_reported:
            self._is_reported = False
            self._notice("Redis serves again", redis=self._where, seconds=round(self._met - self._began, 1))

    def ran_out(self, patience: float) -> StoreUnavailable:
        """Return what is told of a call that had no answer for `patience` s: what the trouble is, or just that."""
        if self.is_on and not self._error.is_unanswered and not isinstance(self._error, RightMissing):
            return self._error
        if self.is_on and isinstance(self._error, RightMissing):  # for which most calls wait until it is given
            return StoreUnavailable(f"no answer within {patience:.1f} s, and {self._error}", state=self._error.state)
        told = f"no Redis at {self._where}: no answer within {patience:.1f} s; "
        return StoreUnavailable(f"{told}run bus dev, start a server, or set BUS_REDIS_URL", state="timeout")

    async def lasts(self, seconds: float) -> NoReturn:
        """Wait until one trouble has lasted for `seconds`; raises the last error."""
        while True:
            await self._begins.wait()
            times = self.times
            await asyncio.sleep(self._began + seconds - time.monotonic())
            if self.is_on and self.times == times:
                raise self._error
