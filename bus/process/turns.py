"""Turns: who goes through many things, each of which takes long, lets others of the process go on in between."""

import asyncio
import time

SLICE_S = 0.01
"""For how long one goes on before others get their turn."""


class Turns:
    """`await turns.pass_on()` after each thing: most return at once."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    async def pass_on(self) -> None:
        """Let others go on, where it has been long enough."""
        if time.perf_counter() - self._began > SLICE_S:
            await asyncio.sleep(0)
            self._began = time.perf_counter()
