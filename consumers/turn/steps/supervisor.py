"""Supervisor: the small process between a worker and a command of step.subprocess; it leaves nothing of it alive.

A script of its own, which imports nothing of ours: `python -I -S supervisor.py IN OUT ERR GRACE CWD COMMAND …`. The
command gets the descriptors IN, OUT and ERR, and a session of its own. Whoever wants it to end closes our standard
input: so does the kernel when the worker dies, however it dies. Then, and when the command has ended, all that is left
of it gets SIGTERM, and after GRACE seconds SIGKILL. On Linux that is every descendant, also one with a session of its
own: orphans become our children (PR_SET_CHILD_SUBREAPER). Elsewhere it is the command's process group.

Standard output tells the worker, a line each: `began PID`, `failed ERRNO PATH`, `left COUNT`, `ended CODE`.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

LINUX = sys.platform == "linux"
_AGAIN_S = 0.02
_GIVE_UP_S = 5.0
"""How long a process may take to vanish after SIGKILL: one that waits for a broken disk may never."""


def main(arguments: Sequence[str]) -> None:
    """Run the command to its end, and end what it leaves."""
    *numbers, grace, cwd = arguments[:5]
    if LINUX:
        libc = ctypes.CDLL(None)
        libc.prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
        libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: should another child of the worker hold our input open
    woken = _wake_up_by_signals()
    stdin, stdout, stderr = (int(number) for number in numbers)
    try:
        child = subprocess.Popen(
            arguments[5:], stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd or None, start_new_session=True
        )
    except OSError as error:
        _say(f"failed {error.errno or 0} {error.filename or arguments[5]}")
        return
    _say(f"began {child.pid}")
    for number in {stdin, stdout, stderr}:
        os.close(number)
    command = _Command(child.pid)
    command.wait(woken)
    command.end_all(woken, float(grace))


class _Command:
    """The command and all that comes from it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._has_ended = False

    def wait(self, woken: int) -> None:
        """Return when the command has ended, or is to end."""
        while True:
            alive = self._reap()
            if self._has_ended:
                if alive:
                    _say(f"left {len(_descendants())}")
                return
            ready = select.select([0, woken], [], [])[0]
            if 0 in ready or signal.SIGTERM in os.read(woken, 4_096):
                return

    def end_all(self, woken: int, grace: float) -> None:
        """End what is alive: with SIGTERM, then with SIGKILL."""
        if not self._reap():
            return
        self._signal(signal.SIGTERM)
        until = time.monotonic() + grace
        while (left := until - time.monotonic()) > 0:
            if not self._reap():
                return
            if select.select([woken], [], [], left)[0]:
                os.read(woken, 4_096)
        until += _GIVE_UP_S
        while time.monotonic() < until:
            self._signal(signal.SIGKILL)
            time.sleep(_AGAIN_S)
            if not self._reap():
                return

    def _reap(self) -> bool:
        """Take note of what has ended; return whether anything is alive."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return not LINUX and self._group_lives()
            if pid == 0:
                return True
            if pid == self._pid:
                self._has_ended = True
                _say(f"ended {os.waitstatus_to_exitcode(status)}")

    def _group_lives(self) -> bool:
        try:
            os.killpg(self._pid, 0)
        except OSError:
            return False
        return True

    def _signal(self, number: int) -> None:
        # While the leader is not reaped its number is nobody else's; after that, on Linux, only descendants are meant.
        if not self._has_ended or not LINUX:
            _send(os.killpg, self._pid, number)
        for pid in _descendants():
            _send(os.kill, pid, number)


def _send(how: object, target: int, number: int) -> None:
    try:
        how(target, number)  # type: ignore[operator]
    except OSError:  # it has gone, or has become somebody else's (setuid)
        return


def _descendants() -> list[int]:
    """Return all processes below this one, by what /proc says; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if LINUX and os.path.isdir("/proc") else ():
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stat:
                    parent = int(stat.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    below = [os.getpid()]
    while below:
        more = children.get(below.pop(), [])
        found += more
        below += more
    return found


def _wake_up_by_signals() -> int:
    """Return a descriptor that has a byte for each SIGCHLD and SIGTERM; other signals of a terminal are not for us."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _noted)
    return reads


def _noted(_number: int, _frame: object) -> None:
    """Do nothing: unlike an ignored signal, one that is handled is not ignored by the command."""


def _say(line: str) -> None:
    try:
        os.write(1, f"{line}\n".encode(errors="surrogateescape"))
    except OSError:  # the worker has died
        return


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)
