"""The worker of `bus dev`: a child process that is restarted when code changes."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog
from watchfiles import PythonFilter, awatch  # pyright: ignore[reportUnknownVariableType]

_log = structlog.get_logger("dev")


class WorkerChild:
    """The worker process of `bus dev`."""

    def __init__(self, apps: Sequence[str], concurrency: int, environ: dict[str, str]) -> None:
        self._command = [
            sys.executable,
            "-m",
            "stepstream",
            "worker",
            *apps,
            "--concurrency",
            str(concurrency),
            "--while-stdin",
        ]
        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    async def keep(self) -> None:
        """Keep a worker running. One that ends by itself is reported, and started again when code changes."""
        async with asyncio.TaskGroup() as tasks:
            changes = asyncio.Event()
            watching = tasks.create_task(_watch(changes))
            while not self._stopping:
                changes.clear()
                # A session of its own: Ctrl-C must not reach it before we have told it to drain.
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, env=self._environ, start_new_session=True, stdin=asyncio.subprocess.PIPE
                )
                ended = tasks.create_task(self._process.wait())
                changed = tasks.create_task(changes.wait())
                await asyncio.wait({ended, changed}, return_when=asyncio.FIRST_COMPLETED)
                if changes.is_set() and not self._stopping:
                    _log.info("code changed; the worker restarts")
                    await self._end()
                elif not self._stopping:
                    _log.error("the worker ended; it restarts when code changes", exit_code=ended.result())
                    await changes.wait()
                changed.cancel()
                await asyncio.wait({ended})
            watching.cancel()

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
