"""Files: how many this process may have open. Each connection is one."""

import contextlib
import os
import resource

_ENOUGH = 1 << 20
"""More is never needed, and some libraries walk through all numbers up to the limit."""


def raise_limit() -> None:
    """Raise the soft limit of open files to the hard one: 1,024 is the usual soft one, and a worker may need more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # macOS knows a lower bound of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limit() -> int:
    """Return how many files this process may have open."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _ENOUGH if soft == resource.RLIM_INFINITY else soft


def open_now() -> int:
    """Return how many files this process has open; 16 where the system does not tell."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return len(os.listdir(folder))
    return 16
