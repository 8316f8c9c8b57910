"""Wire: one process's way to Redis. Two connections for commands (small, and big loads), more for blocking reads."""

import asyncio
import contextvars
from collections.abc import Sequence
from functools import partial

from stepstream.bus.errors import ScriptMissing, StoreUnavailable
from stepstream.bus.settings import Settings
from stepstream.bus.values.address import address
from stepstream.bus.wire.batching import Then, Together
from stepstream.bus.wire.connection.pipeline import Argument, Pipe, Reply, retrieved
from stepstream.bus.wire.connection.retry import Pace, patiently
from stepstream.bus.wire.connection.rights import Right, Rights
from stepstream.bus.wire.connection.trouble import Notice, Trouble, silent
from stepstream.bus.wire.keys import use_prefix
from stepstream.bus.wire.scripts import all_scripts


class Wire:
    """Commands and scripts. Made inside the running loop, closed with it.

    `notice` hears what an operator should know: a right that is missing, when Redis stops serving and serves again.
    `now` is what scripts take for the server's clock: empty, the server's own; tests may set Unix milliseconds.
    """

    def __init__(self, settings: Settings, name: str = "bus", notice: Notice = silent) -> None:
        use_prefix(settings.prefix)
        self.settings = settings
        self.rights = Rights(notice)
        self.where = address(settings.redis_url)
        self.name = name
        self.now = ""
        self.scripts = all_scripts()
        self._pace = Pace()
        self.trouble = Trouble(self.where.shown, notice)
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.Context()
        self._repeating: set[asyncio.Task[None]] = set()
        self._main = self.pipe(loads_scripts=True)
        self._loads = self.pipe(loads_scripts=True, only_reads=True)
        self.together = Together(self.lasting_script_then).call
        """together(script, key, common, arguments): lasting_script, shared with others of this tick."""

    def pipe(self, *, loads_scripts: bool = False, extra_timeout: float = 0.0, only_reads: bool = False) -> Pipe:
        """Return a new connection; `extra_timeout` (s) for one that blocks on purpose."""
        return Pipe(
            self.where,
            timeout=self.settings.timeout_ms / 1_000 + extra_timeout,
            name=self.name,
            pace=self._pace,
            rights=self.rights,
            trouble=self.trouble,
            prelude=[("SCRIPT", "LOAD", script.text) for script in self.scripts.values()] if loads_scripts else (),
            only_reads=only_reads,
        )

    @property
    def is_in_trouble(self) -> bool:
        """Whether Redis does not serve this process now; an operator has been told."""
        return self.trouble.is_on

    async def clock(self) -> int:
        """Return the server's clock, Unix ms: the one that stream entries are named by."""
        seconds, micros = await self.call("TIME")
        return int(seconds) * 1_000 + int(micros) // 1_000

    async def moment(self) -> int:
        """Return the moment scripts act at, Unix ms."""
        return int(self.now) if self.now else await self.clock()

    def call(self, *command: Argument) -> asyncio.Future[Reply]:
        """Send one command; StoreUnavailable when its outcome is unknown."""
        return self._main.call(*command)

    async def ask(self, right: Right, *arguments: Argument) -> Reply | None:
        """Send an optional command; None when it is refused, which is told once."""
        return await self._main.ask(right, *arguments)

    def tell(self, *command: Argument) -> None:
        """Send one command without waiting, whatever comes of it: for what may be lost."""
        self._main.call(*command).add_done_callback(retrieved)

    def tell_script(self, name: str, keys: Sequence[str], *arguments: Argument) -> None:
        """Run a script without waiting, whatever comes of it."""
        self._send(name, keys, arguments).add_done_callback(retrieved)

    def _send(self, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> asyncio.Future[Reply]:
        return self._main.call("EVALSHA", self.scripts[name].sha, len(keys), *keys, self.now, *arguments)

    async def script(self, name: str, keys: Sequence[str], *arguments: Argument) -> Reply:
        """Run a script once; a server that does not have it is sent the whole text."""
        try:
            return await self._send(name, keys, arguments)
        except ScriptMissing:
            script = self.scripts[name]
            return await self._main.call("EVAL", script.text, len(keys), *keys, self.now, *arguments)

    async def look(self, name: str, keys: Sequence[str], *arguments: Argument) -> Reply:
        """Run a script that only reads on the second connection, for its answer may be big."""
        script = self.scripts[name]
        try:
            return await self._loads.call("EVALSHA", script.sha, len(keys), *keys, self.now, *arguments)
        except ScriptMissing:
            return await self._loads.call("EVAL", script.text, len(keys), *keys, self.now, *arguments)

    async def lasting_script(
        self, name: str, keys: Sequence[str], *arguments: Argument, patience: float | None = None
    ) -> Reply:
        """Run a script until the server answers; for scripts whose repetition is harmless (all that take a fence)."""
        try:
            return await self._send(name, keys, arguments)
        except (ScriptMissing, StoreUnavailable):
            return await patiently(lambda: self.script(name, keys, *arguments), patience)

    def lasting_script_then(self, then: Then, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> None:
        """Do as lasting_script, then call `then` with the reply, or None and the error; no task while all goes well."""
        sent = self._send(name, keys, arguments)
        sent.add_done_callback(partial(self._answered, then, name, keys, arguments), context=self._context)

    def _answered(
        self,
        then: Then,
        name: str,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        sent: asyncio.Future[Reply],
    ) -> None:
        error = sent.exception()
        if isinstance(error, ScriptMissing | StoreUnavailable):
            work = self._repeat(then, name, keys, arguments)
            task = self._loop.create_task(work, context=contextvars.Context())
            self._repeating.add(task)
            task.add_done_callback(self._repeating.discard)
        else:
            then(None if error else sent.result(), error)

    async def _repeat(self, then: Then, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> None:
        try:
            reply = await self.lasting_script(name, keys, *arguments)
        except Exception as error:  # noqa: BLE001 - handed to who asked
            then(None, error)
        else:
            then(reply, None)

    def load_script(self, name: str) -> None:
        """Give a server that has forgotten it a script that is only ever called by its SHA-1."""
        self.tell("SCRIPT", "LOAD", self.scripts[name].text)

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
        """Close both connections; what is still being repeated is given up."""
        for task in tuple(self._repeating):
            task.cancel()
        await self._main.close()
        await self._loads.close()
