"""A worker under supervision, for tests in which the process dies: what a service manager or Kubernetes does."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from stepstream.consumers.testing.scratch import scratch

_WITHIN_S = 30.0


class Supervised:
    """`bus worker APP` as a process that is started again whenever it ends, until the block is left."""

    def __init__(self, app: str, url: str, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.exit_codes: list[int] = []
        """Of the processes that have ended by themselves."""
        self._command = [sys.executable, "-m", "stepstream", "worker", app]
        short = {"BUS_LEASE": "1s", "BUS_DRAIN": "5s"}
        self._environ = {**os.environ, **short, "BUS_REDIS_URL": url, **(environ or {})}
        self._log = folder / "worker.log"
        self._leaving = False
        self._process: subprocess.Popen[bytes]
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Self:
        """Start the worker; return when it works."""
        self._start()
        self._thread.start()
        until = time.monotonic() + _WITHIN_S
        while "works on" not in self._log.read_text():
            if time.monotonic() > until or self.exit_codes:
                raise AssertionError(f"the worker does not start:\n{self._log.read_text()}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let it drain."""
        self._leaving = True
        self._process.terminate()
        self._thread.join(_WITHIN_S)

    def kill(self) -> None:
        """End the process at once, as `kill -9` does; it is started again."""
        self._process.kill()

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._environ, stderr=log, stdout=log)

    def _keep(self) -> None:
        while True:
            code = self._process.wait()
            if self._leaving:
                return
            self.exit_codes.append(code)
            self._start()


@contextlib.contextmanager
def scratch_redis() -> Generator[str]:
    """Yield the URL of an empty Redis that is nobody else's meanwhile."""
    with scratch() as url:
        with redis.Redis.from_url(url) as store:  # pyright: ignore[reportUnknownMemberType] - its **kwargs have no type
            store.flushdb()  # pyright: ignore[reportUnknownMemberType]
        yield url
