"""The worker of `bus dev`: a child process that is started again when code changes, and when it dies."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
from watchfiles import PythonFilter, awatch  # pyright: ignore[reportUnknownVariableType]

from stepstream.bus.errors import ConfigError
from stepstream.web.beside import WorkerBeside

_log = structlog.get_logger("dev")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
_LONG_S = 30.0
"""A worker that has lived so long does not die at each start."""


class WorkerChild:
    """The worker process of `bus dev`.

    `beside` is told how it is; `registered` is called with an example event when the first has registered.
    """

    def __init__(
        self,
        apps: Sequence[str],
        concurrency: int,
        environ: dict[str, str],
        beside: WorkerBeside,
        registered: Callable[[dict[str, Any] | None], None],
    ) -> None:
        command = [sys.executable, "-m", "stepstream", "worker", *apps, "--concurrency", str(concurrency)]
        self._command = [*command, "--while-stdin", "--tells"]
        self._environ = environ
        self._beside = beside
        self._registered = registered
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._told: dict[str, Any] = {}

    async def keep(self) -> None:
        """Keep a worker running, until stop(). ConfigError when there is no such app at the first start.

        One that dies is started again, after pauses that grow; one that cannot start, when a file changes.
        """
        changes = asyncio.Event()
        watching = asyncio.create_task(_watch(changes))
        pause = _FIRST_PAUSE_S / 2
        try:
            while not self._stopping:
                changes.clear()
                begun = time.monotonic()
                changed = asyncio.create_task(changes.wait())
                ended = asyncio.create_task(self._run())
                await asyncio.wait({ended, changed, watching}, return_when=asyncio.FIRST_COMPLETED)
                if watching.done():
                    watching.result()
                if not ended.done() and not self._stopping:
                    _log.info("code changed; the worker restarts")
                    self._beside.starts()
                    await self._end()
                code = await ended
                if not changes.is_set() and not self._stopping:
                    pause = min(2 * pause, _LONGEST_PAUSE_S) if time.monotonic() - begun < _LONG_S else _FIRST_PAUSE_S
                    wait = self._wait_after(code, pause)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(wait):
                            await changes.wait()
                changed.cancel()
        finally:
            watching.cancel()

    def _wait_after(self, code: int, pause: float) -> float | None:
        """Tell why the worker has ended; return how long to wait, s, before the next: None, until a file changes."""
        if self._told.get("exists") is False and not self._beside.has_been_up:
            raise ConfigError(str(self._told["error"]))
        if code < 0 or self._told.get("ready"):
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            self._beside.is_down(f"the worker {how}; another is started in {pause:g} s")
            _log.error(self._beside.error)
            return pause
        why = str(self._told.get("error") or f"it ended with exit code {code}; its last lines say why")
        self._beside.is_down(f"the worker cannot start: {why}")
        _log.error("the worker cannot start; it is tried again when a file changes")
        return None

    async def _run(self) -> int:
        """Run a worker to its end; return its exit code, negative for a signal."""
        self._told = {}
        self._beside.starts()
        here, there = os.pipe()
        told = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(told), os.fdopen(here, "rb")
        )
        try:
            # A session of its own: Ctrl-C must not reach it before we have told it to drain.
            self._process = await asyncio.create_subprocess_exec(
                *self._command, str(there), env=self._environ, start_new_session=True, stdin=asyncio.subprocess.PIPE,
                pass_fds=[there],
            )  # fmt: skip
            os.close(there)
            listening = asyncio.create_task(self._listen(told))
            code = await self._process.wait()
            await asyncio.wait({listening}, timeout=0.5)  # a process of the author's may hold the pipe open
            listening.cancel()
            return code
        finally:
            transport.close()

    async def _listen(self, told: asyncio.StreamReader) -> None:
        async for line in told:
            self._told = json.loads(line)
            if self._told.get("ready") and not self._stopping:
                is_first = not self._beside.has_been_up
                self._beside.works()
                if is_first:
                    self._registered(self._told.get("example"))

    async def stop(self) -> None:
        """Let the worker drain, and do not restart it."""
        self._stopping = True
        await self._end()

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        await process.wait()

    def end_at_once(self) -> None:
        """Kill the worker: the second Ctrl-C does not wait."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()


async def _watch(changes: asyncio.Event) -> None:
    async for _ in awatch(Path.cwd(), watch_filter=PythonFilter(), stop_event=None, raise_interrupt=False):
        changes.set()
