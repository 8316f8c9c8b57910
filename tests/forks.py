"""`bus` commands in processes of their own that need not start Python: each is a fork of one that has imported all of it.

To start Python and to import what a command needs takes three quarters of a second of a core, and few tests claim
anything of that: those call `python -m stepstream`. A fork has its own environment, directory and standard streams;
it dies of signals and ends with exit codes as any process.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import forkserver
from pathlib import Path

ROOT = Path(__file__).parent.parent
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.imported"])


def begin() -> None:
    """Start the process that is forked, now, for this one and for each that it forks, as `pytest --forks` does.

    Else each would start one of its own, which takes two seconds of a core.
    """
    server = forkserver._forkserver
    server.ensure_running()
    # Theirs is the parent's, which it looks after: they may not wait for it, and would take that for its death.
    os.register_at_fork(after_in_child=lambda: setattr(server, "ensure_running", lambda: None))


class Forked:
    """`bus WORDS` as a process, with what tests use of subprocess.Popen. What it writes is appended to files, or dropped."""

    def __init__(
        self,
        *words: str,
        env: Mapping[str, str],
        cwd: Path = ROOT,
        given: Path | None = None,
        out: Path | None = None,
        err: Path | None = None,
    ) -> None:
        self._process = _FORKS.Process(
            target=_command,
            args=(words, dict(env), cwd, given or os.devnull, out or os.devnull, err or os.devnull),
            daemon=True,  # what a test leaves behind ends with pytest
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code; minus the signal's number where it died of one; None while it lives."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutError(f"process {self.pid} did not end within {timeout} s")
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def bus(
    *words: str, env: Mapping[str, str], cwd: Path = ROOT, given: str = "", timeout: float = 60
) -> "subprocess.CompletedProcess[str]":
    """Run `bus WORDS` to its end; `given` is its standard input."""
    with tempfile.TemporaryDirectory() as folder:
        said, out, err = (Path(folder) / name for name in ("in", "out", "err"))
        said.write_text(given)
        process = Forked(*words, env=env, cwd=cwd, given=said, out=out, err=err)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


def _command(words: tuple[str, ...], env: dict[str, str], cwd: Path, given: str, out: str, err: str) -> None:
    """In the fork: become that command."""
    from stepstream.bus.cli import main

    for number, path, mode in (0, given, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY):
        handle = os.open(path, mode | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - multiprocessing has put another one there
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it runs in the background
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["bus", *words]
    sys.path[:] = [
        place for place in sys.path if place != str(ROOT)
    ]  # `python -m` has where it stands, not where pytest does
    main()
