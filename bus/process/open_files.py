"""Open files: how many this process may have. Each connection is one."""

import contextlib
import os
import resource

_ENOUGH = 1 << 20
"""No worker needs more, and some libraries loop over all numbers up to the limit."""


def raise_limit() -> None:
    """Raise the soft limit of open files to the hard one: the usual 1,024 may be too few for a worker's connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # macOS has a lower limit of its own
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


_OTHERS_OF_A_SITE = 256
"""What a site has open besides its connections: the log, Redis, certificates, templates, applications that it calls."""


def needed_by_site(connections: int) -> int:
    """Return how many files a site must be able to open that holds so many connections."""
    return connections + _OTHERS_OF_A_SITE
