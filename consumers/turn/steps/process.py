"""Process: a command as a step. It ends whole, with all it has begun, however the step ends.

Between the worker and the command stands a supervisor (supervisor.py, which says how). Here is what the worker knows of
it: what it tells, what the command writes, and its end.
"""

import asyncio
import contextlib
import errno
import os
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec

from stepstream.bus.environment import environment_with
from stepstream.bus.errors import NonRetriable, ProcessError
from stepstream.bus.process.scope import Source
from stepstream.bus.step import ProcessResult
from stepstream.consumers.turn.run_log import MOST_AT_ONCE, RunLog
from stepstream.consumers.turn.tasks import RunTasks

KEPT = 16 * 1024
"""How much of each output a result and an error have: its last bytes."""
GRACE_S = 2.0
"""How long after SIGTERM a command is killed."""
_LAST_OUTPUT_S = 1.0
_LONGEST = 8_192
SUPERVISOR = str(Path(__file__).with_name("supervisor.py"))


class Command(msgspec.Struct, frozen=True):
    """What is to be run, once it has been looked at: `env` comes on top of the worker's own; `ok` are good codes."""

    words: list[str]
    stdin: bytes | None
    env: dict[str, str]
    cwd: str
    ok: frozenset[int]
    timeout_s: float | None

    @classmethod
    def of(
        cls,
        step: str,
        command: Sequence[str | os.PathLike[str]],
        stdin: str | bytes | None,
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str] | None,
        ok: Collection[int],
        timeout_s: float | None,
    ) -> "Command":
        """Return a command; NonRetriable for what no system could run."""
        if isinstance(command, str | bytes) or not command:
            raise NonRetriable(
                f"step '{step}': the command must be a list of words, got {command!r}; "
                "for a shell write ['sh', '-c', '…']"
            )
        given = cast("dict[Any, Any]", dict(env or {}))
        texts = [*command, *given, *given.values(), *([cwd] if cwd is not None else [])]
        for text in texts:
            if not isinstance(text, str | os.PathLike) or "\0" in os.fspath(text):
                raise NonRetriable(f"step '{step}': {text!r} must be text without NUL: command, env and cwd are")
        if not isinstance(cast("object", stdin), str | bytes | None):
            raise NonRetriable(f"step '{step}': stdin must be text or bytes, got {type(stdin).__name__}")
        return cls(
            words=[os.fspath(word) for word in command],
            stdin=stdin.encode() if isinstance(stdin, str) else stdin,
            env={os.fspath(name): os.fspath(value) for name, value in given.items()},
            cwd=os.fspath(cwd) if cwd is not None else "",
            ok=frozenset(ok),
            timeout_s=timeout_s,
        )


class Home(Protocol):
    """The turn, or the call, whose step runs a command."""

    tasks: RunTasks
    log: RunLog

    @property
    def run(self) -> str:
        """The run's id."""
        ...

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        ...

    def attempt_of(self, step: str) -> int:
        """Return which attempt of a step this is, from 0."""
        ...


async def run_command(turn: Home, step: str, command: Command) -> ProcessResult:
    """Run a command to its end, or to its limit; ProcessError unless it ends with a good code. The body of a step."""
    own = {
        "STEPSTREAM_RUN": turn.run,
        "STEPSTREAM_STEP": step,
        "STEPSTREAM_ATTEMPT": str(turn.attempt_of(step)),
    }
    process = Supervised(asyncio.get_running_loop(), turn.log, step)
    await process.start(command, environment_with({**own, **command.env}))
    turn.tasks.hold(process.gone)
    try:
        async with asyncio.timeout(command.timeout_s):
            await asyncio.shield(process.gone)
    except TimeoutError:
        process.end()
        await asyncio.shield(process.gone)
        raise process.late(command) from None
    except asyncio.CancelledError:
        process.end()
        if not turn.over:  # the author's code has cancelled it: what comes next finds it gone
            await asyncio.shield(process.gone)
        raise
    return process.result(command)


class Supervised(asyncio.SubprocessProtocol):
    """A command under its supervisor. `gone` is resolved when nothing of it is left."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: RunLog, step: str) -> None:
        self.gone: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._log = log
        self._step = step
        self._out = _Output(log, "out", step)
        self._err = _Output(log, "err", step)
        self._told = bytearray()
        self._transport: asyncio.SubprocessTransport | None = None
        self._supervisor_lives, self._tells = True, True

    async def start(self, command: Command, env: dict[str, str]) -> None:
        """Start it; ProcessError when the system cannot."""
        inherited: list[int] = []
        try:
            for output in (self._out, self._err):
                reads, writes = os.pipe()
                inherited.append(writes)
                await self._loop.connect_read_pipe(lambda output=output: output, os.fdopen(reads, "rb", 0))
            inherited.insert(0, await self._stdin(command.stdin))
            arguments = [*map(str, inherited), str(GRACE_S), command.cwd, *command.words]
            await self._loop.subprocess_exec(
                lambda: self, sys.executable, "-I", "-S", SUPERVISOR, *arguments,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=None,
                pass_fds=inherited, env=env, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise ProcessError("not_started", f"the system cannot start it: {error}") from error
        finally:
            for number in inherited:
                os.close(number)
            if self._transport is None:
                self._out.close()
                self._err.close()

    async def _stdin(self, data: bytes | None) -> int:
        """Return what the command reads: nothing, or a pipe that is written to as it reads."""
        if data is None:
            return os.open(os.devnull, os.O_RDONLY)
        reads, writes = os.pipe()
        try:
            transport, _ = await self._loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writes, "wb", 0))
        except BaseException:
            os.close(reads)
            raise
        transport.write(data)
        transport.write_eof()
        return reads

    def end(self) -> None:
        """Let the supervisor end all of it: SIGTERM, and SIGKILL after GRACE_S."""
        lifeline = self._transport.get_pipe_transport(0) if self._transport is not None else None
        if lifeline is not None:
            lifeline.close()

    # -- what the loop calls ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The supervisor has been started."""
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:  # noqa: ARG002
        """Take what the supervisor tells."""
        self._told += cast("bytes", data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002
        """The supervisor tells nothing more."""
        if fd == 1:
            self._tells = False
            self._perhaps_gone()

    def process_exited(self) -> None:
        """The supervisor has ended."""
        self._supervisor_lives = False
        self._perhaps_gone()

    def _perhaps_gone(self) -> None:
        if self._supervisor_lives or self._tells:
            return
        assert self._transport is not None
        self._transport.close()
        told = self._words
        if "began" in told and "ended" not in told:  # somebody has killed the supervisor
            with contextlib.suppress(OSError):
                os.killpg(int(told["began"]), signal.SIGKILL)
        if "left" in told:
            self._log.write("bus", f"processes it left running were ended: {told['left']}", step=self._step)
        # All who could write have gone; only where a process can flee its supervisor may one hold an output open.
        late = self._loop.call_later(_LAST_OUTPUT_S, self._close_outputs)
        for output in (self._out, self._err):
            output.closed.add_done_callback(lambda _: self._perhaps_read(late))

    def _close_outputs(self) -> None:
        self._out.close()
        self._err.close()

    def _perhaps_read(self, late: asyncio.TimerHandle) -> None:
        if self._out.closed.done() and self._err.closed.done() and not self.gone.done():
            late.cancel()
            self.gone.set_result(None)

    # -- what came of it --------------------------------------------------------------------------------------------

    @property
    def _words(self) -> dict[str, str]:
        lines = self._told.decode(errors="replace").splitlines()
        return {word: rest for word, _, rest in (line.partition(" ") for line in lines)}

    def result(self, command: Command) -> ProcessResult:
        """Return what came of a command that has ended; ProcessError when that is no good."""
        told = self._words
        if "failed" in told:
            number, _, path = told["failed"].partition(" ")
            raise ProcessError("not_started", _why_not(int(number), path, command))
        if "ended" not in told:
            raise ProcessError("killed", f"its supervisor was killed{self._last_words()}", output=self._output())
        code = int(told["ended"])
        if code < 0:
            name = _signal_name(-code)
            raise ProcessError("killed", f"killed by {name}{self._last_words()}", signal=name, output=self._output())
        if code not in command.ok:
            raise ProcessError("exit_code", f"exit code {code}{self._last_words()}", code=code, output=self._output())
        return ProcessResult(code, self._out.text(), self._err.text(), self._out.cut + self._err.cut)

    def late(self, command: Command) -> ProcessError:
        """Return the error of a command that has reached its limit."""
        code = int(self._words.get("ended", "0"))
        return ProcessError(
            "timeout",
            f"not done within {command.timeout_s:g} s: it was ended{self._last_words()}",
            code=code if code >= 0 and "ended" in self._words else None,
            signal=_signal_name(-code) if code < 0 else "",
            output=self._output(),
        )

    def _output(self) -> str:
        return "\n".join(filter(None, (self._out.text().rstrip("\n"), self._err.text().rstrip("\n"))))

    def _last_words(self) -> str:
        lines = (self._err.text() if self._err.text().strip() else self._out.text()).strip().splitlines()
        return f"; its last line: {lines[-1][:300]}" if lines else ""


class _Output(asyncio.Protocol):
    """One output of a command: its tail is kept, its lines go to the run's log."""

    def __init__(self, log: RunLog, source: Source, step: str) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._log = log
        self._source: Source = source
        self._step = step
        self._tail = bytearray()
        self._size = 0
        self._line = b""
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Reading begins."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep the tail; log each line. What returns to the line's start (a progress bar) begins another."""
        self._size += len(data)
        self._tail += data
        if len(self._tail) > 2 * KEPT:
            del self._tail[:-KEPT]
        *lines, self._line = (self._line + data).replace(b"\r", b"\n").split(b"\n")
        if len(self._line) > _LONGEST:  # a line without an end is not waited for
            lines.append(self._line)
            self._line = b""
        if len(lines) > MOST_AT_ONCE:  # no more would be sent
            self._log.skip(len(lines) - MOST_AT_ONCE)
            del lines[:-MOST_AT_ONCE]
        for line in lines:
            self._write(line)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Nothing more comes."""
        self._write(self._line)
        self._line = b""
        if not self.closed.done():
            self.closed.set_result(None)

    def _write(self, line: bytes) -> None:
        if line.strip():
            self._log.write(self._source, line.decode(errors="replace"), step=self._step)

    def close(self) -> None:
        """Read no more."""
        if self._transport is not None:
            self._transport.close()

    @property
    def cut(self) -> int:
        """How many bytes came before those that are kept."""
        return max(0, self._size - KEPT)

    def text(self) -> str:
        """Return the last 16 KiB, from a whole character on."""
        text = bytes(self._tail[-KEPT:]).decode(errors="replace")
        return text.lstrip("\ufffd") if self.cut else text


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _why_not(number: int, path: str, command: Command) -> str:
    why = os.strerror(number)
    if command.cwd and path == command.cwd:
        return f"cwd {command.cwd!r}: {why}"
    if number == errno.ENOENT and "/" not in command.words[0]:
        return f"command not found: {command.words[0]!r} is in no folder of PATH"
    return f"command {command.words[0]!r}: {why}"
