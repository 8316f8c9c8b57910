"""Wakeup: lets a loop wait until something may be ready. Lower parts ring it; the loop above waits for it."""

import asyncio


class Wakeup:
    """A ring is remembered until somebody waits for it."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake the waiting loop; at once if it waits, else when it next does."""
        self._rung.set()

    async def wait(self, within_s: float) -> None:
        """Wait until it is rung, at most this many seconds."""
        try:
            async with asyncio.timeout(within_s):
                await self._rung.wait()
        except TimeoutError:
            pass
        self._rung.clear()
