"""Bell: tells one who waits that something may be ready. Rung from below, heard above."""

import asyncio


class Bell:
    """Remembers that it was rung until it is heard."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake who waits, now or when it next waits."""
        self._rung.set()

    async def heard(self, within_s: float) -> None:
        """Wait until it is rung, or the time is over."""
        try:
            async with asyncio.timeout(within_s):
                await self._rung.wait()
        except TimeoutError:
            pass
        self._rung.clear()
