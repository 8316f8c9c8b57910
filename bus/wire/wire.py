"""Wire: a process's access to Redis. One connection for commands, one for big reads, and one per blocking read."""

import asyncio
import contextvars
from collections.abc import Awaitable, Sequence
from functools import cached_property, partial
from typing import TypeVar

from stepstream.bus.blobs.opening import open_store
from stepstream.bus.blobs.store import BlobStore
from stepstream.bus.encryption.users_codec import use_codec
from stepstream.bus.errors import ScriptMissing, StoreUnavailable, WrongType
from stepstream.bus.process.dev_server import running_url, tell
from stepstream.bus.process.tasks import retrieved
from stepstream.bus.settings import Settings
from stepstream.bus.values.address import address
from stepstream.bus.wire.batching import Looks, Then, Together
from stepstream.bus.wire.connection.pipeline import Argument, Pipe, Reply
from stepstream.bus.wire.connection.retry import Pace, patiently
from stepstream.bus.wire.connection.rights import Right, Rights
from stepstream.bus.wire.connection.trouble import Notice, Trouble, silent
from stepstream.bus.wire.keys.prefixed import use_prefix
from stepstream.bus.wire.scripts import Script, registered
from stepstream.bus.wire.spoilt import PassingOver, answer_of, instead, spoilt_now

R = TypeVar("R")


def _scripts() -> dict[str, str]:
    return {script.sha: script.text for script in registered()}


class Wire:
    """Commands and scripts. Made inside the running loop, closed before it ends.

    `notice` reports to an operator: a missing right, or that Redis stopped serving or serves again. `now` is the time
    that scripts use: empty for the server's own clock; tests may set Unix milliseconds.
    """

    def __init__(self, settings: Settings, name: str = "bus", notice: Notice = silent) -> None:
        use_prefix(settings.prefix)
        use_codec(settings.codec)
        self.settings = settings
        self.notice = notice
        self.rights = Rights(notice)
        self.where = address(settings.redis_url)
        if not settings.is_given and settings.redis_url == running_url():
            tell(self.where.shown)
        self.name = name
        self.now = ""
        self._pace = Pace()
        self.trouble = Trouble(self.where.shown, notice)
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.Context()
        self._repeating: set[asyncio.Task[None]] = set()
        self._main = self.pipe(loads_scripts=True)
        self._loads = self.pipe(loads_scripts=True, only_reads=True)
        self._looks = Looks(
            partial(self._send, pipe=self._loads), partial(self._send_text, pipe=self._loads), self._loads.call
        )
        self.together = Together(self.lasting_script_then).call
        """together(script, key, common, arguments): lasting_script, sharing one call with others of this tick."""

    @cached_property
    def blobs(self) -> BlobStore | None:
        """The store of large results; None where the settings name none."""
        url = self.settings.blobs_url
        return open_store(url) if url else None

    def open_blobs(self) -> None:
        """Open the store of large results, in a process that is to use it: ConfigError where that cannot be."""
        _ = self.blobs

    def pipe(self, *, loads_scripts: bool = False, extra_timeout: float = 0.0, only_reads: bool = False) -> Pipe:
        """Return a new connection; `extra_timeout` (s) for one that blocks on purpose."""
        return Pipe(
            self.where,
            timeout=self.settings.timeout_ms / 1_000 + extra_timeout,
            name=self.name,
            pace=self._pace,
            rights=self.rights,
            trouble=self.trouble,
            scripts=_scripts if loads_scripts else None,
            only_reads=only_reads,
        )

    @property
    def is_in_trouble(self) -> bool:
        """Whether Redis does not serve this process at the moment; that has been reported."""
        return self.trouble.is_on

    async def clock(self) -> int:
        """Return the server's clock, Unix ms: leases and the expiry of keys go by it, whatever a test has set."""
        seconds, micros = await self.call("TIME")
        return int(seconds) * 1_000 + int(micros) // 1_000

    async def moment(self) -> int:
        """Return the time that scripts use and new entries of events have, Unix ms."""
        return int(self.now) if self.now else await self.clock()

    async def within(self, patience: float, work: Awaitable[R]) -> R:
        """Wait for work that may be given up; StoreUnavailable, with what is wrong, when it takes over `patience` s.

        A command that nobody answers ends with a time-out of its own, and one may follow the other.
        """
        try:
            async with asyncio.timeout(patience):
                return await work
        except TimeoutError:
            raise self.trouble.ran_out(patience) from None

    def call(self, *command: Argument) -> asyncio.Future[Reply]:
        """Send one command; StoreUnavailable when its outcome is unknown."""
        return self._main.call(*command)

    async def ask(self, right: Right, *arguments: Argument) -> Reply | None:
        """Send an optional command; None when it is refused, which is reported once."""
        return await self._main.ask(right, *arguments)

    def tell(self, *command: Argument) -> None:
        """Send one command and forget it: for what may be lost."""
        self._main.call(*command).add_done_callback(retrieved)

    def tell_script(self, script: Script, keys: Sequence[str], *arguments: Argument) -> None:
        """Run a script and forget it: for what may be lost."""
        sent = self._send(script, keys, arguments)
        sent.add_done_callback(partial(self._told, script, keys, arguments), context=self._context)

    def _told(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument], sent: asyncio.Future[Reply]
    ) -> None:
        if not sent.cancelled() and isinstance(sent.exception(), ScriptMissing):
            self._send_text(script, keys, arguments).add_done_callback(retrieved)

    def _send(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument], pipe: Pipe | None = None
    ) -> asyncio.Future[Reply]:
        return (pipe or self._main).call("EVALSHA", script.sha, len(keys), *keys, self.now, *arguments)

    def _send_text(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument], pipe: Pipe | None = None
    ) -> asyncio.Future[Reply]:
        """Run a script that the server has forgotten, or never had: it keeps it from then on."""
        return (pipe or self._main).call("EVAL", script.text, len(keys), *keys, self.now, *arguments)

    async def script(
        self, script: Script, keys: Sequence[str], *arguments: Argument, is_big_read: bool = False
    ) -> Reply:
        """Run a script once; a server that does not have it gets the whole text.

        `is_big_read`: it only reads, and its reply may be big; it takes the second connection, as `load` does.
        """
        pipe = self._loads if is_big_read else self._main
        try:
            return await self._send(script, keys, arguments, pipe)
        except ScriptMissing:
            return await self._send_text(script, keys, arguments, pipe)
        except WrongType:
            if not is_big_read or spoilt_now() is None:
                raise
            return await self._passing_over(script, keys, arguments)

    async def _passing_over(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Reply:
        """Run a script that only reads, and has met a key of a wrong type, as if that were not there."""
        return answer_of(await self._send_text(PassingOver(script), keys, arguments, self._loads))

    async def lasting_script(
        self, script: Script, keys: Sequence[str], *arguments: Argument, patience: float | None = None
    ) -> Reply:
        """Run a script until the server answers; for scripts that are safe to repeat (all that take a fence are)."""
        try:
            return await self._send(script, keys, arguments)
        except (ScriptMissing, StoreUnavailable):
            return await patiently(lambda: self.script(script, keys, *arguments), patience)

    def lasting_script_then(
        self, then: Then, script: Script, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> None:
        """Like lasting_script, then call `then` with the reply, or None and the error; uses a task only for retries."""
        sent = self._send(script, keys, arguments)
        sent.add_done_callback(partial(self._answered, then, script, keys, arguments), context=self._context)

    def _answered(
        self,
        then: Then,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        sent: asyncio.Future[Reply],
    ) -> None:
        error = sent.exception()
        if isinstance(error, ScriptMissing | StoreUnavailable):
            work = self._repeat(then, script, keys, arguments)
            task = self._loop.create_task(work, context=contextvars.Context())
            self._repeating.add(task)
            task.add_done_callback(self._repeating.discard)
        else:
            then(None if error else sent.result(), error)

    async def _repeat(self, then: Then, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> None:
        try:
            reply = await self.lasting_script(script, keys, *arguments)
        except Exception as error:  # noqa: BLE001 - handed to the caller
            then(None, error)
        else:
            then(reply, None)

    def load_script(self, script: Script) -> None:
        """Load a script that is only ever called by its SHA-1 into a server that has forgotten it."""
        self._main.load(script.text)

    async def load(self, *command: Argument, patience: float | None = None) -> Reply:
        """Send a read with a possibly big reply on the second connection, so that it delays no small one."""
        try:
            try:
                return await self._loads.call(*command)
            except StoreUnavailable:
                return await patiently(lambda: self._loads.call(*command), patience)
        except WrongType as error:
            return instead(error, command)

    async def look(self, *command: Argument, patience: float | None = None) -> Reply:
        """Read a key for somebody who looks, with a small reply; such reads of one tick are one command.

        With `patience`, s, it is repeated as long while Redis is away; else StoreUnavailable says so at once.
        """
        try:
            try:
                return await self._looks.command(*command)
            except StoreUnavailable:
                if patience is None:
                    raise
                return await patiently(lambda: self._looks.command(*command), patience)
        except WrongType as error:
            return instead(error, command)

    async def looks(self, *commands: tuple[Argument, ...], patience: float | None = None) -> list[Reply]:
        """Read several keys as `look` does."""
        return await asyncio.gather(*(self.look(*command, patience=patience) for command in commands))

    async def look_script(self, script: Script, keys: Sequence[str], *arguments: Argument) -> Reply:
        """Run a script that only reads, with a small reply: its calls of one tick are one command."""
        try:
            return await self._looks.script(script, keys, arguments)
        except WrongType:
            if spoilt_now() is None:
                raise
            return await self._passing_over(script, keys, arguments)

    async def loads(self, *commands: tuple[Argument, ...]) -> list[Reply]:
        """Send several reads in one write on the second connection."""
        sent = [self._loads.call(*command) for command in commands]
        try:
            return await asyncio.gather(*sent)
        except WrongType:
            if spoilt_now() is None:
                raise
        return [await _or_instead(reply, command) for reply, command in zip(sent, commands, strict=True)]

    async def close(self) -> None:
        """Close both connections; retries under way are given up."""
        for task in tuple(self._repeating):
            task.cancel()
        await self._main.close()
        await self._loads.close()


async def _or_instead(reply: asyncio.Future[Reply], command: Sequence[Argument]) -> Reply:
    try:
        return await reply
    except WrongType as error:
        return instead(error, command)
