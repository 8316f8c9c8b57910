"""Ports of this machine, for servers that are given one by number: Redis of `bus dev`, those of tests, the bench."""

import contextlib
import random
import socket

_OWN = range(12_000, 32_000)
"""Below those that systems give to outgoing connections: of these thousands are open, and any may take a free one."""
_dice = random.SystemRandom()
"""Not seeded: processes that start together (pytest-xdist) do not choose alike."""


def free_port() -> int:
    """Return a port that nobody listens on; nobody is given it who does not ask for one by number."""
    while True:
        port = _dice.choice(_OWN)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
