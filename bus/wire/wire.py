"""Wire: one process's way to Redis. Two connections for commands (small, and big loads), more for blocking reads."""

import asyncio
from collections.abc import Sequence

from bus.errors import ScriptMissing, StoreUnavailable
from bus.settings import Settings
from bus.wire.pipeline import Argument, Pipe, Reply
from bus.wire.retry import Pace, patiently
from bus.wire.scripts import all_scripts


class Wire:
    """Commands and scripts. Made inside the running loop, closed with it.

    `now` is what scripts take for the server's clock: empty, the server's own; tests may set Unix milliseconds.
    """

    def __init__(self, settings: Settings, name: str = "bus") -> None:
        self.settings = settings
        self.name = name
        self.now = ""
        self.scripts = all_scripts()
        self._pace = Pace()
        self._main = self.pipe(loads_scripts=True)
        self._loads = self.pipe(loads_scripts=True)

    def pipe(self, *, loads_scripts: bool = False, extra_timeout: float = 0.0) -> Pipe:
        """Return a new connection; `extra_timeout` (s) for one that blocks on purpose."""
        return Pipe(
            self.settings.redis_url,
            timeout=self.settings.timeout_ms / 1_000 + extra_timeout,
            name=self.name,
            pace=self._pace,
            prelude=[("SCRIPT", "LOAD", script.text) for script in self.scripts.values()] if loads_scripts else (),
        )

    def call(self, *command: Argument) -> asyncio.Future[Reply]:
        """Send one command; StoreUnavailable when its outcome is unknown."""
        return self._main.call(*command)

    async def script(self, name: str, keys: Sequence[str], *arguments: Argument) -> Reply:
        """Run a script once; a server that does not have it is sent the whole text."""
        script = self.scripts[name]
        try:
            return await self._main.call("EVALSHA", script.sha, len(keys), *keys, self.now, *arguments)
        except ScriptMissing:
            return await self._main.call("EVAL", script.text, len(keys), *keys, self.now, *arguments)

    async def lasting_script(
        self, name: str, keys: Sequence[str], *arguments: Argument, patience: float | None = None
    ) -> Reply:
        """Run a script until the server answers; for scripts whose repetition is harmless (all that take a fence)."""
        try:
            return await self._main.call("EVALSHA", self.scripts[name].sha, len(keys), *keys, self.now, *arguments)
        except (ScriptMissing, StoreUnavailable):
            return await patiently(lambda: self.script(name, keys, *arguments), patience)

    async def load(self, *command: Argument, patience: float | None = None) -> Reply:
        """Send a read whose answer may be big on the second connection, so it delays no small one."""
        try:
            return await self._loads.call(*command)
        except StoreUnavailable:
            return await patiently(lambda: self._loads.call(*command), patience)

    def loads(self, *commands: tuple[Argument, ...]) -> "asyncio.Future[list[Reply]]":
        """Send several reads in one write on the second connection."""
        return asyncio.gather(*(self._loads.call(*command) for command in commands))

    async def close(self) -> None:
        """Close both connections."""
        await self._main.close()
        await self._loads.close()
